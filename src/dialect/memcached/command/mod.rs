//! The grammar of memcached's text protocol: bytes to commands, and nothing about what they do.
//!
//! ```text
//! get <key>*\r\n                                     classic commands are words with spaces between
//! set <key> <flags> <exptime> <bytes> [noreply]\r\n<bytes of value>\r\n
//! mg <key> <flag>*\r\n                               meta commands have flags of one letter each
//! ms <key> <bytes> <flag>*\r\n<bytes of value>\r\n
//! ```
//!
//! What a command means does not depend on how its bytes arrive: a line that is too long is refused
//! whether its end is there or not. Where memcached's own releases differ, this follows 1.6.18 in
//! how many words a command has, and later ones in numbers and in what is skipped: numbers are
//! digits and nothing else, and the value of a store that is refused is never taken for commands.
//!
//! These files use nothing above them, so that the fuzzer and the tests compile them by themselves.

mod classic;
mod complaint;
mod meta;
mod store;
mod word;

pub(crate) use classic::quick_get;
pub(crate) use complaint::Complaint;
pub(crate) use meta::{Flags, KeyForm, MetaCommand, MetaVerb, decode as decode_key};
pub(crate) use store::{StoreHead, StoreStyle, StoreVerb, quick_set, read_head};
pub(crate) use word::{first as first_word, words};

/// LIMIT: the longest key of this protocol.
pub(crate) const KEY_BYTES_MAX: usize = 250;

/// The first byte of a request of the binary protocol, and the length of its header.
const BINARY_MAGIC: u8 = 0x80;
const BINARY_HEADER_BYTES: usize = 24;

/// How long what arrives may be; lines with their ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// LIMIT: a line of anything but a retrieval.
    pub(crate) line_bytes_max: usize,
    /// LIMIT: a retrieval, which may have any number of keys.
    pub(crate) keys_line_bytes_max: usize,
    /// LIMIT: what one command may add to a value that is there: it is buffered, unlike the value
    /// of a set.
    pub(crate) joined_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            line_bytes_max: 2048,
            keys_line_bytes_max: 1 << 20,
            joined_bytes_max: 1 << 20,
        }
    }
}

/// What the bytes at the front of the input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front<'i> {
    Command { command: Command<'i>, bytes: usize },
    Incomplete { needed_bytes: usize },
    Refused { complaint: Complaint, then: Then },
}

/// How the input goes on after bytes that are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Skip { bytes: u64 },
    Close,
}

/// A whole command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command<'i> {
    /// A retrieval of one key.
    Get {
        key: &'i [u8],
        style: GetStyle,
    },
    /// A retrieval of several: what is behind the command's name, and where that begins.
    GetMany {
        keys: &'i [u8],
        keys_at: usize,
        style: GetStyle,
    },
    Store {
        head: StoreHead<'i>,
        value: &'i [u8],
    },
    Count {
        key: &'i [u8],
        delta: Delta,
        answer: Answer,
    },
    Touch {
        key: &'i [u8],
        expiry: Expiry,
        answer: Answer,
    },
    Delete {
        key: &'i [u8],
        answer: Answer,
    },
    Flush {
        delay: Expiry,
        answer: Answer,
    },
    Stats {
        group: &'i [u8],
        rest: &'i [u8],
    },
    Verbosity {
        answer: Answer,
    },
    /// All items there are.
    Dump {
        style: DumpStyle,
    },
    Version,
    Quit,
    Meta(MetaCommand<'i>),
    MetaNoop,
}

/// How a retrieval is answered, and what it does beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GetStyle {
    pub(crate) versions: Versions,
    /// Changes when the items expire.
    pub(crate) touch: Option<Expiry>,
}

/// Whether the answer shows the version of each item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    Hidden,
    Shown,
}

/// Whether an ordinary outcome is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Wanted,
    Unwanted,
}

/// What is told of each item of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DumpStyle {
    /// All that is known about it.
    Metadata,
    /// The command that reads it.
    Gets,
}

/// What is added to a number or subtracted from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delta {
    Up(u64),
    Down(u64),
}

/// A time as the protocol writes it: seconds from now, or of the Unix epoch, or in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry(pub(crate) i32);

impl Expiry {
    /// LIMIT: seconds up to which a time is relative: 30 days.
    const RELATIVE_MAX: i32 = 60 * 60 * 24 * 30;

