//! Scans: visits to all items, a step at a time, while others read and write.

use std::ops::ControlFlow;

use crate::engine::guard::Guard;
use crate::engine::item::Item;
use crate::engine::lease::{History, read_at};

/// LIMIT: buckets that one step visits for each item wanted, where buckets are empty.
const BUCKETS_PER_ITEM: u64 = 4;

/// A cursor is a bucket's number, and in its lowest bits that of a slot in the bucket's chain.
const SLOT_BITS: u32 = 8;
const SLOT: u64 = (1 << SLOT_BITS) - 1;

/// An item that a scan has come to, and what the cache knows about it.
#[derive(Debug, Clone, Copy)]
pub struct Scanned<'g> {
    /// The item.
    pub item: Item<'g>,
    /// Whether the value was read since it was stored.
    pub history: History,
    /// When the item was last read, or stored, where the cache keeps
    /// [`AccessTimes`](crate::engine::config::AccessTimes).
    pub read_at_ms: Option<u64>,
}

impl Guard<'_> {
    /// Visits about `items` live items, starting at `cursor` (0 to begin), and gives the cursor to
    /// go on with; `None` at the end. No item counts as read by this.
    ///
    /// A scan that is carried to its end visits every key that was there from its beginning to its
    /// end, at least once, also when the index grows meanwhile. It may visit a key more than once,
    /// and a single step may visit none.
    pub fn scan(&self, cursor: u64, items: usize, mut visit: impl FnMut(Item<'_>)) -> Option<u64> {
        self.scan_while(cursor, items, |scanned| {
            visit(scanned.item);
            ControlFlow::Continue(())
        })
    }

    /// [`Guard::scan`] that tells more of each item, and ends where `visit` breaks off: the item that it
    /// broke off at is the first that the next step visits.
    pub fn scan_while(
        &self,
        cursor: u64,
        items: usize,
        mut visit: impl FnMut(Scanned<'_>) -> ControlFlow<()>,
    ) -> Option<u64> {
        let (mut bucket, mut slot) = (cursor >> SLOT_BITS, cursor & SLOT);
        let items = items.max(1);
        let last = bucket.saturating_add(items as u64 * BUCKETS_PER_ITEM);
        let mut visited = 0;
        // A split moves keys from a bucket to a later one, so what is passed here is done.
        while bucket < self.shared.index.buckets() {
            if visited >= items || bucket >= last {
                return Some(bucket << SLOT_BITS);
            }
            self.prefetch_all(bucket);
            let refused = self.shared.index.visit_from(bucket, slot, |found| {
                let Some(item) = self.live(found) else {
                    return ControlFlow::Continue(());
                };
                visited += 1;
                visit(Scanned {
                    item,
                    history: History::by(found.entry.marks()),
                    read_at_ms: read_at(self.shared, found.entry, &item),
                })
            });
            if let Some(refused) = refused {
                return Some(bucket << SLOT_BITS | refused);
            }
            (bucket, slot) = (bucket + 1, 0);
        }
        None
    }

    /// Asks the processor for all items of a bucket.
    pub(crate) fn prefetch_all(&self, bucket: u64) {
        self.shared.index.visit(bucket, |found| {
            self.shared.arena.prefetch(found.entry.offset());
        });
    }
}
