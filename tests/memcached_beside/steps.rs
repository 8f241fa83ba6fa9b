//! Random commands, made from a seed, and which of them the two servers are known to answer
//! differently.

use rand::RngExt;
use rand::rngs::StdRng;

/// One command, or a few that belong together.
pub(crate) struct Step {
    /// What is sent. `{}` stands for the version of [`Step::key`] as the server told it last.
    pub(crate) text: String,
    pub(crate) key: &'static str,
    /// Why the answers may differ; `None`: they may not.
    pub(crate) known: Option<Difference>,
}

macro_rules! differences {
    ($($name:ident = $why:literal,)*) => {
        /// What is answered differently, and why.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Difference {
            $($name,)*
        }

        impl Difference {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub(crate) fn why(self) -> &'static str {
                match self {
                    $(Self::$name => $why,)*
                }
            }
        }
    };
}

differences! {
    Padding = "memcached pads a number that loses digits with spaces; Larder's has as many as it needs",
    Misread = "memcached takes a number from 2^63 on for none where a minus sign happens to lie behind it in memory",
    Numbers = "memcached takes signs and cuts numbers off; Larder takes digits within the bounds of the number",
    Skipped = "1.6.18 takes the value of a store that it refuses for commands; later ones, as Larder, skip it",
    SetSize = "1.6.18 has no flag s for ms",
    Vivify = "1.6.18 does not make an item for ms with MA or MP and N",
    VivifyLoud = "1.6.18 answers ma with N and q where it makes the counter; later ones, as Larder, do not",
    TimeLost = "memcached forgets T of ma where the number is written anew, as after a read",
    ValueKnown = "1.6.18 sends the value of mg also to a client that names its version with C",
    Debug = "me tells what each server knows: Larder has no slab classes and does not know the last access",
    Chosen = "1.6.18 has no flag E",
    LastAccess = "Larder knows the last access where it was started with --access-times",
    KeyForm = "memcached remembers that a key came in base64; Larder answers in the form of the request",
    NoKey = "memcached answers gat without a key with an empty list; Larder with ERROR",
    Signs = "memcached counts with values such as +5, 5 with a space behind it, or of more than 20 digits; Larder with up to 20 digits alone",
    Version = "each has its own",
    Verdicts = "stats, slabs and the like are about each server's own parts",
}

const KEYS: &[&str] = &["a", "b", "c", "n", "m", "o"];
const NUMBERS: &[&str] = &["n", "m", "o"];

