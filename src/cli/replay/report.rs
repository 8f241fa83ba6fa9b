//! What a replay came to, for people and for programs.

use std::fmt;

use serde::{Serialize, Serializer};

use super::in_process::Outcome;
use super::tally::{Tally, ratio};
use crate::cli::bench::text::grouped;
use crate::cli::units::size_text;

/// The whole report. Its JSON form is a contract with those who read it by program: names are not
/// given another meaning.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) trace: String,
    /// `None`: a cache in this process.
    pub(super) server: Option<String>,
    pub(super) requests: u64,
    /// The share of the reads that was to become overwrites.
    pub(super) overwrite_share: f64,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) runs: Vec<RunReport>,
}

/// One combination of a sweep.
#[derive(Debug, Serialize)]
pub(super) struct RunReport {
    pub(super) memory_bytes: Option<u64>,
    /// `None`: the server's own affair.
    pub(super) threads: Option<u32>,
    #[serde(flatten)]
    tally: Tally,
    pub(super) hit_ratio: Option<f64>,
    pub(super) miss_ratio: Option<f64>,
    pub(super) byte_hit_ratio: Option<f64>,
    pub(super) byte_miss_ratio: Option<f64>,
    /// Bytes that the cache moved for each byte inserted; nothing where it does not count them.
    evict_moved_per_byte_inserted: Option<f64>,
    clean_moved_per_byte_inserted: Option<f64>,
    moved_per_byte_inserted: Option<f64>,
    live_share: Option<f64>,
    ledger: Ledger,
}

/// Lines of the memory ledger, in the cache's order, and the budget that they sum to.
#[derive(Debug)]
struct Ledger(Vec<(String, u64)>);

impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, bytes)| (name, bytes)))
    }
}

impl RunReport {
    pub(super) fn new(outcome: &Outcome) -> Self {
        let Outcome {
            setting,
            tally,
            figures,
        } = outcome;
        let inserted_bytes = figures.stored_bytes().unwrap_or(tally.inserted_bytes);
        let moved = |bytes: Option<u64>| ratio(bytes?, inserted_bytes);
        let (evicted, cleaned) = (figures.evict_moved_bytes(), figures.clean_moved_bytes());
        let either = evicted.or(cleaned);
        let both = either.map(|_| evicted.unwrap_or(0) + cleaned.unwrap_or(0));
        let missed = |hit_ratio: Option<f64>| hit_ratio.map(|hit_ratio| 1.0 - hit_ratio);
        let ledger = figures
            .ledger()
            .map(|(name, bytes)| (name.to_owned(), bytes));
        Self {
            memory_bytes: match setting {
                Some(setting) => Some(setting.memory_bytes),
                None => figures.memory_bytes(),
            },
            threads: setting.map(|setting| setting.threads),
            tally: *tally,
            hit_ratio: tally.hit_ratio(),
            miss_ratio: missed(tally.hit_ratio()),
            byte_hit_ratio: tally.byte_hit_ratio(),
            byte_miss_ratio: missed(tally.byte_hit_ratio()),
            evict_moved_per_byte_inserted: moved(evicted),
            clean_moved_per_byte_inserted: moved(cleaned),
            moved_per_byte_inserted: moved(both),
            live_share: figures.live_share(),
            ledger: Ledger(ledger.collect()),
        }
    }
}

impl Report {
    /// The report as one line of JSON.
    pub(super) fn to_json(&self) -> String {
        // Plain structs of numbers and strings are always representable.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = grouped(self.requests);
        writeln!(f, "larder replay: {}", self.trace)?;
        writeln!(f, "requests       {requests} in {:.2} s", self.seconds)?;
        if let Some(server) = &self.server {
            writeln!(f, "server         {server}")?;
        }
        match &self.runs[..] {
            [run] => write!(f, "{run}"),
            runs => write_table(f, runs),
        }
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory_bytes.map_or_else(unknown, size_text);
        match self.threads {
            Some(1) => writeln!(f, "cache          {memory}, 1 session")?,
            Some(threads) => writeln!(f, "cache          {memory}, {threads} sessions")?,
            None => writeln!(f, "cache          {memory}")?,
        }
        let Tally {
            gets,
            hits,
            get_bytes,
            hit_bytes,
            ..
        } = self.tally;
        writeln!(
            f,
            "reads          {} hits: {} of {}; miss ratio {}",
            percent(self.hit_ratio),
            grouped(hits),
            grouped(gets),
            fraction(self.miss_ratio)
        )?;
        writeln!(
            f,
            "  by bytes     {} hits: {} of {}; miss ratio {}",
            percent(self.byte_hit_ratio),
            grouped(hit_bytes),
            grouped(get_bytes),
            fraction(self.byte_miss_ratio)
        )?;
        self.write_writes(f)?;
        writeln!(
            f,
            "moved          {} bytes for each byte inserted: {} by eviction, {} by cleaning",
            fraction(self.moved_per_byte_inserted),
            fraction(self.evict_moved_per_byte_inserted),
            fraction(self.clean_moved_per_byte_inserted)
        )?;
        writeln!(
            f,
            "live           {} of the memory",
            percent(self.live_share)
        )?;
        writeln!(f, "ledger")?;
        for (name, bytes) in &self.ledger.0 {
            writeln!(f, "  {name:<24} {:>15}", grouped(*bytes))?;
        }
        Ok(())
    }
}

