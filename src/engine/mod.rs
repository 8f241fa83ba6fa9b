//! Floor 1: the engine, a cache in one process, with no server.
//!
//! [`Cache`] is shared; each thread has a [`Session`], pins it around a batch, and works on the
//! [`Guard`]. The engine takes bytes and the time as arguments: it knows no socket, no protocol and
//! no clock.
//!
//! What lies where: [`builder`] and [`config`] say what a cache is built with, and the latter lays the
//! arena out; [`item`] is the bytes of an item, which its [header](item_header) measures, [`in_place`] of
//! a counter, [`large`] of a value too large for the log, [`last_read`] when that was; [`log`] the segments that hold items;
//! [`index`] finds them. [`writer`] is a session's own part of both, with its [`appender`] and its
//! [`tally`]; [`upkeep`] evicts, cleans and expires, and [`ghosts`] remembers what was evicted.
//! [`guard`] has the reads, [`plain`] a short way for most of them, [`mod@write`] the one path of every write, [`operations`] the operations in
//! its terms, [`conditional`] those that may depend on a version and change an expiry as well,
//! [`lease`] those that tell who is to store. [`stats`] are its figures,
//! [`recover`] goes on in the memory of a cache whose process is gone.
//! [`census`] counts the items by kind, and [`verify`] checks that all of it agrees.

mod appender;
mod builder;
mod cache;
mod census;
mod conditional;
mod config;
mod draft;
mod evict_open;
mod ghosts;
mod guard;
mod header;
mod huge;
mod in_place;
mod index;
mod inspect;
mod item;
mod item_header;
mod large;
mod last_read;
mod lease;
mod log;
mod lookout;
mod number;
mod operations;
mod plain;
mod recover;
mod scrub;
mod session;
mod settle;
mod stats;
mod tally;
mod upkeep;
mod verify;
mod write;
mod writer;

pub use builder::CacheBuilder;
pub use cache::{Cache, Key, KeyError, Limits, TooManySessions};
pub use census::Census;
pub use conditional::{Calculated, Calculation, Counted, Side};
pub use config::{AccessTimes, Config, ConfigError};
pub use guard::{Guard, Placeholders};
pub use index::ahead::Reach;
pub use inspect::Inspected;
pub use item::Item;
pub use large::{LargeDraft, LargeValue};
pub use lease::{
    Freshness, History, Invalidated, Invalidation, Lease, Leased, NewExpiry, OldValue, Reading,
    Terms,
};
pub use lookout::{LockWait, Lookout, SessionSeen};
pub use operations::{Arithmetic, Counter, Deletion, Entry, Initial, Mode, Outcome};
pub use recover::{
    Dropped, Examination, Hands, LastOwner, OpenSegment, Proof, Receipt, RecoverError, WrittenBy,
};
pub use session::{Foreseen, Session};
pub use stats::Stats;
pub use write::StoreError;

pub use crate::pages::{HugePages, Pages, PagesError, Prefault};
