//! What a replay is asked for, and whether that can work.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use larder_client::Address;

use super::batch::Overwrites;
use super::in_process::{Dealing, Setting};
use super::trace::Format;
use crate::cli::ending::Failure;
use crate::cli::picture;
use crate::cli::units;

/// LIMIT: combinations of a sweep, which all exist at once.
const SETTINGS_MAX: usize = 64;
/// LIMIT: sessions of one cache; each may have a thread.
const THREADS_MAX: u32 = 256;

const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;

const AFTER_HELP: &str = "\
Traces:
  csv             Lines of columns that the first line names, in any order: key,
                  size, and where present time, op and ttl. time and ttl are in
                  seconds, with or without a fraction; a ttl that is empty or 0
                  is none. op is get, gets, read, set, write, add, replace, cas,
                  append, prepend, incr, decr, touch or delete, and get where
                  there is no such column. cas is run as replace.
  oracle-general  libCacheSim's binary: records of 24 bytes, little-endian: time
                  (u32), object (u64), size (u32), next access (i64, not used).
  Both may be compressed with zstd, which is found out by itself; what another
  program compressed goes through that. A trace is read as a stream.

Sizes and keys:
  size is the bytes of key and value together, and so many are stored. A key that
  is a decimal number of 64 bits is stored as its 8 bytes; another one is stored
  as it is written, with a zero byte behind it if it has 8 bytes or more, so that
  no two keys become one. Where size is less than the key has, the item is stored
  with no value, and the report says how often.

Time:
  A cache in this process lives on the trace's clock, which never goes back. A
  server has a clock of its own: there, a ttl counts from when it is replayed.

Sessions:
  --threads N deals the requests to N sessions in turn, driven by one thread, so
  that each run has the same outcome. With --parallel each session has a thread,
  and its share of the keys; threads may be some ten thousand requests apart, so
  outcomes differ from run to run, and a cache of fewer items than that comes out
  better than it is. The caches of a sweep exist side by side while the trace is
  read once: their memories add up.

Examples:
  larder replay trace.csv.zst --memory 10MB
  larder replay trace.csv.zst --memory 4MiB,8MiB,16MiB,32MiB --plot curve.svg
  zcat trace.csv.gz | larder replay - --threads 1,2,8 --memory 64MiB
  larder replay trace.oracleGeneral.zst --server larder://127.0.0.1:5273";

/// The options of `larder replay`.
#[derive(Debug, Args)]
#[command(
    about = "Run a trace of requests against a cache and report what it keeps",
    long_about = "Run a trace of requests against a cache in this process, or a server, and report \
                  what it keeps. A read that misses is followed by a set of the traced size.",
    after_long_help = AFTER_HELP
)]
pub(crate) struct ReplayOptions {
    /// The trace: a file, or - for standard input
    #[arg(value_name = "FILE")]
    file: OsString,

    /// How the trace is written
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    format: Format,

    /// Memory of the cache; several, with commas between them, make a sweep [default: 256MiB]
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = units::size)]
    memory: Vec<u64>,

    /// Sessions that the requests are dealt to; several, with commas between them, make a sweep
    #[arg(
        long, value_name = "N,...", value_delimiter = ',', default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX))
    )]
    threads: Vec<u32>,

    /// Give each session a thread of its own
    #[arg(long)]
    parallel: bool,

    /// Ask a server, larder://HOST:PORT or larder+unix:///PATH, in place of a cache of its own
    #[arg(long, value_name = "URL", conflicts_with_all = ["memory", "threads", "parallel", "plot"])]
    server: Option<Address>,

    /// Turn this share of the reads, 0 to 1, into overwrites of the same size; ratios count the rest
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    overwrite: f64,

    /// What --overwrite draws from, and the cache hashes keys with
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// Draw the miss ratio over the memory into an SVG file; needs at least two memories
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Print one JSON object, of a failure as well
    #[arg(long)]
    pub(super) json: bool,
}

/// Options that can work.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) source: Source,
    pub(super) format: Format,
    pub(super) target: Target,
    pub(super) overwrites: Overwrites,
    pub(super) plot: Option<PathBuf>,
    pub(super) form: Form,
}

/// Where the trace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    StandardInput,
    File(PathBuf),
}

/// What the requests go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    InProcess {
        settings: Vec<Setting>,
        dealing: Dealing,
    },
    Server(Address),
}

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

impl Plan {
    pub(super) fn new(options: &ReplayOptions) -> Result<Self, Failure> {
        let source = match options.file.as_encoded_bytes() {
            b"-" => Source::StandardInput,
            _ => Source::File(PathBuf::from(&options.file)),
        };
        let target = match &options.server {
            Some(server) => Target::Server(server.clone()),
            None => Target::InProcess {
                settings: settings(options)?,
                dealing: match options.parallel {
                    true => Dealing::Parallel,
                    false => Dealing::InTurn,
                },
            },
        };
        if let Some(plot) = &options.plot {
            check_plot(plot, &target)?;
        }
        Ok(Self {
            source,
            format: options.format,
            target,
            overwrites: Overwrites {
                share: options.overwrite,
                seed: options.seed,
            },
            plot: options.plot.clone(),
            form: match options.json {
                true => Form::Json,
                false => Form::Text,
            },
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StandardInput => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Every memory with every number of threads.
fn settings(options: &ReplayOptions) -> Result<Vec<Setting>, Failure> {
    let memories = match &options.memory[..] {
        [] => &[DEFAULT_MEMORY_BYTES],
        given => given,
    };
    let combined = memories.iter().flat_map(|&memory_bytes| {
        let with = move |&threads| Setting {
            memory_bytes,
            threads,
        };
        options.threads.iter().map(with)
    });
    let settings: Vec<Setting> = combined.collect();
    match settings.len() {
        1..=SETTINGS_MAX => Ok(settings),
        many => Err(Failure::usage(format!(
            "a sweep of {many} combinations of --memory and --threads is too much; accepted: up to \
             {SETTINGS_MAX}"
        ))),
    }
}

/// A plot needs a sweep, and a place to go to: better known before the replay than after it.
fn check_plot(plot: &Path, target: &Target) -> Result<(), Failure> {
    let mut memories: Vec<u64> = match target {
        Target::InProcess { settings, .. } => settings
            .iter()
            .map(|setting| setting.memory_bytes)
            .collect(),
        Target::Server(_) => Vec::new(),
    };
    memories.sort_unstable();
    memories.dedup();
    if memories.len() < 2 {
        return Err(Failure::usage(
            "--plot draws the miss ratio over the memory: it needs at least two different sizes, \
             such as --memory 4MiB,8MiB,16MiB",
        ));
    }
    picture::check_place(plot)
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    let accepted = share.filter(|share| (0.0..=1.0).contains(share));
    accepted.ok_or_else(|| format!("`{text}` is not a share; accepted: 0 to 1, such as 0.3"))
}
