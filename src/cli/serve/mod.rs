//! `larder serve`: from options to a supervisor ([`outside`]), and from options to a server that it
//! starts, or that is asked for without one ([`inside`]). Both check the same options in the same way.

mod inside;
mod log;
mod memory;
mod outside;
mod pulse;
mod refusal;
mod reload;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::LevelFilter;

use super::WRONG_USAGE;
use super::admin::{AdminAddress, EvidencePlace};
use super::settings::{Loaded, Loader};
use super::units;
use crate::engine::{AccessTimes, Cache, Config, ConfigError, HugePages, Limits, Prefault};
use crate::server::{self, Address, DeadlyKey, Io, Pinning, Quarantined, Settings};
use crate::supervisor::can_keep_evidence;
use refusal::Refusal;

/// The exit code of a supervisor whose workers died again and again.
const GAVE_UP: u8 = 4;

/// LIMIT: the shortest time without progress that is said.
const STALL_WARN_MIN: Duration = Duration::from_millis(50);

/// LIMIT: the shortest time in which a process may be expected to start.
const PATIENCE_MIN: Duration = Duration::from_millis(10);

/// The options of `larder serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Memory of the cache: index and items, and nothing beyond it
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = units::size)]
    memory: u64,

    /// Whether items lie in huge pages: auto has them made as memory comes into use, always insists
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
    #[arg(long, value_name = "N", value_parser = units::number::<usize>)]
    workers: Option<usize>,

    /// Keep each worker on a core of its own
    #[arg(long)]
    pin: bool,

    /// How long a worker goes on asking for requests before it sleeps, such as 100us; up to 1s. It answers
    /// sooner, and takes a core meanwhile
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::short_duration)]
    busy_poll: Duration,

    /// How workers read and write: uring serves the connections that are ready together, by io_uring; epoll
    /// each by itself; auto is uring where the system allows it
    #[arg(long, value_name = "HOW", default_value = "auto")]
    io: IoBy,

    /// Connections open at a time [default: 32768, or what the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = units::number::<u32>)]
    connections_max: Option<u32>,

    /// The longest key, in bytes: 1 to 65536
    #[arg(long, value_name = "SIZE", default_value = "250", value_parser = units::size)]
    key_bytes_max: u64,

    /// The longest value [default: a quarter of the memory, below 1 GiB]
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

    /// Serve in this process, with no supervisor outside that starts it again
    #[arg(long)]
    no_supervisor: bool,

    /// Where the supervisor answers about the server: HOST:PORT, unix:PATH or none [default: a Unix
    /// socket that the commands find by the server's port, or PATH.admin for unix:PATH; HOST:PORT is beside
    /// that, and only tells]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<AdminAddress>,

    /// Have threads not write down what they do: then nobody can tell why one hangs, or has died, nor does
    /// systemd's watchdog see that one hangs
    #[arg(long)]
    no_black_box: bool,

    /// What a new worker process keeps of what the last one left: always all that can be proved,
    /// nothing unless that ended in good order (clean), or nothing (never)
    #[arg(long, value_name = "WHEN", default_value = "always")]
    keep: Keep,

    /// Keep nothing that nobody has served for so long [default: any time]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    keep_max_age: Option<Duration>,

    /// How long a worker process may take until it serves, before it is killed
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = units::duration)]
    start_timeout: Duration,

    /// Start cold after so many deaths of worker processes within a minute
    #[arg(long, value_name = "N", default_value = "3")]
    cold_after_deaths: usize,

    /// End after so many deaths of worker processes within a minute
    #[arg(long, value_name = "N", default_value = "7")]
    end_after_deaths: usize,

    /// How long an operation on a key is refused that two worker processes died of
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = units::duration)]
    refuse_for: Duration,

    /// An operation on a key that is refused, and until when, as the supervisor says it
    #[arg(long, value_name = "OPERATION:HASH:UNTIL", hide = true)]
    refuse: Vec<Quarantined>,

    /// A key that workers die of, as the supervisor says it
    #[arg(long, value_name = "DRILL:KEY", hide = true)]
    deadly_key: Option<DeadlyKey>,

    /// How long the start after a death is put off at most: the first is not, then 100ms, 200ms ...
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    restart_delay_max: Duration,

    /// How long another program may take for each step of an upgrade to it
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::duration)]
    upgrade_timeout: Duration,

    /// How long a thread that has work may make no progress before that is said, with the reason
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = units::duration)]
    stall_warn: Duration,

    /// How long before the worker process is killed and started again, if it is a hang and no slowness
    /// [default: never]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    stall_kill: Option<Duration>,

    /// The folder for evidence about threads that hang and processes that die, or none [default: a folder
    /// beside the socket of the admin endpoint]
    #[arg(long, value_name = "DIR")]
    evidence: Option<EvidencePlace>,

    /// Have workers fail for real when `larder drill` asks for it: to see what then happens
    #[arg(long)]
    allow_drills: bool,

    /// Look at the memory that was handed over, say what would be kept of it, and end
    #[arg(long, hide = true)]
    examine: bool,

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

