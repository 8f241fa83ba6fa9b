//! The 8-byte words of a bucket: one names an item, the last controls the bucket.
//!
//! ```text
//!  entry    | tag 16 | frequency 2 | marks 3 | lines 3 | offset / 8: 40 |        0: empty
//!  control  | holder's session + 1: 31 | overflow bucket + 1: 32 | locked 1 |    0: none
//!  wait     | holder's session + 1: 24 | bucket + 1: 40 |                        0: none
//! ```
//!
//! The frequency and the mark FETCHED lie side by side and change together, by the one
//! compare-exchange of a reader that finds the item. The other [`Marks`] change only under the
//! bucket's lock, and wherever an entry moves they go along.
//!
//! The lines are those that the item goes on into behind its first, seven or more of them as seven: a hint for who
//! asks for its memory, by which nothing is decided.
//!
//! Who holds a lock stands beside it, and who waits for one says so in its session's counters (a
//! [`Wait`]): nobody decides by either, they are for whoever looks for what hangs.

use std::hint::select_unpredictable;

const OFFSET_BITS: u32 = 40;
const OFFSET: u64 = (1 << OFFSET_BITS) - 1;
const LINES: u64 = Entry::FURTHER_LINES_MAX << OFFSET_BITS;

/// The bytes of a cache line.
pub(crate) const LINE_BYTES: u64 = 64;

const FETCHED_SHIFT: u32 = 45;
const FREQUENCY_SHIFT: u32 = FETCHED_SHIFT + 1;
const FREQUENCY_MAX: u64 = 3;
/// Frequency and FETCHED of an entry whose reads change nothing any more.
const READ_MAX: u64 = FREQUENCY_MAX << 1 | 1;
const TAG_SHIFT: u32 = 48;

/// A key's hash: the low bits choose the bucket, the upper 16 are the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(pub(crate) u64);

impl KeyHash {
    #[inline]
    pub(crate) fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }

    /// The bucket of this hash when the index has `buckets` buckets (linear hashing).
    #[inline]
    pub(crate) fn bucket(self, buckets: u64) -> u64 {
        Extent::of(buckets).bucket_of(self)
    }
}

/// How many buckets the index has, made up so that many hashes find theirs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    buckets: u64,
    /// The smallest all-ones mask that covers every bucket.
    mask: u64,
}

impl Extent {
    #[inline]
    pub(crate) fn of(buckets: u64) -> Self {
        Self {
            buckets,
            mask: u64::MAX >> ((buckets - 1) | 1).leading_zeros(),
        }
    }

    #[inline]
    pub(crate) fn bucket_of(self, hash: KeyHash) -> u64 {
        let bucket = hash.0 & self.mask;
        // Which one it is, nobody could tell beforehand.
        select_unpredictable(bucket < self.buckets, bucket, bucket & (self.mask >> 1))
    }
}

/// What an entry says about the value of its item, beside how often it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks(u64);

impl Marks {
    pub(crate) const NONE: Self = Self(0);
    /// The item was read since its value was stored.
    pub(crate) const FETCHED: Self = Self(1 << FETCHED_SHIFT);
    /// The value is out of date, and served all the same.
    pub(crate) const STALE: Self = Self(1 << (FETCHED_SHIFT - 1));
    /// Somebody was told to store a new value.
    pub(crate) const LEASED: Self = Self(1 << (FETCHED_SHIFT - 2));
    /// The marks of a value, that whoever depends on it depends on as well.
    pub(crate) const OF_VALUE: Self = Self::STALE.and(Self::LEASED);
    pub(crate) const ALL: Self = Self::OF_VALUE.and(Self::FETCHED);

