//! Commands with a value behind their line: the classic stores, and `ms`.

use super::classic::answer_of;
use super::complaint::VALUE_BYTES_MAX;
use super::word::{self, Words};
use super::{
    Answer, Bounds, Command, Complaint, Expiry, Flags, Front, KEY_BYTES_MAX, KeyForm, Line, Then,
    line, meta,
};

/// What ends a value.
pub(super) const VALUE_END: &[u8] = b"\r\n";

/// What a store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreVerb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// A store without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreHead<'i> {
    pub(crate) verb: StoreVerb,
    pub(crate) key: &'i [u8],
    pub(crate) client_flags: u32,
    pub(crate) expiry: Expiry,
    /// The version that the item must have.
    pub(crate) version: Option<u64>,
    pub(crate) value_bytes: u32,
    pub(crate) style: StoreStyle<'i>,
}

/// How a store was written, and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreStyle<'i> {
    Classic(Answer),
    Meta(Flags<'i>),
}

impl StoreHead<'_> {
    pub(crate) fn key_form(&self) -> KeyForm {
        match &self.style {
            StoreStyle::Classic(_) => KeyForm::Plain,
            StoreStyle::Meta(flags) => flags.key_form,
        }
    }

    /// The version that the item gets.
    pub(crate) fn new_version(&self) -> Option<u64> {
        match &self.style {
            StoreStyle::Classic(_) => None,
            StoreStyle::Meta(flags) => flags.new_version,
        }
    }

    /// Said, unless no answer is wanted; a meta store is always told.
    fn told(&self, complaint: Complaint) -> Complaint {
        match self.style {
            StoreStyle::Classic(answer) => complaint.unless(answer),
            StoreStyle::Meta(_) => complaint,
        }
    }

    /// Whether it adds to a value that is there.
    pub(crate) fn is_joining(&self) -> bool {
        matches!(self.verb, StoreVerb::Append | StoreVerb::Prepend)
    }
}

/// Why there is no head of a store.
pub(super) enum NoHead {
    /// Nobody knows how long the value is: what follows are commands.
    Lost(Complaint),
    /// The value is to be skipped.
    Known {
        complaint: Complaint,
        value_bytes: u32,
    },
}

/// Reads the line of a store; what follows it is the value.
pub(crate) fn read_head<'i>(input: &'i [u8], bounds: &Bounds) -> Option<(StoreHead<'i>, usize)> {
    let line = line(input, bounds).ok()?;
    let (name, rest) = word::first(line.text);
    let is_store = matches!(
        name,
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" | b"ms"
    );
    let head = is_store.then(|| head(name, rest, &line).ok())??;
    Some((head, line.bytes))
}

pub(super) fn head<'i>(
    name: &[u8],
    rest: &'i [u8],
    line: &Line<'i>,
) -> Result<StoreHead<'i>, NoHead> {
    let verb = match name {
        b"ms" => return meta::store_head(rest, line),
        b"add" => StoreVerb::Add,
        b"replace" => StoreVerb::Replace,
        b"append" => StoreVerb::Append,
        b"prepend" => StoreVerb::Prepend,
        _ => StoreVerb::Set,
    };
    classic_head(verb, name == b"cas", rest)
}

/// LIMIT: words behind the name: those of `cas` with `noreply`.
const WORDS_MAX: usize = 6;

#[inline]
fn classic_head(verb: StoreVerb, is_cas: bool, rest: &[u8]) -> Result<StoreHead<'_>, NoHead> {
    let words: Words<'_, WORDS_MAX> = Words::of(rest);
    let required = 4 + usize::from(is_cas);
    if words.count() != required && words.count() != required + 1 {
        return Err(NoHead::Lost(Complaint::NoCommand));
    }
    let answer = answer_of(words.last());
    let bad = Complaint::BadLine.unless(answer);
    let Some(value_bytes) = value_bytes(words.at(3)) else {
        return Err(NoHead::Lost(bad));
    };
    let known = NoHead::Known {
        complaint: bad,
        value_bytes,
    };
    let (key, flags) = (words.at(0), word::number_32(words.at(1)));
    let expiry = word::signed_32(words.at(2)).map(Expiry);
    let (Some(client_flags), Some(expiry)) = (flags, expiry) else {
        return Err(known);
    };
    let version = match is_cas {
        true => word::number(words.at(4)),
        false => None,
    };
    if key.len() > KEY_BYTES_MAX || (is_cas && version.is_none()) {
        return Err(known);
    }
    Ok(StoreHead {
        verb,
        key,
        client_flags,
        expiry,
        version,
        value_bytes,
        style: StoreStyle::Classic(answer),
    })
}