/// What to keep of the contents when a worker process follows on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keep {
    /// All that can be proved.
    Always,
    /// That, if the last process ended in good order: for those who must not miss a delete that was
    /// sent while nobody served.
    Clean,
    /// Nothing.
    Never,
}

/// When to use huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HugePagesWhen {
    /// Where the system can make them, as memory comes into use.
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

/// By which of the system's interfaces to read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IoBy {
    /// io_uring where the system allows it.
    Auto,
    /// epoll alone.
    Epoll,
    /// io_uring, or no server.
    Uring,
}

impl From<IoBy> for Io {
    fn from(by: IoBy) -> Self {
        match by {
            IoBy::Auto => Self::Auto,
            IoBy::Epoll => Self::Epoll,
            IoBy::Uring => Self::Uring,
        }
    }
}

/// Runs a server until a signal ends it. `arguments` says the same as the options: worker processes get
/// them, so that all have the settings that the server was started with.
pub(crate) fn run(loaded: Loaded<ServeOptions>, loader: Loader) -> ExitCode {
    // Before the log's thread, which would get a heap of its own.
    server::share_one_heap();
    let options = &loaded.options;
    let log = log::start(options.log, options.log_level);
    let level = log.level.clone();
    let ended = match options.no_supervisor {
        true => inside::serve(&loaded, level, loader).map(|()| ExitCode::SUCCESS),
        false => outside::supervise(&loaded, level, loader),
    };
    let (code, sentence) = match ended.map_err(|refusal| refusal.with_place(&loaded.settings)) {
        Ok(code) => (code, None),
        Err(Refusal::Usage(sentence) | Refusal::Settings(_, sentence)) => {
            (ExitCode::from(WRONG_USAGE), Some(sentence))
        }
        Err(Refusal::Failed(sentence)) => (ExitCode::FAILURE, Some(sentence)),
        Err(Refusal::GaveUp(sentence)) => (ExitCode::from(GAVE_UP), Some(sentence)),
    };
    let last = sentence.map(|sentence| format!("larder serve: {sentence}"));
    log.end(last.as_deref());
    code
}

/// The settings that the options ask for; the rest by default.
fn settings(options: &ServeOptions) -> Result<Settings, Refusal> {
    let defaults = Settings::default();
    let frame_bytes_max = match options.frame_bytes_max.map(u32::try_from) {
        Some(Err(_)) => {
            let sentence = "frames have at most 1 GiB";
            return Err(Refusal::of_setting("frame-bytes-max", sentence));
        }
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
        busy_poll: options.busy_poll,
        io: options.io.into(),
        connections_max: options.connections_max.unwrap_or(defaults.connections_max),
        frame_bytes_max,
        buffer_bytes_max: options.buffer_memory,
        idle_timeout: options.idle_timeout,
        frame_timeout: options.frame_timeout,
        write_timeout: options.write_timeout,
        drain_timeout: options.drain_timeout,
        black_box: !options.no_black_box,
        quarantine: options.refuse.clone(),
        allow_drills: options.allow_drills,
        deadly_key: options.deadly_key.clone(),
    })
}

/// The configuration that the options ask for, and how many workers it has room for: as many as asked for,
/// or by default as many as a small memory allows.
fn config(options: &ServeOptions, workers: usize) -> Result<(Config, usize, Limits), Refusal> {
    let out_of_range = || Refusal::from(server::SettingError::Workers(workers));
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
    config.value_bytes_max = options.value_bytes_max;
    // One more for the maintenance thread.
    config.sessions_max = u32::try_from(workers + 1).map_err(|_| out_of_range())?;
    match Cache::check(&config) {
        Ok(limits) => Ok((config, workers, limits)),
        Err(ConfigError::Sessions { accepted, .. }) if accepted > 1 => {
            let possible = accepted as usize - 1;
            if options.workers.is_none() && possible < workers {
                return self::config(options, possible);
            }
            let sentence = format!(
                "{} of memory have no room for {workers} workers; accepted: 1 to {possible} \
                 workers, or more memory",
                units::size_text(options.memory)
            );
            Err(Refusal::Settings(vec!["workers", "memory"], sentence))
        }
        Err(error) => Err(error.into()),
    }
}

