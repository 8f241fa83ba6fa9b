//! The sixteen bytes that every frame begins with.
//!
//! Requests and responses share one layout; only the third place differs, and what the word at
//! offset 8 means is the operation's affair:
//!
//! ```text
//!            0        1        2                4                8                12              16
//!            +--------+--------+----------------+----------------+----------------+---------------+
//! request    | opcode | flags  | fields     u16 | request id u32 | word       u32 | body_bytes u32|
//!            +--------+--------+----------------+----------------+----------------+---------------+
//! response   | opcode | flags  | status     u16 | request id u32 | word       u32 | body_bytes u32|
//!            +--------+--------+----------------+----------------+----------------+---------------+
//! ```

use crate::Status;

/// The length of the header of every frame.
pub const HEADER_BYTES: usize = 16;

/// Request flag: answer only where the answer is worth a frame (a hit of a read, a failure of a
/// write).
pub const FLAG_QUIET: u8 = 1 << 0;
/// Request flag of reads: say how long the item has left to live.
pub const FLAG_WANT_EXPIRY: u8 = 1 << 1;

/// Request field, 8 bytes: the item expires this many milliseconds after the server executes the
/// request.
pub const FIELD_EXPIRY: u16 = 1 << 0;
/// Request field, 8 bytes: the version that the item must still have.
pub const FIELD_VERSION: u16 = 1 << 1;
/// Request field, 8 bytes: the number that an absent counter is created with.
pub const FIELD_INITIAL: u16 = 1 << 2;
/// Request field, 8 bytes: what is added to or subtracted from a counter; absent means 1.
pub const FIELD_DELTA: u16 = 1 << 3;
/// Request field, 4 bytes: the client's own flags of the item; absent means 0.
pub const FIELD_CLIENT_FLAGS: u16 = 1 << 4;
/// Request field, 8 bytes: how many milliseconds whoever is told to store a missing item has for it;
/// absent means that nobody is.
pub const FIELD_LEASE: u16 = 1 << 5;
/// Request field, 8 bytes: an item that has fewer milliseconds left is to be stored anew; absent
/// means that only stale ones are.
pub const FIELD_REFRESH: u16 = 1 << 6;

const FIELDS_OF_8_BYTES: u16 =
    FIELD_EXPIRY | FIELD_VERSION | FIELD_INITIAL | FIELD_DELTA | FIELD_LEASE | FIELD_REFRESH;

/// Response flag: the time that the item has left follows its version.
pub const REPLY_FLAG_EXPIRY: u8 = 1 << 0;
/// Response flag: only the first entries are answered, as many as the word says; ask again for the
/// others.
pub const REPLY_FLAG_PARTIAL: u8 = 1 << 1;
/// Response flag: the item is out of date.
pub const REPLY_FLAG_STALE: u8 = 1 << 2;
/// Response flag: this client, and no other, is to store the item.
pub const REPLY_FLAG_WON: u8 = 1 << 3;
/// Response flag: another client is to store the item.
pub const REPLY_FLAG_TAKEN: u8 = 1 << 4;
/// Response flag: there is no item, and the version is that of the lease.
pub const REPLY_FLAG_ABSENT: u8 = 1 << 5;

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The operation; a number and not an [`Opcode`](crate::Opcode), since a receiver skips what it does not know.
    pub opcode: u8,
    /// Bits named `FLAG_`.
    pub flags: u8,
    /// Bits named `FIELD_`: which optional fields stand at the front of the body.
    pub fields: u16,
    /// Chosen by the client, echoed by the server.
    pub id: u32,
    /// The length of the key, the number of entries, or whatever else the operation makes of it.
    pub word: u32,
    /// The length of all that follows the header.
    pub body_bytes: u32,
}

impl RequestHeader {
    /// Reads the header at the front of `bytes`, or nothing where fewer than [`HEADER_BYTES`] are
    /// there.
    #[inline]
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [
            opcode,
            flags,
            f0,
            f1,
            i0,
            i1,
            i2,
            i3,
            w0,
            w1,
            w2,
            w3,
            b0,
            b1,
            b2,
            b3,
        ] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            opcode,
            flags,
            fields: u16::from_le_bytes([f0, f1]),
            id: u32::from_le_bytes([i0, i1, i2, i3]),
            word: u32::from_le_bytes([w0, w1, w2, w3]),
            body_bytes: u32::from_le_bytes([b0, b1, b2, b3]),
        })
    }

    /// The header as it stands on the wire.
    #[inline]
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        join(
            self.opcode,
            self.flags,
            self.fields,
            self.id,
            self.word,
            self.body_bytes,
        )
    }

    /// The length of the whole frame; it may be more than any limit allows.
    #[inline]
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }

    /// The length of the optional fields that the header announces.
    #[inline]
    #[must_use]
    pub fn fields_bytes(&self) -> u32 {
        let fours = u32::from(self.fields & FIELD_CLIENT_FLAGS != 0);
        (self.fields & FIELDS_OF_8_BYTES).count_ones() * 8 + fours * 4
    }
}

/// The header of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The operation that is answered, or one of the server's own from 0xE0 on.
    pub opcode: u8,
    /// Bits named `REPLY_FLAG_`.
    pub flags: u8,
    /// How the request went.
    pub status: Status,
    /// The id of the request that is answered; 0 in frames that the server sends unasked.
    pub id: u32,
    /// The client's flags of the item, the number of entries, or whatever else the operation makes
    /// of it.
    pub word: u32,
    /// The length of all that follows the header.
    pub body_bytes: u32,
}

impl ResponseHeader {
    /// Reads the header at the front of `bytes`, or nothing where fewer than [`HEADER_BYTES`] are
    /// there.
    #[inline]
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = RequestHeader::read(bytes)?;
        Some(Self {
            opcode: header.opcode,
            flags: header.flags,
            status: Status(header.fields),
            id: header.id,
            word: header.word,
            body_bytes: header.body_bytes,
        })
    }

    /// The header as it stands on the wire.
    #[inline]
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        join(
            self.opcode,
            self.flags,
            self.status.0,
            self.id,
            self.word,
            self.body_bytes,
        )
    }

    /// The length of the whole frame; it may be more than any limit allows.
    #[inline]
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }
}

#[inline]
fn join(
    opcode: u8,
    flags: u8,
    third: u16,
    id: u32,
    word: u32,
    body_bytes: u32,
) -> [u8; HEADER_BYTES] {
    let joined = u128::from(opcode)
        | u128::from(flags) << 8
        | u128::from(third) << 16
        | u128::from(id) << 32
        | u128::from(word) << 64
        | u128::from(body_bytes) << 96;
    joined.to_le_bytes()
}
