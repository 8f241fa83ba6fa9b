//! Looking at items without using them: at one by its key, or at all in turn, a step at a time, while others read
//! and write.

use std::ops::ControlFlow;

use crate::engine::cache::Key;
use crate::engine::guard::Guard;
use crate::engine::index::Found;
use crate::engine::item::Item;
use crate::engine::lease::{History, read_at};
use crate::shape;

/// LIMIT: buckets that one step of a scan visits for each item wanted, where buckets are empty.
const BUCKETS_PER_ITEM: u64 = 4;

/// A scan's cursor is a bucket's number, and in its lowest bits that of a slot in the bucket's chain.
const SLOT_BITS: u32 = 8;
const SLOT: u64 = (1 << SLOT_BITS) - 1;

/// An item, and what else the cache knows about it.
#[derive(Debug, Clone, Copy)]
pub struct Inspected<'g> {
    /// The item.
    pub item: Item<'g>,
    /// Whether the value was read since it was stored.
    pub history: History,
    /// When the item was last read, or stored, where the cache keeps
    /// [`AccessTimes`](crate::engine::config::AccessTimes).
    pub read_at_ms: Option<u64>,
}

impl Guard<'_> {
    /// Looks at an item. It does not count as read by this, nor this as a read.
    pub fn peek(&self, key: &Key<'_>) -> Option<Inspected<'_>> {
        let mut place = None;
        let key = self.shared.own(key, &mut place);
        // SAFETY: pinned for as long as the guard is.
        let found = unsafe { self.shared.index.find(key.hash, key.bytes) }?;
        self.inspected(&found)
    }

    fn inspected(&self, found: &Found) -> Option<Inspected<'_>> {
        let item = self.live(found)?;
        Some(Inspected {
            item,
            history: History::by(found.entry.marks()),
            read_at_ms: read_at(self.shared, found.entry, &item),
        })
    }

    /// Visits about `items` live items, starting at `cursor` (0 to begin), and gives the cursor to
    /// go on with; `None` at the end. No item counts as read by this.
    ///
    /// A scan that is carried to its end visits every key that was there from its beginning to its
    /// end, at least once, also when the index grows meanwhile. It may visit a key more than once,
    /// and a single step may visit none.
    pub fn scan(&self, cursor: u64, items: usize, mut visit: impl FnMut(Item<'_>)) -> Option<u64> {
        self.scan_while(cursor, items, |inspected| {
            visit(inspected.item);
            ControlFlow::Continue(())
        })
    }

    /// [`Guard::scan`] that tells more of each item, and ends where `visit` breaks off: the item that it
    /// broke off at is the first that the next step visits.
    pub fn scan_while(
        &self,
        cursor: u64,
        items: usize,
        mut visit: impl FnMut(Inspected<'_>) -> ControlFlow<()>,
    ) -> Option<u64> {
        let (mut bucket, mut slot) = (cursor >> SLOT_BITS, cursor & SLOT);
        let items = items.max(1);
        let buckets_max = (items as u64).saturating_mul(BUCKETS_PER_ITEM);
        let last = bucket.saturating_add(buckets_max);
        let mut visited = 0;
        // A split moves keys from a bucket to a later one, so what is passed here is done.
        while bucket < self.shared.index.buckets() {
            if visited >= items || bucket >= last {
                return Some(bucket << SLOT_BITS);
            }
            self.prefetch_all(bucket);
            let refused = self.shared.index.visit_from(bucket, slot, |found| {
                let Some(inspected) = self.inspected(found) else {
                    return ControlFlow::Continue(());
                };
                visited += 1;
                visit(inspected)
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
        if shape::BUCKETS_ARE_FETCHED {
            self.shared.index.visit(bucket, |found| {
                self.shared.arena.prefetch(found.entry.offset());
            });
        }
    }
}
