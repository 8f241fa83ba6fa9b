//! The sweep's flavour of epoch reclamation: what is deferred runs at the first moment at which no pin
//! older than the defer is live, on whoever unpins then.
//!
//! Same names and signatures as the engine's own `reclaim`. So memory is used again as soon as the
//! contract allows, and always at the same place of a program.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// LIMIT: sessions that exist at a time, of a program and of what recovers from it.
const HANDLES: usize = 8;

type Action = Box<dyn FnOnce() + Send>;

struct Deferred {
    action: Action,
    /// One bit for each handle whose pin is older and still live.
    holders: u32,
}

#[derive(Default)]
struct State {
    /// Nested pins of each handle.
    depth: [u32; HANDLES],
    is_registered: [bool; HANDLES],
    deferred: Vec<Deferred>,
}

/// One cache's reclamation domain.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<State>>);

impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Collector")
    }
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn register(&self) -> Handle {
        let mut state = self.state();
        let free = state.is_registered.iter().position(|is| !is);
        let index = free.expect("no more sessions than a program has");
        state.is_registered[index] = true;
        drop(state);
        Handle {
            collector: self.clone(),
            index,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_due(&self) {
        loop {
            let due = {
                let mut state = self.state();
                let at = state.deferred.iter().position(|d| d.holders == 0);
                at.map(|at| state.deferred.remove(at))
            };
            let Some(due) = due else { return };
            (due.action)();
        }
    }
}

/// One participant of a [`Collector`].
pub(crate) struct Handle {
    collector: Collector,
    index: usize,
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Handle({})", self.index)
    }
}

impl Handle {
    pub(crate) fn pin(&self) -> Pin<'_> {
        let pin = Pin {
            handle: self,
            _not_send: PhantomData,
        };
        pin.begin();
        pin
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.collector.state().is_registered[self.index] = false;
    }
}

/// Proof of a pin.
pub(crate) struct Pin<'h> {
    handle: &'h Handle,
    _not_send: PhantomData<*mut ()>,
}

impl Pin<'_> {
    fn begin(&self) {
        self.handle.collector.state().depth[self.handle.index] += 1;
    }

    fn end(&self) {
        let own = self.handle.index;
        let mut state = self.handle.collector.state();
        state.depth[own] -= 1;
        if state.depth[own] == 0 {
            for deferred in &mut state.deferred {
                deferred.holders &= !(1 << own);
            }
        }
        drop(state);
        self.handle.collector.run_due();
    }

    pub(crate) fn defer(&self, action: impl FnOnce() + Send + 'static) {
        let mut state = self.handle.collector.state();
        let pinned = (0..).zip(&state.depth).filter(|(_, depth)| **depth > 0);
        let holders = pinned.fold(0, |holders, (handle, _): (u32, _)| holders | 1 << handle);
        state.deferred.push(Deferred {
            action: Box::new(action),
            holders,
        });
    }

    pub(crate) fn renew(&mut self) {
        let nested = self.handle.collector.state().depth[self.handle.index] > 1;
        if !nested {
            self.end();
            self.begin();
        }
    }

    pub(crate) fn collect(&self) {
        self.handle.collector.run_due();
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}
