//! How long an operation takes, and how much of that its caller waited for a processor, as the scheduler says: callers
//! that share one wait for each other, whatever the server does.

use std::cell::OnceCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

thread_local! {
    /// What the scheduler says of this thread; none where it says nothing.
    static SCHEDSTAT: OnceCell<Option<File>> = const { OnceCell::new() };
}

/// An operation under way. It ends in the thread that it began in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    pub(crate) began: Instant,
    waited: Duration,
}

/// What an operation took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    /// Of this, what its caller did not wait for a processor.
    pub(crate) served: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            waited: waited(),
            began: Instant::now(),
        }
    }

    pub(crate) fn stop(self) -> Took {
        let time = self.began.elapsed();
        let waited = waited().saturating_sub(self.waited);
        let served = time.saturating_sub(waited);
        Took { time, served }
    }
}

/// What this thread has waited for a processor so far.
fn waited() -> Duration {
    SCHEDSTAT.with(|schedstat| {
        let file = schedstat.get_or_init(|| File::open("/proc/thread-self/schedstat").ok());
        let mut text = [0; 96];
        let read = |file: &File| file.read_at(&mut text, 0).ok();
        let bytes = file.as_ref().and_then(read).unwrap_or(0);
        let text = std::str::from_utf8(&text[..bytes]).unwrap_or_default();
        let waited = text.split(' ').nth(1).and_then(|ns| ns.parse().ok());
        Duration::from_nanos(waited.unwrap_or(0))
    })
}
