//! Large values: in [extents](crate::engine::log::extents), with an ordinary small item in the log
//! that describes them.
//!
//! ```text
//!  description   | value bytes u64 | segment bytes u32 | part bytes u32 | crc 32 | 0 32 | each extent u64 ... |
//! ```
//!
//! The CRC is that of the value (CRC-32C), which is computed as it comes; the description has that of its item.
//! Extents that are whole segments come first, then those that are not: less than a segment in all.
//!
//! A value is received into its extents piece by piece, into memory that nobody else can see
//! ([`LargeDraft`]), and published with the item that describes it. A reader that sends it slowly
//! holds a counted reference ([`LargeValue`]), so that no epoch waits for a socket. The index has one
//! reference for each item that names the extents; whoever removes the item gives it back one grace
//! period later, when nobody can come to the value through the index any more: who holds a reference
//! at that time has it from before. The last reference to go frees the extents.
//!
//! # Ordering ledger
//!
//! | what | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | a value's bytes | [`LargeDraft`], plainly | who reads or holds it | the index word of the item that describes them (Release / Acquire) | `a_reader_takes_hold_of_a_large_value_that_is_overwritten` |
//! | the same bytes | whoever takes the extents next | who held them before | the references, see [`extents`](crate::engine::log::extents), and then the pool's lock | `a_large_value_is_freed_after_its_last_reader` |
//! | the index's reference | `share_value`, before the item is published | `drop_extents`, a grace period after it is removed | the pin of who sees an item keeps its reference | `a_large_value_that_is_touched_is_deleted` |
//! | extents of a draft | `take_extent` | `abandon_extents` | nobody else has seen them; the pool's lock | `an_abandoned_draft_leaves_nothing_behind` |

use crate::arena::Arena;
use crate::engine::cache::{Key, Shared};
use crate::engine::conditional::Side;
use crate::engine::config::Geometry;
use crate::engine::guard::Guard;
use crate::engine::item::{Item, Value};
use crate::engine::log::Segments;
use crate::engine::log::extents::{Extent, REFERENCES_BYTES, parts};
use crate::engine::operations::{Entry, Mode, Outcome};
use crate::engine::write::{NewValue, Plan, Put, StoreError};
use crate::sync::Arc;

const HEAD_BYTES: usize = 24;
/// LIMIT: longer values are not joined to others, since both are copied in one operation: some
/// milliseconds.
const JOINED_BYTES_MAX: u64 = 8 << 20;

/// The extents that an item describes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extents<'g> {
    arena: &'g Arena,
    description: &'g [u8],
}

impl<'g> Extents<'g> {
    pub(crate) fn described(arena: &'g Arena, description: &'g [u8]) -> Self {
        Self { arena, description }
    }

    pub(crate) fn description(&self) -> &'g [u8] {
        self.description
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.description[at..at + 8].try_into().expect("8 bytes"))
    }

    pub(crate) fn value_bytes(&self) -> u64 {
        self.word(0)
    }

    fn sizes(&self) -> Sizes {
        let word = self.word(8);
        Sizes {
            segment_bytes: word & u64::from(u32::MAX),
            part_bytes: word >> 32,
        }
    }

    fn crc(&self) -> u32 {
        self.word(16) as u32
    }

    /// Whether the value is what was written. The extents are known to be sound.
    pub(crate) fn is_intact(&self) -> bool {
        let crc = (self.pieces()).fold(0, crc32c::crc32c_append);
        crc == self.crc()
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> Box<[Extent]> {
        described(self.description).collect()
    }

    pub(crate) fn parts(&self) -> u32 {
        described_parts(self.description)
    }

    /// The value, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &'g [u8]> {
        let (arena, all, sizes) = (self.arena, self.all(), self.sizes());
        let value_bytes = self.value_bytes();
        let mut at = 0;
        std::iter::from_fn(move || {
            let (offset, bytes) = sizes.piece_at(&all, at, value_bytes)?;
            at += bytes;
            // SAFETY: the value was written before its item was published, and does not change
            // while the item can be read, under the pin that `'g` stands for.
            Some(unsafe { arena.read(offset, bytes as usize) })
        })
    }
}