    /// These marks and those.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of these marks that are also among the others.
    pub(crate) const fn within(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether all of the others are among these marks.
    pub(crate) const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// A word that names an item, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    pub(crate) const EMPTY: Self = Self(0);
    /// The most that [`further_lines`](Self::further_lines) says.
    pub(crate) const FURTHER_LINES_MAX: u64 = 0b111;

    /// Names the item at `offset` (a multiple of 8, not 0) for a key with this hash.
    #[inline]
    pub(crate) fn new(hash: KeyHash, offset: u64) -> Self {
        debug_assert!(offset != 0 && offset & 7 == 0 && offset >> 3 <= OFFSET);
        Self(hash.tag() << TAG_SHIFT | offset >> 3)
    }

    /// The same entry, new, of an item of so many bytes.
    #[inline]
    pub(crate) fn spanning(self, bytes: u64) -> Self {
        debug_assert!(self.0 & LINES == 0 && bytes > 0);
        let lines = (self.offset() % LINE_BYTES + bytes - 1) / LINE_BYTES;
        Self(self.0 | lines.min(Self::FURTHER_LINES_MAX) << OFFSET_BITS)
    }

    /// Into how many cache lines the item goes on behind its first, up to 7.
    #[inline]
    pub(crate) fn further_lines(self) -> u64 {
        (self.0 & LINES) >> OFFSET_BITS
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }

    #[inline]
    pub(crate) fn offset(self) -> u64 {
        (self.0 & OFFSET) << 3
    }

    #[inline]
    pub(crate) fn frequency(self) -> u64 {
        self.0 >> FREQUENCY_SHIFT & FREQUENCY_MAX
    }

    /// The same entry read once more; `None` once the count is full, and it is known that the value
    /// was read.
    #[inline]
    pub(crate) fn read_again(self) -> Option<Self> {
        let read = self.0 >> FETCHED_SHIFT & READ_MAX;
        (read < READ_MAX).then(|| {
            let counted = u64::from(self.frequency() < FREQUENCY_MAX) << FREQUENCY_SHIFT;
            Self((self.0 + counted) | Marks::FETCHED.0)
        })
    }

    /// The same entry used once more, though its value was not read; `None` once the count is full.
    pub(crate) fn used_again(self) -> Option<Self> {
        (self.frequency() < FREQUENCY_MAX).then_some(Self(self.0 + (1 << FREQUENCY_SHIFT)))
    }

    #[inline]
    pub(crate) fn marks(self) -> Marks {
        Marks(self.0).within(Marks::ALL)
    }

    /// The same entry with these marks as well.
    pub(crate) fn with(self, marks: Marks) -> Self {
        Self(self.0 | marks.0)
    }

    /// The same entry without these marks.
    pub(crate) fn without(self, marks: Marks) -> Self {
        Self(self.0 & !marks.0)
    }

    /// Which item the entry names, of a key with which tag, and nothing else.
    #[inline]
    pub(crate) fn name(self) -> u64 {
        self.0 & !(FREQUENCY_MAX << FREQUENCY_SHIFT | Marks::ALL.0 | LINES)
    }

    /// This entry, which was never read, with a frequency of up to 3.
    #[inline]
    pub(crate) fn with_frequency(self, frequency: u64) -> Self {
        debug_assert!(self.frequency() == 0 && frequency <= FREQUENCY_MAX);
        Self(self.0 | frequency << FREQUENCY_SHIFT)
    }

    /// Whether both name the same item, and say the same about its value.
    pub(crate) fn stands_like(self, other: Self) -> bool {
        let said = |entry: Self| entry.marks().within(Marks::OF_VALUE);
        self.names_same(other) && said(self) == said(other)
    }

    /// Whether both name the same item, however often it was read and however it is marked.
    #[inline]
    pub(crate) fn names_same(self, other: Self) -> bool {
        self.0 & OFFSET == other.0 & OFFSET
    }
}

/// The last word of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control(pub(crate) u64);

impl Control {
    const LOCKED: u64 = 1;
    const OVERFLOW_SHIFT: u32 = 1;
    const OVERFLOW: u64 = (u32::MAX as u64) << Self::OVERFLOW_SHIFT;
    const HOLDER_SHIFT: u32 = 33;

    #[inline]
    pub(crate) fn is_locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }

    /// The same control word, locked by the session of this number.
    #[inline]
    pub(crate) fn locked_by(self, session: u32) -> Self {
        debug_assert!(!self.is_locked());
        Self(self.0 | Self::LOCKED | (u64::from(session) + 1) << Self::HOLDER_SHIFT)
    }

    #[inline]
    pub(crate) fn unlocked(self) -> Self {
        Self(self.0 & Self::OVERFLOW)
    }

    /// The session that holds the lock.
    pub(crate) fn holder(self) -> Option<u32> {
        let holder = (self.0 >> Self::HOLDER_SHIFT).checked_sub(1)?;
        self.is_locked().then_some(holder as u32)
    }

    /// The number of the next overflow bucket of the chain.
    #[inline]
    pub(crate) fn overflow(self) -> Option<u32> {
        ((self.0 & Self::OVERFLOW) >> Self::OVERFLOW_SHIFT)
            .checked_sub(1)
            .map(|id| id as u32)
    }

    /// The same control word with nothing linked.
    pub(crate) fn without_overflow(self) -> Self {
        Self(self.0 & !Self::OVERFLOW)
    }

    /// The same control word with an overflow bucket linked.
    pub(crate) fn with_overflow(self, id: u32) -> Self {
        debug_assert!(self.overflow().is_none());
        Self(self.0 | (u64::from(id) + 1) << Self::OVERFLOW_SHIFT)
    }
}

/// What a session waits for: the lock of a bucket, held by a session; or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) u64);

impl Wait {
    pub(crate) const NONE: Self = Self(0);
    const HOLDER_SHIFT: u32 = 40;
    const BUCKET: u64 = (1 << Self::HOLDER_SHIFT) - 1;

    /// For the lock of a bucket, whose control word is this.
    pub(crate) fn new(bucket: u64, control: Control) -> Self {
        let holder = control.holder().map_or(0, |session| u64::from(session) + 1);
        Self(holder << Self::HOLDER_SHIFT | (bucket + 1) & Self::BUCKET)
    }

