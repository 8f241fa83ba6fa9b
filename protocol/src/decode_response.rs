//! The client's side of reading: bytes to [`ResponseFrame`].

use crate::decoded::{After, Decoded, Reason, Refusal};
use crate::header::{
    HEADER_BYTES, REPLY_FLAG_ABSENT, REPLY_FLAG_EXPIRY, REPLY_FLAG_PARTIAL, REPLY_FLAG_STALE,
    REPLY_FLAG_TAKEN, REPLY_FLAG_WON, ResponseHeader,
};
use crate::hello::HelloReply;
use crate::lists::{Outcomes, Pairs, ScanEntries, Values};
use crate::opcode::Opcode;
use crate::response::{
    ExpiryLeft, Lease, Leased, Presence, Response, ResponseFrame, Value, ValueMeta,
};
use crate::status::Status;
use crate::wire::{take_u64, text};

/// Reads the response at the front of `buf`, of which no frame may be longer than `frame_bytes_max`.
///
/// Before the handshake the limit is [`HELLO_BODY_BYTES_MAX`](crate::HELLO_BODY_BYTES_MAX) and a
/// header; after it, what the server announced. A response that does not add up is
/// [`Decoded::Refused`] with [`After::Close`]: a client cannot trust what else such a server says.
#[inline]
pub fn decode_response(buf: &[u8], frame_bytes_max: u32) -> Decoded<ResponseFrame<'_>> {
    let Some(header) = ResponseHeader::read(buf) else {
        return Decoded::Incomplete {
            needed_bytes: HEADER_BYTES,
        };
    };
    if header.frame_bytes() > u64::from(frame_bytes_max) {
        let frame_bytes = header.frame_bytes();
        return Decoded::Refused(refuse(
            &header,
            Reason::FrameTooLarge {
                frame_bytes,
                frame_bytes_max,
            },
        ));
    }
    let frame_bytes = HEADER_BYTES + header.body_bytes as usize;
    let Some(body) = buf.get(HEADER_BYTES..frame_bytes) else {
        return Decoded::Incomplete {
            needed_bytes: frame_bytes,
        };
    };
    match read_body(&header, body) {
        Ok(response) => {
            let ResponseHeader {
                opcode, status, id, ..
            } = header;
            let frame = ResponseFrame {
                id,
                opcode,
                status,
                response,
            };
            Decoded::Frame {
                frame,
                consumed: frame_bytes,
            }
        }
        Err(reason) => Decoded::Refused(refuse(&header, reason)),
    }
}

/// The front of a reply to GET or GET_AND_TOUCH that found an item: all of it but the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHead {
    /// The id of the request that is answered.
    pub id: u32,
    /// What is known about the item.
    pub meta: ValueMeta,
    /// The length of the value, which follows.
    pub value_bytes: u32,
}

/// Reads the front of the value at the front of `buf`, for clients that take a long value as it
/// comes. Consumes what comes before the value.
///
/// Whatever is no value is refused: look at the status and the opcode of its
/// [header](ResponseHeader) first.
pub fn decode_value_head(buf: &[u8], frame_bytes_max: u32) -> Decoded<ValueHead> {
    let Some(header) = ResponseHeader::read(buf) else {
        return Decoded::Incomplete {
            needed_bytes: HEADER_BYTES,
        };
    };
    let frame_bytes = header.frame_bytes();
    if frame_bytes > u64::from(frame_bytes_max) {
        let reason = Reason::FrameTooLarge {
            frame_bytes,
            frame_bytes_max,
        };
        return Decoded::Refused(refuse(&header, reason));
    }
    let is_read = [Opcode::Get, Opcode::GetAndTouch].map(|opcode| opcode as u8);
    if header.status != Status::OK || !is_read.contains(&header.opcode) {
        let reason = Reason::BadFrame("it is no value");
        return Decoded::Refused(refuse(&header, reason));
    }
    let front_bytes = match header.flags & REPLY_FLAG_EXPIRY {
        0 => 8,
        _ => 16,
    };
    let Some(value_bytes) = header.body_bytes.checked_sub(front_bytes) else {
        return Decoded::Refused(refuse(&header, WRONG_LENGTH));
    };
    let head_bytes = HEADER_BYTES + front_bytes as usize;
    let Some(front) = buf.get(HEADER_BYTES..head_bytes) else {
        return Decoded::Incomplete {
            needed_bytes: head_bytes,
        };
    };
    match read_value(&header, front) {
        Ok(value) => Decoded::Frame {
            frame: ValueHead {
                id: header.id,
                meta: value.meta,
                value_bytes,
            },
            consumed: head_bytes,
        },
        Err(reason) => Decoded::Refused(refuse(&header, reason)),
    }
}

