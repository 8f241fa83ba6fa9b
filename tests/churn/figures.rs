//! What callers did and how long it took, and where the memory is in the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use larder_client::Client;

use crate::stopwatch::Took;

const MIB: u64 = 1 << 20;
/// LIMIT: the longest operation is one that moves no more than this.
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// How much of the memory is to be live.
const LIVE_PERCENT_WANTED: f64 = 75.0;

/// How much an operation moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Small,
    Medium,
    Large,
}

/// The slowest operation of a kind: for large ones, the one that took longest for each MiB.
#[derive(Debug, Clone, Copy)]
struct Slowest {
    took: Duration,
    value_bytes: u64,
    /// The longest that one of the kind took without what its caller waited for a processor, for each MiB if it is
    /// large.
    served: Duration,
    operations: u64,
}

/// What callers did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    slowest: BTreeMap<(Class, &'static str), Slowest>,
    /// Values read, and their bytes.
    pub(crate) read: u64,
    pub(crate) read_bytes: u64,
    pub(crate) missed: u64,
    pub(crate) stored_bytes: u64,
    /// Writes that the server found no memory for.
    pub(crate) no_space: u64,
}

/// Where the memory is.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) budget_bytes: u64,
    /// Of the ledger's lines.
    pub(crate) sum_bytes: u64,
    ledger: Vec<(String, u64)>,
    items: u64,
    /// Keys and values that a SCAN names.
    scanned_bytes: u64,
    /// Of these, values that do not lie in the log.
    large_values: u64,
    large_bytes: u64,
}

impl Class {
    fn of(value_bytes: u64) -> Self {
        const MEDIUM_BYTES_MIN: u64 = SMALL_BYTES_MAX + 1;
        match value_bytes {
            ..MEDIUM_BYTES_MIN => Self::Small,
            MEDIUM_BYTES_MIN..=MIB => Self::Medium,
            _ => Self::Large,
        }
    }
}

impl Slowest {
    /// What operations of its class are compared by.
    fn measure(&self) -> Duration {
        measure(self.took, self.value_bytes)
    }
}

/// The time, or for large ones that for each MiB.
fn measure(time: Duration, value_bytes: u64) -> Duration {
    match Class::of(value_bytes) {
        Class::Large => time.mul_f64(MIB as f64 / value_bytes as f64),
        _ => time,
    }
}

impl Tally {
    /// Counts an operation that moved so many bytes of values.
    pub(crate) fn count(&mut self, kind: &'static str, value_bytes: u64, took: Took) {
        let slowest = Slowest {
            took: took.time,
            value_bytes,
            served: measure(took.served, value_bytes),
            operations: 1,
        };
        self.merge((Class::of(value_bytes), kind), slowest);
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (kind, slowest) in other.slowest {
            self.merge(kind, slowest);
        }
        self.read += other.read;
        self.read_bytes += other.read_bytes;
        self.missed += other.missed;
        self.stored_bytes += other.stored_bytes;
        self.no_space += other.no_space;
    }

    /// Values that were compared.
    pub(crate) fn checked(&self) -> u64 {
        self.read
    }

    fn merge(&mut self, kind: (Class, &'static str), new: Slowest) {
        let known = self.slowest.entry(kind).or_insert(Slowest {
            operations: 0,
            ..new
        });
        let operations = known.operations + new.operations;
        let served = known.served.max(new.served);
        if new.measure() > known.measure() {
            *known = new;
        }
        (known.served, known.operations) = (served, operations);
    }
}

/// How much of the budget was live, each time it was looked at.
#[derive(Debug, Default)]
pub(crate) struct LiveShares {
    percent: Vec<f64>,
}

impl LiveShares {
    /// Looks now.
    pub(crate) async fn look(&mut self, client: &Client) {
        let memory = Memory::ledger_of(client).await;
        self.percent.push(memory.live_percent());
    }

    /// What it was from half of the run on, when the memory has long been full.
    fn later(&self) -> Vec<f64> {
        let mut later = self.percent[self.percent.len() / 2..].to_vec();
        later.sort_by(f64::total_cmp);
        later
    }
}

impl Memory {
    /// Asks a server that nobody else asks now.
    pub(crate) async fn of(client: &Client) -> Self {
        let mut memory = Self::ledger_of(client).await;
        memory.scan(client).await;
        memory
    }

