//! `larder drill`: a worker fails for real, and what came of it is graded.
//!
//! ```text
//! status ──> probe begins, items are stored ──> POST /drill ──> watch until it is noticed and over
//!                                                                  └──> probe ends ──> report
//! ```

mod probe;
mod report;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::AdminOptions;
use super::ask::{Told, ask, ask_beside};
use super::seen::Seen;
use crate::cli::commands::conclude_as_asked;
use crate::cli::ending::{Ending, Failure, print};
use crate::cli::{style, units};
use crate::server::{Address, DeadlyKey, Drill};
use probe::Probe;
use report::Report;

/// How long an answer of the admin endpoint may take while it is watched.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to replace the worker process: it drains, and the next one recovers.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(120);

/// Have a worker fail for real, and see what comes of it
///
/// The server must have been started with --allow-drills. A probe reads and writes beside it over
/// connections of its own, and what it finds is graded. Other clients notice as well: a drill is for
/// servers that may fail. Two lethal drills within a minute may be followed by a third death, and that by
/// a start without contents.
#[derive(Debug, Args)]
#[command(after_help = "\
Drills:
  hang         a worker waits in a system call
  spin         it goes round in a loop
  panic        it panics while it serves a connection
  abort        its process ends itself
  segfault     it touches memory that it may not
  oom          its process takes memory until the system refuses it, of at most 128 MiB
  slow-io      it writes where nobody reads
  deny-memory  all that connections may hold is taken

Examples:
  larder drill hang --worker 1 --for 5s
  larder drill segfault --json
  larder drill abort --key user:17

With --key, the worker process is replaced at once by one that is told the key as it starts, and with \
--off by one that is told none: the contents stay, connections are closed in good order and new ones wait \
meanwhile. Then nothing happens by itself: whoever asks for an operation on that key brings the worker \
process down, and after the second time it is refused.

Exit codes: 0 all is good, or the key is deadly (harmless, with --off); 1 something is not, or the server \
does no drills; 2 wrong usage; 3 no server")]
pub(crate) struct DrillOptions {
    /// What is to happen
    #[arg(value_name = "DRILL", value_parser = drill_parser())]
    drill: Drill,

    /// The worker that fails, from 0 on
    #[arg(long, value_name = "N", default_value = "0", value_parser = units::number::<u32>)]
    worker: u32,

    /// Have workers die of this key: when they are to execute an operation on it, again and again
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Have them die of it no longer
    #[arg(long, requires = "key")]
    off: bool,

    /// How long hang, spin, slow-io and deny-memory last
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = units::duration)]
    lasts: Duration,

    /// How soon it is to be noticed, to be good
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = units::duration)]
    noticed_within: Duration,

    /// How soon all connections are to be served again after it is over, to be good
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::duration)]
    recovered_within: Duration,

    /// The report as JSON, or one object that says that the key is deadly; a failure is one as well
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminOptions,
}

fn drill_parser() -> impl TypedValueParser<Value = Drill> {
    PossibleValuesParser::new(Drill::ALL.iter().map(|drill| drill.name()))
        .try_map(|name| name.parse::<Drill>())
}

/// Carries a drill out, and reports.
pub(crate) fn run(options: &DrillOptions) -> ExitCode {
    if let Some(key) = &options.key {
        return conclude_as_asked("drill", options.json, make_deadly(options, key));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let reported = runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(carry_out(options)));
    let ended = reported.and_then(|report| {
        let shown = match options.json {
            true => report.as_json(),
            false => report.shown(style::on_stdout()),
        };
        print(shown.as_bytes())?;
        Ok(match report.is_good() {
            true => Ending::Done,
            false => Ending::NotFoundOrNotStored,
        })
    });
    conclude_as_asked("drill", options.json, ended)
}

