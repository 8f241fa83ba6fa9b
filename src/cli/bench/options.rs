//! The options of `larder bench`, and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::generator::{End, Work};
use super::plan::Task;
use super::server::{Entrant, Given};
use super::sizes::Sizes;
use super::source::{Distribution, Ratio};
use super::target::Target;
use crate::cli::units;
use crate::cli::{DEFAULT_URL, SERVER_VARIABLE};

const EXAMPLES: &str = "\
Examples:
  larder bench --load                         write a million keys, then read them for 10 seconds
  larder bench --load --distribution zipf:0.99 --ratio 9:1 --depth 16 --verify
  larder bench --load-only --keys 10M --value-bytes 32 --depth 64
  larder bench --verify-all --keys 10M --value-bytes 32 --depth 64
  larder bench --load --multi-get 64 --verify
  larder bench --load --ratio 1:1 --value-bytes lognormal:256:1.2:64KiB --expire-in 1m --verify
  larder bench --load --rate 20k --duration 30s
  larder bench --idle 10000 --duration 5s
  larder bench --server memcached://127.0.0.1:11211 --load
  larder bench --server redis://127.0.0.1:6379 --load
  larder bench --load --depth 16 --duration 2s --rounds 5 --rounds-max 15 \\
      --compare memcached://127.0.0.1:11211 --compare larder://127.0.0.1:5273
  larder bench --load --compare memcached://127.0.0.1:11311 \\
      --start 'memcached -u nobody -l 127.0.0.1 -p 11311 -U 0 -t 1'

A connection writes --depth requests at once and waits for all of their replies; latency is counted from \
that write. A value is determined by its key, the seed and --value-bytes: runs that agree in these \
verify each other's values.

With --rate, every request has its time, and its latency is counted from that time and not from when it \
was sent: what a server's stall holds up counts as well. Requests beyond --depth wait for their turn. A \
request of many keys is sent when the last of them is due, or at the end with those that are. How late \
the generator itself was is told beside that (\"sent late\").

A comparison gives every server its turn in every round, and another one the first turn in each. Its \
figures are medians of the rounds, which are stable when the last three of each server's CPU per \
operation (and with --rate, of its p99) lie within 5 %; the rounds themselves may lie further apart, as \
the spread tells. Servers are called by their NAME, or else by their protocol, or by their URL where two \
speak the same.

Exit codes: 0 done; 1 operations refused, values wrong, or keys missing (--verify-all); 2 wrong usage; \
3 server not reachable or connections lost";

/// Where the help lists what a comparison is made of.
const COMPARING: &str = "Comparing servers";

