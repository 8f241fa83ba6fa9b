//! What a client asks for, and how it is written.

use crate::header::{
    FIELD_CLIENT_FLAGS, FIELD_DELTA, FIELD_EXPIRY, FIELD_INITIAL, FIELD_LEASE, FIELD_REFRESH,
    FIELD_VERSION, FLAG_QUIET, FLAG_WANT_EXPIRY, HEADER_BYTES, RequestHeader,
};
use crate::lists::{Entries, Keys};
use crate::opcode::Opcode;
use crate::wire::wire_len;

/// A request with what is common to all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFrame<'a> {
    /// Chosen by the client, echoed in the answer.
    pub id: u32,
    /// Answer only where the answer is worth a frame: a hit of a read, a failure of a write, and
    /// every refusal. PING, QUIT, STATS and SCAN cannot be quiet.
    pub quiet: bool,
    /// What is asked for.
    pub request: Request<'a>,
}

/// What a client asks for, after the handshake. Borrows from the buffer it was decoded from.
///
/// Expiries are in milliseconds from the moment the server executes the request; `None` is never and
/// `Some(0)` is at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Read an item.
    Get {
        /// The key.
        key: &'a [u8],
        /// Whether the answer says how long the item has left.
        want_expiry: bool,
    },
    /// Read an item and give it a new expiry.
    GetAndTouch {
        /// The key.
        key: &'a [u8],
        /// The new expiry.
        expire_in_ms: Option<u64>,
        /// Whether the answer says how long the item has left, by its new expiry.
        want_expiry: bool,
    },
    /// Store an item.
    Store(Store<'a>),
    /// Add to or subtract from a counter.
    Arithmetic(Arithmetic<'a>),
    /// Give an item a new expiry.
    Touch {
        /// The key.
        key: &'a [u8],
        /// The new expiry.
        expire_in_ms: Option<u64>,
    },
    /// Delete an item.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Delete only if the item still has this version.
        version: Option<u64>,
    },
    /// Read an item, and be told to store it where that is needed and nobody else was told.
    GetOrLease {
        /// The key.
        key: &'a [u8],
        /// Where there is no item: how long another client is not told to store one, if this one is.
        /// `None`: nobody is told.
        lease_ms: Option<u64>,
        /// An item that has less than this left is to be stored anew, and so is in any case one that
        /// is stale.
        refresh_ms: Option<u64>,
        /// Whether the answer says how long the item has left.
        want_expiry: bool,
    },
    /// Mark an item as out of date.
    Invalidate {
        /// The key.
        key: &'a [u8],
        /// Mark it only if the item still has this version.
        version: Option<u64>,
        /// The new expiry; `None` here: the item keeps its own.
        expire_in_ms: Option<u64>,
    },
    /// Give a lease back, without an item.
    EndLease {
        /// The key.
        key: &'a [u8],
        /// The version that came with the lease.
        version: u64,
    },
    /// Empty the cache.
    Flush {
        /// When, in milliseconds from now; 0 is now.
        delay_ms: u64,
    },
    /// Read many items.
    MultiGet {
        /// The keys.
        keys: Keys<'a>,
        /// Whether the answer says how long each item has left.
        want_expiry: bool,
    },
    /// Store many items, each as SET does.
    MultiSet {
        /// The items.
        entries: Entries<'a>,
    },
    /// Delete many items.
    MultiDelete {
        /// The keys.
        keys: Keys<'a>,
    },
    /// List keys, a page at a time.
    Scan {
        /// 0 for the first page, then what the page before said.
        cursor: u64,
        /// About how many keys to list; 0 leaves it to the server.
        limit: u32,
    },
    /// Report counters.
    Stats {
        /// Which group of them; empty for the general ones.
        group: &'a [u8],
    },
    /// Answer with the same bytes.
    Ping {
        /// The bytes.
        echo: &'a [u8],
    },
    /// Answer and close the connection.
    Quit,
}

/// A request to store a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// On what condition and how.
    pub mode: StoreMode,
    /// The key.
    pub key: &'a [u8],
    /// The value, or what is put before or behind it.
    pub value: &'a [u8],
    /// The client's own flags; APPEND and PREPEND keep those of the item, and have 0 here.
    pub client_flags: u32,
    /// The expiry; APPEND and PREPEND keep that of the item, and have `None` here.
    pub expire_in_ms: Option<u64>,
}

/// On what condition and how a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// In any case.
    Set,
    /// If there is no item.
    Add,
    /// If there is an item.
    Replace,
    /// Behind the value of an item that is there.
    Append,
    /// Before the value of an item that is there.
    Prepend,
    /// If the item that is there has this version.
    Cas {
        /// The version.
        version: u64,
    },
}

