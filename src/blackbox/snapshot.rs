//! What a thread does now, as somebody else finds it.

use super::content::BlackBox;
use super::layout::{
    BATCHES_AT, BUILD_WORDS, CONNECTIONS_AT, GIVEN_AT, IDENTITY_AT, IDENTITY_WORDS, NOW_AT,
    OPERATIONS_AT, SERVED_AT, SERVED_WORDS, TAKEN_AT, TURNS_AT, WAITING_AT,
};
use super::names::Phase;
use super::peer::{PackedPeer, Peer};
use super::ring::{self, Record};
use super::sequence::{Sequence, words_text};
use crate::shape::READ_ATTEMPTS;

/// A phase is below the time since when it lasts.
pub(super) const PHASE_BITS: u32 = 4;

/// What a thread does now. Times are of the monotonic clock, in nanoseconds, and the same in every
/// process of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its process; 0: it has not begun.
    pub process: u32,
    /// Itself, as the system knows it.
    pub thread: u32,
    /// The number of its session with the cache; 0: it has none.
    pub session: u32,
    /// When it began.
    pub started_ns: u64,
    /// The same in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// What program it runs.
    pub build: String,
    /// What it does; `None`: the box is damaged.
    pub phase: Option<Phase>,
    /// Since when. The clock is not read for it: it may have begun a little later.
    pub since_ns: u64,
    /// Turns and other steps that it has taken: whoever makes progress, counts on.
    pub turns: u64,
    /// Connections that it has.
    pub connections: u64,
    /// Connections that it was given and has not taken over.
    pub untaken: u64,
    /// Connections that wait for their turn, as far as it knows.
    pub waiting: u64,
    /// The connection that it serves, or served last.
    pub connection: Option<Connection>,
    /// The operation that it has begun and not ended.
    pub operation: Option<Record>,
    /// Whether it went on while this was read: then the parts may be of different moments.
    pub is_moving: bool,
    /// Whether it was in the middle of saying who it is or whom it serves, and stayed there.
    pub is_torn: bool,
}

/// A few words that tell whether a thread goes on: cheap enough to be looked at again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// What it does; `None`: the box is damaged.
    pub phase: Option<Phase>,
    /// Since when, by the monotonic clock in nanoseconds.
    pub since_ns: u64,
    /// Turns and other steps that it has taken.
    pub turns: u64,
    /// Operations and batches that it has announced.
    pub announced: [u64; 2],
    /// Connections that it has.
    pub connections: u64,
    /// Connections that it was given and has not taken over.
    pub untaken: u64,
}

impl Pulse {
    pub(super) fn of(black_box: &BlackBox) -> Self {
        let now = black_box.figure(NOW_AT);
        Self {
            phase: Phase::of(now & ((1 << PHASE_BITS) - 1)),
            since_ns: now >> PHASE_BITS,
            turns: black_box.figure(TURNS_AT),
            announced: [OPERATIONS_AT, BATCHES_AT].map(|at| black_box.figure(at)),
            connections: black_box.figure(CONNECTIONS_AT),
            untaken: untaken(black_box),
        }
    }

    /// Whether the thread has gone on since an earlier look.
    pub fn has_moved_since(&self, earlier: &Self) -> bool {
        let steps = |pulse: &Self| (pulse.phase, pulse.since_ns, pulse.turns, pulse.announced);
        steps(self) != steps(earlier)
    }
}

/// A connection that a thread serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Its number: no other connection of this server has had it.
    pub number: u64,
    /// Who is at the other end.
    pub peer: Peer,
}

impl Snapshot {
    pub(super) fn of(black_box: &BlackBox) -> Self {
        let state = || [NOW_AT, TURNS_AT].map(|at| black_box.figure(at));
        let mut before = state();
        for _ in 0..READ_ATTEMPTS {
            let snapshot = Self::read(black_box, before);
            let after = state();
            if before == after {
                return snapshot;
            }
            before = after;
        }
        Self {
            is_moving: true,
            ..Self::read(black_box, before)
        }
    }

    fn read(black_box: &BlackBox, [now, turns]: [u64; 2]) -> Self {
        let arena = &black_box.arena;
        let identity = Sequence { at: IDENTITY_AT }.words::<IDENTITY_WORDS>(arena);
        let [
            process,
            thread,
            session,
            started_ns,
            started_ms,
            build_bytes,
            build @ ..,
        ] = identity.value;
        let build_bytes = build_bytes.min(BUILD_WORDS as u64 * 8) as usize;
        let served = Sequence { at: SERVED_AT }.words::<SERVED_WORDS>(arena);
        let [number, peer @ ..] = served.value;
        let peer = Peer::of(PackedPeer(peer));
        Self {
            process: process as u32,
            thread: thread as u32,
            session: session as u32,
            started_ns,
            started_ms,
            build: words_text(build, build_bytes),
            phase: Phase::of(now & ((1 << PHASE_BITS) - 1)),
            since_ns: now >> PHASE_BITS,
            turns,
            connections: black_box.figure(CONNECTIONS_AT),
            untaken: untaken(black_box),
            waiting: black_box.figure(WAITING_AT),
            connection: (number != 0).then_some(Connection { number, peer }),
            operation: ring::read_open(arena),
            is_moving: false,
            is_torn: identity.is_torn || served.is_torn,
        }
    }
}

fn untaken(black_box: &BlackBox) -> u64 {
    let taken = black_box.figure(TAKEN_AT);
    black_box.figure(GIVEN_AT).saturating_sub(taken)
}
