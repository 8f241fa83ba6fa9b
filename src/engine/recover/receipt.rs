//! What recovery tells.

use std::fmt;

/// What recovery found, kept and dropped.
///
/// How long it took is for the caller to measure: the engine has no clock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// What became of the one that had the memory before.
    pub last_owner: LastOwner,
    /// When it was last in use, in milliseconds of the clock that its sessions were given; `None`: the
    /// memory does not tell.
    pub last_used_ms: Option<u64>,
    /// Items that were kept, those that have expired or were flushed included.
    pub items: u64,
    /// Their bytes in the log.
    pub item_bytes: u64,
    /// Bytes of the extents of large values among them.
    pub large_bytes: u64,
    /// Entries of the index that were dropped, by reason.
    pub dropped: Dropped,
    /// Segments that were being written.
    pub open: Vec<OpenSegment>,
    /// Segments that are kept with items, and with extents.
    pub segments_kept: u64,
    /// Segments that are free now, and were not known to be.
    pub segments_freed: u64,
    /// Segments that hold less than their committed length says, and by how many bytes.
    pub torn_segments: u64,
    /// Bytes of these that are not trusted.
    pub torn_bytes: u64,
    /// Buckets that were locked.
    pub locks_cleared: u64,
    /// Links of the index that led nowhere, or to what another chain has.
    pub links_cut: u64,
}

/// How many entries of the index were dropped, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// They led to no segment that holds items.
    pub segment: u64,
    /// No item began where they led to, within what the segment had committed.
    pub place: u64,
    /// The key of the item belongs elsewhere in the index, as after a split that was under way.
    pub key: u64,
    /// The item has a version that was never given out.
    pub version: u64,
    /// The CRC of the item does not hold.
    pub contents: u64,
    /// The extents of the item are none, or another value's.
    pub extents: u64,
    /// Two items had the same key, and neither is known to be the one.
    pub duplicate: u64,
}

impl Dropped {
    /// With what somebody else has dropped.
    pub(super) fn add(&mut self, other: &Self) {
        self.segment += other.segment;
        self.place += other.place;
        self.key += other.key;
        self.version += other.version;
        self.contents += other.contents;
        self.extents += other.extents;
        self.duplicate += other.duplicate;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let places = self.segment + self.place + self.key;
        places + self.version + self.contents + self.extents + self.duplicate
    }
}

/// A segment that was being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSegment {
    /// Its number.
    pub segment: u32,
    /// Who wrote it.
    pub written_by: WrittenBy,
    /// Up to where it had items.
    pub committed_bytes: u64,
}

/// Who was writing a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenBy {
    /// The session of this [number](crate::Session::number).
    Session(u32),
    /// Whichever session was at the upkeep that all share.
    Upkeep,
    /// The memory does not tell: the segment was just being sealed.
    Unknown,
}

/// What became of the cache that has, or had, a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastOwner {
    /// It is in use.
    AtWork,
    /// It ended in good order.
    Ended,
    /// Its process is gone, and it did not end.
    Died,
}

impl LastOwner {
    /// In one word, as statistics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtWork => "at-work",
            Self::Ended => "ended",
            Self::Died => "died",
        }
    }
}

impl fmt::Display for LastOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AtWork => "the memory is in use",
            Self::Ended => "its last owner ended in good order",
            Self::Died => "its last owner died",
        })
    }
}

impl Receipt {
    /// Every figure with its name, in a fixed order.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        let mut figures = vec![
            ("kept_items", self.items),
            ("kept_item_bytes", self.item_bytes),
            ("kept_large_bytes", self.large_bytes),
            ("kept_segments", self.segments_kept),
            ("freed_segments", self.segments_freed),
            ("open_segments", self.open.len() as u64),
            ("torn_segments", self.torn_segments),
            ("torn_bytes", self.torn_bytes),
            ("locks_cleared", self.locks_cleared),
            ("links_cut", self.links_cut),
            ("dropped", self.dropped.total()),
        ];
        figures.extend(self.dropped.figures());
        figures
    }
}

impl Dropped {
    /// Every reason with its name, in a fixed order.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("dropped_segment", self.segment),
            ("dropped_place", self.place),
            ("dropped_key", self.key),
            ("dropped_version", self.version),
            ("dropped_contents", self.contents),
            ("dropped_extents", self.extents),
            ("dropped_duplicate", self.duplicate),
        ]
    }
}

