//! Where the segments lie, at hand for whoever asks it of every entry of the index.

use crate::engine::config::Geometry;
use crate::engine::index::word::Entry;

/// Segments of one length that follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Where the first begins.
    start: u64,
    /// The bytes of all of them.
    bytes: u64,
    /// Units of a segment, each as long as this power of two. (There is one but where tests have segments
    /// otherwise; dividing takes a while.)
    odd: u64,
    shift: u32,
}

impl Places {
    pub(super) fn of(geometry: &Geometry) -> Self {
        let shift = geometry.segment_bytes.trailing_zeros();
        Self {
            start: geometry.segments_at,
            bytes: u64::from(geometry.segments) * geometry.segment_bytes,
            odd: geometry.segment_bytes >> shift,
            shift,
        }
    }

    /// The bytes of all segments.
    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }

    /// Units of all segments.
    pub(super) fn units(self) -> usize {
        (self.bytes >> self.shift) as usize
    }

    pub(super) fn units_per_segment(self) -> usize {
        self.odd as usize
    }

    /// How far an offset is from where the segments begin. (What lies before them is far behind all of them.)
    #[inline(always)]
    pub(super) fn behind_start(self, offset: u64) -> u64 {
        offset.wrapping_sub(self.start)
    }

    /// The number of the unit that lies so far behind the beginning of all segments: no less than there are, if
    /// that is none.
    #[inline(always)]
    pub(super) fn unit_of(self, from_start: u64) -> usize {
        (from_start >> self.shift) as usize
    }

    /// The number of the segment that an entry leads to, if it leads to one.
    pub(super) fn segment_of(self, entry: Entry) -> Option<usize> {
        let unit = self.unit_of(self.behind_start(entry.offset()));
        (unit < self.units()).then(|| unit / self.units_per_segment())
    }
}

#[cfg(test)]
mod tests {
    use super::Places;
    use crate::engine::index::word::{Entry, KeyHash};

    #[test]
    fn an_entry_leads_to_the_segment_that_its_offset_lies_in() {
        for (odd, shift) in [(1, 13), (3, 10)] {
            let (start, segment_bytes) = (1 << 16, odd << shift);
            let places = Places {
                start,
                bytes: 5 * segment_bytes,
                odd,
                shift,
            };
            let place = |offset| places.segment_of(Entry::new(KeyHash(0), offset));
            for id in 0..5 {
                let first = id * segment_bytes;
                for from_start in [first, first + 8, first + segment_bytes - 8] {
                    let found = place(start + from_start);
                    assert_eq!(found, Some(id as usize));
                    assert_eq!(places.behind_start(start + from_start), from_start);
                }
            }
            for outside in [8, start - 8, start + 5 * segment_bytes, 0xff_ffff_ffff << 3] {
                assert_eq!(place(outside), None, "{outside}");
            }
        }
    }
}
