//! Larder: one in-memory cache for all threads, with lock-free reads and a memory bound that holds.
//!
//! This crate is the engine, [`Cache`], and, with the feature `server` (on by default), the server
//! and the command line around it. ARCHITECTURE.md is the map.

#![deny(missing_docs)]

mod arena;
#[cfg(feature = "server")]
pub mod blackbox;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
mod dialect;
#[cfg(feature = "server")]
mod embedded;
mod engine;
#[cfg(feature = "server")]
mod execute;
mod mapping;
mod pages;
mod reclaim;
#[cfg(feature = "server")]
pub mod server;
mod shape;
#[cfg(feature = "server")]
mod supervisor;
mod sync;

pub use engine::{
    AccessTimes, Arithmetic, Cache, CacheBuilder, Calculated, Calculation, Census, Config,
    ConfigError, Counted, Counter, Deletion, Dropped, Entry, Examination, Foreseen, Freshness,
    Guard, Hands, History, HugePages, Initial, Inspected, Invalidated, Invalidation, Item, Key,
    KeyError, LargeDraft, LargeValue, LastOwner, Lease, Leased, Limits, LockWait, Lookout, Mode,
    NewExpiry, OldValue, OpenSegment, Outcome, Pages, PagesError, Placeholders, Prefault, Proof,
    Reach, Reading, Receipt, RecoverError, Session, SessionSeen, Side, Stats, StoreError, Terms,
    TooManySessions, WrittenBy,
};