/// For a log: in one line, with what is nothing left out.
impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            items,
            item_bytes,
            large_bytes,
            last_owner,
            dropped,
            ..
        } = self;
        write!(
            formatter,
            "kept {items} items, {item_bytes} bytes and {large_bytes} of large values; {last_owner}; \
             dropped {dropped}"
        )?;
        for (position, open) in self.open.iter().enumerate() {
            let before = if position == 0 {
                "; writing was "
            } else {
                ", "
            };
            write!(formatter, "{before}{open}")?;
        }
        let remarks = [
            (self.torn_segments, "torn segments"),
            (self.torn_bytes, "bytes not trusted"),
            (self.locks_cleared, "locks cleared"),
            (self.links_cut, "links cut"),
        ];
        for (count, what) in remarks.into_iter().filter(|&(count, _)| count > 0) {
            write!(formatter, "; {count} {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return formatter.write_str("nothing");
        }
        write!(formatter, "{}", self.total())?;
        let reasons = [
            (self.segment, "led to no segment of items"),
            (self.place, "led to no item"),
            (self.key, "led to another key"),
            (self.version, "with an impossible version"),
            (self.contents, "with changed contents"),
            (self.extents, "with impossible extents"),
            (self.duplicate, "there twice"),
        ];
        let mut before = " (";
        for (count, reason) in reasons.into_iter().filter(|&(count, _)| count > 0) {
            write!(formatter, "{before}{count} {reason}")?;
            before = ", ";
        }
        formatter.write_str(")")
    }
}

impl fmt::Display for OpenSegment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (writer, segment) = (self.written_by, self.segment);
        write!(formatter, "{writer} in segment {segment}")
    }
}

impl fmt::Display for WrittenBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(number) => write!(formatter, "session {number}"),
            Self::Upkeep => formatter.write_str("the upkeep"),
            Self::Unknown => formatter.write_str("somebody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dropped, LastOwner, OpenSegment, Receipt, WrittenBy};

    fn receipt() -> Receipt {
        Receipt {
            last_owner: LastOwner::Died,
            last_used_ms: Some(3),
            items: 10,
            item_bytes: 400,
            large_bytes: 0,
            dropped: Dropped::default(),
            open: Vec::new(),
            segments_kept: 1,
            segments_freed: 0,
            torn_segments: 0,
            torn_bytes: 0,
            locks_cleared: 0,
            links_cut: 0,
        }
    }

    #[test]
    fn a_receipt_is_one_line_that_tells_what_there_is_to_tell() {
        let mut told = receipt();
        assert_eq!(
            told.to_string(),
            "kept 10 items, 400 bytes and 0 of large values; its last owner died; dropped nothing"
        );
        told.last_owner = LastOwner::Ended;
        told.dropped.key = 2;
        told.dropped.duplicate = 1;
        told.locks_cleared = 1;
        told.open = [WrittenBy::Session(2), WrittenBy::Upkeep]
            .map(|written_by| OpenSegment {
                segment: 7,
                written_by,
                committed_bytes: 8,
            })
            .to_vec();
        assert_eq!(
            told.to_string(),
            "kept 10 items, 400 bytes and 0 of large values; its last owner ended in good order; \
             dropped 3 (2 led to another key, 1 there twice); writing was session 2 in segment 7, \
             the upkeep in segment 7; 1 locks cleared"
        );
    }

    #[test]
    fn every_reason_is_a_figure_and_they_sum_to_what_was_dropped() {
        let mut told = receipt();
        let reasons = &mut told.dropped;
        let mut next = 1;
        for reason in [
            &mut reasons.segment,
            &mut reasons.place,
            &mut reasons.key,
            &mut reasons.version,
            &mut reasons.contents,
            &mut reasons.extents,
            &mut reasons.duplicate,
        ] {
            *reason = next;
            next *= 2;
        }
        let figures = told.figures();
        let value = |name: &str| {
            figures
                .iter()
                .find(|(found, _)| *found == name)
                .map(|f| f.1)
        };
        let sum: u64 = told.dropped.figures().iter().map(|(_, count)| count).sum();
        assert_eq!((Some(sum), sum), (value("dropped"), 127));
        assert_eq!(value("kept_items"), Some(10));
    }
}
