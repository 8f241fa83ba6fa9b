//! The books of a recovered cache: what its receipt says, beside what is told by the memory that was
//! left; and its figures.

use crate::arena::Arena;
use crate::engine::config::{BUCKET_BYTES, Geometry, SEGMENT_LINE_BYTES};
use crate::engine::header;
use crate::engine::{Cache, LastOwner, Receipt};
use crate::seen::Contents;

const STATE: u64 = 0xff;
const OPEN: u64 = 1;
const LOCKED: u64 = 1;

/// Whether the receipt says what the memory that was left says.
pub(crate) fn judge_receipt(
    left: &Arena,
    geometry: &Geometry,
    found: &Contents,
    receipt: &Receipt,
) -> Result<(), String> {
    let dropped = receipt.dropped;
    let told = [
        ("items", receipt.items, found.count()),
        ("torn segments", receipt.torn_segments, 0),
        ("torn bytes", receipt.torn_bytes, 0),
        ("links cut", receipt.links_cut, 0),
        (
            "locks cleared",
            receipt.locks_cleared,
            locked(left, geometry),
        ),
        // A split leaves words behind that belong elsewhere. A death leaves nothing else.
        ("dropped", dropped.total() - dropped.key, 0),
    ];
    for (name, told, wanted) in told {
        if told != wanted {
            return Err(format!("{name}: {told}, and {wanted} it is"));
        }
    }
    if receipt.last_owner != LastOwner::Died {
        return Err("the process died".to_owned());
    }
    let open = receipt.open.iter();
    let open: Vec<_> = open
        .map(|open| (open.segment, open.committed_bytes))
        .collect();
    let wanted = open_segments(left, geometry);
    match open == wanted {
        true => Ok(()),
        false => Err(format!("{wanted:?} were open")),
    }
}

/// Whether the figures can be, with nobody at work.
pub(crate) fn judge_stats(cache: &Cache) -> Result<(), String> {
    let stats = cache.stats();
    let sum: u64 = stats.ledger().iter().map(|(_, bytes)| bytes).sum();
    if sum != stats.memory_bytes {
        return Err(format!("the ledger sums to {sum}: {stats:#?}"));
    }
    if stats.damaged > 0 {
        return Err(format!("items are damaged: {stats:#?}"));
    }
    match (stats.pinned_session, stats.segments_open, stats.limbo_bytes) {
        (0, 0, 0) => Ok(()),
        _ => Err(format!("somebody is at work who is gone: {stats:#?}")),
    }
}

/// Buckets that are locked.
fn locked(left: &Arena, geometry: &Geometry) -> u64 {
    let controls = (0..header::load(left, header::BUCKETS))
        .map(|bucket| geometry.buckets_at + (bucket + 1) * BUCKET_BYTES - 8);
    let controls = controls.filter(|&at| header::load(left, at) & LOCKED != 0);
    controls.count() as u64
}

/// Segments that are open, with what they have committed.
fn open_segments(left: &Arena, geometry: &Geometry) -> Vec<(u32, u64)> {
    let line = |id: u32| geometry.segment_table_at + u64::from(id) * SEGMENT_LINE_BYTES;
    let ids = 0..geometry.segments;
    let open = ids.filter(|&id| header::load(left, line(id)) & STATE == OPEN);
    open.map(|id| (id, header::load(left, line(id) + 8)))
        .collect()
}
