//! The classic commands, those that store aside.

use super::word::{self, Words};
use super::{
    Answer, Command, Complaint, Delta, DumpStyle, Expiry, Front, GetStyle, KEY_BYTES_MAX, Line,
    Then, Versions,
};

const GET: &[u8] = b"get ";
pub(super) const PLAIN_GET: GetStyle = GetStyle {
    versions: Versions::Hidden,
    touch: None,
};

/// The command that comes most often, in its usual form: `get`, one space, one key, CR LF. Gives the
/// key, and the length of the line. Anything else takes the long way, to the same result.
#[inline]
pub(crate) fn quick_get(input: &[u8]) -> Option<(&[u8], usize)> {
    let from_key = input.strip_prefix(GET)?;
    let key_bytes = word::blank(from_key);
    let (key, end) = from_key.split_at(key_bytes);
    if !end.starts_with(b"\r\n") || key.is_empty() || key_bytes > KEY_BYTES_MAX {
        return None;
    }
    Some((key, GET.len() + key_bytes + 2))
}

/// `get`, `gets`, `gat` or `gats`; `rest` is what is behind the name.
pub(super) fn retrieval<'i>(name: &[u8], rest: &'i [u8], line: &Line<'i>) -> Front<'i> {
    let (expiry, mut keys) = match name {
        b"gat" | b"gats" => word::first(rest),
        _ => (&[][..], rest),
    };
    let (first, behind) = word::first(keys);
    if first.is_empty() {
        return line.refused(Complaint::NoCommand);
    }
    let touch = match expiry {
        b"" => None,
        text => match word::signed_32(text) {
            Some(seconds) => Some(Expiry(seconds)),
            None => return line.refused(Complaint::BadExpiry),
        },
    };
    let versions = match name {
        b"gets" | b"gats" => Versions::Shown,
        _ => Versions::Hidden,
    };
    let style = GetStyle { versions, touch };
    // Nothing is answered if one of the keys is too long.
    if word::has_longer_word(keys, KEY_BYTES_MAX) {
        return line.refused(Complaint::BadLine);
    }
    if word::first(behind).0.is_empty() {
        return line.is(Command::Get { key: first, style });
    }
    let keys_at = line.text.len() - keys.len();
    keys = &line.text[keys_at..];
    line.is(Command::GetMany {
        keys,
        keys_at,
        style,
    })
}

/// LIMIT: words of a classic command, of which none that is read here has more; a further one is
/// enough to refuse it.
const WORDS_MAX: usize = 4;

/// Any other command by its name; `rest` is what is behind it.
pub(super) fn command<'i>(name: &[u8], rest: &'i [u8], line: &Line<'i>) -> Front<'i> {
    let words: Words<'i, WORDS_MAX> = Words::of(rest);
    let answer = answer_of(words.last());
    let count = words.count();
    let accepted = match name {
        b"incr" | b"decr" | b"touch" => 2..=3,
        b"delete" => 1..=3,
        b"flush_all" => 0..=2,
        b"verbosity" | b"lru_crawler" => 1..=2,
        b"version" | b"quit" | b"stats" | b"shutdown" => 0..=usize::MAX,
        _ => return unknown(line),
    };
    if !accepted.contains(&count) {
        return line.refused(Complaint::NoCommand);
    }
    let key = words.at(0);
    let has_key = matches!(name, b"incr" | b"decr" | b"touch" | b"delete");
    let read = match name {
        _ if has_key && key.len() > KEY_BYTES_MAX => Err(Complaint::BadLine),
        b"incr" => counted(&words, answer, Delta::Up),
        b"decr" => counted(&words, answer, Delta::Down),
        b"touch" => match word::signed_32(words.at(1)).map(Expiry) {
            Some(expiry) => Ok(Command::Touch {
                key,
                expiry,
                answer,
            }),
            None => Err(Complaint::BadExpiry),
        },
        b"delete" => deletion(&words, answer),
        b"flush_all" => flush(&words, answer),
        b"verbosity" => match word::number_32(words.at(0)) {
            Some(_) => Ok(Command::Verbosity { answer }),
            None => Err(Complaint::BadLine),
        },
        b"lru_crawler" => return dump(&words, line),
        b"version" => return line.is(Command::Version),
        b"quit" => return line.is(Command::Quit),
        b"stats" => return stats(rest, line),
        _ => return line.refused(Complaint::NoShutdown),
    };
    match read {
        Ok(command) => line.is(command),
        Err(complaint) => line.refused(complaint.unless(answer)),
    }
}

