//! What one server of a comparison has come to, over its rounds.

use std::time::Instant;

use super::figure::{self, COST, FIGURES, TAIL, THROUGHPUT};
use super::statistics;
use crate::cli::bench::generator::{Load, Outcome, Work};
use crate::cli::bench::plot::Curve;
use crate::cli::bench::tally::Tally;
use crate::cli::bench::target::Target;
use crate::cli::ending::Ending;

/// A server and its rounds.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) name: String,
    pub(super) url: String,
    /// The figures of each round.
    pub(super) rounds: Vec<[Option<f64>; FIGURES.len()]>,
    /// Everything that was counted, the writing before the load included.
    pub(super) tally: Tally,
    /// Why there are no figures of the server's process.
    pub(super) cost_missing: Option<String>,
}

impl Standing {
    pub(super) fn new(name: &str, target: &Target) -> Self {
        Self {
            name: name.to_owned(),
            url: target.to_string(),
            rounds: Vec::new(),
            tally: Tally::new(Instant::now()),
            cost_missing: None,
        }
    }

    /// Every key has been written.
    pub(super) fn prepared(&mut self, outcome: &Outcome) {
        self.tally.add_trouble(&outcome.tally);
    }

    /// The server has had a turn.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.rounds.push(figure::all_of(outcome));
        self.tally.add(&outcome.tally);
        if let Err(why) = &outcome.server {
            self.cost_missing = Some(why.clone());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// What a figure was, in every round in which it is known.
    pub(super) fn figures(&self, at: usize) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round[at]).collect()
    }

    pub(super) fn median(&self, at: usize) -> Option<f64> {
        statistics::median(&self.figures(at))
    }

    pub(super) fn spread(&self, at: usize) -> Option<f64> {
        statistics::spread(&self.figures(at))
    }

    /// Whether the figures that decide have come to rest: the server's CPU, or the throughput where that
    /// is not known, and at a given rate also the tail.
    pub(super) fn is_stable(&self, load: &Load) -> bool {
        let cost = match self.figures(COST) {
            unknown if unknown.is_empty() => self.figures(THROUGHPUT),
            known => known,
        };
        let tail = || statistics::is_stable(&self.figures(TAIL));
        statistics::is_stable(&cost) && (load.rate.is_none() || tail())
    }

    /// Its latencies over all rounds.
    pub(super) fn curve(&self) -> Curve {
        Curve::new(self.name.clone(), &self.tally)
    }

    /// What must not be overlooked.
    pub(super) fn complaints(&self) -> Vec<String> {
        let said = self.tally.complaints().into_iter();
        said.map(|complaint| format!("{}: {complaint}", self.name))
            .collect()
    }

    /// How the command ends for this server.
    pub(super) fn ending(&self, work: Work) -> Ending {
        self.tally.ending(work)
    }
}
