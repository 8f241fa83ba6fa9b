//! The server's side of reading: bytes to [`RequestFrame`].

use crate::decoded::{Decoded, Reason, Refusal};
use crate::header::{
    FIELD_CLIENT_FLAGS, FIELD_DELTA, FIELD_EXPIRY, FIELD_INITIAL, FIELD_LEASE, FIELD_REFRESH,
    FIELD_VERSION, FLAG_QUIET, FLAG_WANT_EXPIRY, HEADER_BYTES, RequestHeader,
};
use crate::lists::{Entries, Keys};
use crate::opcode::Opcode;
use crate::request::{Arithmetic, Direction, Request, RequestFrame, Store, StoreMode};
use crate::wire::{expiry_from_wire, take, take_u32, take_u64};
use crate::{Limits, shape};

/// Reads the request at the front of `buf`, on a connection whose handshake is done.
///
/// Costs a few nanoseconds for a request with one key; multi-key frames are walked once, so that
/// their iterators cannot fail. HELLO is refused here: it comes first and only once.
#[inline]
pub fn decode_request<'a>(buf: &'a [u8], limits: &Limits) -> Decoded<RequestFrame<'a>> {
    let Some(header) = RequestHeader::read(buf) else {
        return Decoded::Incomplete {
            needed_bytes: HEADER_BYTES,
        };
    };
    let opcode = match shape::check(&header, limits) {
        Ok(opcode) => opcode,
        Err(refusal) => return Decoded::Refused(refusal),
    };
    let frame_bytes = HEADER_BYTES + header.body_bytes as usize;
    let Some(body) = buf.get(HEADER_BYTES..frame_bytes) else {
        return Decoded::Incomplete {
            needed_bytes: frame_bytes,
        };
    };
    match read_body(opcode, &header, body, limits) {
        Ok(request) => {
            let quiet = header.flags & FLAG_QUIET != 0;
            let frame = RequestFrame {
                id: header.id,
                quiet,
                request,
            };
            Decoded::Frame {
                frame,
                consumed: frame_bytes,
            }
        }
        Err(refusal) => Decoded::Refused(refusal),
    }
}

/// A GET, as [`decode_get`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetFrame<'a> {
    /// Chosen by the client, echoed in the answer.
    pub id: u32,
    /// [`FLAG_QUIET`] and [`FLAG_WANT_EXPIRY`], as far as they are set.
    pub flags: u8,
    /// The key.
    pub key: &'a [u8],
}

/// The flags that a GET may have, where they lie in the first four bytes of its header.
const GET_FLAGS: u32 = ((FLAG_QUIET | FLAG_WANT_EXPIRY) as u32) << 8;

/// Reads the request at the front of `buf` if it is a GET that is in order and there whole, with its
/// length: the shortest way to the request that comes most often. `None` says nothing about what
/// else it is, which [`decode_request`] tells; of a GET, both say the same.
#[inline]
#[must_use]
pub fn decode_get<'a>(buf: &'a [u8], limits: &Limits) -> Option<(GetFrame<'a>, usize)> {
    let (words, _) = buf.first_chunk::<HEADER_BYTES>()?.as_chunks::<4>();
    // Opcode, flags and fields in one, then id, word and body_bytes, as in a `RequestHeader`.
    let [kind, id, word, key_bytes] = std::array::from_fn(|at| u32::from_le_bytes(words[at]));
    let is_get = kind & !GET_FLAGS == Opcode::Get as u32;
    let is_key = key_bytes == word && key_bytes.wrapping_sub(1) < limits.key_bytes_max;
    let frame_bytes = HEADER_BYTES + key_bytes as usize;
    if !is_get || !is_key || frame_bytes > limits.buffered_bytes_max as usize {
        return None;
    }
    let frame = GetFrame {
        id,
        flags: (kind >> 8) as u8,
        key: buf.get(HEADER_BYTES..frame_bytes)?,
    };
    Some((frame, frame_bytes))
}

/// A SET, as [`decode_set`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetFrame<'a> {
    /// Chosen by the client, echoed in the answer.
    pub id: u32,
    /// [`FLAG_QUIET`], if it is set.
    pub flags: u8,
    /// What is stored.
    pub store: Store<'a>,
}

/// The flags and fields that a SET may have, where they lie in the first four bytes of its header.
const SET_OPTIONS: u32 =
    (FLAG_QUIET as u32) << 8 | ((FIELD_EXPIRY | FIELD_CLIENT_FLAGS) as u32) << 16;