/// The length of a value.
#[inline]
pub(super) fn value_bytes(text: &[u8]) -> Option<u32> {
    word::number_32(text).filter(|&bytes| bytes <= VALUE_BYTES_MAX)
}

/// A `set` in its usual form, that is there whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuickSet<'i> {
    pub(crate) key: &'i [u8],
    pub(crate) value: &'i [u8],
    pub(crate) client_flags: u32,
    pub(crate) expiry: Expiry,
}

impl<'i> QuickSet<'i> {
    pub(super) fn head(&self) -> StoreHead<'i> {
        StoreHead {
            verb: StoreVerb::Set,
            key: self.key,
            client_flags: self.client_flags,
            expiry: self.expiry,
            version: None,
            value_bytes: self.value.len() as u32,
            style: StoreStyle::Classic(Answer::Wanted),
        }
    }
}

/// Reads a `set` in its usual form: one space between its words, nothing after them, and the value whole.
/// Anything else takes the long way, to the same result.
#[inline]
pub(crate) fn quick_set<'i>(input: &'i [u8], bounds: &Bounds) -> Option<(QuickSet<'i>, usize)> {
    let rest = input.strip_prefix(b"set ")?;
    let (key, rest) = rest.split_at(word::blank(rest));
    let (client_flags, rest) = word::short_number(rest)?;
    let (seconds, rest) = word::short_number(rest)?;
    let (value_bytes, rest) = word::short_number(rest)?;
    let body = rest.strip_prefix(VALUE_END)?;
    let line_bytes = input.len() - body.len();
    let is_short = line_bytes <= bounds.line_bytes_max && key.len() <= KEY_BYTES_MAX;
    if key.is_empty() || !is_short || value_bytes > u64::from(VALUE_BYTES_MAX) {
        return None;
    }
    let (value, rest) = body.split_at_checked(value_bytes as usize)?;
    let rest = rest.strip_prefix(VALUE_END)?;
    let set = QuickSet {
        key,
        value,
        client_flags: u32::try_from(client_flags).ok()?,
        expiry: Expiry(i32::try_from(seconds).ok()?),
    };
    Some((set, input.len() - rest.len()))
}

/// The store, once its value is there.
#[inline]
pub(super) fn with_value<'i>(
    input: &'i [u8],
    head: Result<StoreHead<'i>, NoHead>,
    line: &Line<'i>,
    bounds: &Bounds,
) -> Front<'i> {
    let head = match head {
        Ok(head) => head,
        Err(NoHead::Lost(complaint)) => return line.refused(complaint),
        Err(NoHead::Known {
            complaint,
            value_bytes,
        }) => {
            let value_bytes = u64::from(value_bytes) + VALUE_END.len() as u64;
            let bytes = line.bytes as u64 + value_bytes;
            let then = Then::Skip { bytes };
            return Front::Refused { complaint, then };
        }
    };
    complete(input, head, line.bytes, bounds)
}

#[inline]
fn complete<'i>(
    input: &'i [u8],
    head: StoreHead<'i>,
    line_bytes: usize,
    bounds: &Bounds,
) -> Front<'i> {
    let value_bytes = head.value_bytes as usize;
    let bytes = line_bytes + value_bytes + VALUE_END.len();
    if head.is_joining() && value_bytes > bounds.joined_bytes_max {
        let complaint = head.told(Complaint::TooLarge);
        let bytes = bytes as u64;
        let then = Then::Skip { bytes };
        return Front::Refused { complaint, then };
    }
    let Some(body) = input.get(line_bytes..bytes) else {
        let needed_bytes = bytes;
        return Front::Incomplete { needed_bytes };
    };
    let (value, end) = body.split_at(value_bytes);
    match end == VALUE_END {
        true => Front::Command {
            command: Command::Store { head, value },
            bytes,
        },
        false => Front::Refused {
            complaint: head.told(Complaint::BadChunk),
            then: Then::Skip {
                bytes: bytes as u64,
            },
        },
    }
}