    /// When that is, in milliseconds of the Unix epoch; `None`: never.
    #[inline]
    pub(crate) fn at_ms(self, now_ms: u64) -> Option<u64> {
        match self.0 {
            0 => None,
            i32::MIN..0 => Some(now_ms),
            1..=Self::RELATIVE_MAX => Some(now_ms.saturating_add(self.0 as u64 * 1000)),
            _ => Some(self.0 as u64 * 1000),
        }
    }
}

/// Reads what is at the front of the input.
#[inline]
pub(crate) fn read<'i>(input: &'i [u8], bounds: &Bounds) -> Front<'i> {
    if let Some((key, bytes)) = quick_get(input) {
        let style = classic::PLAIN_GET;
        let command = Command::Get { key, style };
        return Front::Command { command, bytes };
    }
    if let Some((set, bytes)) = quick_set(input, bounds) {
        let (head, value) = (set.head(), set.value);
        let command = Command::Store { head, value };
        return Front::Command { command, bytes };
    }
    let line = match line(input, bounds) {
        Ok(line) => line,
        Err(NoLine::Incomplete { needed_bytes }) => return Front::Incomplete { needed_bytes },
        Err(NoLine::Refused { complaint }) => {
            let then = Then::Close;
            return Front::Refused { complaint, then };
        }
    };
    let (name, rest) = word::first(line.text);
    match name {
        b"get" | b"gets" | b"gat" | b"gats" => classic::retrieval(name, rest, &line),
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" | b"ms" => {
            store::with_value(input, store::head(name, rest, &line), &line, bounds)
        }
        b"mg" | b"md" | b"ma" | b"me" => meta::command(name, rest, &line),
        b"mn" => line.is(Command::MetaNoop),
        _ => classic::command(name, rest, &line),
    }
}

/// What is at the front of the input where no line is.
enum NoLine {
    Incomplete {
        needed_bytes: usize,
    },
    /// Where lines begin is not known any more.
    Refused {
        complaint: Complaint,
    },
}

/// A line of input.
struct Line<'i> {
    /// Without its end.
    text: &'i [u8],
    /// With its end.
    bytes: usize,
}

impl<'i> Line<'i> {
    fn is(&self, command: Command<'i>) -> Front<'i> {
        let bytes = self.bytes;
        Front::Command { command, bytes }
    }

    fn refused(&self, complaint: Complaint) -> Front<'i> {
        let bytes = self.bytes as u64;
        Front::Refused {
            complaint,
            then: Then::Skip { bytes },
        }
    }
}

/// The line at the front of the input, or what is there instead.
#[inline]
fn line<'i>(input: &'i [u8], bounds: &Bounds) -> Result<Line<'i>, NoLine> {
    if input.first() == Some(&BINARY_MAGIC) {
        return Err(binary(input));
    }
    let newline = memchr::memchr(b'\n', input);
    let line_bytes = newline.map_or(input.len() + 1, |newline| newline + 1);
    if line_bytes > bounds.line_bytes_max && line_bytes > longest(input, bounds) {
        return Err(NoLine::Refused {
            complaint: Complaint::LineTooLong,
        });
    }
    let Some(newline) = newline else {
        let needed_bytes = line_bytes;
        return Err(NoLine::Incomplete { needed_bytes });
    };
    let text = &input[..newline];
    Ok(Line {
        text: text.strip_suffix(b"\r").unwrap_or(text),
        bytes: line_bytes,
    })
}

/// How long the line may be that the input begins with.
fn longest(input: &[u8], bounds: &Bounds) -> usize {
    let many = [&b"get "[..], b"gets ", b"gat ", b"gats "];
    match many.iter().any(|name| input.starts_with(name)) {
        true => bounds.keys_line_bytes_max,
        false => bounds.line_bytes_max,
    }
}

/// A request of the binary protocol is answered in its own form, once.
#[cold]
fn binary(input: &[u8]) -> NoLine {
    let Some(header) = input.get(..BINARY_HEADER_BYTES) else {
        let needed_bytes = BINARY_HEADER_BYTES;
        return NoLine::Incomplete { needed_bytes };
    };
    let opaque = [header[12], header[13], header[14], header[15]];
    NoLine::Refused {
        complaint: Complaint::Binary {
            opcode: header[1],
            opaque,
        },
    }
}
