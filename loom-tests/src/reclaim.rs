//! The model checker's flavour of epoch reclamation: the strictest that the contract allows.
//!
//! Same names and signatures as the engine's own `reclaim`. A deferred action runs at the first
//! moment at which no pin older than the defer is live, on the thread whose unpin made it so, and
//! takes its happens-before edge from all unpins so far. A pin takes one from the defers before it
//! (what was unlinked and deferred is not found again), and from nothing else.
//!
//! Each handle has a *turn*, the atomic through which loom sees these edges. Pinning and unpinning
//! touch the own turn, deferring touches every turn in sequence: whether a pin is older than a
//! defer is decided at the moment when the defer touches the pin's turn, so that loom tries both
//! orders of each such pair and none of two pins.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard};

use loom::sync::atomic::AtomicU64;

use crate::mutant::{self, Kind, Operation};
use crate::sync::Ordering;

/// LIMIT: loom runs five threads at most; one more handle stays with the model itself.
const HANDLES: usize = 6;

type Action = Box<dyn FnOnce() + Send>;

struct Deferred {
    action: Action,
    /// One bit for each handle whose pin is older and still live.
    holders: u32,
    /// False while its own `defer` still collects the holders.
    armed: bool,
    id: u64,
}

#[derive(Default)]
struct State {
    registered: usize,
    /// Nested pins of each handle.
    depth: [u32; HANDLES],
    deferred: Vec<Deferred>,
    defers: u64,
}

struct Domain {
    turns: [AtomicU64; HANDLES],
    state: Mutex<State>,
}

impl Domain {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn run_due(&self) {
        let due: Vec<Deferred> = {
            let mut state = self.state();
            let all = std::mem::take(&mut state.deferred);
            let (due, kept) = all
                .into_iter()
                .partition(|deferred| deferred.armed && deferred.holders == 0);
            state.deferred = kept;
            due
        };
        if due.is_empty() {
            return;
        }
        for turn in &self.turns {
            turn.fetch_add(1, Ordering::Acquire);
        }
        for deferred in due {
            (deferred.action)();
        }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let left = std::mem::take(&mut self.state().deferred);
        for deferred in left {
            (deferred.action)();
        }
    }
}

/// One cache's reclamation domain.
#[derive(Clone)]
pub(crate) struct Collector(Arc<Domain>);

impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Collector")
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Domain {
            turns: std::array::from_fn(|_| AtomicU64::new(0)),
            state: Mutex::default(),
        }))
    }

    pub(crate) fn register(&self) -> Handle {
        let mut state = self.0.state();
        let index = state.registered;
        assert!(index < HANDLES, "more sessions than a model may have");
        state.registered += 1;
        Handle {
            domain: Arc::clone(&self.0),
            index,
        }
    }
}

/// One participant of a [`Collector`].
pub(crate) struct Handle {
    domain: Arc<Domain>,
    index: usize,
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Handle({})", self.index)
    }
}

impl Handle {
    #[track_caller]
    pub(crate) fn pin(&self) -> Pin<'_> {
        let kind = mutant::at(Location::caller(), Operation::Pin);
        let pin = Pin {
            handle: self,
            live: kind != Some(Kind::Skip),
            _not_send: PhantomData,
        };
        pin.begin();
        pin
    }

    fn turn(&self) -> &AtomicU64 {
        &self.domain.turns[self.index]
    }
}

/// Proof of a pin.
pub(crate) struct Pin<'h> {
    handle: &'h Handle,
    /// False only for the mutant that does not pin.
    live: bool,
    _not_send: PhantomData<*mut ()>,
}

impl Pin<'_> {
    fn begin(&self) {
        // ORDERING: pairs with the release in `defer`: a younger pin sees what was unlinked.
        self.handle.turn().fetch_add(1, Ordering::Acquire);
        if self.live {
            self.handle.domain.state().depth[self.handle.index] += 1;
        }
    }

    fn end(&self) {
        // ORDERING: pairs with the acquire in `run_due`: what was read under the pin was read before
        // the memory is reused.
        self.handle.turn().fetch_add(1, Ordering::Release);
        if self.live {
            let mut state = self.handle.domain.state();
            let depth = &mut state.depth[self.handle.index];
            *depth -= 1;
            if *depth == 0 {
                for deferred in &mut state.deferred {
                    deferred.holders &= !(1 << self.handle.index);
                }
            }
        }
        self.handle.domain.run_due();
    }

    #[track_caller]
    pub(crate) fn defer(&self, action: impl FnOnce() + Send + 'static) {
        let kind = mutant::at(Location::caller(), Operation::Defer);
        if kind == Some(Kind::AtOnce) {
            return action();
        }
        let domain = &self.handle.domain;
        let id = {
            let mut state = domain.state();
            let id = state.defers;
            state.defers += 1;
            state.deferred.push(Deferred {
                action: Box::new(action),
                holders: 0,
                armed: false,
                id,
            });
            id
        };
        for (index, turn) in domain.turns.iter().enumerate() {
            turn.fetch_add(1, Ordering::AcqRel);
            let mut state = domain.state();
            if state.depth[index] > 0 {
                let own = state.deferred.iter_mut().find(|deferred| deferred.id == id);
                own.expect("runs only once armed").holders |= 1 << index;
            }
        }
        if kind != Some(Kind::Never) {
            let mut state = domain.state();
            let own = state.deferred.iter_mut().find(|deferred| deferred.id == id);
            own.expect("runs only once armed").armed = true;
        }
        domain.run_due();
    }

    pub(crate) fn renew(&mut self) {
        let nested = self.handle.domain.state().depth[self.handle.index] > 1;
        if !nested {
            self.end();
            self.begin();
        }
    }

    pub(crate) fn collect(&self) {
        self.handle.domain.run_due();
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}
