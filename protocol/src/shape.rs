//! What each operation's frame looks like, and the checks that need nothing but the header.
//!
//! All that can be known from the header is checked before the body is there. A frame that will be
//! refused is therefore refused at its sixteenth byte, and its body is dropped as it comes instead of
//! being gathered first.

use crate::decoded::{After, Reason, Refusal};
use crate::header::{
    FIELD_CLIENT_FLAGS, FIELD_DELTA, FIELD_EXPIRY, FIELD_INITIAL, FIELD_LEASE, FIELD_REFRESH,
    FIELD_VERSION, FLAG_QUIET, FLAG_WANT_EXPIRY, RequestHeader,
};
use crate::{Limits, Opcode};

/// What an operation's request may consist of.
#[derive(Clone, Copy)]
struct Shape {
    opcode: Opcode,
    flags: u8,
    fields: u16,
    fields_needed: u16,
    body: Body,
}

/// What follows the fields, and what the word of the header means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// A key of as many bytes as the word says.
    Key,
    /// A key of as many bytes as the word says, and a value to the end.
    KeyAndValue,
    /// As many keys, or keys with values, as the word says.
    List,
    /// Exactly so many bytes; the word is the operation's own.
    Exactly(u32),
    /// Any bytes; the word is unused.
    Anything,
}

/// Opcodes of requests are below this.
const REQUESTS_END: usize = 0x20;

const SHAPES: [Option<Shape>; REQUESTS_END] = {
    let mut table = [None; REQUESTS_END];
    let mut at = 0;
    while at < Opcode::ALL.len() {
        let opcode = Opcode::ALL[at];
        if (opcode as usize) < REQUESTS_END {
            table[opcode as usize] = Some(shape_of(opcode));
        }
        at += 1;
    }
    table
};

const fn shape_of(opcode: Opcode) -> Shape {
    const READ: u8 = FLAG_QUIET | FLAG_WANT_EXPIRY;
    const ITEM: u16 = FIELD_EXPIRY | FIELD_CLIENT_FLAGS;
    const COUNTER: u16 = FIELD_EXPIRY | FIELD_INITIAL | FIELD_DELTA;
    let (flags, fields, fields_needed, body) = match opcode {
        Opcode::Get => (READ, 0, 0, Body::Key),
        Opcode::GetAndTouch => (READ, FIELD_EXPIRY, 0, Body::Key),
        Opcode::Touch => (FLAG_QUIET, FIELD_EXPIRY, 0, Body::Key),
        Opcode::Delete => (FLAG_QUIET, FIELD_VERSION, 0, Body::Key),
        Opcode::Set | Opcode::Add | Opcode::Replace => (FLAG_QUIET, ITEM, 0, Body::KeyAndValue),
        Opcode::Append | Opcode::Prepend => (FLAG_QUIET, 0, 0, Body::KeyAndValue),
        Opcode::Cas => (
            FLAG_QUIET,
            ITEM | FIELD_VERSION,
            FIELD_VERSION,
            Body::KeyAndValue,
        ),
        Opcode::Increment | Opcode::Decrement => (FLAG_QUIET, COUNTER, 0, Body::Key),
        Opcode::GetOrLease => (READ, FIELD_LEASE | FIELD_REFRESH, 0, Body::Key),
        Opcode::Invalidate => (FLAG_QUIET, FIELD_EXPIRY | FIELD_VERSION, 0, Body::Key),
        Opcode::EndLease => (FLAG_QUIET, FIELD_VERSION, FIELD_VERSION, Body::Key),
        Opcode::MultiGet => (READ, 0, 0, Body::List),
        Opcode::MultiSet | Opcode::MultiDelete => (FLAG_QUIET, 0, 0, Body::List),
        Opcode::Flush => (FLAG_QUIET, 0, 0, Body::Exactly(8)),
        Opcode::Scan => (0, 0, 0, Body::Exactly(8)),
        Opcode::Quit => (0, 0, 0, Body::Exactly(0)),
        Opcode::Hello | Opcode::Ping | Opcode::Stats | Opcode::Drain | Opcode::Close => {
            (0, 0, 0, Body::Anything)
        }
    };
    Shape {
        opcode,
        flags,
        fields,
        fields_needed,
        body,
    }
}

