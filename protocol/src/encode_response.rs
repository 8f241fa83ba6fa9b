//! The server's side of writing: replies of one piece. Those of many are in `replies`.
//!
//! A reply's head is put together on the stack and appended in one go.

use crate::Status;
use crate::header::{
    HEADER_BYTES, REPLY_FLAG_ABSENT, REPLY_FLAG_EXPIRY, REPLY_FLAG_STALE, REPLY_FLAG_TAKEN,
    REPLY_FLAG_WON, ResponseHeader,
};
use crate::opcode::Opcode;
use crate::response::{Lease, Presence, ValueMeta};
use crate::wire::{shorten, wire_len};

/// LIMIT: a sentence fits one packet with the frames around it.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Appends the answer to a GET or GET_AND_TOUCH that found an item.
#[inline(always)]
pub fn encode_value(out: &mut Vec<u8>, opcode: Opcode, id: u32, meta: &ValueMeta, value: &[u8]) {
    encode_value_head(out, opcode, id, meta, wire_len(value.len()));
    out.extend_from_slice(value);
}

/// Appends the answer to a GET or GET_AND_TOUCH without the value: `value_bytes` bytes must follow,
/// from wherever they lie.
#[inline(always)]
pub fn encode_value_head(
    out: &mut Vec<u8>,
    opcode: Opcode,
    id: u32,
    meta: &ValueMeta,
    value_bytes: u32,
) {
    encode_flagged_head(out, opcode, id, meta, 0, value_bytes);
}

/// Appends the answer to a GET_OR_LEASE that found something, without the value: `value_bytes` bytes
/// must follow.
pub fn encode_leased_head(
    out: &mut Vec<u8>,
    id: u32,
    meta: &ValueMeta,
    (presence, lease): (Presence, Lease),
    value_bytes: u32,
) {
    let presence = match presence {
        Presence::Fresh => 0,
        Presence::Stale => REPLY_FLAG_STALE,
        Presence::Absent => REPLY_FLAG_ABSENT,
    };
    let lease = match lease {
        Lease::None => 0,
        Lease::Won => REPLY_FLAG_WON,
        Lease::Taken => REPLY_FLAG_TAKEN,
    };
    encode_flagged_head(
        out,
        Opcode::GetOrLease,
        id,
        meta,
        presence | lease,
        value_bytes,
    );
}

fn encode_flagged_head(
    out: &mut Vec<u8>,
    opcode: Opcode,
    id: u32,
    meta: &ValueMeta,
    flags_wanted: u8,
    value_bytes: u32,
) {
    let expiry = meta.expiry_left.to_wire();
    let (flags, meta_bytes) = match expiry {
        None => (0, 8),
        Some(_) => (REPLY_FLAG_EXPIRY, 16),
    };
    let header = ResponseHeader {
        opcode: opcode as u8,
        flags: flags | flags_wanted,
        status: Status::OK,
        id,
        word: meta.client_flags,
        body_bytes: meta_bytes + value_bytes,
    };
    out.extend_from_slice(&with_version(header, meta.version));
    if let Some(expiry_ms) = expiry {
        out.extend_from_slice(&expiry_ms.to_le_bytes());
    }
}

/// What [`encode_value_head`] appends where the expiry was not asked for, for servers that have a way of
/// their own to do so: the usual answer.
#[inline(always)]
#[must_use]
pub fn value_head(
    opcode: Opcode,
    id: u32,
    client_flags: u32,
    version: u64,
    value_bytes: usize,
) -> [u8; HEADER_BYTES + 8] {
    let header = ResponseHeader {
        word: client_flags,
        ..head(opcode, Status::OK, id, 8 + wire_len(value_bytes))
    };
    with_version(header, version)
}

#[inline(always)]
fn with_version(header: ResponseHeader, version: u64) -> [u8; HEADER_BYTES + 8] {
    let mut bytes = [0; HEADER_BYTES + 8];
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    bytes[HEADER_BYTES..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// Appends OK with nothing more to say: TOUCH, DELETE, FLUSH, QUIT.
#[inline]
pub fn encode_done(out: &mut Vec<u8>, opcode: Opcode, id: u32) {
    out.extend_from_slice(&head(opcode, Status::OK, id, 0).to_bytes());
}

/// Appends OK to any of the stores, with the version that the item has now.
#[inline]
pub fn encode_stored(out: &mut Vec<u8>, opcode: Opcode, id: u32, version: u64) {
    out.extend_from_slice(&with_version(head(opcode, Status::OK, id, 8), version));
}

/// Appends OK to INCREMENT or DECREMENT, with the number and the version that the item has now.
#[inline]
pub fn encode_counter(out: &mut Vec<u8>, opcode: Opcode, id: u32, number: u64, version: u64) {
    let mut frame = [0; HEADER_BYTES + 16];
    frame[..HEADER_BYTES].copy_from_slice(&head(opcode, Status::OK, id, 16).to_bytes());
    frame[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&number.to_le_bytes());
    frame[HEADER_BYTES + 8..].copy_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&frame);
}

/// Appends the echo of a PING.
pub fn encode_pong(out: &mut Vec<u8>, id: u32, echo: &[u8]) {
    out.extend_from_slice(&head(Opcode::Ping, Status::OK, id, wire_len(echo.len())).to_bytes());
    out.extend_from_slice(echo);
}

/// Appends any status but OK, with a sentence for people, which may be empty where the status says
/// it all, as NOT_FOUND does.
///
/// A sentence of more than a kilobyte is cut.
#[inline]
pub fn encode_status(out: &mut Vec<u8>, opcode: Opcode, id: u32, status: Status, message: &str) {
    let message = shorten(message, MESSAGE_BYTES_MAX);
    out.extend_from_slice(&head(opcode, status, id, wire_len(message.len())).to_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// Appends the notice that this connection is answered for `left_ms` more milliseconds at most.
pub fn encode_drain(out: &mut Vec<u8>, left_ms: u32, message: &str) {
    let message = shorten(message, MESSAGE_BYTES_MAX);
    let header = head(Opcode::Drain, Status::OK, 0, wire_len(message.len()));
    out.extend_from_slice(
        &ResponseHeader {
            word: left_ms,
            ..header
        }
        .to_bytes(),
    );
    out.extend_from_slice(message.as_bytes());
}

/// Appends the notice that the connection closes after this frame; the status says why, and with its
/// [class](Status::class) what became of the requests still unanswered.
pub fn encode_close(out: &mut Vec<u8>, status: Status, message: &str) {
    encode_status(out, Opcode::Close, 0, status, message);
}

#[inline]
fn head(opcode: Opcode, status: Status, id: u32, body_bytes: u32) -> ResponseHeader {
    ResponseHeader {
        opcode: opcode as u8,
        flags: 0,
        status,
        id,
        word: 0,
        body_bytes,
    }
}
