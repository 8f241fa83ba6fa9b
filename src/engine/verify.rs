//! The invariants of a quiescent cache, checked one by one: for tests, at the end of every program.

use std::collections::{HashMap, HashSet};

use crate::engine::cache::Shared;
use crate::engine::header;
use crate::engine::index::word::Entry;
use crate::engine::item::Item;
use crate::engine::log::extents::Extent;
use crate::engine::log::segment::State;
use crate::engine::session::Session;
use crate::engine::stats::Figure;
use crate::sync::Ordering;

/// What the index says about the segments.
#[derive(Default)]
struct Findings {
    /// Bytes of named items, by segment.
    live_bytes: HashMap<u32, u64>,
    /// Items that name each first extent.
    named: HashMap<Extent, u64>,
    extents: HashSet<Extent>,
    keys: HashSet<Vec<u8>>,
    places: HashSet<u64>,
}

impl Session {
    /// Checks that index, segments, extents and figures agree with each other. Nobody else may be
    /// at work, and nothing may be held or half received.
    ///
    /// # Errors
    ///
    /// What does not agree, as a sentence.
    pub fn verify(&mut self) -> Result<(), String> {
        let (own, unreported) = (u64::from(self.holds_overflow()), self.unreported());
        self.reclaim_all();
        let (shared, pin) = self.parts();
        let mut findings = Findings::default();
        for bucket in 0..shared.index.buckets() {
            let mut entries = Vec::new();
            shared
                .index
                .visit(bucket, |found| entries.push(found.entry));
            for entry in entries {
                findings.add(shared, bucket, entry)?;
            }
        }
        drop(pin);
        // Each session may hold one for its next insertion.
        let others = u64::from(shared.live_sessions()) - 1;
        if others == 0 {
            findings.agree_with_count(shared, unreported)?;
        }
        shared.index.verify_overflow(own..=own + others)?;
        findings.agree_with_segments(shared)?;
        agree_with_figures(shared, findings.keys.len() as u64)
    }
}

/// LIMIT: steps of reclamation, each of which is for some of what was put off, until all of it is done.
const RECLAIM_STEPS_MAX: u32 = 10_000;

impl Session {
    /// Reclaims all that nobody can see any more. What is left after so many steps is held by somebody.
    fn reclaim_all(&mut self) {
        for _ in 0..RECLAIM_STEPS_MAX {
            let (shared, _pin) = self.parts();
            if !shared.segments.has_leaving() {
                return;
            }
        }
    }
}

impl Findings {
    fn add(&mut self, shared: &Shared, bucket: u64, entry: Entry) -> Result<(), String> {
        let offset = entry.offset();
        let id = shared.segments.id_at(offset);
        let segment = shared.segments.segment(id);
        let (state, _) = segment.state();
        let held = matches!(state, State::Open | State::Sealed | State::Claimed);
        let end = shared.segments.start(id) + segment.committed();
        if !held || offset + 16 > end {
            return Err(format!(
                "an entry names {offset}, in a segment that is {state:?}"
            ));
        }
        // SAFETY: whole items lie below the committed length, and the caller is pinned.
        let item = unsafe { shared.item(entry) };
        let hash = shared.hash(item.key());
        if hash.bucket(shared.index.buckets()) != bucket || hash.tag() != entry.tag() {
            return Err(format!(
                "the item at {offset} is in the wrong place of the index"
            ));
        }
        if item.is_placeholder() && item.stored_expiry_ms().is_none() {
            return Err(format!("the kind of the item at {offset} makes no sense"));
        }
        // SAFETY: as above.
        let is_intact = || unsafe { Item::is_intact_with_value(&shared.arena, offset) };
        if offset + item.bytes() > end || !is_intact() {
            return Err(format!("the item at {offset} is torn"));
        }
        if !self.keys.insert(item.key().to_vec()) || !self.places.insert(offset) {
            return Err(format!("the key of the item at {offset} is there twice"));
        }
        if let Some(extents) = item.extents() {
            let extents = extents.all();
            *self.named.entry(extents[0]).or_default() += 1;
            self.extents.extend(extents.iter());
        }
        *self.live_bytes.entry(id).or_default() += item.bytes();
        Ok(())
    }

    /// The count by which the index grows, where no other session has anything to report to it.
    fn agree_with_count(&self, shared: &Shared, unreported: i64) -> Result<(), String> {
        // ORDERING: Relaxed; nobody else is at work.
        let reported = shared.arena.word(header::ENTRIES).load(Ordering::Relaxed);
        let (counted, entries) = (reported.wrapping_add_signed(unreported), self.keys.len());
        match counted == entries as u64 {
            true => Ok(()),
            false => Err(format!(
                "{counted} entries are counted, and the index has {entries}"
            )),
        }
    }

    fn agree_with_segments(&self, shared: &Shared) -> Result<(), String> {
        let mut used = 0;
        for id in 0..shared.geometry.segments {
            let segment = shared.segments.segment(id);
            let (state, live_bytes) = segment.state();
            let named_bytes = self.live_bytes.get(&id).copied().unwrap_or(0);
            match state {
                State::Open | State::Sealed | State::Claimed if live_bytes != named_bytes => {
                    return Err(format!(
                        "segment {id} counts {live_bytes} live bytes, and {named_bytes} are named"
                    ));
                }
                State::Sealed if live_bytes == 0 => {
                    return Err(format!("segment {id} is empty and was not retired"));
                }
                State::Extent => used += shared.segments.used_parts(id),
                _ => {}
            }
        }
        let named: u32 = self.extents.iter().map(|extent| extent.parts()).sum();
        if used != named {
            return Err(format!(
                "{used} parts of extents are used, and {named} are named"
            ));
        }
        for (&first, &items) in &self.named {
            let references = shared.segments.references(first);
            if references != items {
                let at = first.offset();
                return Err(format!(
                    "the value at {at} has {references} references, and {items} items name it"
                ));
            }
        }
        let removed_bytes = shared.sum(Figure::RemovedBytes);
        shared.segments.verify_lists(removed_bytes)
    }
}

fn agree_with_figures(shared: &Shared, items: u64) -> Result<(), String> {
    let stats = crate::engine::stats::Stats::collect(&shared.arena, &shared.geometry, 0);
    if stats.items != items {
        return Err(format!(
            "{} items are counted, and the index has {items}",
            stats.items
        ));
    }
    let sum: u64 = stats.ledger().iter().map(|(_, bytes)| bytes).sum();
    if sum != stats.memory_bytes {
        return Err(format!(
            "the ledger sums to {sum} of {} bytes",
            stats.memory_bytes
        ));
    }
    Ok(())
}
