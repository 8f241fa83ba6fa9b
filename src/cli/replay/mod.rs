//! `larder replay`: runs a trace of requests against a cache and says what it kept.
//!
//! A trace becomes requests ([`trace`], with a file for each format), requests become batches
//! ([`batch`]), and each batch goes to every run of a sweep ([`in_process`]), or to a server
//! ([`served`]). So a trace is read once and never held as a whole.

mod batch;
mod columns;
mod compressed;
mod driver;
mod figures;
mod foreign;
mod in_process;
mod options;
mod oracle;
mod plot;
mod progress;
mod report;
mod request;
mod served;
mod tally;
mod trace;
mod upkeep;

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Instant;

use self::batch::{Batch, Batches};
use self::in_process::{Outcome, Run};
use self::options::{Form, Plan, Source, Target};
use self::progress::Progress;
use self::report::{Report, RunReport};
use self::trace::{Trace, TraceError};
use super::commands::conclude_as_asked;
use super::ending::{Ending, Failure, print};
use crate::sync::Arc;

pub(crate) use self::options::ReplayOptions;
pub use self::trace::Format as TraceFormat;

/// LIMIT: decompressed bytes that [`read_trace`] looks at, since few bytes may stand for very many.
const READ_TRACE_BYTES_MAX: u64 = 1 << 20;

/// What a trace comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceSummary {
    /// Its requests.
    pub requests: u64,
    /// Keys and values of them all, as they would be stored.
    pub stored_bytes: u64,
}

/// Replays a trace and reports.
pub(crate) fn run(options: &ReplayOptions) -> ExitCode {
    conclude_as_asked("replay", options.json, replay(options))
}

fn replay(options: &ReplayOptions) -> Result<Ending, Failure> {
    let plan = Plan::new(options)?;
    let (source, trace_bytes) = open(&plan.source)?;
    let progress = Progress::begin(trace_bytes);
    let unreadable = |error: TraceError| Failure::usage(format!("{}: {error}", plan.source));
    let started = Instant::now();
    let decompressed = trace::decompressed(progress.watch(source));
    let trace = decompressed
        .map_err(TraceError::from)
        .and_then(|source| Trace::new(source, plan.format))
        .map_err(unreadable)?;
    let batches = Batches::new(trace, plan.overwrites).map(|batch| {
        let batch = batch.map_err(unreadable)?;
        progress.requests(batch.first_number + batch.requests.len() as u64);
        Ok(batch)
    });
    let outcomes = match &plan.target {
        Target::InProcess { settings, dealing } => {
            let start = |setting: &_| Run::start(*setting, *dealing, plan.overwrites.seed);
            let runs = settings.iter().map(start).collect::<Result<_, _>>()?;
            replay_in_process(runs, batches)?
        }
        Target::Server(address) => vec![served::replay(address, batches)?],
    };
    progress.end();
    let report = Report {
        trace: plan.source.to_string(),
        server: match &plan.target {
            Target::Server(address) => Some(address.to_string()),
            Target::InProcess { .. } => None,
        },
        requests: outcomes.first().map_or(0, |first| first.tally.requests),
        overwrite_share: plan.overwrites.share,
        seed: plan.overwrites.seed,
        seconds: started.elapsed().as_secs_f64(),
        runs: outcomes.iter().map(RunReport::new).collect(),
    };
    print(
        match plan.form {
            Form::Text => report.to_string(),
            Form::Json => report.to_json(),
        }
        .as_bytes(),
    )?;
    if let Some(path) = &plan.plot {
        plot::draw(path, &report)?;
    }
    Ok(Ending::Done)
}

/// The bytes of the trace as they lie there, and how many they are, if that is known.
fn open(source: &Source) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    let path = match source {
        Source::StandardInput => return Ok((Box::new(io::stdin()), None)),
        Source::File(path) => path,
    };
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened
        .map_err(|error| Failure::usage(format!("cannot open {}: {error}", path.display())))?;
    if metadata.is_dir() {
        let sentence = format!("{} is a folder, not a trace", path.display());
        return Err(Failure::usage(sentence));
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), bytes))
}

fn replay_in_process(
    mut runs: Vec<Run>,
    batches: impl Iterator<Item = Result<Batch, Failure>>,
) -> Result<Vec<Outcome>, Failure> {
    for batch in batches {
        let batch = Arc::new(batch?);
        runs.iter_mut().for_each(|run| run.feed(&batch));
    }
    runs.into_iter().map(Run::finish).collect()
}

/// Reads a trace, its first MiB at most, and does nothing with it: a door to the readers for those
/// who try them on bytes that nobody meant as a trace.
///
/// # Errors
///
/// A sentence that says what is wrong with the trace, and where.
pub fn read_trace(source: impl Read, format: TraceFormat) -> Result<TraceSummary, String> {
    let read = || {
        let source = trace::decompressed(source)?.take(READ_TRACE_BYTES_MAX);
        let mut summary = TraceSummary::default();
        for request in Trace::new(source, format)? {
            let request = request?;
            let value_bytes = request.value_bytes().unwrap_or(0);
            summary.requests += 1;
            summary.stored_bytes += (request.key.bytes().len() + value_bytes) as u64;
        }
        Ok(summary)
    };
    read().map_err(|error: TraceError| error.to_string())
}