/// The longest value whose description fits into a segment of `parts` parts, together with `beside_bytes`.
pub(crate) fn described_bytes_max(segment_bytes: u64, parts: u64, beside_bytes: u64) -> u64 {
    let room_bytes = segment_bytes.saturating_sub(beside_bytes + HEAD_BYTES as u64);
    let extents = room_bytes / size_of::<Extent>() as u64;
    // What is less than a segment may lie in as many extents as it has parts.
    extents.saturating_sub(parts) * segment_bytes
}

fn described(description: &[u8]) -> impl Iterator<Item = Extent> {
    let words = description[HEAD_BYTES..].chunks_exact(8);
    words.map(|word| Extent(u64::from_le_bytes(word.try_into().expect("8 bytes"))))
}

/// Parts of the extents that a description is of.
pub(crate) fn described_parts(description: &[u8]) -> u32 {
    described(description).map(Extent::parts).sum()
}

/// The extents that bytes describe which nobody vouches for, if they can be those of a value.
pub(crate) fn sound_extents(geometry: &Geometry, described: &Extents<'_>) -> Option<Box<[Extent]>> {
    let description = described.description;
    if description.len() < HEAD_BYTES || !description.len().is_multiple_of(8) {
        return None;
    }
    let sizes = Sizes::of(geometry);
    let (value_bytes, found) = (described.value_bytes(), described.sizes());
    let has_sizes =
        found.segment_bytes == sizes.segment_bytes && found.part_bytes == sizes.part_bytes;
    if !has_sizes || !(1..=geometry.value_bytes_max).contains(&value_bytes) {
        return None;
    }
    let extents = described.all();
    let all = geometry.parts_per_segment();
    let whole = extents.iter().take_while(|extent| extent.parts() == all);
    let rest = &extents[whole.count()..];
    // Whole ones first; those that are not make less than a segment.
    let is_sound = extents.iter().all(|&extent| geometry.has_extent(extent))
        && parts(rest) < all
        && parts(&extents) == geometry.parts(value_bytes)
        && sizes.room_bytes(&extents) >= value_bytes;
    is_sound.then_some(extents)
}

/// What extents are made of.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    segment_bytes: u64,
    part_bytes: u64,
}

impl Sizes {
    fn of(geometry: &Geometry) -> Self {
        Self {
            segment_bytes: geometry.segment_bytes,
            part_bytes: geometry.part_bytes,
        }
    }

    fn bytes(self, extent: Extent) -> u64 {
        u64::from(extent.parts()) * self.part_bytes
    }

    /// Bytes before the value in the first extent.
    fn references_bytes(self, extents: &[Extent]) -> u64 {
        let first = extents.first().copied();
        match first.is_some_and(|first| self.bytes(first) < self.segment_bytes) {
            true => REFERENCES_BYTES,
            false => 0,
        }
    }

    /// Bytes of a value that these extents have room for.
    fn room_bytes(self, extents: &[Extent]) -> u64 {
        let bytes: u64 = extents.iter().map(|&extent| self.bytes(extent)).sum();
        bytes - self.references_bytes(extents)
    }

    /// Where the bytes of the value from `at` on lie, and how many of them lie there together;
    /// `None` at the end.
    fn piece_at(self, extents: &[Extent], at: u64, value_bytes: u64) -> Option<(u64, u64)> {
        let left_bytes = value_bytes.checked_sub(at).filter(|&bytes| bytes > 0)?;
        let position = at + self.references_bytes(extents);
        // Those before this one are whole, since all that are not make less than a segment.
        let before = position / self.segment_bytes;
        let mut within = position % self.segment_bytes;
        for &extent in extents.get(before as usize..)? {
            let bytes = self.bytes(extent);
            if within < bytes {
                return Some((extent.offset() + within, (bytes - within).min(left_bytes)));
            }
            within -= bytes;
        }
        None
    }
}

/// A large value while it is being received: memory that nobody else sees.
///
/// Fill [`space`](Self::space) and [`advance`](Self::advance), until nothing is
/// [missing](Self::missing_bytes); [`Guard::extend_large`] gives it more memory,
/// [`Guard::store_large`] publishes it. Dropped, it gives its memory back.
#[derive(Debug)]
pub struct LargeDraft {
    arena: Arc<Arena>,
    segments: Arc<Segments>,
    value_bytes: u64,
    filled_bytes: u64,
    /// Of these, those whose share of the upkeep is paid.
    paid_bytes: u64,
    /// Of what is filled in.
    crc: u32,
    /// Parts that were promised, and the extents that were made of them.
    promised: u32,
    taken: Vec<Extent>,
}