/// A command.
pub(crate) fn step(random: &mut StdRng) -> Step {
    let mut pick = |from: &[&'static str]| from[random.random_range(0..from.len())];
    let verb = pick(&["set", "set", "set", "add", "replace", "append", "prepend"]);
    let mode = pick(&["", "", " MS", " ME", " MR", " MA", " MP", " MX", " M"]);
    // What is added to a number may have more digits than Larder counts with.
    let joins = verb.ends_with("pend") || matches!(mode, " MA" | " MP");
    let words = Words {
        verb,
        mode,
        key: pick(&KEYS[..if joins { 3 } else { KEYS.len() }]),
        number: pick(NUMBERS),
        time: pick(&["0", "0", "100", "2592000", "-1", "2592001", "4000000"]),
        flags: pick(&["0", "5", "65536", "4294967295"]),
        noreply: pick(&["", "", "", " noreply"]),
        quiet: pick(&["", "", " q", " Ox7 k", " k q"]),
        value: pick(&[
            "",
            "v",
            "value",
            "longer value",
            "7",
            "99",
            "18446744073709551615",
        ]),
        delta: pick(&["1", "5", "100", "0", "18446744073709551615"]),
        digits: pick(&["0", "9", "10", "100", "18446744073709551610"]),
    };
    match random.random_range(0..100) {
        kind @ 0..55 => words.classic(kind),
        kind @ 55..89 => words.meta(kind),
        89..92 => words.on_key(malformed(random).to_owned()),
        92..95 => leases(random),
        _ => different(random),
    }
}

/// A command about who is to make an item, on a key of its own.
fn leases(random: &mut StdRng) -> Step {
    const LEASED: &[&str] = &[
        "mg w N30 v t f s h k\r\n",
        "mg w N30 R40 v\r\n",
        "mg w R30 v t\r\n",
        "mg w R3000 v h\r\n",
        "mg w v h u\r\n",
        "mg w v h\r\n",
        "mg w R3000 T100 v\r\n",
        "get w\r\n",
        "ms w 1 T100\r\na\r\n",
        "ms w 2 T20 F7\r\nab\r\n",
        "set w 0 0 1\r\nb\r\n",
        "add w 0 0 1\r\nc\r\n",
        "gets w\r\nms w 1 C{} I\r\nd\r\nmg w v\r\n",
        "md w I\r\n",
        "md w I T30\r\n",
        "gets w\r\nmd w I C{} k Oq\r\n",
        "md w\r\n",
        "touch w 100\r\n",
    ];
    Step {
        text: LEASED[random.random_range(0..LEASED.len())].to_owned(),
        key: "w",
        known: None,
    }
}

/// What commands are made of.
struct Words {
    verb: &'static str,
    mode: &'static str,
    key: &'static str,
    number: &'static str,
    time: &'static str,
    flags: &'static str,
    noreply: &'static str,
    quiet: &'static str,
    value: &'static str,
    delta: &'static str,
    digits: &'static str,
}

impl Words {
    fn on_key(&self, text: String) -> Step {
        Step {
            text,
            key: self.key,
            known: None,
        }
    }

    fn on_number(&self, text: String, known: Option<Difference>) -> Step {
        Step {
            text,
            key: self.number,
            known,
        }
    }

    fn classic(&self, kind: u32) -> Step {
        let Self {
            verb,
            key,
            number,
            time,
            flags,
            noreply,
            value,
            delta,
            digits,
            ..
        } = self;
        let (bytes, padding) = (value.len(), Some(Difference::Padding));
        match kind {
            0..14 => self.on_key(format!(
                "{verb} {key} {flags} {time} {bytes}{noreply}\r\n{value}\r\n"
            )),
            14..18 => {
                let text = format!("set {number} 0 0 {}\r\n{digits}\r\n", digits.len());
                self.on_number(text, None)
            }
            18..26 => self.on_key(format!("get {key}\r\n")),
            26..30 => self.on_key(format!("gets {key} {number} nothing {key}\r\n")),
            30..34 => self.on_key(format!("gat {time} {key} {number}\r\n")),
            34..37 => self.on_key(format!("delete {key}{noreply}\r\n")),
            37..40 => self.on_key(format!("touch {key} {time}{noreply}\r\n")),
            40..46 => {
                let text = format!("incr {number} {delta}{noreply}\r\nget {number}\r\n");
                self.on_number(text, padding)
            }
            46..50 => {
                let text = format!("decr {number} {delta}\r\nget {number}\r\n");
                self.on_number(text, padding)
            }
            50..54 => self.on_key(format!(
                "gets {key}\r\ncas {key} {flags} {time} {bytes} {{}}{noreply}\r\n{value}\r\n"
            )),
            _ => self.on_key(format!("flush_all{noreply}\r\n")),
        }
    }

    fn meta(&self, kind: u32) -> Step {
        let Self {
            mode,
            key,
            number,
            time,
            flags,
            quiet,
            value,
            delta,
            ..
        } = self;
        let bytes = value.len();
        match kind {
            55..61 => self.on_key(format!("mg {key} v f c k s t\r\n")),
            61..65 => self.on_key(format!("mg {key} v T{time}{quiet}\r\n")),
            65..73 => self.on_key(format!(
                "ms {key} {bytes} F{flags} T{time}{mode}{quiet}\r\n{value}\r\n"
            )),
            73..76 => self.on_key(format!(
                "gets {key}\r\nms {key} {bytes} C{{}} c{mode}\r\n{value}\r\n"
            )),
            76..79 => self.on_key(format!("gets {key}\r\nmd {key} C{{}}{quiet}\r\n")),
            79..81 => self.on_key(format!("md {key}{quiet}\r\n")),
            81..87 => {
                let text = format!("ma {number} N0 J13 D{delta} v t{quiet}\r\nget {number}\r\n");
                let known = match quiet.contains('q') {
                    true => Difference::VivifyLoud,
                    false => Difference::Padding,
                };
                self.on_number(text, Some(known))
            }
            _ => {
                let text = format!("ma {number} MD D{delta} v T{time}\r\nmg {number} t f v\r\n");
                self.on_number(text, Some(Difference::TimeLost))
            }
        }
    }
}

/// What both refuse in the same words.
fn malformed(random: &mut StdRng) -> &'static str {
    const ALL: &[&str] = &[
        "\r\n",
        "x\r\n",
        "get\r\n",
        "gets \r\n",
        "set a 0 0\r\n",
        "cas a 0 0 1\r\n",
        "incr a\r\n",
        "nothing of the kind\r\n",
        "GET a\r\n",
        "set a 0 0 x\r\n",
        "set a 0 0 -1\r\n",
        "incr n x\r\n",
        "decr n -\r\n",
        "touch a x\r\n",
        "gat x a\r\n",
        "delete a 5\r\n",
        "delete a 0\r\n",
        "delete a 0 noreply\r\n",
        "delete a b c d\r\n",
        "delete\r\n",
        "verbosity\r\n",
        "verbosity x\r\n",
        "verbosity 0\r\n",
        "flush_all x\r\n",
        "mx a\r\n",
        "set a 0 0 4\r\n1234567\r\n",
        "set a 0 0 4 noreply\r\n123456\r\n",
        "append a 0 0 2\r\nab\n\n",
        "mg\r\n",
        "ms\r\n",
        "md\r\n",
        "ma\r\n",
        "me\r\n",
        "ms a\r\n",
        "ms a x\r\n",
        "mg a v v\r\n",
        "mg a y\r\n",
        "mg a Tx\r\n",
        "mg a T\r\n",
        "mg a Dx\r\n",
        "mg a Jx\r\n",
        "md a y\r\n",
        "ma a Dx\r\n",
        "ma a MX\r\n",
        "ms a 1 MX\r\na\r\n",
        "ms a 1 MAA\r\na\r\n",
        "ms a 1 Fx\r\na\r\n",
        "ms a 2\r\nabcd",
        "shutdown\r\n",
        "mg a O1234567890123456789012345678901234\r\n",
        "ms a 1 b\r\nx\r\n",
        "mg aGVsbG8= b k v\r\n",
        "ms aGVsbG8= 2 b k\r\nhi\r\n",
        "md aGVsbG8= b k\r\n",
        "ma aGVsbG8= b\r\n",
        "touch a\r\n",
        "incr a 1 2 3\r\n",
    ];
    ALL[random.random_range(0..ALL.len())]
}