/// The operation of a frame whose header is in order, or what is wrong with it.
#[inline]
pub(crate) fn check(header: &RequestHeader, limits: &Limits) -> Result<Opcode, Refusal> {
    if header.frame_bytes() > u64::from(limits.skip_bytes_max) {
        return Err(unskippable(header, limits));
    }
    let Some(shape) = SHAPES.get(header.opcode as usize).copied().flatten() else {
        return Err(refuse(header, Reason::UnknownOpcode(header.opcode)));
    };
    if (header.flags & !shape.flags) != 0 || (header.fields & !shape.fields) != 0 {
        let (opcode, flags, fields) = (
            shape.opcode,
            header.flags & !shape.flags,
            header.fields & !shape.fields,
        );
        return Err(refuse(
            header,
            Reason::Unsupported {
                opcode,
                flags,
                fields,
            },
        ));
    }
    if (shape.fields_needed & !header.fields) != 0 {
        let (opcode, fields) = (shape.opcode, shape.fields_needed & !header.fields);
        return Err(refuse(header, Reason::FieldMissing { opcode, fields }));
    }
    let after_fields = match header.body_bytes.checked_sub(header.fields_bytes()) {
        Some(after_fields) => after_fields,
        None => {
            return Err(refuse(
                header,
                Reason::BadFrame("the body ends within its fields"),
            ));
        }
    };
    match shape.body {
        Body::Key | Body::KeyAndValue => {
            check_key(header.word, limits).map_err(|reason| refuse(header, reason))?;
            let value_bytes = match after_fields.checked_sub(header.word) {
                Some(value_bytes) => value_bytes,
                None => {
                    return Err(refuse(
                        header,
                        Reason::BadFrame("the body ends within its key"),
                    ));
                }
            };
            if shape.body == Body::Key && value_bytes != 0 {
                return Err(refuse(
                    header,
                    Reason::BadFrame("the body goes on after its key"),
                ));
            }
            check_value(value_bytes, limits).map_err(|reason| refuse(header, reason))?;
        }
        Body::List => {
            if header.word > limits.keys_per_frame_max {
                let (keys, keys_per_frame_max) = (header.word, limits.keys_per_frame_max);
                return Err(refuse(
                    header,
                    Reason::TooManyKeys {
                        keys,
                        keys_per_frame_max,
                    },
                ));
            }
        }
        Body::Exactly(body_bytes) => {
            if after_fields != body_bytes {
                return Err(refuse(
                    header,
                    Reason::BadFrame("the body has not the length it must have"),
                ));
            }
        }
        Body::Anything => {}
    }
    let frame_bytes_max = match shape.opcode.has_value_in_place() {
        true => limits.frame_bytes_max,
        false => limits.buffered_bytes_max,
    };
    if header.frame_bytes() > u64::from(frame_bytes_max) {
        let frame_bytes = header.frame_bytes();
        return Err(refuse(header, too_large(frame_bytes, frame_bytes_max)));
    }
    Ok(shape.opcode)
}

/// Whether a key of this length is accepted.
#[inline]
pub(crate) fn check_key(key_bytes: u32, limits: &Limits) -> Result<(), Reason> {
    let key_bytes_max = limits.key_bytes_max;
    match key_bytes {
        0 => Err(Reason::KeyEmpty),
        _ if key_bytes > key_bytes_max => Err(Reason::KeyTooLong {
            key_bytes,
            key_bytes_max,
        }),
        _ => Ok(()),
    }
}

/// Whether a value of this length is accepted.
#[inline]
pub(crate) fn check_value(value_bytes: u32, limits: &Limits) -> Result<(), Reason> {
    let value_bytes_max = limits.value_bytes_max;
    match value_bytes > value_bytes_max {
        true => Err(Reason::TooLarge {
            value_bytes,
            value_bytes_max,
        }),
        false => Ok(()),
    }
}

/// The refusal of a frame that is then skipped.
#[cold]
pub(crate) fn refuse(header: &RequestHeader, reason: Reason) -> Refusal {
    let after = After::Skip {
        frame_bytes: header.frame_bytes(),
    };
    Refusal {
        opcode: header.opcode,
        id: header.id,
        reason,
        after,
    }
}

#[cold]
fn unskippable(header: &RequestHeader, limits: &Limits) -> Refusal {
    let (frame_bytes, skip_bytes_max) = (header.frame_bytes(), limits.skip_bytes_max);
    let reason = Reason::FrameUnskippable {
        frame_bytes,
        skip_bytes_max,
    };
    Refusal {
        opcode: header.opcode,
        id: header.id,
        reason,
        after: After::Close,
    }
}

#[cold]
fn too_large(frame_bytes: u64, frame_bytes_max: u32) -> Reason {
    Reason::FrameTooLarge {
        frame_bytes,
        frame_bytes_max,
    }
}
