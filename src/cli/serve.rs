//! `larder serve`: from options to a running server, and from a signal to its end.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use larder_protocol::VALUE_BYTES_CEILING;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::filter::LevelFilter;

use super::WRONG_USAGE;
use super::units;
use crate::engine::{AccessTimes, Cache, Config, ConfigError, HugePages, Pages, Prefault};
use crate::server::{self, Address, Drainer, Pinning, Running, Server, Settings, StartError};

/// What a process that a signal ends reports: 128 and the number of the signal.
const ENDED_BY_SIGNAL: i32 = 128;

/// The options of `larder serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Memory of the cache: index and items, and nothing beyond it
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = units::size)]
    memory: u64,

    /// Whether items lie in huge pages: auto takes what the system gives, always insists
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    huge_pages: HugePagesWhen,

    /// Touch the whole memory before listening
    #[arg(long)]
    prefault: bool,

    /// Keep when each item was last read: 8 bytes of each item
    #[arg(long)]
    access_times: bool,

    /// Where to listen: HOST:PORT or unix:PATH; may be given more than once. Port 0 picks one
    #[arg(long, value_name = "ADDRESS", default_value = server::DEFAULT_ADDRESS)]
    listen: Vec<Address>,

    /// Where to speak memcached's text protocol: as --listen, and nowhere by default
    #[arg(long, value_name = "ADDRESS")]
    memcached: Vec<Address>,

    /// Event-loop threads [default: the cores that may be used]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Keep each worker on a core of its own
    #[arg(long)]
    pin: bool,

    /// Connections open at a time [default: 32768, or what the limit of open files allows]
    #[arg(long, value_name = "N")]
    connections_max: Option<u32>,

    /// The longest key, in bytes: 1 to 65536
    #[arg(long, value_name = "SIZE", default_value = "250", value_parser = units::size)]
    key_bytes_max: u64,

    /// The longest value [default: a quarter of the memory, at most 1 GiB]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    value_bytes_max: Option<u64>,

    /// The longest frame [default: what the longest key and value need]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    frame_bytes_max: Option<u64>,

    /// What all connections together may hold in begun frames and unread replies, large values aside
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = units::size)]
    buffer_memory: u64,

    /// Close a connection that sends nothing for so long [default: never]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    idle_timeout: Option<Duration>,

    /// Close a connection that begins a frame and does not send all of it, or 1 MiB more, in time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::duration)]
    frame_timeout: Duration,

    /// Close a connection that does not read its replies, or 1 MiB more of them, in time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::duration)]
    write_timeout: Duration,

    /// How long the end may take after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    drain_timeout: Duration,

    /// How the log on standard error is written
    #[arg(long, value_name = "FORM", default_value = "human")]
    log: LogForm,

    /// What is logged: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogForm {
    /// For people.
    Human,
    /// For programs: one JSON object on each line.
    Json,
}

/// When to use huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HugePagesWhen {
    /// Where the system gives them to shared memory that asks.
    Auto,
    /// From the start, or not at all; touches the memory of items ahead.
    Always,
    /// Not at all.
    Never,
}

impl From<HugePagesWhen> for HugePages {
    fn from(when: HugePagesWhen) -> Self {
        match when {
            HugePagesWhen::Auto => Self::Auto,
            HugePagesWhen::Always => Self::Always,
            HugePagesWhen::Never => Self::Never,
        }
    }
}

