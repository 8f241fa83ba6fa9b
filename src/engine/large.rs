//! A stand-in: large values in ordinary memory behind the engine's interface to them.

use std::collections::HashMap;

use crate::engine::cache::{Key, Shared};
use crate::engine::guard::Guard;
use crate::engine::index::word::Entry as IndexEntry;
use crate::engine::item::{Item, OVERHEAD_BYTES_MAX};
use crate::engine::operations::{Entry, Mode, Outcome};
use crate::engine::write::StoreError;
use crate::reclaim::Pin;
use crate::sync::{Arc, Mutex};

type Pieces = Vec<Box<[u8]>>;

/// Segments that large values hold.
pub(crate) type Use = Arc<Mutex<u64>>;

/// All large values, by the number that their items carry.
#[derive(Debug, Default)]
pub(crate) struct Table {
    next: u64,
    bodies: HashMap<u64, (Arc<Body>, u64)>,
}

#[derive(Debug)]
struct Body {
    value_bytes: u64,
    segment_bytes: u64,
    pieces: Pieces,
    used: Use,
}

impl Drop for Body {
    fn drop(&mut self) {
        *self.used.lock() -= self.pieces.len() as u64;
    }
}

/// A large value while it is being received. Dropped, it gives its segments back.
#[derive(Debug)]
pub struct LargeDraft {
    body: Body,
    filled: u64,
}

/// A counted reference to a large value: its bytes stay where they are while it lives.
#[derive(Debug)]
pub struct LargeValue {
    body: Arc<Body>,
}

impl LargeDraft {
    /// The length of the whole value.
    pub fn value_bytes(&self) -> u64 {
        self.body.value_bytes
    }

    /// What is not written yet.
    pub fn missing_bytes(&self) -> u64 {
        self.body.value_bytes - self.filled
    }

    /// The next contiguous bytes to fill; empty if a segment must be had first.
    pub fn space(&mut self) -> &mut [u8] {
        let missing = self.missing_bytes();
        let at = (self.filled / self.body.segment_bytes) as usize;
        let within = (self.filled % self.body.segment_bytes) as usize;
        match self.body.pieces.get_mut(at) {
            Some(piece) => {
                let end = piece.len().min(within + missing as usize);
                &mut piece[within..end]
            }
            None => &mut [],
        }
    }

    /// That many bytes of `space` were filled.
    pub fn advance(&mut self, bytes: usize) {
        self.filled += bytes as u64;
        assert!(self.filled <= self.body.value_bytes);
    }
}

impl LargeValue {
    /// The length of the value.
    pub fn value_bytes(&self) -> u64 {
        self.body.value_bytes
    }

    /// The contiguous bytes from `offset` on, up to the end of their segment; empty at the end.
    pub fn piece_at(&self, offset: u64) -> &[u8] {
        let body = &self.body;
        let at = (offset / body.segment_bytes) as usize;
        let within = (offset % body.segment_bytes) as usize;
        let left = (body.value_bytes - offset) as usize;
        match body.pieces.get(at) {
            Some(piece) => &piece[within..piece.len().min(within + left)],
            None => &[],
        }
    }
}

/// The longest item that is stored in the log.
fn inline_item_bytes_max(segment_bytes: u64) -> u64 {
    segment_bytes / if segment_bytes < 64 << 10 { 2 } else { 8 }
}

impl Shared {
    pub(crate) fn inline_bytes_max(&self) -> u32 {
        let taken = u64::from(self.geometry.key_bytes_max) + OVERHEAD_BYTES_MAX;
        inline_item_bytes_max(self.geometry.segment_bytes).saturating_sub(taken) as u32
    }

    pub(crate) fn large_removed(&self, pin: &Pin<'_>, item: &Item<'_>) {
        let Some(number) = item.large_number() else {
            return;
        };
        let table = Arc::clone(&self.large);
        pin.defer(move || {
            let mut table = table.lock();
            let (_, count) = table.bodies.get_mut(&number).expect("counted");
            *count -= 1;
            let gone = (*count == 0).then(|| table.bodies.remove(&number));
            drop(table);
            drop(gone);
        });
        pin.collect();
    }

