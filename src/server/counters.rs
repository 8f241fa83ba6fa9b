//! What the server counts: by each thread for itself, summed when somebody asks.
//!
//! A thread counts in its black box, where its counts can be read by name also when the server does
//! not answer any more.

use std::ops::Deref;

use crate::blackbox::{BlackBox, COUNTERS_MAX};
use crate::sync::{Arc, AtomicU64, Ordering};

/// A count with one writer and any number of readers.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count. Only the thread that owns it calls this.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        // ORDERING: Relaxed, and no read-modify-write: there is one writer, and readers want a
        // figure, not what was written before it.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(more),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn get(&self) -> u64 {
        // ORDERING: as in `add`.
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one thread.
#[derive(Debug)]
pub(crate) struct Counters {
    black_box: Arc<BlackBox>,
}

impl Counters {
    /// Those in a box that was made for [`Counts::NAMES`].
    pub(crate) fn of(black_box: Arc<BlackBox>) -> Self {
        Self { black_box }
    }
}

impl Deref for Counters {
    type Target = Counts;

    #[inline]
    fn deref(&self) -> &Counts {
        Counts::among(self.black_box.counters())
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Every count there is, as words in the order of their names.
        #[derive(Debug)]
        #[repr(C)]
        pub(crate) struct Counts {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Counts {
            /// What is counted, in the order of the words.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Every count with its name, in a fixed order.
            pub(crate) fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

impl Counts {
    #[inline]
    fn among(words: &[AtomicU64; COUNTERS_MAX]) -> &Self {
        const { assert!(size_of::<Counts>() <= COUNTERS_MAX * size_of::<AtomicU64>()) };
        let words: *const [AtomicU64; COUNTERS_MAX] = words;
        // SAFETY: the counts are a word each, as many as there are, or fewer (asserted), and lie one
        // behind the other; the words are borrowed for as long as the result is.
        unsafe { &*words.cast::<Self>() }
    }
}

counters! {
    /// Connections taken over from the acceptor.
    connections_opened,
    /// Connections closed, whoever closed them.
    connections_closed,
    /// Connections refused because there were too many.
    connections_refused,
    /// Frames executed or refused.
    requests,
    /// Batches in which they were executed.
    batches,
    /// Bytes read from clients.
    bytes_in,
    /// Bytes written to clients.
    bytes_out,
    /// Reads that brought bytes.
    reads,
    /// Writes that took bytes.
    writes,
    /// Large values received whole.
    large_received,
    /// Large values sent whole.
    large_sent,
    /// Times that replies had to wait for a client to read.
    backlogs,
    /// Turns ended by their bound with work left.
    slices_exhausted,
    /// Requests refused, the connection going on.
    refused_requests,
    /// Requests not executed, since their like has brought the server down.
    refused_quarantined,
    /// Requests refused because connection buffers were full.
    refused_overloaded,
    /// Connections closed for what they sent.
    closed_protocol_error,
    /// Connections closed for their silence.
    closed_idle,
    /// Connections closed for a frame begun and not finished.
    closed_frame_timeout,
    /// Connections closed for replies not read.
    closed_slow_reader,
    /// Connections closed by an error of their socket.
    closed_io_error,
    /// Connections closed by a panic while they were served.
    panics,
}

/// The sums over all threads.
pub(crate) fn sum<'c>(all: impl Iterator<Item = &'c Counters>) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<_> = Counts::NAMES.iter().map(|name| (*name, 0_u64)).collect();
    for counters in all {
        for (sum, (_, more)) in sums.iter_mut().zip(counters.figures()) {
            sum.1 = sum.1.wrapping_add(more);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox::Kind;

    fn counters() -> Counters {
        let black_box = BlackBox::create(Kind::Worker, 0, Counts::NAMES).unwrap();
        Counters::of(Arc::new(black_box))
    }

    #[test]
    fn sums_go_over_all_threads() {
        let (one, two) = (counters(), counters());
        one.requests.add(3);
        two.requests.add(4);
        two.panics.add(1);
        let sums = sum([&one, &two].into_iter());
        assert!(sums.contains(&("requests", 7)));
        assert!(sums.contains(&("panics", 1)));
    }

    #[test]
    fn counts_have_their_names_in_the_box() {
        let counters = counters();
        for (number, _) in counters.figures().enumerate() {
            let words = counters.black_box.counters();
            words[number].store(number as u64 + 1, Ordering::Relaxed);
        }
        let by_name: Vec<_> = counters.figures().map(|(n, v)| (n.to_owned(), v)).collect();
        assert_eq!(counters.black_box.counts(), by_name);
        assert_eq!(by_name.len(), Counts::NAMES.len());
        assert_eq!(by_name.last().unwrap().1, by_name.len() as u64);
    }
}