/// A request to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arithmetic<'a> {
    /// Up, which wraps at 2^64, or down, which stops at 0.
    pub direction: Direction,
    /// The key.
    pub key: &'a [u8],
    /// By how much.
    pub delta: u64,
    /// What an absent counter is created with, the delta not applied; without it, an absent counter
    /// is NOT_FOUND.
    pub initial: Option<u64>,
    /// The expiry of a counter that is created; one that is there keeps its own.
    pub expire_in_ms: Option<u64>,
}

/// Which way to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Add; past 2^64 - 1 it goes on from 0.
    Increment,
    /// Subtract; it stops at 0.
    Decrement,
}

impl Request<'_> {
    /// The opcode that this request travels under.
    #[inline]
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        match self {
            Self::Get { .. } => Opcode::Get,
            Self::GetAndTouch { .. } => Opcode::GetAndTouch,
            Self::Store(store) => match store.mode {
                StoreMode::Set => Opcode::Set,
                StoreMode::Add => Opcode::Add,
                StoreMode::Replace => Opcode::Replace,
                StoreMode::Append => Opcode::Append,
                StoreMode::Prepend => Opcode::Prepend,
                StoreMode::Cas { .. } => Opcode::Cas,
            },
            Self::Arithmetic(arithmetic) => match arithmetic.direction {
                Direction::Increment => Opcode::Increment,
                Direction::Decrement => Opcode::Decrement,
            },
            Self::Touch { .. } => Opcode::Touch,
            Self::Delete { .. } => Opcode::Delete,
            Self::GetOrLease { .. } => Opcode::GetOrLease,
            Self::Invalidate { .. } => Opcode::Invalidate,
            Self::EndLease { .. } => Opcode::EndLease,
            Self::Flush { .. } => Opcode::Flush,
            Self::MultiGet { .. } => Opcode::MultiGet,
            Self::MultiSet { .. } => Opcode::MultiSet,
            Self::MultiDelete { .. } => Opcode::MultiDelete,
            Self::Scan { .. } => Opcode::Scan,
            Self::Stats { .. } => Opcode::Stats,
            Self::Ping { .. } => Opcode::Ping,
            Self::Quit => Opcode::Quit,
        }
    }

    /// The length of the frame that this request makes.
    #[inline]
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        if let Self::Get { key, .. } = self {
            return (HEADER_BYTES + key.len()) as u64;
        }
        let parts = self.parts();
        let eights = [
            parts.expire_in_ms,
            parts.version,
            parts.initial,
            parts.delta,
            parts.lease_ms,
            parts.refresh_ms,
        ];
        let eights = eights.iter().flatten().count() + usize::from(parts.number.is_some());
        let fields = eights * 8 + if parts.client_flags != 0 { 4 } else { 0 };
        (HEADER_BYTES + fields + parts.head.len() + parts.tail.len()) as u64
    }

    /// What stands in the header's word, then in the fields, and what makes up the rest of the body.
    fn parts(&self) -> Parts<'_> {
        let key_only = |key| Parts {
            head: key,
            ..Parts::default()
        };
        match self {
            Self::Get { key, want_expiry } => Parts {
                want_expiry: *want_expiry,
                ..key_only(key)
            },
            Self::GetAndTouch {
                key,
                expire_in_ms,
                want_expiry,
            } => Parts {
                want_expiry: *want_expiry,
                expire_in_ms: *expire_in_ms,
                ..key_only(key)
            },
            Self::Store(store) => store.parts(),
            Self::Arithmetic(arithmetic) => Parts {
                expire_in_ms: arithmetic.expire_in_ms,
                initial: arithmetic.initial,
                delta: (arithmetic.delta != 1).then_some(arithmetic.delta),
                ..key_only(arithmetic.key)
            },
            Self::Touch { key, expire_in_ms } => Parts {
                expire_in_ms: *expire_in_ms,
                ..key_only(key)
            },
            Self::Delete { key, version } => Parts {
                version: *version,
                ..key_only(key)
            },
            Self::GetOrLease {
                key,
                lease_ms,
                refresh_ms,
                want_expiry,
            } => Parts {
                want_expiry: *want_expiry,
                lease_ms: *lease_ms,
                refresh_ms: *refresh_ms,
                ..key_only(key)
            },
            Self::Invalidate {
                key,
                version,
                expire_in_ms,
            } => Parts {
                version: *version,
                expire_in_ms: *expire_in_ms,
                ..key_only(key)
            },
            Self::EndLease { key, version } => Parts {
                version: Some(*version),
                ..key_only(key)
            },
            Self::Flush { delay_ms } => Parts {
                number: Some((0, *delay_ms)),
                ..Parts::default()
            },
            Self::MultiGet { keys, want_expiry } => {
                let list = Some(keys.count());
                Parts {
                    want_expiry: *want_expiry,
                    list,
                    tail: keys.as_bytes(),
                    ..Parts::default()
                }
            }
            Self::MultiSet { entries } => Parts {
                list: Some(entries.count()),
                tail: entries.as_bytes(),
                ..Parts::default()
            },
            Self::MultiDelete { keys } => Parts {
                list: Some(keys.count()),
                tail: keys.as_bytes(),
                ..Parts::default()
            },
            Self::Scan { cursor, limit } => Parts {
                number: Some((*limit, *cursor)),
                ..Parts::default()
            },
            Self::Stats { group } => Parts {
                list: Some(0),
                tail: group,
                ..Parts::default()
            },
            Self::Ping { echo } => Parts {
                list: Some(0),
                tail: echo,
                ..Parts::default()
            },
            Self::Quit => Parts::default(),
        }
    }
}

