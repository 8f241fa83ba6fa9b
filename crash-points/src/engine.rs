//! The engine's own files, module by module, so that the sweep can also reach what its root keeps to
//! itself. A module that is missing here does not compile.

#[path = "../../src/engine/appender.rs"]
pub(crate) mod appender;
#[path = "../../src/engine/cache.rs"]
pub(crate) mod cache;
#[path = "../../src/engine/conditional.rs"]
pub(crate) mod conditional;
#[path = "../../src/engine/config.rs"]
pub(crate) mod config;
#[path = "../../src/engine/draft.rs"]
pub(crate) mod draft;
#[path = "../../src/engine/evict_open.rs"]
pub(crate) mod evict_open;
#[path = "../../src/engine/ghosts.rs"]
pub(crate) mod ghosts;
#[path = "../../src/engine/guard.rs"]
pub(crate) mod guard;
#[path = "../../src/engine/header.rs"]
pub(crate) mod header;
#[path = "../../src/engine/huge.rs"]
pub(crate) mod huge;
#[path = "../../src/engine/in_place.rs"]
pub(crate) mod in_place;
#[path = "../../src/engine/index/mod.rs"]
pub(crate) mod index;
#[path = "../../src/engine/inspect.rs"]
pub(crate) mod inspect;
#[path = "../../src/engine/item.rs"]
pub(crate) mod item;
#[path = "../../src/engine/item_header.rs"]
pub(crate) mod item_header;
#[path = "../../src/engine/large.rs"]
pub(crate) mod large;
#[path = "../../src/engine/last_read.rs"]
pub(crate) mod last_read;
#[path = "../../src/engine/lease.rs"]
pub(crate) mod lease;
#[path = "../../src/engine/log/mod.rs"]
pub(crate) mod log;
#[path = "../../src/engine/number.rs"]
pub(crate) mod number;
#[path = "../../src/engine/operations.rs"]
pub(crate) mod operations;
#[path = "../../src/engine/plain.rs"]
pub(crate) mod plain;
#[path = "../../src/engine/recover/mod.rs"]
pub(crate) mod recover;
#[path = "../../src/engine/scrub.rs"]
pub(crate) mod scrub;
#[path = "../../src/engine/session.rs"]
pub(crate) mod session;
#[path = "../../src/engine/settle.rs"]
pub(crate) mod settle;
#[path = "../../src/engine/stats.rs"]
pub(crate) mod stats;
#[path = "../../src/engine/tally.rs"]
pub(crate) mod tally;
#[path = "../../src/engine/upkeep.rs"]
pub(crate) mod upkeep;
#[path = "../../src/engine/verify.rs"]
pub(crate) mod verify;
#[path = "../../src/engine/write.rs"]
pub(crate) mod write;
#[path = "../../src/engine/writer.rs"]
pub(crate) mod writer;

pub(crate) use cache::Cache;
pub(crate) use config::Config;
pub(crate) use lease::{Invalidated, Invalidation, Lease, Terms};
pub(crate) use operations::{Arithmetic, Counter, Deletion, Entry, Initial, Mode, Outcome};
pub(crate) use recover::{LastOwner, Proof, Receipt};
pub(crate) use session::Session;
pub(crate) use write::StoreError;