impl LargeDraft {
    /// The length of the whole value.
    pub fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    /// Bytes that are still to be filled in.
    pub fn missing_bytes(&self) -> u64 {
        self.value_bytes - self.filled_bytes
    }

    fn sizes(&self) -> Sizes {
        Sizes::of(self.segments.geometry())
    }

    fn room_bytes(&self) -> u64 {
        let end = self.sizes().room_bytes(&self.taken).min(self.value_bytes);
        end - self.filled_bytes
    }

    /// The next bytes to be filled in; none, if more memory must be had first.
    pub fn space(&mut self) -> &mut [u8] {
        let (sizes, end) = (self.sizes(), self.value_bytes);
        let Some((offset, bytes)) = sizes.piece_at(&self.taken, self.filled_bytes, end) else {
            return &mut [];
        };
        // SAFETY: the extents are this draft's alone, and the result borrows it mutably.
        unsafe { self.arena.lend(offset, bytes as usize) }
    }

    /// Says that so many bytes of [`space`](Self::space) were filled in.
    ///
    /// # Panics
    ///
    /// If it has not that many.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes as u64 <= self.room_bytes(), "advanced past the space");
        let end = self.filled_bytes + bytes as u64;
        while self.filled_bytes < end {
            let (crc, left) = (self.crc, (end - self.filled_bytes) as usize);
            let space = self.space();
            let filled = &space[..left.min(space.len())];
            let (crc, filled_bytes) = (crc32c::crc32c_append(crc, filled), filled.len());
            self.crc = crc;
            self.filled_bytes += filled_bytes as u64;
        }
    }

    fn description(&self) -> Vec<u8> {
        let sizes = self.sizes();
        let sizes = sizes.part_bytes << 32 | sizes.segment_bytes;
        let words = [self.value_bytes, sizes, self.crc.into()].into_iter();
        let extents = self.taken.iter().map(|extent| extent.0);
        words.chain(extents).flat_map(u64::to_le_bytes).collect()
    }
}

impl Drop for LargeDraft {
    fn drop(&mut self) {
        self.segments.abandon_extents(&self.taken, self.promised);
    }
}

/// A counted reference to a large value, independent of guards and sessions: its bytes stay where
/// they are for as long as it lives.
#[derive(Debug)]
pub struct LargeValue {
    arena: Arc<Arena>,
    segments: Arc<Segments>,
    extents: Box<[Extent]>,
    value_bytes: u64,
}

impl LargeValue {
    /// The length of the value.
    pub fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    /// The bytes from `offset` on that lie in one piece; none at the end.
    pub fn piece_at(&self, offset: u64) -> &[u8] {
        let sizes = Sizes::of(self.segments.geometry());
        let Some((offset, bytes)) = sizes.piece_at(&self.extents, offset, self.value_bytes) else {
            return &[];
        };
        // SAFETY: this reference keeps the extents, and nobody writes to a published value.
        unsafe { self.arena.read(offset, bytes as usize) }
    }
}

impl Drop for LargeValue {
    fn drop(&mut self) {
        self.segments.release_extents(&self.extents);
    }
}