impl Store<'_> {
    fn parts(&self) -> Parts<'_> {
        let version = match self.mode {
            StoreMode::Cas { version } => Some(version),
            _ => None,
        };
        let keeps_the_rest = matches!(self.mode, StoreMode::Append | StoreMode::Prepend);
        Parts {
            expire_in_ms: self.expire_in_ms.filter(|_| !keeps_the_rest),
            client_flags: if keeps_the_rest { 0 } else { self.client_flags },
            version,
            head: self.key,
            tail: self.value,
            ..Parts::default()
        }
    }
}

/// A request taken apart in the order of the wire: fields, a number, a key, and the tail.
#[derive(Default)]
struct Parts<'a> {
    want_expiry: bool,
    expire_in_ms: Option<u64>,
    version: Option<u64>,
    initial: Option<u64>,
    delta: Option<u64>,
    client_flags: u32,
    lease_ms: Option<u64>,
    refresh_ms: Option<u64>,
    /// A word and the eight bytes that go with it.
    number: Option<(u32, u64)>,
    /// The word of a body that is all tail.
    list: Option<u32>,
    head: &'a [u8],
    tail: &'a [u8],
}

impl RequestFrame<'_> {
    /// Appends the frame.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.request {
            Request::Get { key, want_expiry } => self.encode_get(key, want_expiry, out),
            _ => self.encode_any(out),
        }
    }

    /// The most frequent one, which has a key and no more.
    fn encode_get(&self, key: &[u8], want_expiry: bool, out: &mut Vec<u8>) {
        let key_bytes = wire_len(key.len());
        let header = RequestHeader {
            opcode: Opcode::Get as u8,
            flags: flags(self.quiet, want_expiry),
            fields: 0,
            id: self.id,
            word: key_bytes,
            body_bytes: key_bytes,
        };
        out.reserve(HEADER_BYTES + key.len());
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(key);
    }

    fn encode_any(&self, out: &mut Vec<u8>) {
        let parts = self.request.parts();
        self.encode_parts(&parts, out);
        out.extend_from_slice(parts.tail);
    }

    /// Appends the frame without its tail: the value of a store, the list of a multi-key frame, the
    /// bytes of a PING. The header counts it; the caller sends it next, from where it lies.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        self.encode_parts(&self.request.parts(), out);
    }

    fn encode_parts(&self, parts: &Parts<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(HEADER_BYTES + 7 * 8 + parts.head.len() + parts.tail.len());
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let mut fields = 0;
        let eights = [
            (FIELD_EXPIRY, parts.expire_in_ms),
            (FIELD_VERSION, parts.version),
            (FIELD_INITIAL, parts.initial),
            (FIELD_DELTA, parts.delta),
        ];
        for (field, number) in eights {
            if let Some(number) = number {
                fields |= field;
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        if parts.client_flags != 0 {
            fields |= FIELD_CLIENT_FLAGS;
            out.extend_from_slice(&parts.client_flags.to_le_bytes());
        }
        for (field, ms) in [
            (FIELD_LEASE, parts.lease_ms),
            (FIELD_REFRESH, parts.refresh_ms),
        ] {
            if let Some(ms) = ms {
                fields |= field;
                out.extend_from_slice(&ms.to_le_bytes());
            }
        }
        let word = match (parts.number, parts.list) {
            (Some((word, number)), _) => {
                out.extend_from_slice(&number.to_le_bytes());
                word
            }
            (None, Some(count)) => count,
            (None, None) => wire_len(parts.head.len()),
        };
        out.extend_from_slice(parts.head);
        let header = RequestHeader {
            opcode: self.request.opcode() as u8,
            flags: flags(self.quiet, parts.want_expiry),
            fields,
            id: self.id,
            word,
            body_bytes: wire_len(out.len() - start - HEADER_BYTES + parts.tail.len()),
        };
        out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
    }
}

fn flags(quiet: bool, want_expiry: bool) -> u8 {
    let quiet = if quiet { FLAG_QUIET } else { 0 };
    let want_expiry = if want_expiry { FLAG_WANT_EXPIRY } else { 0 };
    quiet | want_expiry
}
