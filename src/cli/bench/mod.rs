//! `larder bench`: puts a load on a server and says what it took.
//!
//! A generator thread drives its connections by itself, on the protocol and not on the client: each
//! connection writes a batch of requests at once and reads all of their replies, so that what is
//! measured is the server and as little else as possible.

mod alarm;
mod closed_loop;
mod compare;
mod connection;
mod generator;
mod idle;
mod keys;
mod latencies;
mod memcached;
mod open_loop;
mod options;
mod owner;
mod patience;
mod plan;
mod plot;
mod process;
mod progress;
mod report;
mod resp;
mod schedule;
mod server;
mod site;
mod sizes;
mod sockets;
mod source;
mod start;
mod stop;
mod tally;
mod target;
pub(super) mod text;
mod wire;

use std::process::ExitCode;

use self::generator::{Load, Outcome, Work};
use self::plan::{Form, Plan, Task};
use self::plot::Curve;
use self::progress::Progress;
use self::report::Report;
use self::site::Site;
use self::stop::Stop;
use self::text::grouped;
use super::commands::conclude_as_asked;
use super::ending::{Ending, Failure, print, say};

pub(crate) use self::options::BenchOptions;

/// LIMIT: requests under way on each connection while the keys are only prepared.
const PREPARING_DEPTH: usize = 64;

/// Runs a load and reports.
pub(crate) fn run(options: &BenchOptions) -> ExitCode {
    conclude_as_asked("bench", options.json, bench(options))
}

fn bench(options: &BenchOptions) -> Result<Ending, Failure> {
    let plan = Plan::new(options)?;
    let progress = Progress::on_terminal();
    let stop = Stop::on_interrupt()?;
    plan::raise_open_files(&plan)?;
    if let (Some(contest), Task::Work(work)) = (plan.contest, plan.task) {
        return compare::run(&plan, contest, work, &stop, progress);
    }
    let site = Site::find(&plan.servers[0], &plan, &stop)?;
    let work = match plan.task {
        Task::Idle { hold } => return idle::run(&site, &plan, hold, &stop),
        Task::Work(work) => work,
    };
    let prepared = prepare(&site, &plan, &stop, progress)?;
    let outcome = generator::run(&site, &load(&plan, work), &stop, progress)?;
    for complaint in outcome.tally.complaints() {
        say(&format!("larder bench: {complaint}"));
    }
    let interrupted = stop.is_asked();
    let report = Report::new(&site, &plan, work, prepared.as_ref(), &outcome, interrupted);
    print(
        match plan.form {
            Form::Text => report.to_string(),
            Form::Json => report.to_json(),
        }
        .as_bytes(),
    )?;
    if let Some(path) = &plan.plot {
        let curve = Curve::new(site.target.to_string(), &outcome.tally);
        plot::draw(path, &[curve])?;
    }
    Ok(outcome.tally.ending(work))
}

/// Writes every key, if that was asked for.
fn prepare(
    site: &Site,
    plan: &Plan,
    stop: &Stop,
    progress: Progress,
) -> Result<Option<Outcome>, Failure> {
    if !plan.prepare {
        return Ok(None);
    }
    let load = Load {
        depth: plan.depth.max(PREPARING_DEPTH),
        rate: None,
        ..load(plan, Work::WriteAll)
    };
    let outcome = generator::run(site, &load, stop, progress)?;
    if stop.is_asked() {
        return Err(Stop::early());
    }
    match outcome.tally.lost_sentences.first() {
        Some(why) => Err(Failure::unreachable(format!(
            "{} of {} keys could be written to {} before the load: {why}",
            grouped(outcome.tally.stored),
            grouped(plan.keyspace.keys),
            site.target
        ))),
        None => Ok(Some(outcome)),
    }
}

fn load(plan: &Plan, work: Work) -> Load {
    Load {
        work,
        keyspace: plan.keyspace.clone(),
        values: plan.values,
        connections: plan.connections,
        depth: plan.depth,
        keys_per_get: plan.keys_per_get,
        rate: plan.rate.map(|rate| rate as f64),
        threads: plan.threads,
        timeout: plan.timeout,
    }
}
