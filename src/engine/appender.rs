//! The open segments that one owner appends to: one for each log and class, opened when needed.
//!
//! The owner is a session, or whoever holds the caretaker. Nobody else touches them, so appending
//! costs no shared counter; nobody sees an item before it is committed and then published.
//!
//! The item of a large value is small, so one open segment could have the items of all memory, and nobody but
//! its owner could seal it for an eviction. So it takes no more where the values of its items have their
//! share.

use crate::engine::cache::Shared;
use crate::engine::config::{CLASSES_MAX, Geometry};
use crate::engine::draft::Draft;
use crate::engine::item::{self, Item};
use crate::engine::log::Place;
use crate::engine::log::segment::{Label, Lifetime, Log, Owner};
use crate::reclaim::Pin;

/// LIMIT: times to live up to these share a class; what lives longer, or for ever, has the last one.
const CLASS_MS: [u64; CLASSES_MAX - 1] = [60_000, 600_000, 3_600_000];

/// The open segments of one owner.
#[derive(Debug, Default)]
pub(crate) struct Appender {
    owner: Owner,
    open: [[Option<Open>; CLASSES_MAX]; 2],
}

/// A segment that its owner appends to.
#[derive(Debug)]
struct Open {
    id: u32,
    /// Offset of its first byte.
    start: u64,
    /// Bytes that hold items.
    used_bytes: u64,
    /// Parts of the extents that they describe.
    parts: u32,
    lifetime: Lifetime,
    newest_version: u64,
}

impl Open {
    fn fits(&self, geometry: &Geometry, bytes: u64) -> bool {
        self.used_bytes + bytes <= geometry.segment_bytes
            && (self.parts == 0 || self.parts < geometry.named_parts_max())
    }
}

/// What is known of an item that is about to be committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commitment {
    pub(crate) bytes: u64,
    /// Parts of the extents that it describes.
    pub(crate) parts: u32,
    pub(crate) version: u64,
    pub(crate) expires_at_ms: Option<u64>,
}

/// The label of segments for items of a log that expire at this time.
pub(crate) fn label(
    geometry: &Geometry,
    log: Log,
    expires_at_ms: Option<u64>,
    now_ms: u64,
) -> Label {
    let class = match expires_at_ms {
        _ if geometry.classes == 1 => 0,
        None => CLASSES_MAX - 1,
        Some(at_ms) => {
            let left_ms = at_ms.saturating_sub(now_ms);
            CLASS_MS.iter().filter(|&&ms| left_ms > ms).count()
        }
    };
    Label { log, class }
}

impl Appender {
    /// With nothing open.
    pub(crate) fn of(owner: Owner) -> Self {
        Self {
            owner,
            ..Self::default()
        }
    }

    fn place(&mut self, label: Label) -> &mut Option<Open> {
        &mut self.open[label.log as usize][label.class]
    }

    /// Whether the open segment for `label` has room for `bytes`, and is to take more. One of which everything
    /// was flushed is to leave whole.
    pub(crate) fn has_room(&self, shared: &Shared, label: Label, bytes: u64) -> bool {
        let open = &self.open[label.log as usize][label.class];
        open.as_ref().is_some_and(|open| {
            open.fits(&shared.geometry, bytes)
                && (open.used_bytes == 0 || open.newest_version > shared.flushed_version())
        })
    }

    /// Whether anything is open that has something in it.
    pub(crate) fn has_contents(&self) -> bool {
        let mut open = self.open.iter().flatten().flatten();
        open.any(|open| open.used_bytes > 0)
    }

    /// Opens a segment for `label` in place of the one that is open, which is sealed; false if the
    /// pool has none.
    #[must_use]
    pub(crate) fn open(
        &mut self,
        shared: &Shared,
        label: Label,
        place: Place,
        now_ms: u64,
        pin: &Pin<'_>,
    ) -> bool {
        self.seal(shared, label, pin);
        let opened = shared.segments.open(label, place, self.owner, now_ms);
        *self.place(label) = opened.map(|id| Open {
            id,
            start: shared.segments.start(id),
            used_bytes: 0,
            parts: 0,
            lifetime: Lifetime::NONE,
            newest_version: 0,
        });
        opened.is_some()
    }

