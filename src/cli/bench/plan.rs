//! What a load is made of, and which of it cannot work.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::connection::Values;
use super::generator::Work;
use super::keys::{KEYS_MAX, Keyspace};
use super::options::BenchOptions;
use super::server::Server;
use crate::cli::ending::Failure;
use crate::cli::picture;
use crate::cli::units::counted;
use crate::sync::Arc;

/// LIMIT: a batch's requests are numbered and held in memory; far above what any server reads at once.
const DEPTH_MAX: usize = 65_536;

/// Requests that a connection has under way where a rate is given: so many that it hardly ever waits
/// for a reply before it sends.
const OPEN_DEPTH: usize = 64;

/// LIMIT: keys of one request; servers bound the length of a line, or of a frame.
const KEYS_PER_GET_MAX: u64 = 10_000;

/// LIMIT: operations of a batch, which are held in memory for each connection.
const BATCH_MAX: u64 = 1 << 20;

/// LIMIT: a rate that no generator reaches, and whose intervals are still told apart.
const RATE_MAX: u64 = 100_000_000;

/// LIMIT: as many threads as any machine has cores for.
const THREADS_MAX: usize = 1024;

/// LIMIT: the longest key of the protocol, and a value that one frame can hold.
const KEY_BYTES_MAX: u64 = 1 << 16;
const VALUE_BYTES_MAX: u64 = 1 << 29;

/// LIMIT: memcached takes what is more than thirty days for a date.
const EXPIRE_IN_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Rounds of a comparison, unless told otherwise.
const ROUNDS: usize = 5;

/// LIMIT: figures of every round are kept and reported.
const ROUNDS_MAX: usize = 10_000;

/// Open files of a connection that sends at its time: its socket and its timer.
const FILES_AT_RATE: u64 = 2;

/// Open files of a thread, with some to spare: its runtime's, those that it waits by, and a ring.
const FILES_OF_THREAD: u64 = 8;

/// Open files beside those of connections and threads.
const FILES_BESIDE: u64 = 64;

/// A load that can work.
#[derive(Debug)]
pub(super) struct Plan {
    /// One server at least.
    pub(super) servers: Vec<Server>,
    /// How several servers are compared; `None` puts the load on the first alone.
    pub(super) contest: Option<Contest>,
    pub(super) task: Task,
    /// Whether every key is written first.
    pub(super) prepare: bool,
    pub(super) keyspace: Arc<Keyspace>,
    pub(super) values: Values,
    pub(super) connections: usize,
    pub(super) depth: usize,
    pub(super) keys_per_get: usize,
    /// Operations per second; `None` is as many as there are replies to.
    pub(super) rate: Option<u64>,
    pub(super) threads: usize,
    /// How long an answer may take where nobody measures it.
    pub(super) timeout: Duration,
    /// Where a picture of the latencies goes.
    pub(super) plot: Option<PathBuf>,
    pub(super) form: Form,
}

/// How servers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contest {
    /// Rounds that there are in any case.
    pub(super) rounds: usize,
    /// Rounds after which it ends, stable or not.
    pub(super) rounds_max: usize,
    /// The place of the server that ratios are told against.
    pub(super) against: usize,
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
        let value_bytes_max = options.value_bytes.max() as u64;
        within("--value-bytes", value_bytes_max, 0, VALUE_BYTES_MAX)?;
        let depth = options.depth.unwrap_or(match options.rate {
            None => 1,
            Some(_) => OPEN_DEPTH,
        });
        within("--depth", depth as u64, 1, DEPTH_MAX as u64)?;
        within("--multi-get", options.multi_get as u64, 1, KEYS_PER_GET_MAX)?;
        let batch = depth as u64 * options.multi_get as u64;
        within("--depth times --multi-get", batch, 1, BATCH_MAX)?;
        if let Some(requests) = options.requests {
            within("--requests", requests, 1, u64::MAX)?;
        }
        // Connections that are only opened and closed are a measurement as well.
        let duration = options.duration.filter(|_| options.idle.is_none());
        lasts("--duration", duration)?;
        lasts("--timeout", Some(options.timeout))?;
        if let Some(rate) = options.rate {
            within("--rate", rate, 1, RATE_MAX)?;
        }
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
        let (servers, contest) = servers(options)?;
        if let Some(expire_in) = options.expire_in {
            check_expiry(expire_in, &servers)?;
        }
        if let Some(path) = &options.plot {
            picture::check_place(path)?;
        }
        Ok(Self {
            servers,
            contest,
            task: options.task(),
            prepare: options.load,
            keyspace: Arc::new(Keyspace {
                keys: options.keys,
                key_bytes: options.key_bytes as usize,
                sizes: options.value_bytes.clone(),
                expire_in: options.expire_in,
                seed: options.seed,
            }),
            values: if verify {
                Values::Verify
            } else {
                Values::Count
            },
            connections,
            depth,
            keys_per_get: options.multi_get,
            rate: options.rate,
            threads: options.threads,
            timeout: options.timeout,
            plot: options.plot.clone(),
            form: if options.json { Form::Json } else { Form::Text },
        })
    }
}

