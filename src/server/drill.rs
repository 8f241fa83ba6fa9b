//! Drills: a worker fails on purpose and for real, so that it can be seen what then happens.
//!
//! The order stands in the worker's black box, where the process outside has put it. The maintenance
//! thread wakes the worker for it ([`Shared::wake_for_drills`]), and the worker does it in a turn of
//! its newest connection, as any failure would happen. Without
//! [`Settings::allow_drills`](super::Settings::allow_drills) nobody looks at orders.
//!
//! A [`DeadlyKey`] is a drill that waits: the worker that is to execute an operation on that key dies in the
//! midst of it, and so does the next process, until the supervisor finds out that the two have that in
//! common. To the batch, such an operation is one that is refused; before anything is sent, it is looked
//! whether it was refused for this, and the worker dies at it ([`Shared::die_of_deadly_key`]).
//!
//! None of them endangers the machine: what takes time has an end, and what takes memory has a limit
//! that the process sets itself.

use std::fs;
use std::io::Write;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::clock::Now;
use super::connection::Connection;
use super::service::{Service, Turned};
use super::shared::Shared;
use crate::blackbox::{BlackBox, Fingerprint, Operation, Outcome, Pen, Phase};
use crate::engine::Cache;
use crate::sync::Arc;

/// LIMIT: how much more a process may map that is to run out of memory.
const HOARD_MAPPED_BYTES_MAX: u64 = 32 << 20;

/// LIMIT: how large the pieces become that it takes: as powers of two, from 1 MiB on. The largest is more
/// than it may map, and more than the allocator has mapped ahead; so it takes less than that in all.
const HOARD_EXPONENTS: std::ops::RangeInclusive<u32> = 20..=27;

/// More than any pipe holds.
const SLOW_WRITE_BYTES: usize = 16 << 20;

/// How soon memory is taken that was given back while it is denied.
const DENIED_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// The numbers of drills stand below their duration.
const NUMBER_BITS: u32 = 8;

/// LIMIT: how long a drill may last.
const DURATION_MAX: Duration = Duration::from_secs(600);

macro_rules! drills {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// How a worker may be asked to fail.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Drill {
            $($(#[$doc])* $variant,)*
        }

        impl Drill {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// What it is called.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

drills! {
    /// It waits in a system call.
    Hang = "hang",
    /// It goes round in a loop.
    Spin = "spin",
    /// It panics while it serves a connection.
    Panic = "panic",
    /// Its process ends itself.
    Abort = "abort",
    /// It touches memory that it may not.
    Segfault = "segfault",
    /// Its process takes memory until the system refuses it.
    Oom = "oom",
    /// It writes where nobody reads.
    SlowIo = "slow-io",
    /// All that connections may hold is taken.
    DenyMemory = "deny-memory",
}

impl Drill {
    /// Whether the process of the worker dies of it.
    pub(crate) fn is_lethal(self) -> bool {
        matches!(self, Self::Abort | Self::Segfault | Self::Oom)
    }

    /// Whether it goes on for a time.
    pub(crate) fn lasts(self) -> bool {
        !self.is_lethal() && self != Self::Panic
    }
}

impl FromStr for Drill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.iter();
        all.find(|drill| drill.name() == text)
            .copied()
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|drill| drill.name()).collect();
                format!("there is no drill `{text}`; accepted: {}", names.join(", "))
            })
    }
}

/// A drill, and for how long, as a word of a black box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrillOrder {
    pub(crate) drill: Drill,
    /// Of use where it [`lasts`](Drill::lasts).
    pub(crate) duration: Duration,
}

impl DrillOrder {
    /// Fails, with what would be right, if it would last too long.
    pub(crate) fn new(drill: Drill, duration: Duration) -> Result<Self, String> {
        match duration <= DURATION_MAX {
            true => Ok(Self { drill, duration }),
            false => Err(format!(
                "a drill of {duration:?} is too long; accepted: up to {DURATION_MAX:?}"
            )),
        }
    }

    /// As it stands in a black box; never 0.
    pub(crate) fn word(self) -> u64 {
        let duration_ms = super::clock::whole_ms(self.duration);
        duration_ms << NUMBER_BITS | (self.drill as u64 + 1)
    }

    fn of(word: u64) -> Option<Self> {
        let number = (word & ((1 << NUMBER_BITS) - 1)).checked_sub(1)?;
        let drill = *Drill::ALL.get(usize::try_from(number).ok()?)?;
        Self::new(drill, Duration::from_millis(word >> NUMBER_BITS)).ok()
    }
}

/// A key that a worker dies of when it is to execute an operation on it, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlyKey {
    drill: Drill,
    key: Vec<u8>,
}