/// Reads the request at the front of `buf` if it is a SET that is in order and there whole, with its
/// length, as [`decode_get`] reads a GET.
#[inline]
#[must_use]
pub fn decode_set<'a>(buf: &'a [u8], limits: &Limits) -> Option<(SetFrame<'a>, usize)> {
    let (words, _) = buf.first_chunk::<HEADER_BYTES>()?.as_chunks::<4>();
    let [kind, id, key_bytes, body_bytes] = std::array::from_fn(|at| u32::from_le_bytes(words[at]));
    let is_set = kind & !SET_OPTIONS == Opcode::Set as u32;
    let is_key = key_bytes.wrapping_sub(1) < limits.key_bytes_max;
    let frame_bytes = HEADER_BYTES + body_bytes as usize;
    let frame_bytes_max = limits.frame_bytes_max.min(limits.skip_bytes_max);
    if !is_set || !is_key || frame_bytes > frame_bytes_max as usize {
        return None;
    }
    let mut rest = buf.get(HEADER_BYTES..frame_bytes)?;
    let (mut expire_in_ms, mut client_flags) = (None, 0);
    let fields = (kind >> 16) as u16;
    if fields & FIELD_EXPIRY != 0 {
        expire_in_ms = expiry_from_wire(take_u64(&mut rest)?);
    }
    if fields & FIELD_CLIENT_FLAGS != 0 {
        client_flags = take_u32(&mut rest)?;
    }
    let (key, value) = rest.split_at_checked(key_bytes as usize)?;
    let frame = SetFrame {
        id,
        flags: (kind >> 8) as u8,
        store: Store {
            mode: StoreMode::Set,
            key,
            value,
            client_flags,
            expire_in_ms,
        },
    };
    (value.len() <= limits.value_bytes_max as usize).then_some((frame, frame_bytes))
}

/// The front of a SET, ADD, REPLACE or CAS: all of it but the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHead<'a> {
    /// Chosen by the client, echoed in the answer.
    pub id: u32,
    /// See [`RequestFrame::quiet`].
    pub quiet: bool,
    /// What is stored; its value is empty, and the bytes that follow the head.
    pub store: Store<'a>,
    /// The length of the value.
    pub value_bytes: u32,
}

/// Reads the front of the store at the front of `buf`, of which [`decode_request`] has said that it
/// is incomplete: for servers that receive a long value where it is to stay.
///
/// Consumes what comes before the value. A frame of another operation has no such front: it is
/// incomplete until it is whole.
pub fn decode_store_head<'a>(buf: &'a [u8], limits: &Limits) -> Decoded<StoreHead<'a>> {
    let Some(header) = RequestHeader::read(buf) else {
        return Decoded::Incomplete {
            needed_bytes: HEADER_BYTES,
        };
    };
    let opcode = match shape::check(&header, limits) {
        Ok(opcode) => opcode,
        Err(refusal) => return Decoded::Refused(refusal),
    };
    if !opcode.has_value_in_place() {
        return Decoded::Incomplete {
            needed_bytes: HEADER_BYTES + header.body_bytes as usize,
        };
    }
    // `shape::check` has seen that fields and key fit the body.
    let front_bytes = header.fields_bytes() + header.word;
    let head_bytes = HEADER_BYTES + front_bytes as usize;
    let Some(front) = buf.get(HEADER_BYTES..head_bytes) else {
        return Decoded::Incomplete {
            needed_bytes: head_bytes,
        };
    };
    match read_body(opcode, &header, front, limits) {
        Ok(Request::Store(store)) => Decoded::Frame {
            frame: StoreHead {
                id: header.id,
                quiet: header.flags & FLAG_QUIET != 0,
                store,
                value_bytes: header.body_bytes - front_bytes,
            },
            consumed: head_bytes,
        },
        Ok(_) => Decoded::Refused(shape::refuse(&header, Reason::UnknownOpcode(header.opcode))),
        Err(refusal) => Decoded::Refused(refusal),
    }
}