/// Has workers die of a key, or no longer.
fn make_deadly(options: &DrillOptions, key: &str) -> Result<Ending, Failure> {
    DeadlyKey::new(options.drill, key).map_err(Failure::usage)?;
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("drill", options.drill.name())
        .append_pair("key", key)
        .finish();
    let (method, path, done) = match options.off {
        true => (
            "DELETE",
            "/deadly-key".to_owned(),
            "The worker process was replaced by one that dies of no key.".to_owned(),
        ),
        false => (
            "POST",
            format!("/deadly-key?{query}"),
            format!(
                "The worker process was replaced by one that dies ({}) when it is to execute an operation on \
                 {key}; --off ends that.",
                options.drill.name()
            ),
        ),
    };
    let admin = options.admin.address_to_change()?;
    let Told { is_done, text, .. } = ask(&admin, method, &path, REPLACE_TIMEOUT)?;
    if !is_done {
        return Err(Failure::not_done(text.trim_end()));
    }
    let shown = match options.json {
        true => json!({ "deadly": !options.off, "key": key, "sentence": done }).to_string(),
        false => done,
    };
    print(format!("{shown}\n").as_bytes())?;
    Ok(Ending::Done)
}

async fn carry_out(options: &DrillOptions) -> Result<Report, Failure> {
    let admin = options.admin.address_to_change()?;
    let before = look(&admin).await?;
    may_begin(options, &before)?;
    let url = match &options.admin.server {
        Some(url) => url.to_string(),
        None => url_of(&before)?,
    };
    let workers = before.workers().count();
    let probe = Probe::begin(&url, workers, options.drill == Drill::DenyMemory).await?;
    // Connections of the probe count from here on, and no death does that was before.
    let before = look(&admin).await?;
    let begun = order(options, &admin).await?;
    probe.count_from_now_on();
    let watched = watch::until_over(options, &admin, &before, &begun, &probe).await?;
    let probed = probe.end().await;
    Ok(Report::of(options, workers, &watched, probed))
}

/// Refuses what would be refused anyway, before anything is stored.
fn may_begin(options: &DrillOptions, seen: &Seen) -> Result<(), Failure> {
    if !seen.is_serving() {
        let why_not = seen.why_not_ready.as_ref();
        let why_not = why_not.map_or(String::new(), |why_not| format!(": {why_not}"));
        let sentence = format!("the server does not serve at the moment{why_not}");
        return Err(Failure::not_done(sentence));
    }
    let workers = seen.workers().count();
    if seen.supervisor.drills_allowed && seen.worker(options.worker).is_none() {
        return Err(Failure::usage(format!(
            "there is no worker {}; accepted: 0 to {}",
            options.worker,
            workers.saturating_sub(1)
        )));
    }
    if !seen.supervisor.drills_allowed {
        return Err(Failure::not_done(
            "this server does no drills; `larder serve --allow-drills` starts one that does",
        ));
    }
    Ok(())
}

/// Where the server listens, as its clients write it.
fn url_of(seen: &Seen) -> Result<String, Failure> {
    let first = seen.addresses.first().ok_or_else(|| {
        Failure::usage("the admin endpoint does not say where the server listens; --server does")
    })?;
    Ok(match first.strip_prefix("unix:") {
        Some(path) => format!("larder+unix://{path}"),
        None => format!("larder://{first}"),
    })
}

async fn look(admin: &Address) -> Result<Seen, Failure> {
    Seen::of(&ask_beside(admin, "GET", "/status.json", LOOK_TIMEOUT).await?)
}

/// A drill that has begun.
#[derive(Debug, serde::Deserialize)]
struct Begun {
    at_ms: u64,
}

async fn order(options: &DrillOptions, admin: &Address) -> Result<Begun, Failure> {
    let path = format!(
        "/drill?drill={}&worker={}&for_ms={}",
        options.drill.name(),
        options.worker,
        options.lasts.as_millis()
    );
    let Told { is_done, text, .. } = ask_beside(admin, "POST", &path, LOOK_TIMEOUT).await?;
    match is_done {
        true => {
            serde_json::from_str(&text).map_err(|error| Failure::unreachable(error.to_string()))
        }
        false => Err(Failure::not_done(text.trim_end())),
    }
}