/// Every server must be able to store with such an expiry.
fn check_expiry(expire_in: Duration, servers: &[Server]) -> Result<(), Failure> {
    let in_seconds = (servers.iter()).any(|server| server.target.protocol.counts_seconds());
    let is_whole = expire_in.subsec_nanos() == 0;
    let fits = !expire_in.is_zero() && expire_in <= EXPIRE_IN_MAX;
    match fits && (is_whole || !in_seconds) {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "--expire-in {}ms cannot work; accepted: more than nothing and up to 30d, in whole seconds \
             where a server counts in seconds",
            expire_in.as_millis()
        ))),
    }
}

/// The servers, and how they are compared, if they are.
fn servers(options: &BenchOptions) -> Result<(Vec<Server>, Option<Contest>), Failure> {
    let (mut servers, contest) = match &options.compare[..] {
        [] => (vec![Server::alone(&options.server)], None),
        entrants => {
            let servers = Server::all_of(entrants)?;
            let contest = contest(options, &servers)?;
            (servers, Some(contest))
        }
    };
    Server::set_processes(&mut servers, &options.pid, &options.start)?;
    Ok((servers, contest))
}

fn contest(options: &BenchOptions, servers: &[Server]) -> Result<Contest, Failure> {
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let rounds_max = options.rounds_max.unwrap_or(rounds);
    within("--rounds", rounds as u64, 1, ROUNDS_MAX as u64)?;
    within(
        "--rounds-max",
        rounds_max as u64,
        rounds as u64,
        ROUNDS_MAX as u64,
    )?;
    let against = match &options.against {
        Some(name) => Server::named(name, servers)?,
        None => 0,
    };
    Ok(Contest {
        rounds,
        rounds_max,
        against,
    })
}

/// Makes room for connections and threads among the open files of this process.
pub(super) fn raise_open_files(plan: &Plan) -> Result<(), Failure> {
    let (connections, threads) = (plan.connections as u64, plan.threads as u64);
    let each = plan.rate.map_or(1, |_| FILES_AT_RATE);
    // A thread without a connection is not started.
    let wanted = connections * each + threads.min(connections) * FILES_OF_THREAD + FILES_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let possible = limit.maximum.unwrap_or(wanted);
    if possible < wanted {
        let room = possible.saturating_sub(FILES_BESIDE);
        let with_one_each = room / (each + FILES_OF_THREAD);
        let accepted_max = match with_one_each < threads {
            true => with_one_each,
            false => (room - threads * FILES_OF_THREAD) / each,
        };
        let threads = counted(threads.min(connections), "thread");
        return Err(Failure::usage(format!(
            "{connections} connections on {threads} need {wanted} open files, and the system allows {possible}; \
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

fn lasts(option: &str, duration: Option<Duration>) -> Result<(), Failure> {
    match duration {
        Some(Duration::ZERO) => Err(Failure::usage(format!(
            "{option} 0ms cannot work; accepted: more than nothing, such as 100ms"
        ))),
        _ => Ok(()),
    }
}

fn within(option: &str, value: u64, min: u64, max: u64) -> Result<(), Failure> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{option} {value} cannot work; accepted: {min} to {max}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        let refused = within("--depth", 0, 1, 9).unwrap_err().to_string();
        assert_eq!(refused, "--depth 0 cannot work; accepted: 1 to 9");
        assert!(within("--depth", 9, 1, 9).is_ok());
    }
}