/// What is known to be answered differently.
fn different(random: &mut StdRng) -> Step {
    use Difference as D;
    const ALL: &[(&str, &str, Difference)] = &[
        ("a", "set a 4294967296 0 1\r\na\r\n", D::Numbers),
        ("a", "set a 0 2147483648 1\r\na\r\n", D::Numbers),
        ("a", "set a +5 0 1\r\na\r\n", D::Numbers),
        ("n", "incr n +5\r\n", D::Numbers),
        ("a", "set a x 0 9\r\nnot this\r\r\n", D::Skipped),
        ("a", "set a -1 0 3\r\nget\r\n", D::Skipped),
        ("a", "cas a 0 0 3 x\r\nget\r\n", D::Skipped),
        ("a", "ms a 2 s c\r\nab\r\n", D::SetSize),
        ("a", "ms a 2 MA N30\r\nab\r\nmg a v\r\n", D::Vivify),
        (
            "a",
            "set a 0 0 1\r\na\r\ngets a\r\nmg a v C{}\r\n",
            D::ValueKnown,
        ),
        ("a", "set a 0 0 1\r\na\r\nme a\r\n", D::Debug),
        ("a", "set a 0 0 1\r\na\r\nmg a l\r\n", D::LastAccess),
        ("a", "ms a 1 E5\r\na\r\n", D::Chosen),
        (
            "hello",
            "ms aGVsbG8= 2 b\r\nhi\r\nmg hello k\r\n",
            D::KeyForm,
        ),
        ("a", "gat 0\r\n", D::NoKey),
        ("n", "set n 0 0 2\r\n+5\r\nincr n 1\r\n", D::Signs),
        ("n", "set n 0 0 2\r\n5 \r\nincr n 1\r\n", D::Signs),
        (
            "n",
            "set n 0 0 21\r\n000000000000000000005\r\nincr n 1\r\n",
            D::Signs,
        ),
        ("a", "version\r\n", D::Version),
        (
            "a",
            "slabs automove 0\r\nlru tune 10 25 0.1 2.0\r\n",
            D::Verdicts,
        ),
    ];
    let (key, text, known) = ALL[random.random_range(0..ALL.len())];
    Step {
        text: text.to_owned(),
        key,
        known: Some(known),
    }
}
