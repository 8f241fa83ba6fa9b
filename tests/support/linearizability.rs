//! Whether a history of concurrent calls to one key can be explained.
//!
//! A history is linearizable if each call can be given one instant between its beginning and its end
//! so that, in the order of these instants, every answer is what [`meaning`](super::meaning) says.
//! Keys do not depend on each other, so each key is checked alone.
//!
//! The search is that of Wing and Gong with Lowe's memory and his just-in-time order (G. Lowe,
//! *Testing for linearizability*, 2017). It walks the ends of the calls in the order of time. A
//! *configuration* is what the key holds, and which of the calls under way have had their instant.
//! The call that ends next must have had its own by then; where it has not, one call under way after
//! the other is given its instant until it has, depth first. A configuration that was met before at
//! the same end is not tried again. A call without an answer has happened by the time its caller gave
//! it up, or never: who executes it was dead by then, or had no connection to take it from. (One that
//! is given up while somebody may still be at it has no end.)

use std::collections::{HashMap, HashSet};

use super::meaning::{Answer, Call, Evictions, State, successors};

/// LIMIT: configurations that are tried. Histories that can be explained need about one for each
/// call.
const CONFIGURATIONS_MAX: usize = 4_000_000;

/// One call, as the thread that made it saw it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) call: Call,
    /// `None`: none came.
    pub(crate) answer: Option<Answer>,
    /// On a clock that all threads share.
    pub(crate) began: u64,
    /// The same; [`u64::MAX`], if a call without an answer may still happen.
    pub(crate) ended: u64,
}

/// A history that nothing explains.
#[derive(Debug)]
pub(crate) struct Violation {
    /// What happened up to the end of the call that cannot be explained.
    pub(crate) calls: Vec<Span>,
    /// The call that cannot be explained, together with what comes before it.
    pub(crate) last: Span,
    /// What the key may have held before it.
    pub(crate) states: HashSet<State>,
    /// Whether all orders were tried; if not, there were too many.
    pub(crate) exhausted: bool,
}

/// What the key holds, and the calls under way that have had their instant, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration {
    state: State,
    done: Vec<usize>,
}

/// The end of a call.
struct End {
    call: usize,
    /// Whether it may never have happened.
    is_in_doubt: bool,
    /// The calls under way then, this one included.
    under_way: Vec<usize>,
}

struct Search<'h> {
    history: &'h [Span],
    now_ms: u64,
    evictions: Evictions,
    ends: Vec<End>,
    /// Which end is that of a call.
    end_of: HashMap<usize, usize>,
    /// The calls that found a version there.
    readers: HashMap<u64, Vec<usize>>,
}

/// Checks the calls to one key, which was empty before; `now_ms` is the time of all calls.
pub(crate) fn check(
    history: &[Span],
    now_ms: u64,
    evictions: Evictions,
) -> Result<(), Box<Violation>> {
    let search = Search::new(history, now_ms, evictions);
    let empty = Configuration {
        state: None,
        done: Vec::new(),
    };
    let mut open = vec![(0, empty)];
    let mut seen = HashSet::new();
    let mut furthest = (0, HashSet::new());
    while let Some((at, mut configuration)) = open.pop() {
        let Some(end) = search.ends.get(at) else {
            return Ok(());
        };
        if let Ok(done) = configuration.done.binary_search(&end.call) {
            configuration.done.remove(done);
            open.push((at + 1, configuration));
            continue;
        }
        if furthest.0 < at {
            furthest = (at, HashSet::new());
        }
        if furthest.0 == at {
            furthest.1.insert(configuration.state.clone());
        }
        let following = search.next(at, &configuration);
        if seen.len() == CONFIGURATIONS_MAX {
            break;
        }
        if seen.insert((at, configuration.clone())) {
            open.extend(following.into_iter().map(|next| (at, next)));
            if end.is_in_doubt {
                open.push((at + 1, configuration));
            }
        }
    }
    let exhausted = seen.len() < CONFIGURATIONS_MAX;
    Err(Box::new(
        search.violation(furthest.0, furthest.1, exhausted),
    ))
}

impl<'h> Search<'h> {
    fn new(history: &'h [Span], now_ms: u64, evictions: Evictions) -> Self {
        let has_end = |&(_, span): &(usize, &Span)| span.ended != u64::MAX;
        let spans = || history.iter().enumerate();
        // What begins in the instant in which something ends may have come first.
        let begins = spans().map(|(call, span)| (span.began, 0, call));
        let ends = (spans().filter(has_end)).map(|(call, span)| (span.ended, 1, call));
        let mut events: Vec<_> = begins.chain(ends).collect();
        events.sort_unstable();
        let mut search = Self {
            history,
            now_ms,
            evictions,
            ends: Vec::new(),
            end_of: HashMap::new(),
            readers: HashMap::new(),
        };
        let mut under_way = Vec::new();
        for (_, kind, call) in events {
            if kind == 0 {
                under_way.push(call);
                continue;
            }
            search.end_of.insert(call, search.ends.len());
            search.ends.push(End {
                call,
                is_in_doubt: history[call].answer.is_none(),
                under_way: under_way.clone(),
            });
            under_way.retain(|&other| other != call);
        }
        for (call, span) in spans() {
            let found = (span.answer.as_ref()).and_then(|answer| answer.found(&span.call));
            if let Some(version) = found {
                search.readers.entry(version).or_default().push(call);
            }
        }
        search
    }

    /// What may come next before the end `at`, by giving one more call its instant; best last.
    fn next(&self, at: usize, from: &Configuration) -> Vec<Configuration> {
        let mut all = Vec::new();
        // The call that ends was among the first to begin, and most likely the first to happen.
        let waiting = |call: &&usize| from.done.binary_search(call).is_err();
        for &call in self.ends[at].under_way.iter().rev().filter(waiting) {
            let Span {
                call: asked,
                answer,
                ..
            } = &self.history[call];
            let answer = answer.as_ref();
            for state in successors(&from.state, asked, answer, self.now_ms, self.evictions) {
                let unchanged = state == from.state;
                if (unchanged && answer.is_none()) || self.leaves_readers(at, from, call, &state) {
                    continue;
                }
                let mut done = from.done.clone();
                done.insert(done.partition_point(|&other| other < call), call);
                let next = Configuration { state, done };
                // A look that changes nothing can as well be now: what follows does not need it.
                let looks =
                    *asked == Call::Get || answer.is_some_and(|answer| answer.is_a_look(asked));
                if unchanged && looks {
                    return vec![next];
                }
                all.push(next);
            }
        }
        all
    }

    /// Whether a call that found the present version would come too late: versions do not return.
    fn leaves_readers(&self, at: usize, from: &Configuration, call: usize, to: &State) -> bool {
        let version = |state: &State| state.as_ref().and_then(|stored| stored.version);
        let Some(left) = version(&from.state) else {
            return false;
        };
        let late = |reader: &usize| {
            *reader != call && self.end_of[reader] >= at && from.done.binary_search(reader).is_err()
        };
        version(to) != Some(left) && self.readers.get(&left).is_some_and(|r| r.iter().any(late))
    }

    fn violation(&self, at: usize, states: HashSet<State>, exhausted: bool) -> Violation {
        let last = self.history[self.ends[at].call].clone();
        let begun = (self.history.iter()).filter(|span| span.began <= last.ended);
        let mut calls: Vec<_> = begun.cloned().collect();
        calls.sort_by_key(|span| span.began);
        let calls = calls.split_off(calls.len().saturating_sub(24));
        Violation {
            calls,
            last,
            states,
            exhausted,
        }
    }
}
