//! The sweep's flavour of the door to atomics, locks and shared ownership.
//!
//! Same names and signatures as the engine's own `sync`. The atomics are the standard library's, and
//! lie in the arena; each of their stores is told to the [`tape`](crate::tape), also one that changes
//! nothing. Orderings are passed on and do not matter here: a process that dies has made all stores up
//! to some point of its program, and none after it, and whoever comes later sees them all. What
//! weaker orders could do to *another thread* is what `loom-tests` checks.
//!
//! Whoever has to wait (for a bucket's lock, or a lock of the process) lets the other thread of a
//! program go on, if it has one. If it has none, nobody will ever end the wait, and that is a finding.

use std::fmt;

use crate::fault;
use crate::tape;
use crate::turns;

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

/// LIMIT: steps of waiting after which the wait is taken for endless; above the tries that a session
/// makes to find room.
const ATTEMPTS_MAX: u32 = 100;

/// A 64-bit atomic, of the arena but for a few.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct AtomicU64(std::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(value))
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn stored(&self, value: u64) {
        tape::stored(self.address(), value);
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        fault::loaded(self.address(), self.0.load(order))
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        let value = fault::storing(self.address(), || self.0.load(Ordering::Relaxed), value);
        self.0.store(value, order);
        self.stored(value);
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let before = self.0.compare_exchange(current, new, success, failure)?;
        self.stored(new);
        Ok(before)
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, failure)
    }

    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        let before = self.0.swap(value, order);
        self.stored(value);
        before
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        let before = self.0.fetch_add(value, order);
        self.stored(before.wrapping_add(value));
        turns::note_number();
        before
    }

    pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        let before = self.0.fetch_sub(value, order);
        self.stored(before.wrapping_sub(value));
        before
    }

    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        let before = self.0.fetch_or(value, order);
        self.stored(before | value);
        before
    }

    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        let before = self.0.fetch_and(value, order);
        self.stored(before & value);
        before
    }

    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        let before = self.0.fetch_max(value, order);
        self.stored(before.max(value));
        before
    }
}

/// A lock with parking_lot's shape: no poison, the guard comes straight from `lock`.
#[derive(Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

/// Proof of a held [`Mutex`].
pub(crate) type MutexGuard<'m, T> = std::sync::MutexGuard<'m, T>;

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Mutex")
    }
}

impl<T> Mutex<T> {
    pub(crate) fn new(data: T) -> Self {
        Self(std::sync::Mutex::new(data))
    }

    pub(crate) fn into_inner(self) -> T {
        let data = self.0.into_inner();
        data.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let mut attempt = 0;
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            relax(attempt);
            attempt += 1;
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// Whether this thread is ending in a panic.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
}

/// A number that nobody else in this process has been given.
pub(crate) fn unique_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One step of waiting: the other thread of the program runs until it ends or waits, too.
pub(crate) fn relax(attempt: u32) {
    turns::let_the_other_run();
    assert!(
        attempt < ATTEMPTS_MAX,
        "waits for what nobody will give back"
    );
}