    /// Seals the open segment for `label`, if there is one.
    fn seal(&mut self, shared: &Shared, label: Label, pin: &Pin<'_>) {
        if let Some(open) = self.place(label).take() {
            shared.segments.seal(open.id, open.newest_version, pin);
        }
    }

    /// Seals what is open and has nothing in it that has not expired and was not flushed.
    pub(crate) fn seal_gone(&mut self, shared: &Shared, now_ms: u64, pin: &Pin<'_>) {
        let flushed_version = shared.flushed_version();
        for place in self.open.iter_mut().flatten() {
            let is_gone = |open: &mut Open| {
                open.used_bytes > 0
                    && (open.lifetime.last_ms <= now_ms || open.newest_version <= flushed_version)
            };
            if let Some(open) = place.take_if(is_gone) {
                shared.segments.seal(open.id, open.newest_version, pin);
            }
        }
    }

    /// Seals all that is open; gives whether anything was.
    pub(crate) fn seal_all(&mut self, shared: &Shared, pin: &Pin<'_>) -> bool {
        let mut was_open = false;
        for open in self.open.iter_mut().flatten().filter_map(Option::take) {
            shared.segments.seal(open.id, open.newest_version, pin);
            was_open = true;
        }
        was_open
    }

    /// Where the next item of `label` goes; there is room for it.
    fn end(&self, shared: &Shared, label: Label, bytes: u64) -> u64 {
        let open = &self.open[label.log as usize][label.class];
        let open = open.as_ref().expect("room was made");
        debug_assert!(open.fits(&shared.geometry, bytes));
        open.start + open.used_bytes
    }

    /// Writes a draft behind the last item, where there is room for it, and gives its offset.
    /// Nobody can see it, and the next one overwrites it, unless it is committed.
    pub(crate) fn append(
        &mut self,
        shared: &Shared,
        label: Label,
        draft: &Draft<'_>,
        version: u64,
    ) -> u64 {
        let offset = self.end(shared, label, draft.bytes());
        // SAFETY: the segment is open and the owner's; bytes behind the last committed item are
        // reachable for nobody.
        unsafe { draft.write(&shared.arena, offset, version) };
        offset
    }

    /// [`Appender::append`] of a copy of the item at `from`.
    ///
    /// # Safety
    ///
    /// The caller holds a claim to the segment of the item at `from`.
    pub(crate) unsafe fn append_copy(
        &mut self,
        shared: &Shared,
        label: Label,
        from: u64,
        bytes: u64,
    ) -> u64 {
        let offset = self.end(shared, label, bytes);
        // SAFETY: as in `append`; the caller answers for the item.
        unsafe { item::copy(&shared.arena, from, offset, bytes) };
        offset
    }

    /// Makes the item that was just appended part of the segment, before it is published.
    pub(crate) fn commit(&mut self, shared: &Shared, label: Label, item: Commitment) {
        let open = self.place(label).as_mut().expect("an item was appended");
        let segment = shared.segments.segment(open.id);
        open.used_bytes += item.bytes;
        open.parts += item.parts;
        open.newest_version = open.newest_version.max(item.version);
        let lifetime = open.lifetime.with(item.expires_at_ms);
        if lifetime != open.lifetime {
            open.lifetime = lifetime;
            segment.set_lifetime(lifetime);
        }
        segment.add_live(item.bytes);
        segment.commit(open.used_bytes);
    }
}

impl Commitment {
    /// Of a copy of an item.
    pub(crate) fn of(item: &Item<'_>) -> Self {
        Self {
            bytes: item.bytes(),
            parts: item.extents().map_or(0, |extents| extents.parts()),
            version: item.own_version(),
            expires_at_ms: item.stored_expiry_ms(),
        }
    }
}
