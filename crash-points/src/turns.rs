//! Two operations at a time, in an order that is decided in advance: their threads take turns.
//!
//! The first thread runs until it has made a given number of stores; then the second one runs to its
//! end, and then the first one goes on. Whoever has to wait lets the other one run. So exactly one thread
//! runs at any moment, and a program comes to the same stores in the same order each time. Threads that
//! share the work of a recovery let each other run whenever they take a piece of it.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Which of two threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    First = 0,
    Second = 1,
}

impl Who {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// The turns of two threads.
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    running: Who,
    ended: [bool; 2],
    /// Stores that the first thread makes before it stops; `None`: it has stopped, and goes on.
    stores_left: Option<u64>,
    /// Whether whoever takes a number lets the other one run.
    alternates: bool,
}

thread_local! {
    static OWN: RefCell<Option<(Arc<Turns>, Who)>> = const { RefCell::new(None) };
}

impl Turns {
    /// The first thread begins, and stops after so many stores.
    pub(crate) fn stopping_after(stores: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                running: Who::First,
                ended: [false; 2],
                stores_left: Some(stores),
                alternates: false,
            }),
            changed: Condvar::new(),
        })
    }

    /// Each runs until it takes a number, and then the other one.
    pub(crate) fn alternating() -> Arc<Self> {
        let turns = Self::stopping_after(u64::MAX);
        turns.state().alternates = true;
        turns
    }

    /// Whether the first thread has stopped: it made that many stores.
    pub(crate) fn has_stopped(&self) -> bool {
        self.state().stores_left.is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_turn(&self, who: Who, mut state: MutexGuard<'_, State>) {
        while state.running != who {
            state = (self.changed.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the other thread run until it gives the turn back, unless it has ended.
    fn hand_over(&self, who: Who) {
        let mut state = self.state();
        if !state.ended[who.other() as usize] {
            state.running = who.other();
            self.changed.notify_all();
            self.wait_for_turn(who, state);
        }
    }
}

/// This thread's part in turns that two threads take; ends when dropped.
pub(crate) struct Part {
    turns: Arc<Turns>,
    who: Who,
}

impl Part {
    /// Takes part, and waits for the first turn.
    pub(crate) fn take(turns: &Arc<Turns>, who: Who) -> Self {
        OWN.set(Some((Arc::clone(turns), who)));
        turns.wait_for_turn(who, turns.state());
        Self {
            turns: Arc::clone(turns),
            who,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        OWN.set(None);
        let mut state = self.turns.state();
        state.ended[self.who as usize] = true;
        state.running = self.who.other();
        self.turns.changed.notify_all();
    }
}

/// Notes a store of this thread: it may be the one after which the other thread runs.
pub(crate) fn note_store() {
    let own = OWN.with_borrow(Option::clone);
    let Some((turns, Who::First)) = own else {
        return;
    };
    let mut state = turns.state();
    match &mut state.stores_left {
        None => return,
        Some(left) if *left > 1 => {
            *left -= 1;
            return;
        }
        Some(_) => state.stores_left = None,
    }
    drop(state);
    turns.hand_over(Who::First);
}

/// Notes that this thread took a number: it may be the other one's turn.
pub(crate) fn note_number() {
    let own = OWN.with_borrow(Option::clone);
    if let Some((turns, who)) = own
        && turns.state().alternates
    {
        turns.hand_over(who);
    }
}

/// Lets the other thread run, if there is one that has not ended.
pub(crate) fn let_the_other_run() {
    let own = OWN.with_borrow(Option::clone);
    if let Some((turns, who)) = own {
        turns.hand_over(who);
    }
}