    pub(crate) fn bucket(self) -> Option<u64> {
        (self.0 & Self::BUCKET).checked_sub(1)
    }

    pub(crate) fn holder(self) -> Option<u32> {
        let holder = (self.0 >> Self::HOLDER_SHIFT).checked_sub(1);
        holder.map(|session| session as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::{Control, Entry, KeyHash, LINE_BYTES, Marks, Wait};

    #[test]
    fn a_split_moves_entries_only_from_a_bucket_to_its_child() {
        for hash in (0..4096).map(|i: u64| KeyHash(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))) {
            for buckets in 1..300 {
                let before = hash.bucket(buckets);
                let after = hash.bucket(buckets + 1);
                assert!(before < buckets);
                if after != before {
                    assert_eq!(after, buckets);
                    assert_eq!(before, buckets - (1 << buckets.ilog2()));
                }
            }
        }
    }

    #[test]
    fn the_fields_of_an_entry_do_not_touch_each_other() {
        let hash = KeyHash(0xabcd_0000_0000_0001);
        let mut entry = Entry::new(hash, 0xff_ffff_ffff << 3);
        for frequency in 0..=3 {
            assert_eq!(entry.frequency(), frequency);
            assert_eq!(entry.tag(), 0xabcd);
            assert_eq!(entry.offset(), 0xff_ffff_ffff << 3);
            assert_eq!(entry.marks().has(Marks::FETCHED), frequency > 0);
            assert_eq!(entry.further_lines(), 0);
            entry = entry.read_again().unwrap_or(entry);
        }
        assert_eq!(entry.read_again(), None);
    }

    #[test]
    fn an_entry_says_into_how_many_lines_its_item_goes_on() {
        for offset in (8..256).step_by(8) {
            for bytes in 1..=1024 {
                let entry = Entry::new(KeyHash(u64::MAX), offset);
                let lines = (offset..offset + bytes).filter(|at| at % LINE_BYTES == 0);
                let further = lines.filter(|&line| line > offset).count() as u64;
                let spanning = entry.spanning(bytes);
                assert_eq!(
                    spanning.further_lines(),
                    further.min(7),
                    "{offset}, {bytes}"
                );
                assert_eq!(spanning.name(), entry.name());
                assert!(spanning.names_same(entry) && spanning.marks() == Marks::NONE);
                assert_eq!((spanning.frequency(), spanning.tag()), (0, 0xffff));
            }
        }
    }

    #[test]
    fn a_mark_is_set_and_taken_away_by_itself() {
        let marks = [Marks::FETCHED, Marks::STALE, Marks::LEASED];
        let entry = Entry::new(KeyHash(u64::MAX), 0xff_ffff_ffff << 3).with_frequency(3);
        assert_eq!(entry.marks(), Marks::NONE);
        for mark in marks {
            let marked = entry.with(mark);
            assert_eq!(marked.marks(), mark);
            assert_eq!((marked.frequency(), marked.tag()), (3, 0xffff));
            assert!(marked.names_same(entry));
            assert_eq!(marked.without(mark), entry);
            assert_eq!(
                entry.with(Marks::ALL).without(mark).with(mark).marks(),
                Marks::ALL
            );
        }
    }

    #[test]
    fn the_first_read_of_a_value_is_noted_also_where_the_count_is_full() {
        let entry = Entry::new(KeyHash(0), 8)
            .with_frequency(3)
            .with(Marks::STALE);
        let read = entry.read_again().expect("not known yet that it was read");
        assert_eq!(read.frequency(), 3);
        assert_eq!(read.marks(), Marks::STALE.and(Marks::FETCHED));
        assert_eq!(read.read_again(), None);
    }

    #[test]
    fn a_control_word_keeps_its_link_through_lock_and_unlock() {
        let linked = Control(0).locked_by(6).with_overflow(0);
        assert!(linked.is_locked());
        assert_eq!((linked.overflow(), linked.holder()), (Some(0), Some(6)));
        assert_eq!(linked.without_overflow(), Control(0).locked_by(6));
        assert_eq!(linked.unlocked().overflow(), Some(0));
        assert_eq!(linked.unlocked().holder(), None);
        assert_eq!(Control(0).overflow(), None);
        let last = Control(0).with_overflow(u32::MAX - 1);
        assert_eq!(last.overflow(), Some(u32::MAX - 1));
    }

    #[test]
    fn a_wait_names_the_bucket_and_whoever_holds_it() {
        let seen = |wait: Wait| (wait.bucket(), wait.holder());
        assert_eq!(seen(Wait::NONE), (None, None));
        assert_eq!(seen(Wait::new(0, Control(0))), (Some(0), None));
        let held = Control(0).with_overflow(u32::MAX - 1).locked_by(262_143);
        let wait = Wait::new(1 << 36, held);
        assert_eq!(seen(wait), (Some(1 << 36), Some(262_143)));
    }
}
