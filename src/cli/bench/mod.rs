//! `larder bench`: puts a load on a server and says what it took.
//!
//! A generator thread drives its connections by itself, on the protocol and not on the client: each
//! connection writes a batch of requests at once and reads all of their replies, so that what is
//! measured is the server and as little else as possible.

mod connection;
mod generator;
mod idle;
mod keys;
mod memcached;
mod plan;
mod process;
mod progress;
mod report;
mod source;
mod stop;
mod tally;
mod target;
pub(super) mod text;
mod wire;

use std::process::ExitCode;

use self::generator::{Load, Site, Work};
use self::plan::{Form, Plan, Task};
use self::progress::Progress;
use self::report::Report;
use self::stop::Stop;
use super::ending::{Ending, Failure, conclude, print, say};

pub(crate) use self::plan::BenchOptions;

/// LIMIT: requests under way on each connection while the keys are only prepared.
const PREPARING_DEPTH: usize = 64;

/// Runs a load and reports.
pub(crate) fn run(options: &BenchOptions) -> ExitCode {
    conclude("bench", bench(options))
}

fn bench(options: &BenchOptions) -> Result<Ending, Failure> {
    let plan = Plan::new(options)?;
    let progress = Progress::on_terminal();
    let stop = Stop::on_interrupt()?;
    plan::raise_open_files(plan.connections)?;
    let site = Site::find(&plan.target, &plan.keyspace)?;
    let work = match plan.task {
        Task::Idle { hold } => return idle::run(&site, &plan, hold, &stop),
        Task::Work(work) => work,
    };
    let mut prepared = None;
    if plan.prepare {
        let load = Load {
            depth: plan.depth.max(PREPARING_DEPTH),
            ..load(&plan, Work::WriteAll)
        };
        prepared = Some(generator::run(&site, &load, &stop, progress)?);
    }
    if stop.is_asked() && plan.prepare {
        say("larder bench: ended before the load began");
        return Ok(Ending::Done);
    }
    let outcome = generator::run(&site, &load(&plan, work), &stop, progress)?;
    let report = Report::new(&plan, work, prepared.as_ref(), &outcome, stop.is_asked());
    print(
        match plan.form {
            Form::Text => report.to_string(),
            Form::Json => report.to_json(),
        }
        .as_bytes(),
    )?;
    Ok(report.ending())
}

fn load(plan: &Plan, work: Work) -> Load {
    Load {
        work,
        keyspace: plan.keyspace.clone(),
        values: plan.values,
        connections: plan.connections,
        depth: plan.depth,
        threads: plan.threads,
    }
}
