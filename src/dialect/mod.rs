//! What bytes mean: every dialect turns them into the same [`Request`] and writes what came of it.
//!
//! A dialect owns no socket, no clock and no cache. The worker asks it to [`parse`](Dialect::parse)
//! what arrived; [`execute`](crate::execute) runs the request and tells a [`Reply`], which the
//! dialect writes into the worker's output. Everything is dispatched statically: a connection's
//! dialect is a type, not a pointer.
//!
//! A request carries what every dialect can ask for. What only the answer needs (ids, quietness,
//! the form of a reply) is the dialect's own [`Tag`](Dialect::Tag), which travels beside it.

pub(crate) mod larder;
pub(crate) mod memcached;
mod pen;
mod scratch;

use larder_protocol::{Entries, Keys};

use crate::engine::{
    Arithmetic, Counted, Entry, Initial, Inspected, Invalidation, Item, LargeValue, Leased, Mode,
    Placeholders, Side, Terms,
};

use memcached::command::first_word;
pub(crate) use scratch::Scratch;

/// What a client asks for, whatever it speaks. Borrows from the bytes it was read from; expiries
/// are absolute, in milliseconds of the wall clock.
#[derive(Debug)]
pub(crate) enum Request<'i> {
    Get {
        key: &'i [u8],
    },
    /// What is known about an item, without its value.
    Peek {
        key: &'i [u8],
    },
    GetAndTouch {
        key: &'i [u8],
        expires_at_ms: Option<u64>,
    },
    Touch {
        key: &'i [u8],
        expires_at_ms: Option<u64>,
    },
    Store {
        key: &'i [u8],
        mode: Mode,
        entry: Entry<'i>,
    },
    /// Adds to the value that is there. Without one, and with `vivify`, that entry is stored.
    Join {
        key: &'i [u8],
        side: Side,
        value: &'i [u8],
        version: Option<u64>,
        new_version: Option<u64>,
        vivify: Option<Entry<'i>>,
    },
    Count {
        key: &'i [u8],
        by: Arithmetic,
        initial: Option<Initial>,
        version: Option<u64>,
        new_version: Option<u64>,
        touch: Touch,
    },
    Delete {
        key: &'i [u8],
        version: Option<u64>,
    },
    GetOrLease {
        key: &'i [u8],
        terms: Terms,
    },
    Invalidate {
        key: &'i [u8],
        how: Invalidation,
    },
    EndLease {
        key: &'i [u8],
        version: u64,
    },
    /// Many keys, each of which is answered by itself. Such a request may be answered in parts, of which each
    /// ends so many bytes from the request's beginning.
    GetEach {
        keys: SpacedKeys<'i>,
        touch: Touch,
    },
    MultiGet(Keys<'i>),
    MultiSet(Entries<'i>),
    MultiDelete(Keys<'i>),
    Flush {
        at_ms: Option<u64>,
    },
    Scan {
        cursor: u64,
        keys_max: u32,
    },
    /// All keys from a cursor of a scan on. Such a request may be answered in parts, of which each ends at a cursor.
    ScanAll {
        cursor: u64,
    },
    Stats {
        group: &'i [u8],
    },
    /// Counts for `Stats` of the group `since_reset` begin anew.
    ResetStats,
    Ping {
        echo: &'i [u8],
    },
    Quit,
}

impl<'i> Request<'i> {
    /// The key of a request that has exactly one.
    #[inline]
    pub(crate) fn key(&self) -> Option<&'i [u8]> {
        match *self {
            Self::Get { key }
            | Self::GetAndTouch { key, .. }
            | Self::Touch { key, .. }
            | Self::Peek { key }
            | Self::Store { key, .. }
            | Self::Join { key, .. }
            | Self::Count { key, .. }
            | Self::Delete { key, .. }
            | Self::GetOrLease { key, .. }
            | Self::Invalidate { key, .. }
            | Self::EndLease { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// Whether a read changes when the item expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Keep,
    To { expires_at_ms: Option<u64> },
}

/// Keys with spaces between them, and perhaps around.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpacedKeys<'i> {
    /// What is left of them.
    pub(crate) text: &'i [u8],
    /// Where that begins, counted from the beginning of the request.
    pub(crate) at: usize,
}

impl<'i> Iterator for SpacedKeys<'i> {
    type Item = &'i [u8];

    #[inline]
    fn next(&mut self) -> Option<&'i [u8]> {
        let (key, behind) = first_word(self.text);
        self.at += self.text.len() - behind.len();
        self.text = behind;
        (!key.is_empty()).then_some(key)
    }
}

/// Why a request that was understood came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("there is no such item")]
    NotFound,
    #[error("the condition does not hold")]
    NotStored,
    #[error("the item has another version")]
    Exists,
    #[error("the value is not a decimal number below 2^64")]
    NotANumber,
    #[error("a key needs at least 1 byte")]
    KeyEmpty,
    #[error("the key has {key_bytes} bytes; this server accepts up to {key_bytes_max}")]
    KeyTooLong {
        key_bytes: usize,
        key_bytes_max: u32,
    },
    #[error(
        "the value has {value_bytes} bytes; with this key the server can store {value_bytes_max}"
    )]
    TooLarge {
        value_bytes: u64,
        value_bytes_max: u64,
    },
    #[error(
        "the value would have {value_bytes} bytes; APPEND and PREPEND make values of up to {value_bytes_max}"
    )]
    ExtendedTooLarge {
        value_bytes: u64,
        value_bytes_max: u64,
    },
    #[error("the value is too large for a reply with others; a GET of this key alone gives it")]
    ToBeReadAlone,
    #[error("there is no memory for the item at this moment")]
    NoSpace,
    #[error("the value does not end where it was said to")]
    Unterminated,
    #[error(
        "requests of this kind for this key have brought the server down; they are refused for a while"
    )]
    Quarantined,
    #[error("there are no statistics of that name; accepted: {accepted}")]
    NoSuchStats { accepted: &'static str },
}