impl RunReport {
    /// What was written, with what of it is worth a remark only where it happened.
    fn write_writes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let (stored, bytes) = (grouped(tally.stored), grouped(tally.inserted_bytes));
        writeln!(f, "stored         {stored} items, {bytes} bytes")?;
        for (count, what) in [
            (tally.overwrites, "overwrites in place of reads"),
            (tally.deleted, "deleted"),
            (tally.not_stored, "not stored: their condition did not hold"),
            (tally.too_large, "not stored: too large for the cache"),
            (tally.no_space, "not stored: no memory could be freed"),
            (
                tally.undersized,
                "requests smaller than their key, stored with no value",
            ),
        ] {
            if count > 0 {
                writeln!(f, "  of note      {} {what}", grouped(count))?;
            }
        }
        Ok(())
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, runs: &[RunReport]) -> fmt::Result {
    writeln!(
        f,
        "{:>12} {:>8} {:>12} {:>12} {:>16} {:>12}",
        "memory", "threads", "miss ratio", "byte miss", "moved per byte", "live share"
    )?;
    for run in runs {
        let memory = run.memory_bytes.map_or_else(unknown, size_text);
        let threads = run
            .threads
            .map_or_else(unknown, |threads| threads.to_string());
        writeln!(
            f,
            "{memory:>12} {threads:>8} {:>12} {:>12} {:>16} {:>12}",
            fraction(run.miss_ratio),
            fraction(run.byte_miss_ratio),
            fraction(run.moved_per_byte_inserted),
            fraction(run.live_share)
        )?;
    }
    Ok(())
}

fn unknown() -> String {
    "-".to_owned()
}

fn fraction(value: Option<f64>) -> String {
    value.map_or_else(unknown, |value| format!("{value:.4}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(unknown, |value| format!("{:.2} %", value * 100.0))
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::{Outcome, RunReport, Tally};

    fn figures(pairs: &[(&str, &str)]) -> Figures {
        let owned = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Figures::parse(owned.collect())
    }

    fn outcome(figures: Figures) -> Outcome {
        Outcome {
            setting: None,
            tally: Tally {
                inserted_bytes: 500,
                ..Tally::default()
            },
            figures,
        }
    }

    #[test]
    fn what_the_cache_moved_is_told_for_each_byte_that_it_stored() {
        let before = figures(&[("stored_bytes", "1000"), ("evict_moved_bytes", "7")]);
        let after = figures(&[
            ("version", "0.1.0"),
            ("memory_bytes", "4000"),
            ("live_bytes", "2000"),
            ("ghost_bytes", "1000"),
            ("large_bytes", "1000"),
            ("segment_bytes", "100"),
            ("scrubbed_bytes", "70"),
            ("huge_page_bytes", "4000"),
            ("stored_bytes", "2000"),
            ("evict_moved_bytes", "107"),
            ("clean_moved_bytes", "50"),
        ]);
        let report = RunReport::new(&outcome(after.since(&before)));
        let text = report.to_string();
        let moved = "0.1500 bytes for each byte inserted: 0.1000 by eviction, 0.0500 by cleaning";
        assert!(text.contains(moved), "{text}");
        assert_eq!(report.live_share, Some(0.75));
        let names: Vec<_> = report.ledger.0.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(
            names,
            ["live_bytes", "ghost_bytes", "large_bytes", "memory_bytes"]
        );
    }

    #[test]
    fn what_the_cache_does_not_count_is_left_open() {
        let report = RunReport::new(&outcome(figures(&[("clean_moved_bytes", "50")])));
        let moved = (
            report.evict_moved_per_byte_inserted,
            report.moved_per_byte_inserted,
        );
        assert_eq!(moved, (None, Some(0.1)), "by the replay's own count");
        assert_eq!((report.memory_bytes, report.live_share), (None, None));
    }
}
