//! The operations and their numbers.

use std::fmt;

/// What a frame asks for, or, from 0xE0 on, what a server says unasked.
///
/// Numbers are never given a second meaning. 0x1F is kept for leases and 0xE2 to 0xEF for
/// invalidations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The handshake: the first frame of a connection, and only the first.
    Hello = 0x01,
    /// Echoes its body; answered after all that was asked before it.
    Ping = 0x02,
    /// Ends the connection after all that was asked before it is answered.
    Quit = 0x03,
    /// Reports the server's counters.
    Stats = 0x04,
    /// Empties the cache, now or later.
    Flush = 0x05,
    /// Lists the keys, a page at a time.
    Scan = 0x06,
    /// Reads an item.
    Get = 0x08,
    /// Reads an item and gives it a new expiry.
    GetAndTouch = 0x09,
    /// Gives an item a new expiry.
    Touch = 0x0A,
    /// Deletes an item.
    Delete = 0x0B,
    /// Reads many items.
    MultiGet = 0x0C,
    /// Stores many items.
    MultiSet = 0x0D,
    /// Deletes many items.
    MultiDelete = 0x0E,
    /// Stores an item.
    Set = 0x10,
    /// Stores an item where there is none.
    Add = 0x11,
    /// Stores an item where there is one.
    Replace = 0x12,
    /// Puts bytes behind the value of an item.
    Append = 0x13,
    /// Puts bytes before the value of an item.
    Prepend = 0x14,
    /// Stores an item where the one there still has a certain version.
    Cas = 0x15,
    /// Adds to a counter.
    Increment = 0x18,
    /// Subtracts from a counter.
    Decrement = 0x19,
    /// Reads an item, and tells one of many clients to store it where that is needed.
    GetOrLease = 0x1C,
    /// Marks an item as out of date.
    Invalidate = 0x1D,
    /// Gives a lease back.
    EndLease = 0x1E,
    /// Notice: the server is about to close this connection; take new requests elsewhere.
    Drain = 0xE0,
    /// Notice: the server closes this connection after this frame, and why.
    Close = 0xE1,
}

impl Opcode {
    /// Every opcode there is, requests first, in the order of their numbers.
    pub const ALL: [Self; 26] = [
        Self::Hello,
        Self::Ping,
        Self::Quit,
        Self::Stats,
        Self::Flush,
        Self::Scan,
        Self::Get,
        Self::GetAndTouch,
        Self::Touch,
        Self::Delete,
        Self::MultiGet,
        Self::MultiSet,
        Self::MultiDelete,
        Self::Set,
        Self::Add,
        Self::Replace,
        Self::Append,
        Self::Prepend,
        Self::Cas,
        Self::Increment,
        Self::Decrement,
        Self::GetOrLease,
        Self::Invalidate,
        Self::EndLease,
        Self::Drain,
        Self::Close,
    ];

    /// The opcode with this number, if there is one.
    #[inline]
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        BY_NUMBER[number as usize]
    }

    /// Whether this reads items: a quiet read is answered only where it found something, a quiet
    /// write only where it failed.
    #[inline]
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(
            self,
            Self::Get | Self::GetAndTouch | Self::MultiGet | Self::GetOrLease
        )
    }

    /// Whether a request with this opcode names exactly one key.
    #[inline]
    #[must_use]
    pub const fn has_one_key(self) -> bool {
        let number = self as u8;
        number >= Self::Get as u8 && number <= Self::EndLease as u8 && !self.has_list()
    }

    /// Whether a request with this opcode names many keys.
    #[inline]
    #[must_use]
    pub const fn has_list(self) -> bool {
        matches!(self, Self::MultiGet | Self::MultiSet | Self::MultiDelete)
    }

    /// Whether a request with this opcode ends with a value that a server can receive where it is to
    /// stay, since the value is all of what is stored.
    #[inline]
    #[must_use]
    pub const fn has_value_in_place(self) -> bool {
        matches!(self, Self::Set | Self::Add | Self::Replace | Self::Cas)
    }

    /// Whether only a server sends this, unasked.
    #[must_use]
    pub const fn is_notice(self) -> bool {
        self as u8 >= FIRST_NOTICE
    }

    /// The name that PROTOCOL.md uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Ping => "PING",
            Self::Quit => "QUIT",
            Self::Stats => "STATS",
            Self::Flush => "FLUSH",
            Self::Scan => "SCAN",
            Self::Get => "GET",
            Self::GetAndTouch => "GET_AND_TOUCH",
            Self::Touch => "TOUCH",
            Self::Delete => "DELETE",
            Self::MultiGet => "MULTI_GET",
            Self::MultiSet => "MULTI_SET",
            Self::MultiDelete => "MULTI_DELETE",
            Self::Set => "SET",
            Self::Add => "ADD",
            Self::Replace => "REPLACE",
            Self::Append => "APPEND",
            Self::Prepend => "PREPEND",
            Self::Cas => "CAS",
            Self::Increment => "INCREMENT",
            Self::Decrement => "DECREMENT",
            Self::GetOrLease => "GET_OR_LEASE",
            Self::Invalidate => "INVALIDATE",
            Self::EndLease => "END_LEASE",
            Self::Drain => "DRAIN",
            Self::Close => "CLOSE",
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Frames from this number on are sent by servers only, and unasked.
const FIRST_NOTICE: u8 = 0xE0;

const BY_NUMBER: [Option<Opcode>; 256] = {
    let mut table = [None; 256];
    let mut at = 0;
    while at < Opcode::ALL.len() {
        let opcode = Opcode::ALL[at];
        table[opcode as usize] = Some(opcode);
        at += 1;
    }
    table
};