/// All that can be told of the options before anything is opened.
fn check(options: &ServeOptions) -> Result<(Settings, Config), Refusal> {
    let mut settings = settings(options)?;
    let (config, workers, limits) = config(options, settings.workers)?;
    settings.workers = workers;
    settings.check(limits)?;
    check_addresses(options)?;
    check_stalls(options)?;
    check_patience(options)?;
    Ok((settings, config))
}

/// Why a server would not start with these options, as far as that can be told of them.
pub(crate) fn refusal(loaded: &Loaded<ServeOptions>) -> Result<(), String> {
    let options = &loaded.options;
    let checked = check(options).and_then(|_| match options.no_supervisor {
        true => check_alone(options),
        false => check_evidence(options),
    });
    checked.map_err(|refusal| refusal.with_place(&loaded.settings).into_sentence())
}

/// Whether each address is there once. Port 0 is another port each time.
fn check_addresses(options: &ServeOptions) -> Result<(), Refusal> {
    let is_any_port =
        |address: &Address| matches!(address, Address::Tcp(address) if address.port() == 0);
    let all = || options.listen.iter().chain(&options.memcached);
    for (at, address) in all().enumerate().filter(|(_, one)| !is_any_port(one)) {
        if all().take(at).any(|before| before == address) {
            let sentence =
                format!("{address} is to be listened on twice; accepted: each address once");
            let name = match at < options.listen.len() {
                true => "listen",
                false => "memcached",
            };
            return Err(Refusal::of_setting(name, sentence));
        }
    }
    Ok(())
}

/// Whether the times make sense after which a thread that does not go on is named, and its process killed.
fn check_stalls(options: &ServeOptions) -> Result<(), Refusal> {
    let warn = shown(options.stall_warn);
    if options.stall_warn < STALL_WARN_MIN {
        let sentence = format!(
            "--stall-warn {warn} is shorter than what a healthy server takes now and then; accepted: \
             {} and more",
            shown(STALL_WARN_MIN)
        );
        return Err(Refusal::of_setting("stall-warn", sentence));
    }
    match options.stall_kill {
        Some(kill) if kill < options.stall_warn => {
            let sentence = format!(
                "--stall-kill {} is before --stall-warn {warn}; accepted: that and more",
                shown(kill)
            );
            Err(Refusal::Settings(
                vec!["stall-kill", "stall-warn"],
                sentence,
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a process that is started has any time until it is killed as late.
fn check_patience(options: &ServeOptions) -> Result<(), Refusal> {
    for (name, timeout) in [
        ("start-timeout", options.start_timeout),
        ("upgrade-timeout", options.upgrade_timeout),
    ] {
        if timeout < PATIENCE_MIN {
            let sentence = format!(
                "--{name} {} is shorter than any process takes to start, and each would be killed as late; \
                 accepted: {} and more",
                shown(timeout),
                shown(PATIENCE_MIN)
            );
            return Err(Refusal::of_setting(name, sentence));
        }
    }
    Ok(())
}

/// Whether the options go with a process that serves alone.
fn check_alone(options: &ServeOptions) -> Result<(), Refusal> {
    if let Some(AdminAddress::At(address)) = &options.admin {
        let sentence = format!(
            "nobody would answer at the admin endpoint {address}, since --no-supervisor does without the \
             process that does; accepted: --admin none, or a supervisor"
        );
        return Err(Refusal::of_setting("admin", sentence));
    }
    if options.allow_drills {
        let sentence = "nobody could ask for a drill, since --no-supervisor does without the process that is \
                        asked; accepted: --allow-drills with a supervisor";
        return Err(Refusal::of_setting("allow-drills", sentence));
    }
    Ok(())
}

/// Whether evidence can be saved where it is to be.
fn check_evidence(options: &ServeOptions) -> Result<(), Refusal> {
    let Some(EvidencePlace::In(folder)) = &options.evidence else {
        return Ok(());
    };
    can_keep_evidence(folder).map_err(|error| {
        let sentence = format!(
            "evidence cannot be saved in {}: {error}; accepted: a folder of the server's user, or a name for a \
             new one in a folder that it may write to, or none",
            folder.display()
        );
        Refusal::of_setting("evidence", sentence)
    })
}

/// What may be no mistake, and is told.
fn warn_of_doubts(options: &ServeOptions, settings: &Settings) {
    let (workers, cores) = (settings.workers, server::usable_cores());
    if options.pin && workers > cores {
        tracing::warn!(
            workers,
            cores,
            "there are more workers than cores: with --pin, some share a core while others have one alone"
        );
    }
}

/// A duration, as it would be typed.
fn shown(duration: Duration) -> String {
    units::duration_about(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
