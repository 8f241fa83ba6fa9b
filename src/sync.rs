//! The one door to atomics, locks and shared ownership for the engine.
//!
//! The engine names these types as `crate::sync::…` and nowhere else. `loom-tests` compiles the
//! same engine files against a module of the same name whose types are loom's, so that the model
//! checks run the real code.

use core::time::Duration;
pub(crate) use std::sync::Arc;
#[cfg(feature = "server")]
pub(crate) use std::sync::Weak;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use parking_lot::Mutex;

/// Whether this thread is ending in a panic.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
}

/// A number that nobody else in this process has been given.
pub(crate) fn unique_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // ORDERING: Relaxed; the number is all that is asked for. LIMIT: 64 bits are never used up.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// LIMIT: a bucket lock is held for tens of nanoseconds; past this many spins its holder has most
/// likely lost its core, and the core is better given away.
const SPINS_BEFORE_YIELD: u32 = 64;
/// LIMIT: a fifth of a millisecond of that, and whoever is waited for is not next in line for this core.
const ATTEMPTS_BEFORE_SLEEP: u32 = 256;
/// LIMIT: about as short as the system's timers allow.
const SLEEP: Duration = Duration::from_micros(50);

/// One step of waiting for another thread inside a bounded critical section.
///
/// `attempt` counts from 0; early attempts spin, later ones give the core away, and then sleep.
pub(crate) fn relax(attempt: u32) {
    if attempt < SPINS_BEFORE_YIELD {
        std::hint::spin_loop();
    } else if attempt < ATTEMPTS_BEFORE_SLEEP {
        std::thread::yield_now();
    } else {
        std::thread::sleep(SLEEP);
    }
}
