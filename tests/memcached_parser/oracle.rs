//! The second parser: the grammar of memcached's text protocol once more, written to be read and not
//! to be fast. What it says has to be what the real one says, for any bytes.

/// What the bytes at the front of the input are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// A command, in words, and how long it is.
    Command(String, usize),
    /// More is needed: at least up to so many bytes.
    Incomplete(usize),
    /// This is answered, and so many bytes are skipped; `None`: the connection ends.
    Refused(Vec<u8>, Option<u64>),
}

/// How long lines, and what is added to a value, may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) line: usize,
    pub(crate) keys_line: usize,
    pub(crate) joined: usize,
}

type Words<'i> = Vec<&'i [u8]>;

pub(crate) fn front(input: &[u8], limits: Limits) -> Told {
    if input.first() == Some(&0x80) {
        return binary(input);
    }
    let many = ["get ", "gets ", "gat ", "gats "];
    let limit = match many.iter().any(|name| input.starts_with(name.as_bytes())) {
        true => limits.line.max(limits.keys_line),
        false => limits.line,
    };
    let end = input.iter().position(|byte| *byte == b'\n');
    if end.unwrap_or(input.len()) + 1 > limit {
        return Told::Refused(b"CLIENT_ERROR line too long\r\n".to_vec(), None);
    }
    let Some(end) = end else {
        return Told::Incomplete(input.len() + 1);
    };
    let text = match input[..end].last() {
        Some(b'\r') => &input[..end - 1],
        _ => &input[..end],
    };
    let words: Words<'_> = text
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .collect();
    let line = end + 1;
    let name = words
        .first()
        .map_or("", |name| std::str::from_utf8(name).unwrap_or(""));
    match name {
        "get" | "gets" | "gat" | "gats" => retrieval(name, &words, line),
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => {
            with_value(input, line, limits, store(name, &words))
        }
        "ms" => with_value(input, line, limits, meta_store(&words)),
        "mg" | "md" | "ma" | "me" => simple(meta(name, &words), line),
        "mn" => Told::Command("mn".into(), line),
        _ => simple(other(name, &words), line),
    }
}

fn binary(input: &[u8]) -> Told {
    if input.len() < 24 {
        return Told::Incomplete(24);
    }
    let sentence = b"Larder speaks memcached's text protocol, and not the binary one";
    let mut answer = vec![
        0x81,
        input[1],
        0,
        0,
        0,
        0,
        0,
        0x83,
        0,
        0,
        0,
        sentence.len() as u8,
    ];
    answer.extend_from_slice(&input[12..16]);
    answer.extend_from_slice(&[0; 8]);
    answer.extend_from_slice(sentence);
    Told::Refused(answer, None)
}

/// Why a line is no command: what is said, or nothing, and whether the connection goes on.
enum Wrong {
    Said(&'static str),
    Unsaid,
    Browser,
}

impl Wrong {
    fn answer(&self) -> Vec<u8> {
        match self {
            Self::Said(line) => format!("{line}\r\n").into_bytes(),
            Self::Unsaid | Self::Browser => Vec::new(),
        }
    }
}

const ERROR: Wrong = Wrong::Said("ERROR");
const BAD_LINE: Wrong = Wrong::Said("CLIENT_ERROR bad command line format");
const BAD_TIME: Wrong = Wrong::Said("CLIENT_ERROR invalid exptime argument");
const BAD_DELTA: Wrong = Wrong::Said("CLIENT_ERROR invalid numeric delta argument");
const TOO_LARGE: Wrong = Wrong::Said("SERVER_ERROR object too large for cache");
const BAD_CHUNK: Wrong = Wrong::Said("CLIENT_ERROR bad data chunk");

fn simple(read: Result<String, Wrong>, line: usize) -> Told {
    match read {
        Ok(command) => Told::Command(command, line),
        Err(Wrong::Browser) => Told::Refused(Vec::new(), None),
        Err(wrong) => Told::Refused(wrong.answer(), Some(line as u64)),
    }
}

/// Decimal digits and nothing else, up to 20 of them.
fn number(word: &[u8], max: u64) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    let is_digits = !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit());
    let value = (is_digits && text.len() <= 20).then(|| text.parse::<u128>().unwrap())?;
    (value <= u128::from(max)).then_some(value as u64)
}

