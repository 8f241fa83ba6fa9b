//! Rounds: in each, every contender has its turn with the same requests.

use std::ops::RangeFrom;
use std::time::Duration;

use crate::contenders::{Contender, Entrant, Hashing, Room};
use crate::load::{Keys, Requests};
use crate::report::{Case, Figure};

/// All who take part, with one room.
pub(crate) struct Field<'k> {
    pub(crate) keys: &'k Keys,
    /// For each thread and round.
    pub(crate) operations: usize,
    /// Those that count, in each case.
    pub(crate) rounds: usize,
    pub(crate) standings: Vec<Standing>,
    /// No two rounds of any case ask for the same.
    pub(crate) seeds: RangeFrom<u64>,
}

/// One who takes part, and how it fares in the case at hand.
pub(crate) struct Standing {
    entrant: Entrant,
    contender: Box<dyn Contender>,
    /// Of all threads together, for each round.
    cpu: Vec<Duration>,
    hits: u64,
    refusals_before: u64,
}

impl Standing {
    /// Opens a contender and sets every key once.
    pub(crate) fn open(entrant: &Entrant, hashing: Hashing, room: Room, keys: &Keys) -> Self {
        let contender = entrant.open(hashing, room, keys);
        contender.fill(keys);
        Self {
            entrant: *entrant,
            contender,
            cpu: Vec::new(),
            hits: 0,
            refusals_before: 0,
        }
    }

    /// Forgets everything that came before in the case at hand, and leaves nothing of it to do.
    fn begin(&mut self) {
        self.contender.settle();
        self.cpu.clear();
        self.hits = 0;
        self.refusals_before = self.contender.refusals();
    }

    fn take_turn(&mut self, requests: &[Requests]) {
        let turn = self.contender.turn(requests);
        self.cpu.push(turn.cpu);
        self.hits += turn.hits;
    }

    fn figure(&mut self, case: Case, operations: usize, gets: u64) -> Figure {
        self.cpu.sort_unstable();
        let median = self.cpu[self.cpu.len() / 2];
        Figure {
            contender: self.entrant.name,
            kind: self.entrant.kind,
            case,
            cpu_ns: median.as_nanos() as f64 / (operations * case.threads) as f64,
            hit_ratio: self.hits as f64 / gets as f64,
            entries: self.contender.entries(),
            refusals: self.contender.refusals() - self.refusals_before,
        }
    }
}

impl Field<'_> {
    /// A figure for each standing.
    pub(crate) fn measure(&mut self, case: Case) -> Vec<Figure> {
        // A round that does not count brings each to a steady state.
        self.round(case, 0);
        self.standings.iter_mut().for_each(Standing::begin);
        let gets = (0..self.rounds).map(|round| self.round(case, round)).sum();
        let standings = self.standings.iter_mut();
        standings
            .map(|standing| standing.figure(case, self.operations, gets))
            .collect()
    }

    /// Gives each its turn, another one first each time, and tells how many gets a turn had.
    fn round(&mut self, case: Case, round: usize) -> u64 {
        let seeds = self.seeds.by_ref().take(case.threads);
        let draw = |seed| {
            Requests::draw(
                self.keys,
                case.draw,
                case.gets_percent,
                self.operations,
                seed,
            )
        };
        let requests: Vec<_> = seeds.map(draw).collect();
        let (late, early) = {
            let first = round % self.standings.len();
            self.standings.split_at_mut(first)
        };
        for standing in early.iter_mut().chain(late) {
            standing.take_turn(&requests);
        }
        requests.iter().map(Requests::gets).sum()
    }
}
