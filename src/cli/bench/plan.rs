//! What a load is made of, as options, and which of it cannot work.

use std::time::Duration;

use clap::{ArgGroup, Args};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::connection::Values;
use super::generator::{End, Work};
use super::keys::{KEYS_MAX, Keyspace};
use super::source::{Distribution, Ratio};
use super::target::Target;
use crate::cli::ending::Failure;
use crate::cli::units;
use crate::cli::{DEFAULT_URL, SERVER_VARIABLE};
use crate::sync::Arc;

/// LIMIT: a batch's requests are numbered and held in memory; far above what any server reads at once.
const DEPTH_MAX: usize = 65_536;

/// LIMIT: as many threads as any machine has cores for.
const THREADS_MAX: usize = 1024;

/// LIMIT: the longest key of the protocol, and a value that one frame can hold.
const KEY_BYTES_MAX: u64 = 1 << 16;
const VALUE_BYTES_MAX: u64 = 1 << 29;

/// Open files beside those of the connections.
const FILES_BESIDE: u64 = 64;

const EXAMPLES: &str = "\
Examples:
  larder bench --load                         write a million keys, then read them for 10 seconds
  larder bench --load --distribution zipf:0.99 --ratio 9:1 --depth 16 --verify
  larder bench --load-only --keys 10M --value-bytes 32 --depth 64
  larder bench --verify-all --keys 10M --value-bytes 32 --depth 64
  larder bench --idle 10000 --duration 5s
  larder bench --server memcached://127.0.0.1:11211 --load

A connection writes --depth requests at once and waits for all of their replies; latency is counted
from that write. A value is determined by its key, the seed and --value-bytes: runs that agree in
these verify each other's values.

Exit codes: 0 done; 1 operations refused, values wrong, or keys missing (--verify-all); 2 wrong
usage; 3 server not reachable or connections lost";

/// The options of `larder bench`.
#[derive(Debug, Args)]
#[command(about = "Put load on a server and measure it", after_help = EXAMPLES)]
#[command(group = ArgGroup::new("task").args(["load_only", "verify_all", "idle"]))]
#[command(group = ArgGroup::new("end").args(["requests", "duration"]))]
pub(crate) struct BenchOptions {
    /// The server: larder://HOST:PORT, larder+unix:///PATH, or the same with memcached for larder
    #[arg(long, value_name = "URL", env = SERVER_VARIABLE, default_value = DEFAULT_URL)]
    server: Target,

    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50)]
    connections: usize,

    /// Requests that a connection has under way at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    depth: usize,

    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,

    /// Different keys; k, M and G are accepted
    #[arg(long, value_name = "N", default_value = "1M", value_parser = count)]
    keys: u64,

    /// Length of a key
    #[arg(long, value_name = "SIZE", default_value = "20", value_parser = units::size)]
    key_bytes: u64,

    /// Length of a value
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = units::size)]
    value_bytes: u64,

    /// How often each key is asked for: uniform or zipf:EXPONENT
    #[arg(long, value_name = "FORM", default_value = "uniform")]
    distribution: Distribution,

    /// Reads and writes: GETS:SETS
    #[arg(long, value_name = "RATIO", default_value = "1:0")]
    ratio: Ratio,

    /// How long the load lasts, or idle connections are held [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    duration: Option<Duration>,

    /// How many operations the load has, in place of a duration
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "task")]
    requests: Option<u64>,

    /// Write every key once before the load
    #[arg(long, conflicts_with = "task")]
    load: bool,

    /// The load is writing every key once
    #[arg(long)]
    load_only: bool,

    /// Compare every value that is read with the one that its key determines
    #[arg(long)]
    verify: bool,

    /// The load is reading every key once and comparing its value; missing keys are counted
    #[arg(long)]
    verify_all: bool,

    /// Only open so many connections, hold them and report the server's memory
    #[arg(long, value_name = "N")]
    idle: Option<usize>,

    /// Where the random choices and the values begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// A load that can work.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) task: Task,
    /// Whether every key is written first.
    pub(super) prepare: bool,
    pub(super) keyspace: Arc<Keyspace>,
    pub(super) values: Values,
    pub(super) connections: usize,
    pub(super) depth: usize,
    pub(super) threads: usize,
    pub(super) form: Form,
}

/// What is done with the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Task {
    Work(Work),
    /// Connections are opened and held.
    Idle {
        hold: Duration,
    },
}

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

impl Plan {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// The first that cannot work, and what is accepted.
    pub(super) fn new(options: &BenchOptions) -> Result<Self, Failure> {
        let key_bytes_min = Keyspace::key_bytes_min(options.keys) as u64;
        within("--keys", options.keys, 1, KEYS_MAX)?;
        within(
            "--key-bytes",
            options.key_bytes,
            key_bytes_min,
            KEY_BYTES_MAX,
        )?;
        within("--value-bytes", options.value_bytes, 0, VALUE_BYTES_MAX)?;
        within("--depth", options.depth as u64, 1, DEPTH_MAX as u64)?;
        within("--threads", options.threads as u64, 1, THREADS_MAX as u64)?;
        let connections = options.idle.unwrap_or(options.connections);
        let connections_option = if options.idle.is_some() {
            "--idle"
        } else {
            "--connections"
        };
        within(
            connections_option,
            connections as u64,
            1,
            u64::from(u32::MAX),
        )?;
        let verify = options.verify || options.verify_all;
        Ok(Self {
            target: options.server.clone(),
            task: options.task(),
            prepare: options.load,
            keyspace: Arc::new(Keyspace {
                keys: options.keys,
                key_bytes: options.key_bytes as usize,
                value_bytes: options.value_bytes as usize,
                seed: options.seed,
            }),
            values: if verify {
                Values::Verify
            } else {
                Values::Count
            },
            connections,
            depth: options.depth,
            threads: options.threads,
            form: if options.json { Form::Json } else { Form::Text },
        })
    }
}

impl BenchOptions {
    fn task(&self) -> Task {
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

/// Makes room for the connections among the open files of this process.
pub(super) fn raise_open_files(connections: usize) -> Result<(), Failure> {
    let wanted = connections as u64 + FILES_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let possible = limit.maximum.unwrap_or(wanted);
    if possible < wanted {
        let accepted_max = possible.saturating_sub(FILES_BESIDE);
        return Err(Failure::usage(format!(
            "{connections} connections need {wanted} open files, and the system allows {possible}; \
             accepted: up to {accepted_max} connections, or a higher hard limit (ulimit -Hn)"
        )));
    }
    let raised = Rlimit {
        current: Some(possible),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| Failure::usage(format!("cannot raise the limit of open files: {error}")))
}

fn within(option: &str, value: u64, min: u64, max: u64) -> Result<(), Failure> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{option} {value} cannot work; accepted: {min} to {max}"
        ))),
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
    use super::{count, within};

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

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        let refused = within("--depth", 0, 1, 9).unwrap_err().to_string();
        assert_eq!(refused, "--depth 0 cannot work; accepted: 1 to 9");
        assert!(within("--depth", 9, 1, 9).is_ok());
    }
}