/// The options of `larder bench`.
#[derive(Debug, Args)]
#[command(about = "Put load on a server and measure it", after_help = EXAMPLES)]
#[command(group = ArgGroup::new("task").args(["load_only", "verify_all", "idle"]))]
#[command(group = ArgGroup::new("end").args(["requests", "duration"]))]
pub(crate) struct BenchOptions {
    /// The server: larder://HOST:PORT, larder+unix:///PATH, or the same with memcached or redis for larder
    #[arg(long, value_name = "URL", env = SERVER_VARIABLE, default_value = DEFAULT_URL)]
    pub(super) server: Target,

    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) connections: usize,

    /// Requests that a connection has under way at a time [default: 1, or 64 with --rate]
    #[arg(long, value_name = "N")]
    pub(super) depth: Option<usize>,

    /// Keys that a read asks for; each counts as an operation
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) multi_get: usize,

    /// Operations per second that the load sends, whatever the server keeps up with; k and M are accepted
    #[arg(long, value_name = "N", value_parser = count)]
    pub(super) rate: Option<u64>,

    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) threads: usize,

    /// Different keys; k, M and G are accepted
    #[arg(long, value_name = "N", default_value = "1M", value_parser = count)]
    pub(super) keys: u64,

    /// Length of a key
    #[arg(long, value_name = "SIZE", default_value = "20", value_parser = units::size)]
    pub(super) key_bytes: u64,

    /// Length of a value: SIZE, MIN..MAX, SIZE:WEIGHT,..., lognormal:MEDIAN:SIGMA or
    /// lognormal:MEDIAN:SIGMA:MAX
    #[arg(long, value_name = "SIZES", default_value = "64")]
    pub(super) value_bytes: Sizes,

    /// After which time what is stored expires
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(super) expire_in: Option<Duration>,

    /// How often each key is asked for: uniform or zipf:EXPONENT
    #[arg(long, value_name = "FORM", default_value = "uniform")]
    pub(super) distribution: Distribution,

    /// Reads and writes: GETS:SETS
    #[arg(long, value_name = "RATIO", default_value = "1:0")]
    pub(super) ratio: Ratio,

    /// How long the load lasts, or idle connections are held [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(super) duration: Option<Duration>,

    /// How many operations the load has, in place of a duration
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "task")]
    pub(super) requests: Option<u64>,

    /// Write every key once before the load
    #[arg(long, conflicts_with = "task")]
    pub(super) load: bool,

    /// The load is writing every key once
    #[arg(long)]
    pub(super) load_only: bool,

    /// Compare every value that is read with the one that its key determines
    #[arg(long)]
    pub(super) verify: bool,

    /// The load is reading every key once and comparing its value; missing keys are counted
    #[arg(long)]
    pub(super) verify_all: bool,

    /// Only open so many connections, hold them and report the server's memory
    #[arg(long, value_name = "N")]
    pub(super) idle: Option<usize>,

    /// Compare servers side by side, in place of --server: once for each of them
    #[arg(long, value_name = "[NAME=]URL", conflicts_with = "idle", help_heading = COMPARING)]
    pub(super) compare: Vec<Entrant>,

    /// Rounds, in each of which every server has its turn [default: 5]
    #[arg(long, value_name = "N", requires = "compare", help_heading = COMPARING)]
    pub(super) rounds: Option<usize>,

    /// Go on up to so many rounds, until the medians are stable to 5 % [default: as --rounds]
    #[arg(long, value_name = "N", requires = "compare", help_heading = COMPARING)]
    pub(super) rounds_max: Option<usize>,

    /// The server that ratios are told against [default: the first]
    #[arg(long, value_name = "NAME", requires = "compare", help_heading = COMPARING)]
    pub(super) against: Option<String>,

    /// The server's process, where it cannot be found by itself
    #[arg(long, value_name = "[NAME=]PID", help_heading = COMPARING)]
    pub(super) pid: Vec<Given>,

    /// Start the server with this command, and end it after the load
    #[arg(long, value_name = "[NAME=]COMMAND", help_heading = COMPARING)]
    pub(super) start: Vec<Given>,

    /// How long to wait for a connection, for an answer before the load and after it, and for any answer of
    /// a load that has no duration
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    pub(super) timeout: Duration,

    /// Where the random choices and the values begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,

    /// Draw the latencies by percentile into an SVG file
    #[arg(long, value_name = "FILE", conflicts_with = "idle")]
    pub(super) plot: Option<PathBuf>,

    /// Report as one JSON object, a failure as well
    #[arg(long)]
    pub(super) json: bool,
}

impl BenchOptions {
    pub(super) fn task(&self) -> Task {
        let duration = self.duration.unwrap_or(Duration::from_secs(10));
        if self.idle.is_some() {
            return Task::Idle { hold: duration };
        }
        Task::Work(match (self.load_only, self.verify_all) {
            (true, _) => Work::WriteAll,
            (_, true) => Work::ReadAll,
            _ => Work::Mixed {
                distribution: self.distribution,
                ratio: self.ratio,
                end: self.requests.map_or(End::After(duration), End::Requests),
            },
        })
    }
}

/// A count from `1000000`, `1000k`, `1M`.
fn count(input: &str) -> Result<u64, String> {
    let (digits, unit) = match input.as_bytes().last() {
        Some(b'k') => (&input[..input.len() - 1], 1_000),
        Some(b'M') => (&input[..input.len() - 1], 1_000_000),
        Some(b'G') => (&input[..input.len() - 1], 1_000_000_000),
        _ => (input, 1),
    };
    let counted: Option<u64> = digits
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(unit));
    counted.ok_or_else(|| {
        format!("`{input}` is not a count; accepted: a whole number, with k, M or G, such as 10M")
    })
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_are_short_to_type() {
        for (text, number) in [
            ("0", 0),
            ("1234", 1234),
            ("20k", 20_000),
            ("10M", 10_000_000),
        ] {
            assert_eq!(count(text), Ok(number));
        }
        for text in ["", "M", "1.5M", "-1", "1m", "99999999999G"] {
            assert!(
                count(text)
                    .unwrap_err()
                    .contains("accepted: a whole number"),
                "{text}"
            );
        }
    }
}
