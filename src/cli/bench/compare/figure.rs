//! What is measured in every turn, each with its name and the way people read it.

use std::time::Duration;

use crate::cli::bench::generator::Outcome;
use crate::cli::bench::latencies::Latencies;
use crate::cli::bench::text::{grouped, mebibytes, short_time};

/// A figure of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    /// In JSON; the unit stands last.
    pub(super) name: &'static str,
    /// In the table.
    pub(super) heading: &'static str,
    of: fn(&Turn<'_>) -> Option<f64>,
    text: fn(f64) -> String,
}

/// What the figures are taken from.
struct Turn<'o> {
    outcome: &'o Outcome,
    latencies: Latencies,
}

/// The figures of a server in the order in which they are shown.
pub(super) const FIGURES: [Figure; 8] = [
    Figure {
        name: "operations_per_second",
        heading: "operations/s",
        of: |turn| Some(operations(turn)? / turn.outcome.elapsed.as_secs_f64()),
        text: |rate| grouped(rate as u64),
    },
    Figure {
        name: "p50_us",
        heading: "p50",
        of: |turn| turn.at_us(0.5),
        text: time_text,
    },
    Figure {
        name: "p99_us",
        heading: "p99",
        of: |turn| turn.at_us(0.99),
        text: time_text,
    },
    Figure {
        name: "p99_9_us",
        heading: "p99.9",
        of: |turn| turn.at_us(0.999),
        text: time_text,
    },
    Figure {
        name: "p99_99_us",
        heading: "p99.99",
        of: |turn| turn.at_us(0.9999),
        text: time_text,
    },
    Figure {
        name: "cpu_ns_per_operation",
        heading: "CPU ns/op",
        of: |turn| {
            Some(turn.outcome.server.as_ref().ok()?.cpu.as_nanos() as f64 / operations(turn)?)
        },
        text: |time_ns| grouped(time_ns as u64),
    },
    Figure {
        name: "rss_bytes",
        heading: "RSS",
        of: |turn| Some(turn.outcome.server.as_ref().ok()?.rss_bytes as f64),
        text: |bytes| mebibytes(bytes as u64),
    },
    Figure {
        name: "generator_cpu_ns_per_operation",
        heading: "generator",
        of: |turn| Some(turn.outcome.generator_cpu.as_nanos() as f64 / operations(turn)?),
        text: |time_ns| grouped(time_ns as u64),
    },
];

/// Where the figures stand that decide whether there were rounds enough.
pub(super) const THROUGHPUT: usize = 0;
pub(super) const TAIL: usize = 2;
pub(super) const COST: usize = 5;

/// The figures of one turn.
pub(super) fn all_of(outcome: &Outcome) -> [Option<f64>; FIGURES.len()] {
    let turn = Turn {
        outcome,
        latencies: outcome.tally.latencies(),
    };
    FIGURES.map(|figure| (figure.of)(&turn))
}

/// A figure as people read it.
pub(super) fn text(at: usize, figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), FIGURES[at].text)
}

fn operations(turn: &Turn<'_>) -> Option<f64> {
    let answered = turn.outcome.tally.answered;
    (answered > 0).then_some(answered as f64)
}

fn time_text(time_us: f64) -> String {
    short_time(Duration::from_secs_f64(time_us / 1e6))
}

impl Turn<'_> {
    fn at_us(&self, quantile: f64) -> Option<f64> {
        let latencies = &self.latencies;
        (!latencies.is_empty()).then(|| latencies.at(quantile).as_secs_f64() * 1e6)
    }
}
