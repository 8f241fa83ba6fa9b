//! Floor 1: the engine, a cache in one process, with no server.
//!
//! [`Cache`] is shared; each thread has a [`Session`], pins it around a batch, and works on the
//! [`Guard`]. The engine takes bytes and the time as arguments: it knows no socket, no protocol and
//! no clock.
//!
//! What lies where: [`config`] lays the arena out; [`item`] is the bytes of an item; [`log`] the
//! segments that hold items; [`index`] finds them; [`writer`] is a session's own part of both and
//! its share of the upkeep; [`guard`] the reads, [`write`] the one path of every write,
//! [`operations`] the operations in its terms.

mod cache;
mod config;
mod guard;
mod header;
mod index;
mod item;
mod large;
mod log;
mod number;
mod operations;
mod session;
mod stats;
mod write;
mod writer;

pub use cache::{Cache, Key, KeyError, Limits, TooManySessions};
pub use config::{Config, ConfigError};
pub use guard::Guard;
pub use item::Item;
pub use large::{LargeDraft, LargeValue};
pub use operations::{Arithmetic, Counter, Deletion, Entry, Initial, Mode, Outcome};
pub use session::Session;
pub use stats::Stats;
pub use write::StoreError;
