//! What one server of a comparison has come to, over its rounds.

use std::time::Instant;

use super::figure::{self, DECISIVE, DECISIVE_INSTEAD, FIGURES};
use super::statistics;
use crate::cli::bench::generator::{Outcome, Work};
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

    /// Whether the figure that decides has come to rest.
    pub(super) fn is_stable(&self) -> bool {
        let decisive = self.figures(DECISIVE);
        match decisive.is_empty() {
            true => statistics::is_stable(&self.figures(DECISIVE_INSTEAD)),
            false => statistics::is_stable(&decisive),
        }
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
