//! Overflow buckets: where those are that no chain links to.
//!
//! A writer that finds a chain full takes an overflow bucket, and links it to the chain's end once it
//! has the bucket's lock. If it turns out then that it does not need it, its session keeps it for
//! another time. An overflow bucket that the last entry has left is unlinked, if it is the last of its
//! chain. It *leaves* then, since readers that were pinned before may still be in it: if another chain
//! had it at once, such a reader would follow entries that were not published to it. One grace period
//! later it is spare, and taken before one that was never used.
//!
//! So each is linked once, held by one session, leaving, or spare; and whichever is not linked has
//! neither an entry nor a link, since chains are unlinked from their end.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | entry, control | `link`, `fill`, Relaxed | all | nothing: no reader is in a spare bucket, and the link or the bucket count publishes it | `a_reader_in_an_unlinked_overflow_bucket_never_meets_another_chain` |
//! | spares | all, holding their lock | each other | who takes a bucket comes after all who were in it | `two_chains_pass_their_overflow_buckets_on` |

use crate::engine::index::bucket::Unlinked;
use crate::engine::index::word::Control;
use crate::engine::index::{CONTROL, Index, OVERFLOW_CONTROL, OVERFLOW_WORDS};
use crate::engine::log::Segments;
use crate::reclaim::Pin;
use crate::sync::{Arc, Ordering};

/// Overflow buckets that were in use and can be taken again.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// INVARIANT: each once, and neither linked nor held by anybody.
    free: Vec<u32>,
    /// How many are unlinked, and free once their readers are gone.
    leaving: u64,
}

impl Spares {
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Adds buckets that nobody can be in.
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.free.extend(ids);
    }
}

impl Index {
    /// Takes an overflow bucket for a later [`LockedBucket::link`]; `None` if memory has none.
    ///
    /// [`LockedBucket::link`]: crate::engine::index::bucket::LockedBucket::link
    pub(crate) fn take_overflow(&self, segments: &Segments) -> Option<u32> {
        let spare = self.spares.lock().take();
        spare.or_else(|| self.growth.lock().fresh_overflow(segments))
    }

    /// Gives back an overflow bucket that was not linked.
    pub(crate) fn return_overflow(&self, id: u32) {
        self.spares.lock().add([id]);
    }

    /// Has unlinked overflow buckets used again, once nobody can be in them.
    pub(crate) fn return_unlinked(&self, unlinked: Unlinked, pin: &Pin<'_>) {
        let count = unlinked.0.iter().flatten().count() as u64;
        if count > 0 {
            self.spares.lock().leaving += count;
            let spares = Arc::clone(&self.spares);
            pin.defer(move || {
                let mut spares = spares.lock();
                spares.leaving -= count;
                spares.add(unlinked.0.into_iter().flatten());
            });
        }
    }

    /// Checks that each overflow bucket is linked once, leaving, spare, or held by a session, where
    /// as many hold one as `holders` says; for [`verify`](crate::engine::verify).
    pub(crate) fn verify_overflow(
        &self,
        holders: std::ops::RangeInclusive<u64>,
    ) -> Result<(), String> {
        let mut places = vec![0; self.growth.lock().overflow_used() as usize];
        for bucket in 0..self.buckets() {
            self.verify_chain(bucket, &mut places)?;
        }
        let spares = self.spares.lock();
        for &id in &spares.free {
            places[id as usize] += 1;
            if self.words_of(id).iter().any(|&word| word != 0) {
                return Err(format!("overflow bucket {id} is spare and not empty"));
            }
        }
        if let Some(id) = places.iter().position(|&places| places > 1) {
            return Err(format!("overflow bucket {id} is in two places"));
        }
        let elsewhere = places.iter().filter(|&&places| places == 0).count() as u64;
        match elsewhere.checked_sub(spares.leaving) {
            Some(held) if holders.contains(&held) => Ok(()),
            _ => Err(format!(
                "{elsewhere} overflow buckets are neither linked nor spare: {} are leaving, and \
                 sessions hold {holders:?}",
                spares.leaving
            )),
        }
    }

    /// Counts the overflow buckets of a chain, whose last must not be empty.
    fn verify_chain(&self, bucket: u64, places: &mut [u32]) -> Result<(), String> {
        let control = self.bucket_at(bucket) + CONTROL as u64 * 8;
        let mut next = Control(self.arena.word(control).load(Ordering::Relaxed)).overflow();
        while let Some(id) = next {
            places[id as usize] += 1;
            let words = self.words_of(id);
            next = Control(words[OVERFLOW_CONTROL]).overflow();
            if next.is_none() && words.iter().all(|&word| word == 0) {
                return Err(format!("overflow bucket {id} is linked last, and empty"));
            }
            if places[id as usize] > 1 {
                return Err(format!("overflow bucket {id} is linked twice"));
            }
        }
        Ok(())
    }

    fn words_of(&self, id: u32) -> [u64; OVERFLOW_WORDS] {
        let words = self.arena.words::<OVERFLOW_WORDS>(self.overflow_at(id));
        std::array::from_fn(|at| words[at].load(Ordering::Relaxed))
    }
}
