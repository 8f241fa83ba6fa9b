//! The model checker's flavour of the door to atomics, locks and shared ownership.
//!
//! Same names and signatures as the engine's own `sync`; the types behind them are loom's, with
//! two additions.
//!
//! *Turns.* loom 0.7 remembers only the last access to an atomic, so that a thread's own load hides
//! another thread's earlier one, and in "A loads; B loads; B exchanges" (every compare-exchange
//! loop) no second schedule is tried (tokio-rs/loom issues 166 and 392). Each atomic therefore has a
//! companion for each thread: a load touches the own one, a store those of all others, so that loom
//! tries both orders of each load and store, and still none of two loads. Turns are relaxed
//! read-modify-writes: they add no happens-before edge as long as nobody uses fences.
//!
//! *Stores beside exchanges.* loom leaves a store and a read-modify-write that are concurrent
//! unordered even where the latter read an older value, so that the overwritten exchange can come
//! to light again, which no memory model allows. A store is therefore made as a swap. LIMIT: it then
//! continues the release sequence that it should end. Stores of the black box, in whose words nobody
//! exchanges anything, stay stores, and a weakened one ends what a stronger one before it began.
//!
//! *The mutant.* Every access asks [`mutant::at`] whether it is the one to be weakened.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

use loom::cell::{MutPtr, UnsafeCell};

use crate::model::{THREADS_MAX, threads};
use crate::mutant::{self, Kind, Operation};

// The standard library's own pointer: it is not what is checked, `self: &Arc<Self>` needs it, and no
// model takes an edge from the last drop.
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

/// Whether this thread is ending in a panic.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
}

/// A number that nobody else in this process has been given: no step of a model.
pub(crate) fn unique_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A 64-bit atomic whose every access is a scheduling point and a possible mutant.
pub(crate) struct AtomicU64 {
    value: loom::sync::atomic::AtomicU64,
    /// One for each thread of the model.
    turns: [loom::sync::atomic::AtomicU64; THREADS_MAX],
}

impl fmt::Debug for AtomicU64 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AtomicU64")
    }
}

impl Default for AtomicU64 {
    fn default() -> Self {
        Self::new(0)
    }
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self {
            value: loom::sync::atomic::AtomicU64::new(value),
            turns: std::array::from_fn(|_| loom::sync::atomic::AtomicU64::new(0)),
        }
    }

    fn before_load(&self) {
        let threads = threads();
        if threads.started > 1 {
            self.turns[threads.own].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn before_store(&self) {
        let threads = threads();
        for thread in (0..threads.started).filter(|thread| *thread != threads.own) {
            self.turns[thread].fetch_add(1, Ordering::Relaxed);
        }
    }

    #[track_caller]
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        let kind = mutant::at(Location::caller(), Operation::Load(order));
        self.before_load();
        self.value.load(weakened(order, kind))
    }

    #[track_caller]
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        let kind = mutant::at(Location::caller(), Operation::Store(order));
        self.before_store();
        let order = weakened(order, kind);
        match kind {
            Some(Kind::Skip) => {}
            _ if mutant::is_in_black_box(Location::caller()) => self.value.store(value, order),
            _ => _ = self.value.swap(value, order),
        }
    }

    #[track_caller]
    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let operation = Operation::CompareExchange(success, failure);
        let kind = mutant::at(Location::caller(), operation);
        self.before_store();
        match kind {
            Some(Kind::Skip) => Ok(current),
            Some(Kind::Split) => {
                let seen = self.value.load(load_part(success));
                if seen != current {
                    return Err(seen);
                }
                self.before_store();
                self.value.store(new, store_part(success));
                Ok(seen)
            }
            Some(Kind::RelaxFailure) => {
                self.value
                    .compare_exchange(current, new, success, Ordering::Relaxed)
            }
            _ => self
                .value
                .compare_exchange(current, new, weakened(success, kind), failure),
        }
    }

    #[track_caller]
    pub(crate) fn compare_exchange_weak(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, failure)
    }

    #[track_caller]
    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.modify(Change::Swap, value, order)
    }

    #[track_caller]
    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.modify(Change::Add, value, order)
    }

    #[track_caller]
    pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.modify(Change::Sub, value, order)
    }

    #[track_caller]
    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.modify(Change::Or, value, order)
    }

    #[track_caller]
    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.modify(Change::And, value, order)
    }

    #[track_caller]
    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.modify(Change::Max, value, order)
    }

    #[track_caller]
    pub(crate) fn fetch_min(&self, value: u64, order: Ordering) -> u64 {
        self.modify(Change::Min, value, order)
    }

    #[track_caller]
    fn modify(&self, change: Change, value: u64, order: Ordering) -> u64 {
        let kind = mutant::at(Location::caller(), Operation::Modify(order));
        self.before_store();
        match kind {
            Some(Kind::Skip) => self.value.load(load_part(order)),
            Some(Kind::Split) => {
                let old = self.value.load(load_part(order));
                self.before_store();
                self.value.store(change.of(old, value), store_part(order));
                old
            }
            _ => {
                let order = weakened(order, kind);
                match change {
                    Change::Swap => self.value.swap(value, order),
                    Change::Add => self.value.fetch_add(value, order),
                    Change::Sub => self.value.fetch_sub(value, order),
                    Change::Or => self.value.fetch_or(value, order),
                    Change::And => self.value.fetch_and(value, order),
                    Change::Max => self.value.fetch_max(value, order),
                    Change::Min => self.value.fetch_min(value, order),
                }
            }
        }
    }

    /// Sets the value outside the model's memory order; any store that does not happen before this
    /// is reported as a race.
    pub(crate) fn reset(&self) {
        // SAFETY: loom itself checks that no store is concurrent, which is what is asked here.
        unsafe { self.value.unsync_load() };
        self.value.store(0, Ordering::Relaxed);
    }
}