impl Guard<'_> {
    /// Whether a value of this length is a large one, to be received with
    /// [`begin_large`](Self::begin_large).
    pub fn is_large(&self, value_bytes: u64) -> bool {
        value_bytes > self.shared.geometry.inline_bytes_max
    }

    /// Begins to receive a large value.
    ///
    /// # Errors
    ///
    /// If it is too large, or too many are being received.
    ///
    /// # Panics
    ///
    /// If it is not [large](Self::is_large).
    pub fn begin_large(&mut self, value_bytes: u64) -> Result<LargeDraft, StoreError> {
        assert!(self.is_large(value_bytes), "lies beside its key");
        let geometry: &Geometry = &self.shared.geometry;
        if value_bytes > geometry.value_bytes_max {
            return Err(self.too_large(value_bytes, geometry.value_bytes_max));
        }
        let promised = geometry.parts(value_bytes);
        if !self.shared.segments.promise_parts(promised) {
            return Err(self.no_space());
        }
        Ok(LargeDraft {
            arena: Arc::clone(&self.shared.arena),
            segments: Arc::clone(&self.shared.segments),
            value_bytes,
            filled_bytes: 0,
            paid_bytes: 0,
            crc: 0,
            promised,
            taken: Vec::new(),
        })
    }

    /// Gives the draft more memory, if it has no space and something is missing. Like a store, it
    /// may evict, in bounded steps: for each byte that was filled in since the last call, a few are
    /// looked at. Gives whether it is so at present; whoever has others to serve fills in little then
    /// before the next call, and lets them go first.
    ///
    /// # Errors
    ///
    /// If no memory could be freed; the draft is as it was.
    ///
    /// # Panics
    ///
    /// If the draft is one of another cache.
    pub fn extend_large(&mut self, draft: &mut LargeDraft) -> Result<bool, StoreError> {
        self.shared.expect_own(draft);
        self.pay_for_large(draft);
        if draft.room_bytes() > 0 || draft.missing_bytes() == 0 {
            return Ok(self.writer.owes_upkeep());
        }
        let parts = draft.promised - parts(&draft.taken);
        let taken = self
            .writer
            .take_extent(self.shared, &mut self.pin, self.now_ms, parts);
        draft.taken.push(taken.map_err(|_| self.no_space())?);
        Ok(self.writer.owes_upkeep())
    }

    /// The share of upkeep that comes with what was filled in.
    fn pay_for_large(&mut self, draft: &mut LargeDraft) {
        let bytes = draft.filled_bytes - draft.paid_bytes;
        draft.paid_bytes = draft.filled_bytes;
        self.writer
            .pay_for(self.shared, &self.pin, self.now_ms, bytes);
    }

    /// Publishes a large value; the entry's own value is not used.
    ///
    /// # Errors
    ///
    /// If no memory could be freed; nothing was changed then.
    ///
    /// # Panics
    ///
    /// If something is missing, or `mode` is [`Mode::Append`] or [`Mode::Prepend`], or the draft is one of another
    /// cache.
    pub fn store_large(
        &mut self,
        key: &Key<'_>,
        mode: Mode,
        entry: &Entry<'_>,
        draft: LargeDraft,
    ) -> Result<Outcome, StoreError> {
        assert!(!matches!(mode, Mode::Append | Mode::Prepend));
        self.shared.expect_own(&draft);
        let plan = self.store_plan(mode, entry, NewValue::Described);
        let outcome = self.publish_large(key, draft, |old| plan.decide(old))?;
        self.note_store(outcome, mode.compares());
        Ok(outcome)
    }

    fn publish_large(
        &mut self,
        key: &Key<'_>,
        mut draft: LargeDraft,
        plan: impl FnMut(Option<&Item<'_>>) -> Plan<Outcome>,
    ) -> Result<Outcome, StoreError> {
        assert_eq!(draft.missing_bytes(), 0, "the value is not complete");
        self.pay_for_large(&mut draft);
        let description = draft.description();
        self.shared.segments.hold_first(draft.taken[0]);
        let (outcome, stored) = self.store_described(key, &description, plan)?;
        if let Some(log) = stored {
            // The index has them now.
            draft.taken.clear();
            let parts = std::mem::take(&mut draft.promised);
            self.shared.segments.adopt_parts(log, parts);
        }
        Ok(outcome)
    }

    /// A reference to an item's large value that outlives the guard; `None` for any other item.
    ///
    /// # Panics
    ///
    /// If the item is one of another cache.
    pub fn hold(&self, item: &Item<'_>) -> Option<LargeValue> {
        if let Some(extents) = item.extents() {
            let is_own = std::ptr::eq(extents.arena, &raw const *self.shared.arena);
            assert!(is_own, "an item of another cache");
        }
        hold(self.shared, item)
    }

    /// [`Guard::get_and_touch`] that also [holds](Self::hold) the value, if it is a large one.
    ///
    /// # Errors
    ///
    /// As of [`Guard::get_and_touch`].
    pub fn get_and_touch_held(
        &mut self,
        key: &Key<'_>,
        expires_at_ms: Option<u64>,
    ) -> Result<Option<(Item<'_>, Option<LargeValue>)>, StoreError> {
        let shared = self.shared;
        let touched = self.get_and_touch(key, expires_at_ms)?;
        Ok(touched.map(|item| (item, hold(shared, &item))))
    }

    /// Stores a value that is too long to lie beside its key.
    pub(crate) fn store_pieces(
        &mut self,
        key: &Key<'_>,
        pieces: &[&[u8]],
        plan: impl FnMut(Option<&Item<'_>>) -> Plan<Outcome>,
    ) -> Result<Outcome, StoreError> {
        let value_bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut draft = self.begin_large(value_bytes)?;
        self.copied_bytes += value_bytes;
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                self.extend_large(&mut draft)?;
                let space = draft.space();
                let bytes = space.len().min(piece.len());
                space[..bytes].copy_from_slice(&piece[..bytes]);
                draft.advance(bytes);
                piece = &piece[bytes..];
            }
        }
        self.publish_large(key, draft, plan)
    }

    /// Joins the entry's value to a present value where the result, or that value, is a large one, and gives
    /// the length of the result; `None` if neither is. With `wanted`, only if the item has that
    /// version. Counts nothing.
    pub(crate) fn join_large(
        &mut self,
        key: &Key<'_>,
        side: Side,
        entry: &Entry<'_>,
        wanted: Option<u64>,
    ) -> Option<Result<(Outcome, u64), StoreError>> {
        let given = entry.value;
        let mut place = None;
        let key = self.shared.own(key, &mut place);
        loop {
            // SAFETY: pinned for as long as the guard is.
            let found = unsafe { self.shared.index.find(key.hash, key.bytes) }?;
            let item = self.live(&found)?;
            if wanted.is_some_and(|wanted| wanted != item.version()) {
                return Some(Ok((Outcome::Exists, 0)));
            }
            let value_bytes = item.value_bytes() + given.len() as u64;
            if !self.is_large(value_bytes) {
                return None;
            }
            let value_bytes_max = JOINED_BYTES_MAX.min(self.shared.geometry.value_bytes_max);
            if value_bytes > value_bytes_max {
                return Some(Err(self.too_large(value_bytes, value_bytes_max)));
            }
            let version = item.own_version();
            let held = self.hold(&item);
            // Making room renews the pin, so what lies in the log is copied first.
            let inline = match item.stored_value() {
                Value::Large(_) => Vec::new(),
                Value::Inline(_) | Value::Number(_) => item.value().into_owned(),
            };
            let mut pieces = vec![&inline[..]];
            if let Some(held) = &held {
                pieces.extend(held.pieces());
            }
            match side {
                Side::Front => pieces.insert(0, given),
                Side::Back => pieces.push(given),
            }
            let plan = |old: Option<&Item<'_>>| plan_joined(version, entry, old);
            match self.sparing(key, |guard| guard.store_pieces(key, &pieces, plan)) {
                Ok(Outcome::Exists) => {}
                Ok(Outcome::NotFound) => return Some(Ok((Outcome::NotStored, 0))),
                other => return Some(other.map(|outcome| (outcome, value_bytes))),
            }
        }
    }
}