fn read_body<'a>(header: &ResponseHeader, body: &'a [u8]) -> Result<Response<'a>, Reason> {
    let opcode = Opcode::from_u8(header.opcode);
    if opcode == Some(Opcode::Close) {
        return Ok(Response::Close {
            message: text(body),
        });
    }
    if header.status != Status::OK {
        return Ok(Response::Failed {
            message: text(body),
        });
    }
    let Some(opcode) = opcode else {
        return Ok(Response::Other { body });
    };
    match opcode {
        Opcode::Get | Opcode::GetAndTouch => read_value(header, body).map(Response::Value),
        Opcode::GetOrLease => read_leased(header, body),
        Opcode::Set
        | Opcode::Add
        | Opcode::Replace
        | Opcode::Append
        | Opcode::Prepend
        | Opcode::Cas
        | Opcode::Invalidate => {
            let [version] = numbers(body)?;
            Ok(Response::Stored { version })
        }
        Opcode::Increment | Opcode::Decrement => {
            let [number, version] = numbers(body)?;
            Ok(Response::Counter { number, version })
        }
        Opcode::Touch | Opcode::Delete | Opcode::EndLease | Opcode::Flush | Opcode::Quit => {
            let [] = numbers(body)?;
            Ok(Response::Done)
        }
        Opcode::MultiGet => {
            let expiry = header.flags & REPLY_FLAG_EXPIRY != 0;
            let partial = header.flags & REPLY_FLAG_PARTIAL != 0;
            Ok(Response::Values {
                values: Values::read(header.word, expiry, body)?,
                partial,
            })
        }
        Opcode::MultiSet | Opcode::MultiDelete => {
            Ok(Response::Outcomes(Outcomes::read(header.word, body)?))
        }
        Opcode::Scan => {
            let mut rest = body;
            let next_cursor = take_u64(&mut rest).ok_or(WRONG_LENGTH)?;
            Ok(Response::Scan {
                next_cursor,
                entries: ScanEntries::read(header.word, rest)?,
            })
        }
        Opcode::Stats => Ok(Response::Stats(Pairs::read(header.word, body)?)),
        Opcode::Ping => Ok(Response::Pong { echo: body }),
        Opcode::Hello => HelloReply::read(header.word, body).map(Response::Hello),
        Opcode::Drain => Ok(Response::Drain {
            left_ms: header.word,
            message: text(body),
        }),
        Opcode::Close => Ok(Response::Close {
            message: text(body),
        }),
    }
}

#[inline]
fn read_value<'a>(header: &ResponseHeader, body: &'a [u8]) -> Result<Value<'a>, Reason> {
    let mut rest = body;
    let version = take_u64(&mut rest).ok_or(WRONG_LENGTH)?;
    let expiry_left = match header.flags & REPLY_FLAG_EXPIRY {
        0 => ExpiryLeft::NotAsked,
        _ => ExpiryLeft::from_wire(take_u64(&mut rest).ok_or(WRONG_LENGTH)?),
    };
    let meta = ValueMeta {
        client_flags: header.word,
        version,
        expiry_left,
    };
    Ok(Value { meta, bytes: rest })
}

fn read_leased<'a>(header: &ResponseHeader, body: &'a [u8]) -> Result<Response<'a>, Reason> {
    const CONTRADICTION: Reason = Reason::BadFrame("the flags contradict each other");
    let value = read_value(header, body)?;
    let presence = match header.flags & (REPLY_FLAG_STALE | REPLY_FLAG_ABSENT) {
        0 => Presence::Fresh,
        REPLY_FLAG_STALE => Presence::Stale,
        REPLY_FLAG_ABSENT if value.bytes.is_empty() => Presence::Absent,
        _ => return Err(CONTRADICTION),
    };
    let lease = match header.flags & (REPLY_FLAG_WON | REPLY_FLAG_TAKEN) {
        0 => Lease::None,
        REPLY_FLAG_WON => Lease::Won,
        REPLY_FLAG_TAKEN => Lease::Taken,
        _ => return Err(CONTRADICTION),
    };
    Ok(Response::Leased(Leased {
        value,
        presence,
        lease,
    }))
}

const WRONG_LENGTH: Reason = Reason::BadFrame("the body has not the length it must have");

/// A body that is exactly `N` numbers.
#[inline]
fn numbers<const N: usize>(mut body: &[u8]) -> Result<[u64; N], Reason> {
    if body.len() != N * 8 {
        return Err(WRONG_LENGTH);
    }
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = take_u64(&mut body).ok_or(WRONG_LENGTH)?;
    }
    Ok(numbers)
}

#[cold]
fn refuse(header: &ResponseHeader, reason: Reason) -> Refusal {
    Refusal {
        opcode: header.opcode,
        id: header.id,
        reason,
        after: After::Close,
    }
}
