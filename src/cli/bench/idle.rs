//! Connections that say nothing: what they cost the server in memory.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::connection::Connection;
use super::generator;
use super::plan::{Form, Plan};
use super::process::{ENDED, Watch};
use super::report::json;
use super::site::Site;
use super::stop::Stop;
use super::text::{grouped, mebibytes};
use crate::cli::ending::{Ending, Failure, print};

/// What idle connections cost.
#[derive(Debug, Serialize)]
struct IdleReport {
    server: String,
    connections: usize,
    /// Those that the server had closed at the end.
    closed: usize,
    open_seconds: f64,
    held_seconds: f64,
    memory: Option<Memory>,
    /// Why there are no figures of memory.
    memory_missing: Option<String>,
}

/// The server's resident memory.
#[derive(Debug, Clone, Copy, Serialize)]
struct Memory {
    rss_bytes_before: u64,
    rss_bytes_open: u64,
    rss_bytes_held: u64,
    growth_bytes: i64,
    growth_bytes_per_connection: f64,
}

/// Opens the connections, holds them, and reports.
pub(super) fn run(
    site: &Site,
    plan: &Plan,
    hold: Duration,
    stop: &Stop,
) -> Result<Ending, Failure> {
    let rss_bytes = || -> Result<u64, &str> {
        let watch: &Watch = site.watch.as_ref().map_err(String::as_str)?;
        let reading = watch.read().ok_or(ENDED)?;
        Ok(reading.rss_bytes)
    };
    let before = rss_bytes();
    let started = Instant::now();
    let runtime = generator::runtime()?;
    let connections = generator::open_all(site, &plan.keyspace, plan.connections, plan.timeout);
    let mut connections = runtime.block_on(async {
        tokio::select! {
            connections = connections => connections,
            () = stop.wait() => Err(Stop::early()),
        }
    })?;
    connections.iter_mut().for_each(Connection::shrink);
    let (opened, open) = (Instant::now(), rss_bytes());
    let closed = runtime.block_on(async {
        tokio::select! {
            () = tokio::time::sleep(hold) => {}
            () = stop.wait() => {}
        }
        let mut closed = 0;
        for connection in &mut connections {
            closed += usize::from(!connection.is_open().await);
        }
        closed
    });
    let held = rss_bytes();
    let memory = match (before, open, held) {
        (Ok(before), Ok(open), Ok(held)) => Ok(Memory::new(before, open, held, plan.connections)),
        (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => Err(why.to_owned()),
    };
    let report = IdleReport {
        server: site.target.to_string(),
        connections: plan.connections,
        closed,
        open_seconds: (opened - started).as_secs_f64(),
        held_seconds: opened.elapsed().as_secs_f64(),
        memory: memory.as_ref().ok().copied(),
        memory_missing: memory.err(),
    };
    let text = match plan.form {
        Form::Json => json(&report),
        Form::Text => report.text(),
    };
    print(text.as_bytes())?;
    Ok(if closed == 0 {
        Ending::Done
    } else {
        Ending::Unreachable
    })
}

impl Memory {
    fn new(before: u64, open: u64, held: u64, connections: usize) -> Self {
        let growth_bytes = held.cast_signed() - before.cast_signed();
        Self {
            rss_bytes_before: before,
            rss_bytes_open: open,
            rss_bytes_held: held,
            growth_bytes,
            growth_bytes_per_connection: growth_bytes as f64 / connections as f64,
        }
    }
}

impl IdleReport {
    fn text(&self) -> String {
        let Self {
            connections,
            closed,
            open_seconds,
            held_seconds,
            ..
        } = self;
        let memory = match (&self.memory, &self.memory_missing) {
            (Some(memory), _) => format!(
                "{} before, {} when all were open, {} at the end: {:+.0} bytes for each connection",
                mebibytes(memory.rss_bytes_before),
                mebibytes(memory.rss_bytes_open),
                mebibytes(memory.rss_bytes_held),
                memory.growth_bytes_per_connection,
            ),
            (None, why) => format!("not known: {}", why.as_deref().unwrap_or_default()),
        };
        format!(
            "larder bench: {}\n\
             connections  {} opened in {open_seconds:.2} s, held for {held_seconds:.2} s, {closed} closed by the server\n\
             server RSS   {memory}\n",
            self.server,
            grouped(*connections as u64),
        )
    }
}