impl Shared {
    fn expect_own(&self, draft: &LargeDraft) {
        let is_own = Arc::ptr_eq(&draft.segments, &self.segments);
        assert!(is_own, "a draft of another cache");
    }
}

/// The plan of a value that was joined to that of the item of this version.
fn plan_joined(version: u64, entry: &Entry<'_>, old: Option<&Item<'_>>) -> Plan<Outcome> {
    match old {
        // A touch leaves the version: flags and expiry are those of the item that is replaced.
        Some(old) if old.own_version() == version => {
            let joined = Put::new(NewValue::Described, old.flags(), old.expires_at_ms());
            Plan::Put(joined.made_from_value().chosen(entry.new_version))
        }
        Some(_) => Plan::Answer(Outcome::Exists),
        None => Plan::Answer(Outcome::NotFound),
    }
}

/// A reference to the large value of an item that was read under a pin that is still live.
pub(crate) fn hold(shared: &Shared, item: &Item<'_>) -> Option<LargeValue> {
    let extents = item.extents()?;
    let value_bytes = extents.value_bytes();
    let extents = extents.all();
    // Under that pin, the index's reference is still there.
    shared.segments.hold(extents[0]);
    Some(LargeValue {
        arena: Arc::clone(&shared.arena),
        segments: Arc::clone(&shared.segments),
        extents,
        value_bytes,
    })
}

impl LargeValue {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let piece = self.piece_at(at);
            at += piece.len() as u64;
            (!piece.is_empty()).then_some(piece)
        })
    }
}