fn signed(word: &[u8]) -> Option<i64> {
    match word.strip_prefix(b"-") {
        Some(digits) => number(digits, 1 << 31).map(|value| -(value as i64)),
        None => number(word, (1 << 31) - 1).map(|value| value as i64),
    }
}

pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn retrieval(name: &str, words: &Words<'_>, line: usize) -> Told {
    let has_time = name.starts_with("gat");
    let keys = &words[words.len().min(1 + usize::from(has_time))..];
    let read = || {
        if keys.is_empty() {
            return Err(ERROR);
        }
        let time = match has_time {
            true => Some(signed(words[1]).ok_or(BAD_TIME)?),
            false => None,
        };
        if keys.iter().any(|key| key.len() > 250) {
            return Err(BAD_LINE);
        }
        let keys: Vec<String> = keys.iter().map(|key| shown(key)).collect();
        let shows = name.ends_with('s');
        Ok(format!(
            "get {} versions={shows} touch={time:?}",
            keys.join(" ")
        ))
    };
    simple(read(), line)
}

/// A store without its value: what it is in words, the length of the value, whether it adds to one,
/// and whether mistakes are told.
struct Store {
    words: String,
    value: usize,
    joins: bool,
    is_told: bool,
}

/// Why there is none, and how long its value is, if that could be read.
type NoStore = (Wrong, Option<usize>);

fn with_value(input: &[u8], line: usize, limits: Limits, store: Result<Store, NoStore>) -> Told {
    let store = match store {
        Ok(store) => store,
        Err((wrong, value)) => {
            let skip = value.map_or(line as u64, |value| line as u64 + value as u64 + 2);
            return Told::Refused(wrong.answer(), Some(skip));
        }
    };
    let whole = line + store.value + 2;
    let told = |wrong: Wrong| match store.is_told {
        true => wrong,
        false => Wrong::Unsaid,
    };
    if store.joins && store.value > limits.joined {
        return Told::Refused(told(TOO_LARGE).answer(), Some(whole as u64));
    }
    if input.len() < whole {
        return Told::Incomplete(whole);
    }
    match input[line + store.value..].starts_with(b"\r\n") {
        true => {
            let value = shown(&input[line..line + store.value]);
            Told::Command(format!("{} value={value}", store.words), whole)
        }
        false => Told::Refused(told(BAD_CHUNK).answer(), Some(whole as u64)),
    }
}

fn length(word: &[u8]) -> Option<usize> {
    number(word, (1 << 31) - 3).map(|length| length as usize)
}

fn store(name: &str, words: &Words<'_>) -> Result<Store, NoStore> {
    let wanted = if name == "cas" { 6 } else { 5 };
    if words.len() != wanted && words.len() != wanted + 1 {
        return Err((ERROR, None));
    }
    let is_told = words.last() != Some(&&b"noreply"[..]);
    let wrong = || if is_told { BAD_LINE } else { Wrong::Unsaid };
    let value = length(words[4]).ok_or((wrong(), None))?;
    let known = || (wrong(), Some(value));
    if words[1].len() > 250 {
        return Err(known());
    }
    let flags = number(words[2], u32::MAX.into()).ok_or_else(known)?;
    let time = signed(words[3]).ok_or_else(known)?;
    let version = match name {
        "cas" => Some(number(words[5], u64::MAX).ok_or_else(known)?),
        _ => None,
    };
    let verb = if name == "cas" { "set" } else { name };
    let key = shown(words[1]);
    Ok(Store {
        words: format!("{verb} {key} flags={flags} time={time} version={version:?} told={is_told}"),
        value,
        joins: name.ends_with("pend"),
        is_told,
    })
}