/// What a read-modify-write does to the value.
#[derive(Clone, Copy)]
enum Change {
    Swap,
    Add,
    Sub,
    Or,
    And,
    Max,
    Min,
}

impl Change {
    fn of(self, old: u64, value: u64) -> u64 {
        match self {
            Self::Swap => value,
            Self::Add => old.wrapping_add(value),
            Self::Sub => old.wrapping_sub(value),
            Self::Or => old | value,
            Self::And => old & value,
            Self::Max => old.max(value),
            Self::Min => old.min(value),
        }
    }
}

fn weakened(order: Ordering, kind: Option<Kind>) -> Ordering {
    match (kind, order) {
        (Some(Kind::Relax), _) => Ordering::Relaxed,
        (Some(Kind::DropAcquire), Ordering::AcqRel | Ordering::SeqCst) => Ordering::Release,
        (Some(Kind::DropRelease), Ordering::AcqRel | Ordering::SeqCst) => Ordering::Acquire,
        _ => order,
    }
}

fn load_part(order: Ordering) -> Ordering {
    match order {
        Ordering::Relaxed | Ordering::Release => Ordering::Relaxed,
        _ => Ordering::Acquire,
    }
}

fn store_part(order: Ordering) -> Ordering {
    match order {
        Ordering::Relaxed | Ordering::Acquire => Ordering::Relaxed,
        _ => Ordering::Release,
    }
}

/// A lock with parking_lot's shape: no poison, the guard comes straight from `lock`.
///
/// The data stands in a checked cell of its own, so that a skipped lock shows as a race on it.
pub(crate) struct Mutex<T> {
    lock: loom::sync::Mutex<()>,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives the data to one thread at a time; where a mutant skips the lock, loom runs
// all model threads on one system thread and reports the race.
unsafe impl<T: Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Mutex")
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Mutex<T> {
    pub(crate) fn new(data: T) -> Self {
        Self {
            lock: loom::sync::Mutex::new(()),
            data: UnsafeCell::new(data),
        }
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let kind = mutant::at(Location::caller(), Operation::Lock);
        let lock = match kind {
            Some(Kind::Skip) => {
                loom::thread::yield_now();
                None
            }
            _ => Some(self.lock.lock().expect("loom's locks are never poisoned")),
        };
        MutexGuard {
            data: self.data.get_mut(),
            _lock: lock,
        }
    }

    #[track_caller]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let kind = mutant::at(Location::caller(), Operation::Lock);
        let lock = match kind {
            Some(Kind::Skip) => None,
            _ => Some(self.lock.try_lock().ok()?),
        };
        Some(MutexGuard {
            data: self.data.get_mut(),
            _lock: lock,
        })
    }
}

/// Proof of a held [`Mutex`]. Fields drop in order: the access ends before the lock is given back.
pub(crate) struct MutexGuard<'m, T> {
    data: MutPtr<T>,
    _lock: Option<loom::sync::MutexGuard<'m, ()>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock; loom checks every other access while the pointer lives.
        unsafe { self.data.deref() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { self.data.deref() }
    }
}

/// One step of waiting: lets the other threads of the model run.
pub(crate) fn relax(_attempt: u32) {
    loom::thread::yield_now();
}