    pub(crate) fn large_stored(&self, entry: IndexEntry) {
        // SAFETY: just published under the caller's pin.
        let item = unsafe { self.item(entry) };
        if let Some(number) = item.large_number() {
            let mut table = self.large.lock();
            table.bodies.get_mut(&number).expect("counted").1 += 1;
        }
    }
}

impl Guard<'_> {
    /// Whether a value of this size under this key is to be stored as a large one.
    pub fn is_large(&self, key: &Key<'_>, value_bytes: u64) -> bool {
        let item_bytes = OVERHEAD_BYTES_MAX + key.bytes.len() as u64 + value_bytes;
        item_bytes > inline_item_bytes_max(self.shared.geometry.segment_bytes)
    }

    /// Begins to receive a large value.
    ///
    /// # Errors
    ///
    /// If it is beyond the limit, or too many are being received.
    pub fn begin_large(&mut self, value_bytes: u64) -> Result<LargeDraft, StoreError> {
        let value_bytes_max = self.limits().value_bytes_max;
        if value_bytes > value_bytes_max {
            return Err(StoreError::TooLarge {
                value_bytes,
                value_bytes_max,
            });
        }
        let body = Body {
            value_bytes,
            segment_bytes: self.shared.geometry.segment_bytes,
            pieces: Vec::new(),
            used: Arc::clone(&self.shared.large_use),
        };
        Ok(LargeDraft { body, filled: 0 })
    }

    /// Makes `space` non-empty.
    ///
    /// # Errors
    ///
    /// If no segment could be had.
    pub fn extend_large(&mut self, draft: &mut LargeDraft) -> Result<(), StoreError> {
        let segments_max = u64::from(self.shared.geometry.segments) * 3 / 4;
        for _ in 0..8 {
            if *draft.body.used.lock() < segments_max {
                break;
            }
            self.pin.renew();
            self.pin.collect();
        }
        let mut used = draft.body.used.lock();
        if *used >= segments_max {
            return Err(StoreError::NoSpace);
        }
        *used += 1;
        drop(used);
        let piece = vec![0; draft.body.segment_bytes as usize];
        draft.body.pieces.push(piece.into_boxed_slice());
        Ok(())
    }

    /// Publishes a draft with no missing bytes. The entry's value is ignored.
    ///
    /// # Errors
    ///
    /// If no memory could be freed.
    pub fn store_large(
        &mut self,
        key: &Key<'_>,
        mode: Mode,
        entry: &Entry<'_>,
        draft: LargeDraft,
    ) -> Result<Outcome, StoreError> {
        assert_eq!(draft.missing_bytes(), 0);
        let value_bytes = draft.value_bytes();
        let table = Arc::clone(&self.shared.large);
        let number = {
            let mut table = table.lock();
            table.next += 1;
            let number = table.next;
            table.bodies.insert(number, (Arc::new(draft.body), 1));
            number
        };
        let mut descriptor = [0; 16];
        descriptor[..8].copy_from_slice(&value_bytes.to_le_bytes());
        descriptor[8..].copy_from_slice(&number.to_le_bytes());
        let outcome = self.store_descriptor(key, mode, entry, &descriptor);
        let mut table = table.lock();
        let (_, count) = table.bodies.get_mut(&number).expect("counted");
        *count -= 1;
        let gone = (*count == 0).then(|| table.bodies.remove(&number));
        drop(table);
        drop(gone);
        outcome
    }

    /// A reference to an item's large value that outlives the guard; `None` for an ordinary item.
    pub fn hold(&self, item: &Item<'_>) -> Option<LargeValue> {
        let number = item.large_number()?;
        let table = self.shared.large.lock();
        let body = Arc::clone(&table.bodies.get(&number).expect("pinned").0);
        Some(LargeValue { body })
    }
}