fn other(name: &str, words: &Words<'_>) -> Result<String, Wrong> {
    let arguments = words.len().saturating_sub(1);
    let (least, most) = match name {
        "incr" | "decr" | "touch" => (2, 3),
        "delete" => (1, 3),
        "flush_all" => (0, 2),
        "verbosity" | "lru_crawler" => (1, 2),
        "version" | "quit" | "stats" | "shutdown" => (0, usize::MAX),
        _ => {
            let is_browser = words.last().is_some_and(|last| last.starts_with(b"HTTP/"));
            return Err(if is_browser { Wrong::Browser } else { ERROR });
        }
    };
    if arguments < least || arguments > most {
        return Err(ERROR);
    }
    let quiet = arguments > 0 && words.last() == Some(&&b"noreply"[..]);
    let wrong = |wrong: Wrong| if quiet { Wrong::Unsaid } else { wrong };
    let is_keyed = matches!(name, "incr" | "decr" | "touch" | "delete");
    if is_keyed && words[1].len() > 250 {
        return Err(wrong(BAD_LINE));
    }
    let told = !quiet;
    Ok(match name {
        "incr" | "decr" => {
            let delta = number(words[2], u64::MAX).ok_or(wrong(BAD_DELTA))?;
            format!("{name} {} by={delta} told={told}", shown(words[1]))
        }
        "touch" => {
            let time = signed(words[2]).ok_or(wrong(BAD_TIME))?;
            format!("touch {} time={time} told={told}", shown(words[1]))
        }
        "delete" => {
            let zero = words.get(2) == Some(&&b"0"[..]);
            let is_valid = match arguments {
                1 => true,
                2 => zero || quiet,
                _ => zero && quiet,
            };
            if !is_valid {
                return Err(wrong(Wrong::Said(
                    "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
                )));
            }
            let told = arguments == 1 || told;
            format!("delete {} told={told}", shown(words[1]))
        }
        "flush_all" => {
            let time = match (arguments, quiet) {
                (0, _) | (1, true) => 0,
                _ => signed(words[1]).ok_or(wrong(BAD_TIME))?,
            };
            format!("flush_all time={time} told={told}")
        }
        "verbosity" => {
            number(words[1], u32::MAX.into()).ok_or(wrong(BAD_LINE))?;
            format!("verbosity told={told}")
        }
        "lru_crawler" => {
            let style = match words[1] {
                b"metadump" => "metadata",
                b"mgdump" => "gets",
                _ => return Err(ERROR),
            };
            match words.get(2) {
                Some(&b"all" | &b"hash" | &b"1") => format!("dump {style}"),
                Some(_) => return Err(Wrong::Said("BADCLASS invalid class id")),
                None => return Err(ERROR),
            }
        }
        "shutdown" => return Err(Wrong::Said("ERROR: shutdown not enabled")),
        "stats" => {
            let group = words.get(1).map_or(String::new(), |group| shown(group));
            format!("stats {group}")
        }
        _ => name.to_owned(),
    })
}

/// The flags of a meta command.
struct Flags<'i> {
    /// Letter and token of each.
    list: Vec<(u8, &'i [u8])>,
}

impl<'i> Flags<'i> {
    fn token(&self, letter: u8) -> Option<&'i [u8]> {
        let found = self.list.iter().find(|(of, _)| *of == letter);
        found.map(|(_, token)| *token)
    }

    fn words(&self) -> String {
        let words: Vec<String> = (self.list.iter())
            .map(|(letter, token)| format!("{}{}", *letter as char, shown(token)))
            .collect();
        words.join(" ")
    }
}

/// Whether a key is base64 of at least one byte, in the one way to write it.
fn is_base64(key: &[u8]) -> bool {
    let digits = key.iter().take_while(|byte| **byte != b'=').count();
    let padding = &key[digits..];
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let values: Option<Vec<u8>> = key[..digits].iter().map(|byte| digit(*byte)).collect();
    let Some(values) = values else {
        return false;
    };
    let unused_bits = match padding {
        b"" => 0,
        b"=" => 2,
        b"==" => 4,
        _ => return false,
    };
    let last = values.last().copied();
    !key.is_empty()
        && key.len().is_multiple_of(4)
        && last.is_some_and(|last| last % (1 << unused_bits) == 0)
}