/// Whether an entry found room in the reply that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Room {
    Taken,
    Full,
}

/// Writes what came of one request.
pub(crate) trait Reply {
    fn item(&mut self, item: &Item<'_>);
    /// An item whose value follows the reply, from where it lies.
    fn large_item(&mut self, item: &Item<'_>);
    fn inspected(&mut self, inspected: &Inspected<'_>);
    /// What a read on terms found, an item or a placeholder. A large value follows the reply.
    fn leased(&mut self, leased: &Leased<'_>);
    fn stored(&mut self, version: u64);
    /// What was added to is stored, and has so many bytes now.
    fn joined(&mut self, version: u64, value_bytes: u64) {
        let _ = value_bytes;
        self.stored(version);
    }
    fn counter(&mut self, counted: &Counted);
    fn done(&mut self);
    fn failed(&mut self, failure: Failure);
    fn echo(&mut self, bytes: &[u8]);
    fn stats(&mut self, figures: &[(String, String)]);

    /// What must come behind a large value that follows the reply.
    fn behind_large(&self) -> &'static [u8] {
        b""
    }

    /// Whether the answer has the item's value in it.
    fn wants_value(&self, item: &Item<'_>) -> bool {
        let _ = item;
        true
    }

    /// One of the keys that are answered each by itself; with `large`, the value of an item that has
    /// a large one follows.
    fn each(&mut self, found: Result<&Item<'_>, Failure>, large: Option<&LargeValue>) {
        match (found, large) {
            (Ok(item), Some(_)) => self.large_item(item),
            (Ok(item), None) => self.item(item),
            (Err(failure), _) => self.failed(failure),
        }
    }

    /// After the last of the keys that are answered each by itself.
    fn end_each(&mut self) {}

    /// How long all replies are that are written and not sent.
    fn written_bytes(&self) -> usize;

    /// The reply to a multi-get: one `push_item` per key, in order, until it says that it is full.
    fn begin_items(&mut self, asked: u32);
    /// `large` is the value of an item that has a large one.
    fn push_item(&mut self, found: Result<&Item<'_>, Failure>, large: Option<&LargeValue>) -> Room;
    fn end_items(&mut self);

    /// The reply to a multi-set or multi-delete: one `push_outcome` per entry, in order.
    fn begin_outcomes(&mut self);
    fn push_outcome(&mut self, outcome: Result<(), Failure>);
    fn end_outcomes(&mut self);

    /// A page of a scan: one `push_key` per key, until it says that it is full.
    fn begin_page(&mut self);
    fn push_key(&mut self, inspected: &Inspected<'_>) -> Room;
    fn end_page(&mut self, next_cursor: Option<u64>);
}

/// How to go on after bytes that will not be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Drop this many bytes from where they begin; then come requests again.
    Skip { bytes: u64 },
    /// What follows cannot be told apart: close after the answer.
    Close,
}

/// What the bytes at the front of the input are.
pub(crate) enum Parsed<'i, D: Dialect> {
    Asked {
        tag: D::Tag<'i>,
        request: Request<'i>,
        bytes: usize,
    },
    Incomplete {
        needed_bytes: usize,
    },
    Refused {
        refusal: D::Refusal,
        after: After,
    },
}

/// A read of one key, and nothing else, at the front of the input.
pub(crate) struct Get<'i, T> {
    pub(crate) tag: T,
    pub(crate) key: &'i [u8],
    /// Bytes of the request.
    pub(crate) bytes: usize,
}

/// A set of one key, and nothing else, at the front of the input.
pub(crate) struct Set<'i, T> {
    pub(crate) tag: T,
    pub(crate) key: &'i [u8],
    pub(crate) entry: Entry<'i>,
    /// Bytes of the request.
    pub(crate) bytes: usize,
}

/// What the front of a request says, before the whole of it is there.
pub(crate) enum Head<'i, D: Dialect> {
    /// A store of `value_bytes` bytes that follow after `head_bytes`, and end with `trailer`; the
    /// entry lacks them.
    Store {
        tag: D::Tag<'i>,
        key: &'i [u8],
        mode: Mode,
        entry: Entry<'i>,
        value_bytes: u64,
        head_bytes: usize,
        trailer: &'static [u8],
    },
    /// Too little to tell.
    Incomplete { needed_bytes: usize },
    /// Something that has to be there whole.
    Other,
}