/// Runs a server until a signal ends it.
pub(crate) fn run(options: ServeOptions) -> ExitCode {
    start_log(options.log, options.log_level);
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refusal::Usage(sentence)) => {
            eprintln!("larder serve: {sentence}");
            ExitCode::from(WRONG_USAGE)
        }
        Err(Refusal::Failed(sentence)) => {
            eprintln!("larder serve: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no server, or no longer.
#[derive(Debug)]
enum Refusal {
    /// The options cannot work.
    Usage(String),
    /// The system, or the server itself, failed.
    Failed(String),
}

fn serve(options: ServeOptions) -> Result<(), Refusal> {
    // Signals first: one that comes during the start must not leave a half-made server behind.
    let signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Refusal::Failed(format!("cannot wait for signals: {error}")))?;
    let mut settings = settings(&options)?;
    let (cache, workers) = cache(&options, settings.workers)?;
    settings.workers = workers;
    log_memory(&options, cache.pages());
    let running = Server::start(settings, cache).map_err(|error| match error {
        StartError::System { .. } => Refusal::Failed(error.to_string()),
        _ => Refusal::Usage(error.to_string()),
    })?;
    drain_on_signal(signals, running.drainer());
    announce(&running, workers, options.memory);
    running
        .join()
        .map_err(|error| Refusal::Failed(error.to_string()))?;
    tracing::info!("ended");
    Ok(())
}

/// Says in the log what memory the cache got.
fn log_memory(options: &ServeOptions, pages: Pages) {
    tracing::info!(
        memory_bytes = options.memory,
        prefault = options.prefault,
        %pages,
        "the memory is mapped"
    );
}

/// The settings that the options ask for; the rest by default.
fn settings(options: &ServeOptions) -> Result<Settings, Refusal> {
    let defaults = Settings::default();
    let frame_bytes_max = match options.frame_bytes_max.map(u32::try_from) {
        Some(Err(_)) => return Err(Refusal::Usage("frames have at most 1 GiB".to_owned())),
        Some(Ok(bytes)) => Some(bytes),
        None => None,
    };
    Ok(Settings {
        listen: options.listen.clone(),
        memcached: options.memcached.clone(),
        workers: options.workers.unwrap_or(defaults.workers),
        pinning: if options.pin {
            Pinning::OneCoreEach
        } else {
            Pinning::Free
        },
        connections_max: connections_max(options.connections_max, defaults.connections_max)?,
        frame_bytes_max,
        buffer_bytes_max: options.buffer_memory,
        idle_timeout: options.idle_timeout,
        frame_timeout: options.frame_timeout,
        write_timeout: options.write_timeout,
        drain_timeout: options.drain_timeout,
        black_box: true,
        quarantine: Vec::new(),
    })
}

/// Makes room for the connections among the open files. What was asked for and is impossible is
/// refused; the default gives way.
fn connections_max(asked: Option<u32>, default: u32) -> Result<u32, Refusal> {
    let wanted = asked.unwrap_or(default);
    match server::raise_open_files(wanted.min(server::CONNECTIONS_MAX)) {
        Ok(()) => Ok(wanted),
        Err(error) if asked.is_some() || error.possible == 0 => {
            Err(Refusal::Usage(error.to_string()))
        }
        Err(error) => {
            tracing::info!(
                connections_max = error.possible,
                files_max = error.files_max,
                "fewer connections than usual, since the limit of open files is low"
            );
            Ok(error.possible)
        }
    }
}

/// The cache that the options ask for, and how many workers it has room for: as many as asked for,
/// or by default as many as a small memory allows.
fn cache(options: &ServeOptions, workers: usize) -> Result<(Cache, usize), Refusal> {
    let out_of_range = || Refusal::Usage(server::SettingError::Workers(workers).to_string());
    if !(1..=server::WORKERS_MAX).contains(&workers) {
        return Err(out_of_range());
    }
    let mut config = Config::new(options.memory);
    config.huge_pages = options.huge_pages.into();
    if options.prefault {
        config.prefault = Prefault::Ahead;
    }
    if options.access_times {
        config.access_times = AccessTimes::Kept;
    }
    config.key_bytes_max = u32::try_from(options.key_bytes_max).unwrap_or(u32::MAX);
    config.value_bytes_max = value_bytes_max(options)?;
    // One more for the maintenance thread.
    config.sessions_max = u32::try_from(workers + 1).map_err(|_| out_of_range())?;
    match Cache::new(config) {
        Ok(cache) => Ok((cache, workers)),
        Err(ConfigError::Sessions { accepted, .. }) if accepted > 1 => {
            let possible = accepted as usize - 1;
            if options.workers.is_none() && possible < workers {
                tracing::info!(workers = possible, "fewer workers, since memory is small");
                return cache(options, possible);
            }
            Err(Refusal::Usage(format!(
                "{} of memory have no room for {workers} workers; accepted: 1 to {possible} \
                 workers, or more memory",
                units::size_text(options.memory)
            )))
        }
        Err(error) => Err(Refusal::Usage(error.to_string())),
    }
}

/// The longest value, if one was asked for that frames can carry.
fn value_bytes_max(options: &ServeOptions) -> Result<Option<u64>, Refusal> {
    match options.value_bytes_max {
        Some(bytes) if bytes > u64::from(VALUE_BYTES_CEILING) => Err(Refusal::Usage(format!(
            "values of up to {bytes} bytes cannot work: frames carry {VALUE_BYTES_CEILING}; \
             accepted: up to {VALUE_BYTES_CEILING}B"
        ))),
        asked => Ok(asked),
    }
}

/// The first signal drains the server, the second ends the process where it stands.
fn drain_on_signal(mut signals: Signals, drainer: Drainer) {
    let wait = move || {
        let mut draining = false;
        for signal in signals.forever() {
            if draining {
                std::process::exit(ENDED_BY_SIGNAL + signal);
            }
            draining = true;
            tracing::info!(signal, "draining; another signal ends the process at once");
            drainer.drain();
        }
    };
    if let Err(error) = std::thread::Builder::new()
        .name("larder-signals".to_owned())
        .spawn(wait)
    {
        tracing::error!(%error, "signals will end the process without a drain");
    }
}

/// Says in one line on standard output that the server is ready, and where.
fn announce(running: &Running, workers: usize, memory_bytes: u64) {
    let list = |addresses: &[Address]| {
        let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
        texts.join(", ")
    };
    let memcached = match running.memcached_addresses() {
        [] => String::new(),
        addresses => format!(", memcached on {}", list(addresses)),
    };
    let line = format!(
        "larder {} ready on {}{memcached} ({workers} {}, {})",
        env!("CARGO_PKG_VERSION"),
        list(running.addresses()),
        if workers == 1 { "worker" } else { "workers" },
        units::size_text(memory_bytes),
    );
    let mut stdout = io::stdout();
    // Whoever closed standard output does not wait for the line.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn start_log(form: LogForm, level: LevelFilter) {
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(level);
    // A second log in one process would only fail to replace the first.
    let _ = match form {
        LogForm::Human => lines.try_init(),
        LogForm::Json => lines.json().try_init(),
    };
}