    /// The ledger alone.
    async fn ledger_of(client: &Client) -> Self {
        let figures = client.stats("memory").await.expect("the ledger");
        let number = |text: &String| text.parse::<u64>().expect("a number");
        let end = figures.iter().position(|(name, _)| name == "memory_bytes");
        let (lines, beside) = figures.split_at(end.expect("the budget"));
        let line = |(name, bytes): &(String, String)| (name.clone(), number(bytes));
        let ledger: Vec<_> = lines.iter().map(line).collect();
        Self {
            budget_bytes: number(&beside[0].1),
            sum_bytes: ledger.iter().map(|(_, bytes)| bytes).sum(),
            ledger,
            items: 0,
            scanned_bytes: 0,
            large_values: 0,
            large_bytes: 0,
        }
    }

    fn percent(&self, bytes: u64) -> f64 {
        100.0 * bytes as f64 / self.budget_bytes as f64
    }

    /// Items of the log and large values, with what these leave of their last extents.
    fn live_percent(&self) -> f64 {
        self.percent(self.line("live") + self.line("large"))
    }

    fn line(&self, name: &str) -> u64 {
        let found = self.ledger.iter().find(|(of, _)| of == name);
        found.expect("a line of the ledger").1
    }

    async fn scan(&mut self, client: &Client) {
        let cache = client.stats("cache").await.expect("the cache");
        let segment = cache.iter().find(|(name, _)| name == "segment_bytes");
        let segment_bytes: u64 = segment.expect("a size").1.parse().expect("a number");
        let log_bytes_max = match segment_bytes {
            ..65536 => segment_bytes / 2,
            _ => segment_bytes / 8,
        };
        let mut scan = client.scan();
        while let Some(page) = scan.next_page().await.expect("a page") {
            for key in page {
                let value_bytes = u64::from(key.value_bytes);
                self.items += 1;
                self.scanned_bytes += value_bytes + key.key.len() as u64;
                if value_bytes > log_bytes_max {
                    self.large_values += 1;
                    self.large_bytes += value_bytes;
                }
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations: u64 = self
            .slowest
            .values()
            .map(|slowest| slowest.operations)
            .sum();
        let Self {
            read,
            missed,
            no_space,
            ..
        } = self;
        let [read_mib, stored_mib] = [self.read_bytes, self.stored_bytes].map(|bytes| bytes / MIB);
        writeln!(
            f,
            "{operations} operations: {read} values read and right ({read_mib} MiB), {missed} \
             missing, {stored_mib} MiB stored, {no_space} stores found no memory"
        )?;
        for (class, what, each) in [
            (Class::Small, "up to 64 KiB", ""),
            (Class::Medium, "up to 1 MiB", ""),
            (Class::Large, "over 1 MiB", " for each MiB"),
        ] {
            let of_class = self.slowest.iter().filter(|((of, _), _)| *of == class);
            let Some(longest) = of_class.clone().max_by_key(|(_, one)| one.measure()) else {
                continue;
            };
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let ((_, kind), slowest) = longest;
            let served = of_class.clone().map(|(_, one)| one.served).max();
            write!(
                f,
                "longest {what}: {:.2} ms{each}, a {kind} of {} bytes, and without waiting for the caller's \
                 processor {:.2};",
                ms(slowest.measure()),
                slowest.value_bytes,
                ms(served.unwrap_or_default())
            )?;
            for ((_, kind), slowest) in of_class {
                let (longest, served) = (ms(slowest.measure()), ms(slowest.served));
                write!(
                    f,
                    " {kind} {longest:.2} ({served:.2}) ms of {}",
                    slowest.operations
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for LiveShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let later = self.later();
        let at = |of_ten| later[of_ten * (later.len() - 1) / 10];
        let enough = later
            .iter()
            .filter(|&&percent| percent >= LIVE_PERCENT_WANTED);
        writeln!(
            f,
            "the same from half of the run on, in {} looks: {:.1} % at least, {:.1} a tenth of them, {:.1} \
             half; {:.0} % of them with {LIVE_PERCENT_WANTED} or more",
            later.len(),
            at(0),
            at(1),
            at(5),
            100.0 * enough.count() as f64 / later.len() as f64
        )
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |bytes| self.percent(bytes);
        let live_bytes = self.line("live");
        writeln!(
            f,
            "live share {:.1} %: {:.1} % items of the log, {:.1} % bytes of {} large values",
            share(live_bytes + self.large_bytes),
            share(live_bytes),
            share(self.large_bytes),
            self.large_values
        )?;
        writeln!(
            f,
            "{:.1} % with what large values leave of their last extents; keys and values alone \
             {:.1} %, of {} items",
            self.live_percent(),
            share(self.scanned_bytes),
            self.items
        )?;
        write!(f, "ledger:")?;
        for (name, bytes) in &self.ledger {
            write!(f, " {name} {bytes},")?;
        }
        writeln!(f, " sum {} of {}", self.sum_bytes, self.budget_bytes)
    }
}