fn flags<'i>(key: &[u8], words: &[&'i [u8]]) -> Result<Flags<'i>, &'static str> {
    let mut list: Vec<(u8, &[u8])> = Vec::new();
    let mut mistake = None;
    for word in words {
        let (letter, token) = (word[0], &word[1..]);
        if letter >= 127 || list.iter().any(|(of, _)| *of == letter) {
            return Err("CLIENT_ERROR duplicate flag");
        }
        list.push((letter, token));
        let bad_token = "CLIENT_ERROR bad token in command line format";
        let (is_right, said) = match letter {
            b'b' => (is_base64(key), "CLIENT_ERROR error decoding key"),
            b'N' | b'T' | b'R' => (signed(token).is_some(), bad_token),
            b'C' | b'E' => (number(token, u64::MAX).is_some(), bad_token),
            b'M' => (
                token.len() == 1,
                "CLIENT_ERROR incorrect length for M token",
            ),
            b'J' => (
                number(token, u64::MAX).is_some(),
                "CLIENT_ERROR invalid numeric initial value",
            ),
            b'D' => (
                number(token, u64::MAX).is_some(),
                "CLIENT_ERROR invalid numeric delta value",
            ),
            b'F' => (number(token, u32::MAX.into()).is_some(), ""),
            b'O' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'v' | b'q' | b'h' | b'l'
            | b'u' | b'I' | b'x' => (true, ""),
            _ => return Err("CLIENT_ERROR invalid flag"),
        };
        if !is_right {
            mistake = match (said, mistake) {
                ("", None) => Some("CLIENT_ERROR bad command line format"),
                ("", earlier) => earlier,
                (said, _) => Some(said),
            };
        }
    }
    match mistake {
        None => Ok(Flags { list }),
        Some(said) => Err(said),
    }
}

fn check_end(flags: &Flags<'_>) -> Result<(), Wrong> {
    if flags.token(b'O').is_some_and(|token| token.len() > 31) {
        return Err(Wrong::Said("CLIENT_ERROR opaque token too long"));
    }
    Ok(())
}

fn meta(name: &str, words: &Words<'_>) -> Result<String, Wrong> {
    let Some(key) = words.get(1) else {
        return Err(if name == "me" { BAD_LINE } else { ERROR });
    };
    if key.len() > 250 {
        return Err(BAD_LINE);
    }
    if name == "me" {
        let has_base64 = words.get(2) == Some(&&b"b"[..]);
        if has_base64 && !is_base64(key) {
            return Err(BAD_LINE);
        }
        return Ok(format!("me {} base64={has_base64}", shown(key)));
    }
    if words.len() > 19 {
        return Err(Wrong::Said(match name {
            "mg" => "CLIENT_ERROR options flags are too long",
            _ => "CLIENT_ERROR options flags too long",
        }));
    }
    let read = flags(key, &words[2..]);
    let flags = match name {
        "mg" => read.map_err(Wrong::Said)?,
        _ => read.map_err(|_| Wrong::Said("CLIENT_ERROR invalid or duplicate flag"))?,
    };
    let delta = flags
        .token(b'D')
        .map_or(1, |token| number(token, u64::MAX).unwrap());
    let counts = match (name, flags.token(b'M')) {
        ("ma", None | Some(b"I" | b"+")) => format!(" up={delta}"),
        ("ma", Some(b"D" | b"-")) => format!(" down={delta}"),
        ("ma", _) => return Err(Wrong::Said("CLIENT_ERROR invalid mode for ma M token")),
        _ => String::new(),
    };
    check_end(&flags)?;
    Ok(format!("{name} {} {}{counts}", shown(key), flags.words()))
}

fn meta_store(words: &Words<'_>) -> Result<Store, NoStore> {
    let Some(key) = words.get(1) else {
        return Err((ERROR, None));
    };
    let value = words
        .get(2)
        .and_then(|word| length(word))
        .ok_or((BAD_LINE, None))?;
    let known = |wrong| (wrong, Some(value));
    if key.len() > 250 {
        return Err(known(BAD_LINE));
    }
    if words.len() > 19 {
        return Err(known(Wrong::Said("CLIENT_ERROR options flags too long")));
    }
    let flags = flags(key, &words[3..]).map_err(|said| known(Wrong::Said(said)))?;
    let verb = match flags.token(b'M') {
        None | Some(b"S") => "set",
        Some(b"E") => "add",
        Some(b"A") => "append",
        Some(b"P") => "prepend",
        Some(b"R") => "replace",
        _ => {
            return Err(known(Wrong::Said(
                "CLIENT_ERROR invalid mode for ms M token",
            )));
        }
    };
    check_end(&flags).map_err(known)?;
    let client_flags = flags
        .token(b'F')
        .map_or(0, |token| number(token, u64::MAX).unwrap());
    let time = flags.token(b'T').map_or(0, |token| signed(token).unwrap());
    let version = flags
        .token(b'C')
        .map(|token| number(token, u64::MAX).unwrap());
    let key = shown(key);
    let flags = flags.words();
    Ok(Store {
        words: format!(
            "{verb} {key} flags={client_flags} time={time} version={version:?} meta {flags}"
        ),
        value,
        joins: verb.ends_with("pend"),
        is_told: true,
    })
}
