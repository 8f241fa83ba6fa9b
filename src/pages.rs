//! Which pages the cache's memory comes in: as it is asked for, and as the system gives it.
//!
//! These are words only; the mapping of the arena acts on them.

use std::fmt;
use std::ops::Range;

/// Size of a huge page, and what the arena is aligned to.
pub(crate) const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Whether the items lie in huge pages, which the processor finds with fewer steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// Where the system gives them, and, as memory comes into use, where it makes them when it is
    /// [maintained](crate::Session::maintain); otherwise without.
    #[default]
    Auto,
    /// From the start, and for good; refused where the system cannot. Touches the segments ahead.
    Always,
    /// None.
    Never,
}

/// When the pages that the memory bound covers come into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefault {
    /// Each when it is first touched.
    #[default]
    OnFirstUse,
    /// All at once, when the cache is created; refused where the memory is not there.
    Ahead,
}

/// The pages that a cache has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// The system's usual pages.
    #[default]
    Base,
    /// Huge pages are in place.
    Huge {
        /// The part of the memory that they hold.
        bytes: u64,
    },
}

impl Pages {
    /// The pages in one word, as statistics show them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Huge { .. } => "huge",
        }
    }

    /// The part of the memory that huge pages hold, in bytes.
    pub fn huge_bytes(self) -> u64 {
        match self {
            Self::Base => 0,
            Self::Huge { bytes } => bytes,
        }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.huge_bytes() >> 20;
        match self {
            Self::Base => write!(formatter, "base pages"),
            Self::Huge { .. } => write!(formatter, "huge pages, {mebibytes} MiB"),
        }
    }
}

/// Why the pages that were asked for cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagesError {
    /// The segments hold no whole huge page.
    #[error(
        "huge pages cannot be had: the segments hold no whole one of {huge_page_bytes} bytes; accepted: more memory, or huge pages `auto` or `never`"
    )]
    NoRoomForHuge {
        /// Size of a huge page.
        huge_page_bytes: u64,
    },
    /// The system has no huge pages for shared memory.
    #[error(
        "huge pages cannot be had: the system does not make them of shared memory ({reason}); it takes Linux 6.1 with transparent huge pages, and /sys/kernel/mm/transparent_hugepage/shmem_enabled other than `deny`; accepted without: huge pages `auto` or `never`"
    )]
    NoHuge {
        /// What the system said.
        reason: std::io::Error,
    },
    /// The system has none to give at the moment.
    #[error(
        "huge pages cannot be had: the system finds no free memory in a row for them ({reason}); `sysctl vm.compact_memory=1` makes some, or less memory may do; accepted without: huge pages `auto` or `never`"
    )]
    NoFreeHuge {
        /// What the system said.
        reason: std::io::Error,
    },
    /// More should be touched ahead than there is.
    #[error(
        "{wanted_bytes} bytes cannot be touched ahead: {available_bytes} bytes of memory are available; accepted: less memory, or neither touching it ahead nor huge pages `always`"
    )]
    NotAvailable {
        /// What was asked for.
        wanted_bytes: u64,
        /// What the machine and the control group have left.
        available_bytes: u64,
    },
    /// The system could not hold the memory once it is full.
    #[error(
        "{wanted_bytes} bytes cannot be had: the machine and the control group have {limit_bytes} bytes for this process, swap included; accepted: less memory"
    )]
    MoreThanThereIs {
        /// What was asked for.
        wanted_bytes: u64,
        /// What there is.
        limit_bytes: u64,
    },
    /// The system refused to touch pages ahead.
    #[error("the system refused to touch {wanted_bytes} bytes ahead: {reason}")]
    Touch {
        /// What was asked for.
        wanted_bytes: u64,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// What the arena's pages are to be, and where.
#[derive(Debug, Clone)]
pub(crate) struct PagePlan {
    pub(crate) huge_pages: HugePages,
    pub(crate) prefault: Prefault,
    /// All that the memory bound covers from the start: ranges of offsets.
    pub(crate) in_use: Vec<Range<u64>>,
    /// Of these, the segments: all of them count as memory, whether they hold something or not.
    pub(crate) segments: Range<u64>,
    /// What the index has of it, beside the first chunks.
    pub(crate) index: Vec<Range<u64>>,
    /// Of the segments, in their order, those whose memory was given to something else: no page of them is to come
    /// into being.
    pub(crate) given_away: Vec<Range<u64>>,
}

/// The part of a range of offsets that consists of whole huge pages.
pub(crate) fn whole_huge_pages(range: &Range<u64>) -> Range<u64> {
    let start = range.start.next_multiple_of(HUGE_PAGE_BYTES);
    let end = range.end - range.end % HUGE_PAGE_BYTES;
    start.min(end)..end
}
