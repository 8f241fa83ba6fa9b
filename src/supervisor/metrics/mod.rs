//! `/metrics`: everything that is counted, in Prometheus' text format.
//!
//! | from | what | age |
//! |---|---|---|
//! | the [`Journal`](super::journal::Journal) | starts, deaths, upgrades, the last receipt and outage | none |
//! | the black boxes ([`threads`]) | phases, connections, counters, latencies of each thread | none |
//! | the memory, seen from outside ([`Lookout`](crate::engine::Lookout)) | the figures of the cache, the ledger | none |
//! | the board | the figures of STATS that only the worker process knows | `larder_board_age_seconds` |
//!
//! Nothing of it asks the worker process, so it is told as well of one that hangs or is dead. A name is
//! that of STATS, in the units and with the endings that Prometheus wants ([`names`]).

mod families;
mod names;
mod threads;

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::registry::Registry;

use super::admin::Desk;
use super::journal::{Entries, Phase, whole_ms};
use super::sight::{Moment, Seen};
use crate::blackbox::Board;
use crate::engine::Stats;
use families::{Families, Figure};
use names::{Measure, of_stats};

/// What the answer says of itself.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How all names begin.
const PREFIX: &str = "larder";

/// All that is to be told, at one moment.
#[derive(Debug)]
struct Page(Families);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.encode(&mut encoder)
    }
}

/// The page, as text.
pub(super) fn text(desk: &Desk, why_not_ready: Option<&'static str>) -> String {
    let (now, seen) = (Moment::now(), desk.sight.seen());
    let mut families = Families::default();
    of_supervisor(&mut families, desk);
    let help = "Whether the server can be used, as /readyz tells: a worker process serves, and not all of its workers hang";
    let up = Figure::Whole(u64::from(why_not_ready.is_none()));
    families.gauge("up", help, up);
    of_journal(&mut families, &desk.journal.read());
    let board = seen.board();
    of_stats_figures(&mut families, &seen, board.as_ref(), now);
    threads::tell(&mut families, &seen, board.as_ref(), now);
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Page(families)));
    let mut text = String::new();
    // A text takes whatever is written to it.
    let _ = encode(&mut text, &registry);
    text
}

fn of_supervisor(families: &mut Families, desk: &Desk) {
    let uptime_s = seconds(whole_ms(desk.started.elapsed()));
    families.gauge(
        "supervisor_uptime_seconds",
        "How long the supervisor has run",
        Figure::Real(uptime_s),
    );
}

/// What is known of worker processes, and what was done about them.
fn of_journal(families: &mut Families, journal: &Entries) {
    let is = |phase| Figure::Whole(u64::from(journal.phase == phase));
    for (name, phase) in [
        ("waiting", Phase::Waiting),
        ("starting", Phase::Starting),
        ("serving", Phase::Serving),
        ("ending", Phase::Ending),
    ] {
        let label = [("phase", name)];
        let help = "What the worker process is about: 1 for that";
        families.labelled_gauge("worker_process_phase", help, &label, is(phase));
    }
    for (name, help, count) in [
        (
            "worker_process_starts",
            "Worker processes started",
            journal.starts,
        ),
        (
            "worker_process_restarts",
            "Worker processes started after the first, for whatever reason",
            journal.starts.saturating_sub(1),
        ),
        (
            "worker_process_deaths",
            "Worker processes that died, and nobody had asked them to end",
            journal.deaths,
        ),
        (
            "stalls",
            "Times that a thread had work and did not go on",
            journal.stalls,
        ),
        (
            "stall_kills",
            "Worker processes that were killed for that",
            journal.stall_kills,
        ),
        (
            "evidence_bundles",
            "Bundles of evidence that were saved",
            journal.bundles,
        ),
    ] {
        families.counter(name, help, count);
    }
    for (outcome, count) in [
        ("done", journal.upgrades),
        ("failed", journal.upgrades_failed),
    ] {
        let help = "Upgrades that came to their end, and those refused or taken back";
        families.labelled_counter("upgrades", help, &[("outcome", outcome)], count);
    }
    if let Some(outage_ms) = journal.outage_ms {
        let help = "From the last end of a worker process until the next one served";
        let outage = Figure::Real(seconds(outage_ms));
        families.gauge("last_outage_seconds", help, outage);
    }
    for (name, figure) in &journal.receipt {
        let Ok(count) = figure.parse() else { continue };
        let Measure { name, figure, .. } = of_stats(name, count, false);
        let help = "A figure of the receipt of the last recovery";
        families.gauge(&format!("recovery_{name}"), help, figure);
    }
}

/// The figures of server and cache, those of the cache as they are in its memory, where that can be
/// looked at.
fn of_stats_figures(families: &mut Families, seen: &Seen, board: Option<&Board>, now: Moment) {
    let mut figures: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ledger: BTreeMap<&str, u64> = BTreeMap::new();
    if let Some(board) = board {
        let help = "How old those figures are that only the worker process knows";
        let age_s = now.since_ns(board.time_ns) as f64 / 1e9;
        families.gauge("board_age_seconds", help, Figure::Real(age_s));
        for (name, text) in board.figures() {
            match (name.split_once('.'), text.parse::<u64>()) {
                (None, Ok(figure)) => _ = figures.insert(name, figure),
                (None, Err(_)) => {
                    let name = format!("{name}_info");
                    let help = "A figure of `larder stats` that is a text";
                    let one = Figure::Whole(1);
                    families.labelled_gauge(&name, help, &[("text", text)], one);
                }
                (Some(("ledger", part)), Ok(figure)) => _ = ledger.insert(part, figure),
                _ => {}
            }
        }
    }
    if let Some(stats) = seen.stats(now) {
        figures.extend(stats.figures());
        ledger.extend(stats.ledger());
    }
    for (part, bytes) in ledger {
        let help = "What the memory is used for; the parts add up to the whole";
        let label = [("part", part)];
        families.labelled_gauge("memory_used_bytes", help, &label, Figure::Whole(bytes));
    }
    let counts = counted(seen);
    for (name, figure) in figures {
        let is_count = counts.iter().any(|count| count == name);
        families.measure(&of_stats(name, figure, is_count), &[]);
    }
}

/// The names of those figures of STATS that only grow.
fn counted(seen: &Seen) -> Vec<String> {
    let of_cache = Stats::default().counts().into_iter();
    let of_cache = of_cache.map(|(name, _)| name.to_owned());
    let of_server = seen.threads.first();
    let of_server = of_server
        .into_iter()
        .flat_map(|thread| thread.black_box.counts());
    let of_process = ["cpu_us", "cpu_user_us", "cpu_system_us"].map(str::to_owned);
    of_cache
        .chain(of_server.map(|(name, _)| name))
        .chain(of_process)
        .collect()
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}
