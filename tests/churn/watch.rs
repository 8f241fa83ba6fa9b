//! What a process has in memory, looked at from outside.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);

/// A thread that looks every 100 ms.
#[derive(Debug)]
pub(crate) struct Watch {
    end: Sender<()>,
    thread: JoinHandle<Peak>,
}

/// The most that was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peak {
    /// The larger of all samples and the system's own high-water mark.
    pub(crate) rss_bytes: u64,
    sampled_bytes: u64,
    samples: u64,
    /// How long the watch itself had to wait for a processor: what no operation can be held to.
    late: Duration,
}

impl Watch {
    pub(crate) fn start(pid: u32) -> Self {
        let (end, ended) = channel();
        let look = move || {
            let mut peak = Peak::default();
            loop {
                let [now, high] = ["VmRSS:", "VmHWM:"].map(|name| figure_bytes(pid, name));
                peak.sampled_bytes = peak.sampled_bytes.max(now);
                peak.rss_bytes = peak.sampled_bytes.max(high);
                peak.samples += 1;
                let looked = Instant::now();
                if ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return peak;
                }
                peak.late = peak.late.max(looked.elapsed().saturating_sub(EVERY));
            }
        };
        let thread = std::thread::spawn(look);
        Self { end, thread }
    }

    pub(crate) fn end(self) -> Peak {
        drop(self.end);
        self.thread.join().expect("the process is there")
    }
}

/// A line of the process's status.
fn figure_bytes(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes
        .expect("its memory")
        .parse::<u64>()
        .expect("a number")
        << 10
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "RSS at most {:.1} MiB in {} samples, {:.1} MiB by the system's high-water mark; the watch \
             woke up to {:.1} ms late",
            mebibytes(self.sampled_bytes),
            self.samples,
            mebibytes(self.rss_bytes),
            self.late.as_secs_f64() * 1e3
        )
    }
}