#[inline]
fn read_body<'a>(
    opcode: Opcode,
    header: &RequestHeader,
    body: &'a [u8],
    limits: &Limits,
) -> Result<Request<'a>, Refusal> {
    if !opcode.has_one_key() {
        return read_other(opcode, header, body, limits)
            .map_err(|reason| shape::refuse(header, reason));
    }
    // `shape::check` has compared every length with the header, so none of these can run out; were
    // it wrong, the frame would be refused here and nothing worse.
    let parts = Parts::read(header, body)
        .ok_or_else(|| shape::refuse(header, Reason::BadFrame("the body is too short")))?;
    let want_expiry = header.flags & FLAG_WANT_EXPIRY != 0;
    let Parts { expire_in_ms, .. } = parts;
    let store = |mode| {
        let (key, value) = (parts.key, parts.rest);
        Request::Store(Store {
            mode,
            key,
            value,
            client_flags: parts.client_flags,
            expire_in_ms,
        })
    };
    let arithmetic = |direction| {
        let Parts {
            key,
            delta,
            initial,
            ..
        } = parts;
        Request::Arithmetic(Arithmetic {
            direction,
            key,
            delta,
            initial,
            expire_in_ms,
        })
    };
    Ok(match opcode {
        Opcode::Get => Request::Get {
            key: parts.key,
            want_expiry,
        },
        Opcode::Set => store(StoreMode::Set),
        Opcode::GetAndTouch => Request::GetAndTouch {
            key: parts.key,
            expire_in_ms,
            want_expiry,
        },
        Opcode::Touch => Request::Touch {
            key: parts.key,
            expire_in_ms,
        },
        Opcode::Delete => Request::Delete {
            key: parts.key,
            version: parts.version,
        },
        Opcode::GetOrLease => Request::GetOrLease {
            key: parts.key,
            lease_ms: parts.lease_ms,
            refresh_ms: parts.refresh_ms,
            want_expiry,
        },
        Opcode::Invalidate => Request::Invalidate {
            key: parts.key,
            version: parts.version,
            expire_in_ms,
        },
        Opcode::EndLease => Request::EndLease {
            key: parts.key,
            version: parts.version.unwrap_or_default(),
        },
        Opcode::Add => store(StoreMode::Add),
        Opcode::Replace => store(StoreMode::Replace),
        Opcode::Append => store(StoreMode::Append),
        Opcode::Prepend => store(StoreMode::Prepend),
        Opcode::Cas => store(StoreMode::Cas {
            version: parts.version.unwrap_or_default(),
        }),
        Opcode::Increment => arithmetic(Direction::Increment),
        Opcode::Decrement => arithmetic(Direction::Decrement),
        _ => return Err(shape::refuse(header, Reason::UnknownOpcode(header.opcode))),
    })
}

/// The operations without a single key.
fn read_other<'a>(
    opcode: Opcode,
    header: &RequestHeader,
    body: &'a [u8],
    limits: &Limits,
) -> Result<Request<'a>, Reason> {
    let want_expiry = header.flags & FLAG_WANT_EXPIRY != 0;
    let number = || take_u64(&mut &*body).ok_or(Reason::BadFrame("the body is too short"));
    Ok(match opcode {
        Opcode::MultiGet => Request::MultiGet {
            keys: Keys::read(header.word, body, limits)?,
            want_expiry,
        },
        Opcode::MultiSet => Request::MultiSet {
            entries: Entries::read(header.word, body, limits)?,
        },
        Opcode::MultiDelete => Request::MultiDelete {
            keys: Keys::read(header.word, body, limits)?,
        },
        Opcode::Flush => Request::Flush {
            delay_ms: number()?,
        },
        Opcode::Scan => Request::Scan {
            cursor: number()?,
            limit: header.word,
        },
        Opcode::Stats => Request::Stats { group: body },
        Opcode::Ping => Request::Ping { echo: body },
        Opcode::Quit => Request::Quit,
        Opcode::Hello => return Err(Reason::BadFrame("HELLO comes first and only once")),
        _ => return Err(Reason::UnknownOpcode(header.opcode)),
    })
}

/// The body of a request with one key.
struct Parts<'a> {
    expire_in_ms: Option<u64>,
    version: Option<u64>,
    initial: Option<u64>,
    delta: u64,
    client_flags: u32,
    lease_ms: Option<u64>,
    refresh_ms: Option<u64>,
    key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    #[inline]
    fn read(header: &RequestHeader, body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        let mut parts = Self {
            expire_in_ms: None,
            version: None,
            initial: None,
            delta: 1,
            client_flags: 0,
            lease_ms: None,
            refresh_ms: None,
            key: &[],
            rest: &[],
        };
        if header.fields != 0 {
            parts.read_fields(header.fields, &mut rest)?;
        }
        parts.key = take(&mut rest, header.word)?;
        parts.rest = rest;
        Some(parts)
    }

    fn read_fields(&mut self, fields: u16, rest: &mut &'a [u8]) -> Option<()> {
        if fields & FIELD_EXPIRY != 0 {
            self.expire_in_ms = expiry_from_wire(take_u64(rest)?);
        }
        if fields & FIELD_VERSION != 0 {
            self.version = Some(take_u64(rest)?);
        }
        if fields & FIELD_INITIAL != 0 {
            self.initial = Some(take_u64(rest)?);
        }
        if fields & FIELD_DELTA != 0 {
            self.delta = take_u64(rest)?;
        }
        if fields & FIELD_CLIENT_FLAGS != 0 {
            self.client_flags = take_u32(rest)?;
        }
        if fields & FIELD_LEASE != 0 {
            self.lease_ms = Some(take_u64(rest)?);
        }
        if fields & FIELD_REFRESH != 0 {
            self.refresh_ms = Some(take_u64(rest)?);
        }
        Some(())
    }
}
