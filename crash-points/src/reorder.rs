//! Orders of stores that are not the engine's: what would be on the tape if its authors had been
//! mistaken.
//!
//! The engine keeps what was acknowledged by the order in which it stores: an item's bytes, then the
//! committed length that covers them, then the index word that names it, then the answer. Each kind here
//! moves one thing on a tape before or behind another, as a careless change of the engine would; the sweep
//! must find something wrong with each.

use crate::engine::config::{BUCKET_BYTES, Geometry, OVERFLOW_BYTES, SEGMENT_LINE_BYTES};
use crate::engine::header;
use crate::engine::index::word::Entry;
use crate::tape::Event;

/// What happens too early or too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reorder {
    /// The answer comes before the index word.
    AnswerBeforePublication,
    /// The index word comes before the committed length.
    PublicationBeforeCommit,
    /// The index word comes before the first byte of the item.
    PublicationBeforeBytes,
    /// The index word comes before the bytes of the large value.
    PublicationBeforeExtents,
    /// Versions are taken after they were used.
    VersionsTakenLate,
    /// A bucket is counted before it is filled.
    CountBeforeFill,
    /// Entries leave the parent before the new bucket is counted.
    ClearBeforeCount,
    /// The number of a counter is named before it is stored.
    NumberNamedFirst,
}

/// What an event is, as far as orders depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Answer,
    /// An index word that names the item at this offset.
    Publication(u64),
    /// An index word that names nothing any more.
    Clear,
    Commit,
    /// A word of a segment.
    Bytes(u64),
    Versions,
    Buckets,
    Other,
}

impl Reorder {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AnswerBeforePublication,
        Self::PublicationBeforeCommit,
        Self::PublicationBeforeBytes,
        Self::PublicationBeforeExtents,
        Self::VersionsTakenLate,
        Self::CountBeforeFill,
        Self::ClearBeforeCount,
        Self::NumberNamedFirst,
    ];

    /// The tape in this order; `None` if it has not what is to be moved.
    pub(crate) fn apply(self, events: &[Event], geometry: &Geometry) -> Option<Vec<Event>> {
        let is: Vec<What> = events.iter().map(|event| what(event, geometry)).collect();
        let first = |wanted: &dyn Fn(What) -> bool| is.iter().position(|&what| wanted(what));
        let publication = || first(&|what| matches!(what, What::Publication(_)));
        let (from, to) = match self {
            Self::AnswerBeforePublication => (first(&|what| what == What::Answer)?, publication()?),
            Self::PublicationBeforeCommit => (publication()?, first(&|what| what == What::Commit)?),
            Self::PublicationBeforeBytes => {
                let published = publication()?;
                let What::Publication(offset) = is[published] else {
                    return None;
                };
                (published, first(&|what| what == What::Bytes(offset))?)
            }
            Self::PublicationBeforeExtents => {
                let is_bytes = |what| matches!(what, What::Bytes(_));
                (publication()?, first(&is_bytes)?)
            }
            Self::VersionsTakenLate => {
                let taken = is.iter().rposition(|&what| what == What::Versions)?;
                let published = publication().filter(|&published| taken < published)?;
                (taken, published + 1)
            }
            Self::CountBeforeFill => {
                let counted = first(&|what| what == What::Buckets)?;
                // The words of the child are the last that were published before.
                let filled = is[..counted]
                    .iter()
                    .rposition(|what| matches!(what, What::Publication(_)))?;
                (counted, filled)
            }
            Self::ClearBeforeCount => {
                let counted = first(&|what| what == What::Buckets)?;
                let cleared = is[counted..].iter().position(|&what| what == What::Clear)?;
                (counted + cleared, counted)
            }
            Self::NumberNamedFirst => {
                // The one operation that stores nothing else to a segment than value and name.
                let bytes: Vec<_> = (0..is.len())
                    .filter(|&at| matches!(is[at], What::Bytes(_)))
                    .collect();
                let is_commit = is.contains(&What::Commit);
                match bytes[..] {
                    [value, name] if !is_commit => (name, value),
                    _ => return None,
                }
            }
        };
        Some(moved(events, from, to))
    }
}

/// The events with the one at `from` at the place that is now before `to`.
fn moved(events: &[Event], from: usize, to: usize) -> Vec<Event> {
    let mut events = events.to_vec();
    let event = events.remove(from);
    events.insert(if from < to { to - 1 } else { to }, event);
    events
}

fn what(event: &Event, geometry: &Geometry) -> What {
    let g = geometry;
    let (at, value) = match *event {
        Event::Answered(_) => return What::Answer,
        Event::Begun(_) => return What::Other,
        Event::Store { at, value } => (at, value),
    };
    let table_end = g.segment_table_at + u64::from(g.segments) * SEGMENT_LINE_BYTES;
    let slot = |from, bytes| match ((at - from) % bytes, value) {
        (within, _) if within == bytes - 8 => What::Other,
        (_, 0) => What::Clear,
        _ => What::Publication(Entry(value).offset()),
    };
    if at == header::NEXT_VERSION {
        What::Versions
    } else if at == header::BUCKETS {
        What::Buckets
    } else if (g.segment_table_at..table_end).contains(&at) {
        // Opening a segment commits nothing.
        let is_commit = (at - g.segment_table_at) % SEGMENT_LINE_BYTES == 8 && value > 0;
        if is_commit { What::Commit } else { What::Other }
    } else if (g.buckets_at..g.overflow_at).contains(&at) {
        slot(g.buckets_at, BUCKET_BYTES)
    } else if (g.overflow_at..g.ghosts_at).contains(&at) {
        slot(g.overflow_at, OVERFLOW_BYTES)
    } else if at >= g.segments_at {
        What::Bytes(at)
    } else {
        What::Other
    }
}
