//! What a server says.

use crate::Status;
use crate::hello::HelloReply;
use crate::lists::{Outcomes, Pairs, ScanEntries, Values};
use crate::wire::{expiry_from_wire, expiry_to_wire};

/// A response with what is common to all of them. Borrows from the buffer it was decoded from.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseFrame<'a> {
    /// The id of the request that is answered; 0 in frames that the server sends unasked.
    pub id: u32,
    /// The operation that is answered; a number, since a server may be newer than its client.
    pub opcode: u8,
    /// How the request went.
    pub status: Status,
    /// What the server says.
    pub response: Response<'a>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Response<'a> {
    /// The request was done and there is nothing more to say: TOUCH, DELETE, FLUSH, QUIT.
    Done,
    /// The item of a GET or GET_AND_TOUCH.
    Value(Value<'a>),
    /// What a GET_OR_LEASE found.
    Leased(Leased<'a>),
    /// A value was stored, or an item marked as out of date.
    Stored {
        /// The version that the item has now.
        version: u64,
    },
    /// A counter was changed or created.
    Counter {
        /// The number it holds now.
        number: u64,
        /// The version that the item has now.
        version: u64,
    },
    /// The items of a MULTI_GET.
    Values {
        /// What was found for each key.
        values: Values<'a>,
        /// Whether only the first keys are answered, since the frame had no room for more.
        partial: bool,
    },
    /// The outcomes of a MULTI_SET or MULTI_DELETE.
    Outcomes(Outcomes<'a>),
    /// A page of a scan.
    Scan {
        /// The cursor of the next page; 0 where this was the last.
        next_cursor: u64,
        /// The keys.
        entries: ScanEntries<'a>,
    },
    /// The counters of STATS.
    Stats(Pairs<'a>),
    /// The echo of a PING.
    Pong {
        /// The same bytes.
        echo: &'a [u8],
    },
    /// The server's side of the handshake.
    Hello(HelloReply<'a>),
    /// Unasked: the server is about to close this connection.
    Drain {
        /// How long it still answers on this connection, in milliseconds.
        left_ms: u32,
        /// A sentence for people.
        message: &'a str,
    },
    /// Unasked: the server closes this connection after this frame; the status says why.
    Close {
        /// A sentence for people.
        message: &'a str,
    },
    /// Any status but OK.
    Failed {
        /// A sentence for people; empty where the status says it all.
        message: &'a str,
    },
    /// A frame with an opcode that this crate does not know; to be skipped.
    Other {
        /// Its body.
        body: &'a [u8],
    },
}

/// An item as a read returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// What is known about the item.
    pub meta: ValueMeta,
    /// The value itself.
    pub bytes: &'a [u8],
}

/// What is known about an item beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueMeta {
    /// The client's own flags.
    pub client_flags: u32,
    /// The version, for CAS and conditional DELETE.
    pub version: u64,
    /// How long the item has left.
    pub expiry_left: ExpiryLeft,
}

/// What a GET_OR_LEASE found, and whether the client is to store a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased<'a> {
    /// The item. Where it is absent, the value is empty, and the version is that of the lease.
    pub value: Value<'a>,
    /// What is there.
    pub presence: Presence,
    /// Who is to store.
    pub lease: Lease,
}

/// What is there of an item that may be leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// An item.
    #[default]
    Fresh,
    /// An item that is out of date.
    Stale,
    /// Nothing.
    Absent,
}

/// Who is to store a new value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// Nobody.
    #[default]
    None,
    /// This client, and no other.
    Won,
    /// Another client.
    Taken,
}

/// How long an item has left to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryLeft {
    /// The request did not ask.
    #[default]
    NotAsked,
    /// It never expires.
    Never,
    /// So many milliseconds.
    Ms(u64),
}

impl ExpiryLeft {
    pub(crate) fn from_wire(expiry_ms: u64) -> Self {
        expiry_from_wire(expiry_ms).map_or(Self::Never, Self::Ms)
    }

    /// The expiry as the wire states it, or nothing where it was not asked for.
    #[inline]
    pub(crate) fn to_wire(self) -> Option<u64> {
        match self {
            Self::NotAsked => None,
            Self::Never => Some(expiry_to_wire(None)),
            Self::Ms(left_ms) => Some(expiry_to_wire(Some(left_ms))),
        }
    }
}

/// What a MULTI_GET found for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The item.
    Found(Value<'a>),
    /// No item; NOT_FOUND, or why the server could not look.
    Missed(Status),
}