impl DeadlyKey {
    /// Fails, with what would be right, if nobody dies of that drill.
    pub(crate) fn new(drill: Drill, key: &str) -> Result<Self, String> {
        if drill.is_lethal() {
            let key = key.as_bytes().to_owned();
            return Ok(Self { drill, key });
        }
        let lethal = Drill::ALL.iter().filter(|drill| drill.is_lethal());
        let lethal: Vec<_> = lethal.map(|drill| drill.name()).collect();
        Err(format!(
            "no process dies of `{}`, and so no key can be deadly by it; accepted: {}",
            drill.name(),
            lethal.join(", ")
        ))
    }
}

impl FromStr for DeadlyKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':');
        let (drill, key) =
            parts.ok_or_else(|| format!("`{text}` is no deadly key; accepted: DRILL:KEY"))?;
        Self::new(drill.parse()?, key)
    }
}

/// A deadly key, as a server knows it.
#[derive(Debug)]
pub(super) struct Deadly {
    drill: Drill,
    key_hash: u64,
}

impl Deadly {
    /// `None`: the cache has no such keys.
    pub(super) fn of(deadly: &DeadlyKey, cache: &Cache) -> Option<Self> {
        let key = cache.key(&deadly.key).ok()?;
        Some(Self {
            drill: deadly.drill,
            key_hash: key.hash.0,
        })
    }

    /// All that may be asked of the key.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        let key_hash = self.key_hash;
        let all = Operation::ALL.iter();
        all.map(move |&operation| Fingerprint {
            operation,
            key_hash,
        })
    }
}

impl Shared {
    /// Wakes those workers that a drill was ordered for.
    pub(super) fn wake_for_drills(&self) {
        for station in &self.stations {
            if station.black_box.ordered_drill().is_some() {
                // One that has ended needs no waking.
                let _ = station.waker.wake();
            }
        }
    }
}

impl Shared {
    /// Dies at an operation of the last batch of a worker that was refused since its key is deadly, and not
    /// because processes have died of it.
    #[cold]
    pub(super) fn die_of_deadly_key(&self, black_box: &BlackBox, pen: &mut Pen, now: Now) {
        let Some(deadly) = &self.deadly else {
            return;
        };
        let key_hash = deadly.key_hash;
        let records = black_box.operations();
        let last_batch = records.last().map(|record| record.batch);
        let of_last = (records.iter().rev()).take_while(|record| Some(record.batch) == last_batch);
        let refused = of_last.filter(|record| record.outcome == Some(Outcome::Quarantined));
        // A request of many keys is not noted with the one that it is refused for.
        let of_key = refused.filter(|record| [0, key_hash].contains(&record.key_hash));
        let proper = self.quarantine_proper(now);
        let is_of_no_death = |&operation: &Operation| {
            !proper.contains(&Fingerprint {
                operation,
                key_hash,
            })
        };
        let operations = of_key.filter_map(|record| record.operation);
        if let Some(operation) = { operations }.find(is_of_no_death) {
            pen.begin_batch(1);
            pen.begin(operation, key_hash, 0, 0);
            tracing::warn!("a drill: this worker fails, since it was asked for the deadly key");
            die(deadly.drill);
        }
    }
}

impl Service {
    /// The drill that was ordered, where they are allowed.
    pub(super) fn ordered_drill(&self) -> Option<DrillOrder> {
        if !self.shared.settings.allow_drills {
            return None;
        }
        DrillOrder::of(self.station.black_box.ordered_drill()?)
    }

    /// Carries an order out in a turn of a connection, which goes on after it.
    pub(super) fn drill_turn(&mut self, connection: &mut Connection, order: DrillOrder) -> Turned {
        self.guarded(connection, |service, _| {
            service.carry_out(order);
            Ok(Turned::Again)
        })
    }

    /// Carries an order out although no connection is there; a panic needs one, and waits.
    pub(super) fn drill_alone(&mut self, order: DrillOrder) {
        if order.drill != Drill::Panic {
            self.pen.count_turn();
            self.carry_out(order);
        }
    }

    fn carry_out(&mut self, DrillOrder { drill, duration }: DrillOrder) {
        // First, or it would be done again.
        self.station.black_box.order_drill(0);
        tracing::warn!(
            drill = drill.name(),
            ?duration,
            "a drill: this worker fails"
        );
        self.pen.enter(Phase::Executing);
        match drill {
            Drill::Hang => thread::sleep(duration),
            Drill::Spin => spin(duration),
            Drill::Panic => panic!("a drill: a panic while serving a connection"),
            Drill::Abort | Drill::Segfault | Drill::Oom => die(drill),
            Drill::SlowIo => {
                self.pen.enter(Phase::Writing);
                write_slowly(duration);
            }
            Drill::DenyMemory => self.deny_memory(duration),
        }
        tracing::warn!(drill = drill.name(), "the drill is over for this worker");
    }

