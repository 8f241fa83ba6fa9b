//! A box: the memory, what stands at its front, and the figures that are one word each.

use super::board::{self, Board};
use super::latency::{self, Latency};
use super::layout::{
    BYTES, COUNTERS_AT, COUNTERS_MAX, KIND_AT, MAGIC, MAGIC_AT, NAMES_AT, NAMES_BYTES, NUMBER_AT,
    VERSION, VERSION_AT,
};
use super::names::Kind;
use super::ring::{self, Record};
use super::sequence::{text_words, words_text};
use super::snapshot::{Pulse, Snapshot};
use crate::arena::Arena;
use crate::sync::Ordering;

/// What a thread does now and did last, in shared memory of its own.
///
/// Whoever has it can read it, at any time: it stops nobody, and asks nobody.
#[derive(Debug)]
pub struct BlackBox {
    /// INVARIANT: as large as the layout is, or larger.
    pub(super) arena: Arena,
}

/// What stands at the front of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) magic: u64,
    pub(super) version: u64,
}

impl Front {
    pub(super) const OURS: Self = Self {
        magic: MAGIC,
        version: VERSION,
    };

    pub(super) fn of(arena: &Arena) -> Self {
        // ORDERING: Relaxed; it was written before the box was shared.
        Self {
            magic: arena.word(MAGIC_AT).load(Ordering::Relaxed),
            version: arena.word(VERSION_AT).load(Ordering::Relaxed),
        }
    }
}

impl BlackBox {
    /// Makes a box of memory that is all zero, and not shared yet. Names beyond what there is room
    /// for are left out.
    pub(crate) fn new(arena: Arena, kind: Kind, number: u32, counters: &[&str]) -> Self {
        assert!(arena.bytes() >= BYTES, "too small for a black box");
        let counters = &counters[..counters.len().min(COUNTERS_MAX)];
        let mut names = counters.join("\n");
        names.truncate(NAMES_BYTES as usize);
        // ORDERING: Relaxed; nobody else has it yet.
        let write = |at, word| arena.word(at).store(word, Ordering::Relaxed);
        write(KIND_AT, kind as u64);
        write(NUMBER_AT, number.into());
        write(NAMES_AT, names.len() as u64);
        for (place, word) in (1..).zip(text_words(names.as_bytes())) {
            write(NAMES_AT + place * 8, word);
        }
        write(VERSION_AT, Front::OURS.version);
        write(MAGIC_AT, Front::OURS.magic);
        Self { arena }
    }

    /// Whose box it is; `None` if its number says nothing.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.figure(KIND_AT))
    }

    /// Which of its kind has it.
    pub fn number(&self) -> u32 {
        self.figure(NUMBER_AT) as u32
    }

    /// What its thread does now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self)
    }

    /// Whether its thread goes on, for whoever compares.
    pub fn pulse(&self) -> Pulse {
        Pulse::of(self)
    }

    /// The last operations, oldest first: 4,096, less those of the batch that is being executed and
    /// have not begun.
    pub fn operations(&self) -> Vec<Record> {
        ring::read(&self.arena)
    }

    /// The latencies of those operations of which there were any.
    pub fn latencies(&self) -> Vec<Latency> {
        latency::read(&self.arena)
    }

    /// What its thread counts, by name.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let bytes = self.figure(NAMES_AT).min(NAMES_BYTES) as usize;
        let words = (1..=bytes.div_ceil(8) as u64).map(|place| self.figure(NAMES_AT + place * 8));
        let names = words_text(words, bytes);
        let counters = (0..COUNTERS_MAX as u64).map(|at| self.figure(COUNTERS_AT + at * 8));
        let names = names.lines().map(str::to_owned);
        names.zip(counters).collect()
    }

    /// The board: a text for whoever cannot ask the server. Empty where nobody wrote one.
    pub fn board(&self) -> Board {
        board::read(&self.arena)
    }

    /// A word that stands for itself.
    pub(super) fn figure(&self, at: u64) -> u64 {
        // ORDERING: Relaxed; it is one figure, and nothing is read through it.
        self.arena.word(at).load(Ordering::Relaxed)
    }

    /// Writes a word that stands for itself.
    pub(super) fn set_figure(&self, at: u64, figure: u64) {
        // ORDERING: Relaxed, as in `figure`.
        self.arena.word(at).store(figure, Ordering::Relaxed);
    }
}