/// What became of the beginning of a connection.
#[derive(Debug)]
pub(crate) enum Greeting {
    Done {
        bytes: usize,
    },
    Incomplete {
        needed_bytes: usize,
    },
    /// The answer says why; close after it.
    Refused,
}

/// Why the server ends a connection of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    TooManyConnections { connections_max: u32 },
    IdleTimeout { idle_ms: u64 },
    FrameTimeout { frame_ms: u64 },
    Overloaded,
    Drained,
    Internal,
}

/// What a store that fails leaves of the item that it was to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailedSet {
    /// All of it.
    Keeps,
    /// Nothing: rather no value than one that the client believes to have replaced.
    Deletes,
}

/// What a parser may need beside the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'i> {
    /// Relative expiries count from here.
    pub(crate) now_ms: u64,
    /// How far the request at the front is answered already, in the request's own measure; 0 unless it is
    /// one that is answered in parts.
    pub(crate) answered: u64,
    /// For what does not lie in the input as it is meant.
    pub(crate) scratch: &'i Scratch,
}

/// One way to speak to the server.
pub(crate) trait Dialect: Sized {
    /// What a plain set that is refused for its size, or for want of memory, does to the old item.
    const FAILED_SET: FailedSet = FailedSet::Keeps;

    /// What the answer to a request needs to know about it.
    type Tag<'i>: Copy;
    /// Why bytes were not understood.
    type Refusal;
    /// Writes the answer to one request.
    type Reply<'o>: Reply
    where
        Self: 'o;

    /// What placeholders are to this protocol's requests.
    const PLACEHOLDERS: Placeholders = Placeholders::Hidden;

    /// Takes what comes before the first request off the front of `input`, and answers it.
    fn greet(&self, input: &[u8], out: &mut Vec<u8>) -> Greeting;

    /// Reads the request at the front of `input` if it is the simplest there is, a read of one key
    /// that is there whole; `None` for whatever else it is. Most requests are of this kind: it is
    /// worth a way of its own, past all that others may be.
    fn parse_get<'i>(&self, input: &'i [u8]) -> Option<Get<'i, Self::Tag<'i>>>;

    /// The same of a plain set, which most other requests are. Relative expiries count from `now_ms`.
    fn parse_set<'i>(&self, input: &'i [u8], now_ms: u64) -> Option<Set<'i, Self::Tag<'i>>>;

    /// Reads the request at the front of `input`.
    fn parse<'i>(&self, input: &'i [u8], with: Circumstances<'i>) -> Parsed<'i, Self>;

    /// Reads the front of a request of which [`parse`](Dialect::parse) says that it is incomplete.
    fn parse_head<'i>(&self, input: &'i [u8], with: Circumstances<'i>) -> Head<'i, Self>;

    /// Answers what was not understood.
    fn refuse(&self, refusal: &Self::Refusal, out: &mut Vec<u8>);

    /// Answers a request that cannot be taken in for want of memory, of which `begun` is there.
    fn refuse_overloaded(&self, begun: &[u8], out: &mut Vec<u8>) -> After;

    /// The writer of one answer.
    fn reply<'o, 'i: 'o>(
        &'o self,
        tag: Self::Tag<'i>,
        now_ms: u64,
        out: &'o mut Vec<u8>,
    ) -> Self::Reply<'o>;

    /// Says that the server will soon close the connection.
    fn notice_drain(&self, left_ms: u64, out: &mut Vec<u8>);

    /// Says that the server closes the connection now, and why.
    fn notice_ending(&self, ending: Ending, out: &mut Vec<u8>);
}