    /// Takes what connections may hold, and has it given back after a time. The worker goes on.
    fn deny_memory(&self, duration: Duration) {
        let budget = Arc::clone(&self.shared.budget);
        let deny = move || {
            let start = Instant::now();
            let mut taken_bytes = 0;
            // What a connection gives back meanwhile is taken as well.
            while start.elapsed() < duration {
                taken_bytes += budget.take_rest();
                thread::sleep(DENIED_AGAIN_AFTER);
            }
            budget.give(taken_bytes);
        };
        let denier = thread::Builder::new().name("larder-drill".to_owned());
        if let Err(error) = denier.spawn(deny) {
            tracing::error!(%error, "the drill is called off: there is no thread for it");
        }
    }
}

/// Does what a process dies of.
fn die(lethal: Drill) {
    match lethal {
        Drill::Segfault => touch_forbidden_memory(),
        Drill::Oom => run_out_of_memory(),
        _ => std::process::abort(),
    }
}

fn spin(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Writes to a page that nobody may write to.
fn touch_forbidden_memory() {
    const PAGE_BYTES: usize = 4096;
    // SAFETY: a new mapping, where nothing is.
    let page = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            PAGE_BYTES,
            ProtFlags::empty(),
            MapFlags::PRIVATE,
        )
    };
    if let Ok(page) = page {
        // SAFETY: it is mapped, belongs to nobody else, and no object is in it. The system does not
        // let it be written to, and ends the process: that is what is wanted.
        unsafe { page.cast::<u8>().write_volatile(1) }
    }
}

/// Takes memory until the system refuses more: it is told to, a little above what the process has.
/// Where it cannot be told, nothing is taken.
fn run_out_of_memory() {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = pages.split(' ').next().and_then(|pages| pages.parse().ok());
    let Some(pages) = pages else {
        tracing::error!("the drill is called off: what this process has mapped is not known");
        return;
    };
    let mapped_bytes = pages * rustix::param::page_size() as u64;
    let limit = Rlimit {
        current: Some(mapped_bytes + HOARD_MAPPED_BYTES_MAX),
        ..getrlimit(Resource::As)
    };
    if let Err(error) = setrlimit(Resource::As, limit) {
        tracing::error!(%error, "the drill is called off: memory cannot be limited");
        return;
    }
    let mut hoard = Vec::new();
    for exponent in HOARD_EXPONENTS {
        // Touched, not only asked for.
        hoard.push(std::hint::black_box(vec![1_u8; 1 << exponent]));
    }
    tracing::error!("the system gave more memory than it was told to");
}

/// Writes into a pipe that is not read, until its other end is closed.
fn write_slowly(duration: Duration) {
    let Ok((reader, mut writer)) = std::io::pipe() else {
        tracing::error!("the drill is called off: there is no pipe to write to");
        return;
    };
    let let_go = move || {
        thread::sleep(duration);
        drop(reader);
    };
    let closer = thread::Builder::new().name("larder-drill".to_owned());
    if closer.spawn(let_go).is_ok() {
        // It ends by the reader's end.
        let _ = writer.write_all(&vec![0; SLOW_WRITE_BYTES]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_comes_back_from_its_word_and_no_other_word_is_one() {
        for drill in Drill::ALL {
            let order = DrillOrder::new(*drill, Duration::from_millis(1234)).unwrap();
            assert_eq!(DrillOrder::of(order.word()), Some(order));
            assert_eq!(drill.name().parse(), Ok(*drill));
        }
        for word in [0, 9, 255, u64::MAX] {
            assert_eq!(DrillOrder::of(word), None);
        }
    }

    #[test]
    fn a_deadly_key_has_a_drill_that_is_lethal() {
        let deadly: DeadlyKey = "segfault:a:b".parse().unwrap();
        assert_eq!(
            (deadly.drill, &deadly.key[..]),
            (Drill::Segfault, &b"a:b"[..])
        );
        let error = "hang:key".parse::<DeadlyKey>().unwrap_err();
        assert!(error.contains("accepted: abort, segfault, oom"), "{error}");
        let error = "key".parse::<DeadlyKey>().unwrap_err();
        assert!(error.contains("accepted: DRILL:KEY"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let error = "dance".parse::<Drill>().unwrap_err();
        assert!(error.contains("accepted: hang, spin"), "{error}");
        let error = DrillOrder::new(Drill::Hang, Duration::from_secs(601)).unwrap_err();
        assert!(error.contains("accepted: up to 600s"), "{error}");
    }
}
