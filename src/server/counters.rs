//! What the server counts: by each thread for itself, summed when somebody asks.

use crate::sync::{AtomicU64, Ordering};

/// A count with one writer and any number of readers.
#[derive(Debug, Default)]
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

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts of one thread, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// Every count with its name, in a fixed order.
            pub(crate) fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
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
    let mut sums: Vec<(&'static str, u64)> = Counters::default().figures().collect();
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

    #[test]
    fn sums_go_over_all_threads() {
        let (one, two) = (Counters::default(), Counters::default());
        one.requests.add(3);
        two.requests.add(4);
        two.panics.add(1);
        let sums = sum([&one, &two].into_iter());
        assert!(sums.contains(&("requests", 7)));
        assert!(sums.contains(&("panics", 1)));
    }
}
