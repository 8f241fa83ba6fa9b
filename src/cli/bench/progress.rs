//! How a run goes, second by second: a line for whoever watches, and figures for the report.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::tally::Tally;
use super::text::{grouped, short_time};
use crate::sync::{Arc, Mutex};

const SECOND: Duration = Duration::from_secs(1);

/// LIMIT: seconds of which a report has figures of their own; a day.
const INTERVALS_MAX: usize = 86_400;

/// Goes to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Whether anybody watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Shown,
    Hidden,
}

/// What one second of a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct Interval {
    /// Operations answered.
    operations: u64,
    /// The slowest of them.
    latency_us_max: u64,
}

/// The line, once the run has begun.
#[derive(Debug)]
pub(super) struct Line {
    progress: Progress,
    started: Instant,
    ticks: u32,
    answered: u64,
    intervals: Vec<Interval>,
}

impl Progress {
    /// Shown if standard error is a terminal.
    pub(super) fn on_terminal() -> Self {
        match io::stderr().is_terminal() {
            true => Self::Shown,
            false => Self::Hidden,
        }
    }

    pub(super) fn begin(self, started: Instant) -> Line {
        Line {
            progress: self,
            started,
            ticks: 0,
            answered: 0,
            intervals: Vec::new(),
        }
    }
}

impl Line {
    /// How long it is to the next full second.
    pub(super) fn until_next(&self) -> Duration {
        (SECOND * (self.ticks + 1)).saturating_sub(self.started.elapsed())
    }

    /// Another second is over.
    pub(super) fn advance(&mut self, tallies: &[Arc<Mutex<Tally>>]) {
        self.ticks += 1;
        let (mut answered, mut hits, mut misses, mut slowest) = (0, 0, 0, Duration::ZERO);
        for tally in tallies {
            let mut tally = tally.lock();
            answered += tally.answered;
            hits += tally.hits;
            misses += tally.misses;
            slowest = slowest.max(tally.end_interval());
        }
        let operations = answered - std::mem::replace(&mut self.answered, answered);
        if self.intervals.len() < INTERVALS_MAX {
            let latency_us_max = slowest.as_micros() as u64;
            self.intervals.push(Interval {
                operations,
                latency_us_max,
            });
        }
        if self.progress == Progress::Shown {
            let hit_ratio = match hits + misses {
                0 => String::new(),
                reads => format!("   hits {:.2} %", hits as f64 / reads as f64 * 100.0),
            };
            let text = format!(
                "{CLEAR_LINE}{:>5} s   {} operations   {}/s{hit_ratio}   slowest {}",
                self.ticks,
                grouped(answered),
                grouped(operations),
                short_time(slowest),
            );
            show(&text);
        }
    }

    /// The run is over: takes the line away. A run of whole seconds ends when its last one does, which may
    /// not have been told yet.
    pub(super) fn end(mut self, tallies: &[Arc<Mutex<Tally>>]) -> Vec<Interval> {
        while self.until_next().is_zero() {
            self.advance(tallies);
        }
        if self.progress == Progress::Shown {
            show(CLEAR_LINE);
        }
        self.intervals
    }
}

fn show(text: &str) {
    let mut stderr = io::stderr();
    // Nobody reading it is no error.
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Progress, SECOND};
    use crate::cli::bench::source::Operation;
    use crate::cli::bench::tally::Tally;
    use crate::cli::bench::wire::Reply;
    use crate::sync::{Arc, Mutex};

    #[test]
    fn the_last_second_of_a_run_that_ends_with_it_is_told() {
        let now = Instant::now();
        let started = now - SECOND;
        let mut tally = Tally::new(started);
        tally.count(
            Operation::Get(1),
            Reply::Miss,
            Duration::from_millis(3),
            now,
        );
        let line = Progress::Hidden.begin(started);
        let intervals = line.end(&[Arc::new(Mutex::new(tally))]);
        let told: Vec<_> = intervals
            .iter()
            .map(|interval| (interval.operations, interval.latency_us_max))
            .collect();
        assert_eq!(told, [(1, 3000)]);
        assert_eq!(Progress::Hidden.begin(Instant::now()).end(&[]), []);
    }
}