/// Whether the last word asks for silence.
#[inline]
pub(super) fn answer_of(last: &[u8]) -> Answer {
    match last {
        b"noreply" => Answer::Unwanted,
        _ => Answer::Wanted,
    }
}

impl Complaint {
    /// Said, unless no answer is wanted.
    pub(super) fn unless(self, answer: Answer) -> Self {
        match answer {
            Answer::Wanted => self,
            Answer::Unwanted => Self::Unsaid,
        }
    }
}

fn counted<'i>(
    words: &Words<'i, WORDS_MAX>,
    answer: Answer,
    delta: impl Fn(u64) -> Delta,
) -> Result<Command<'i>, Complaint> {
    let by = word::number(words.at(1)).ok_or(Complaint::BadDelta)?;
    Ok(Command::Count {
        key: words.at(0),
        delta: delta(by),
        answer,
    })
}

/// A 0 behind the key was a time once; clients that are old enough still send it.
fn deletion<'i>(words: &Words<'i, WORDS_MAX>, answer: Answer) -> Result<Command<'i>, Complaint> {
    let is_quiet = answer == Answer::Unwanted;
    let has_zero = words.at(1) == b"0";
    let is_valid = match words.count() {
        1 => true,
        2 => has_zero || is_quiet,
        _ => has_zero && is_quiet,
    };
    let key = words.at(0);
    match is_valid {
        true if words.count() == 1 => Ok(Command::Delete {
            key,
            answer: Answer::Wanted,
        }),
        true => Ok(Command::Delete { key, answer }),
        false => Err(Complaint::BadDelete),
    }
}

fn flush<'i>(words: &Words<'i, WORDS_MAX>, answer: Answer) -> Result<Command<'i>, Complaint> {
    let is_quiet = answer == Answer::Unwanted;
    let delay = match words.count() == usize::from(is_quiet) {
        true => Expiry(0),
        false => Expiry(word::signed_32(words.at(0)).ok_or(Complaint::BadExpiry)?),
    };
    Ok(Command::Flush { delay, answer })
}

/// Of what memcached's crawler does, the lists that it makes. Items are of one class, which has the number 1.
fn dump<'i>(words: &Words<'i, WORDS_MAX>, line: &Line<'i>) -> Front<'i> {
    let style = match words.at(0) {
        b"metadump" => DumpStyle::Metadata,
        b"mgdump" => DumpStyle::Gets,
        _ => return line.refused(Complaint::NoCommand),
    };
    match words.at(1) {
        b"" => line.refused(Complaint::NoCommand),
        b"all" | b"hash" | b"1" => line.is(Command::Dump { style }),
        _ => line.refused(Complaint::BadClass),
    }
}

fn stats<'i>(rest: &'i [u8], line: &Line<'i>) -> Front<'i> {
    let (group, rest) = word::first(rest);
    line.is(Command::Stats { group, rest })
}

/// Not a command. A browser, or whoever a browser is made to speak to, is not to be answered.
#[cold]
fn unknown<'i>(line: &Line<'i>) -> Front<'i> {
    let last = word::words(line.text).last().unwrap_or_default();
    if last.starts_with(b"HTTP/") {
        return Front::Refused {
            complaint: Complaint::Unsaid,
            then: Then::Close,
        };
    }
    line.refused(Complaint::NoCommand)
}
