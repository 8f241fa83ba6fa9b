//! The contenders, and one turn of the benchmark at each.
//!
//! A [`Store`] is what its library makes easy, with no layer between: the loop of a turn is compiled
//! for each of them, and only the turn as a whole is called through [`Contender`].

mod larder;
mod peers;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::contenders::larder::{Batches, OneAtATime};
use crate::contenders::peers::{Dashmap, Foyer, Moka, Papaya, QuickCache};
use crate::load::{Action, Keys, Request, Requests};

/// A value; its length is fixed at build time, which spares the peers an allocation for each, and
/// Larder nothing.
pub(crate) type Value = [u8; 32];

const VALUE: Value = [7; 32];

/// How much of the keys there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Room {
    /// All of them and a quarter more, since a share of the room belongs to each shard, and keys do
    /// not spread evenly over those.
    Everything,
    Quarter,
}

impl Room {
    fn entries(self, keys: &Keys) -> u64 {
        let items = keys.len() as u64;
        match self {
            Self::Everything => items + items / 4,
            Self::Quarter => items / 4,
        }
    }
}

/// What a contender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Larder,
    /// A peer that gives entries up to stay within its room.
    Bounded,
    /// A peer that keeps everything.
    Unbounded,
}

/// One library, used by all threads.
trait Store: Sync + Sized {
    /// What a thread works with.
    type Session<'s>: Session
    where
        Self: 's;

    /// Builds it with room for `keys`, or for a quarter of them.
    fn open(room: Room, keys: &Keys) -> Self;
    fn session(&self) -> Self::Session<'_>;
    /// What a thread beside those that ask would do for it by and by, if it wants one: all that is due.
    fn settle(&self) {}
    /// Entries held, all that was done before counted in.
    fn entries(&self) -> u64;

    /// Sets that found no space, so far.
    fn refusals(&self) -> u64 {
        0
    }
}

trait Session {
    /// Copies the value out, if the key is there.
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool;
    fn set(&mut self, key: &[u8], value: &Value);

    /// Serves all requests and counts the gets that hit.
    fn serve<'r>(&mut self, requests: impl Iterator<Item = Request<'r>>) -> u64 {
        let mut value = VALUE;
        let mut hits = 0;
        for Request { action, key } in requests {
            match action {
                Action::Get if self.get(key, black_box(&mut value)) => hits += 1,
                Action::Get | Action::Set => self.set(key, &VALUE),
            }
        }
        black_box(value);
        hits
    }
}

/// What a turn took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Of all threads together.
    pub(crate) cpu: Duration,
    pub(crate) hits: u64,
}

/// A store that is open.
pub(crate) trait Contender {
    /// Sets every key once.
    fn fill(&self, keys: &Keys);
    /// Has done what is left to a thread beside those that ask.
    fn settle(&self);
    /// Serves the requests of each thread, all threads at once.
    fn turn(&self, requests: &[Requests]) -> Turn;
    /// Entries held.
    fn entries(&self) -> u64;
    /// Sets that found no space, so far.
    fn refusals(&self) -> u64;
}

impl<S: Store> Contender for S {
    fn fill(&self, keys: &Keys) {
        let action = Action::Set;
        self.session()
            .serve(keys.iter().map(|key| Request { action, key }));
        Store::settle(self);
    }

    fn settle(&self) {
        Store::settle(self);
    }

    fn turn(&self, requests: &[Requests]) -> Turn {
        let barrier = Barrier::new(requests.len());
        let serve = |requests: &Requests| {
            let mut session = self.session();
            session.serve(requests.lead_in());
            barrier.wait();
            let started = thread_cpu();
            let hits = session.serve(requests.timed());
            (thread_cpu() - started, hits)
        };
        std::thread::scope(|scope| {
            let start = |requests| scope.spawn(move || serve(requests));
            let threads: Vec<_> = requests.iter().map(start).collect();
            let mut turn = Turn {
                cpu: Duration::ZERO,
                hits: 0,
            };
            for thread in threads {
                let (cpu, hits) = thread.join().expect("a turn");
                turn.cpu += cpu;
                turn.hits += hits;
            }
            turn
        })
    }

    fn entries(&self) -> u64 {
        Store::entries(self)
    }

    fn refusals(&self) -> u64 {
        Store::refusals(self)
    }
}

/// The CPU time that this thread has used so far.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What the peers hash keys with. Larder has its own hash in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hashing {
    /// Each with what it uses unasked.
    Own,
    /// All with foldhash, the quickest of those.
    Foldhash,
}

/// One who may be asked to take part.
#[derive(Clone, Copy)]
pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether it takes part only where it is named.
    pub(crate) is_on_request: bool,
    open: fn(Hashing, Room, &Keys) -> Box<dyn Contender>,
}

impl Entrant {
    pub(crate) fn open(&self, hashing: Hashing, room: Room, keys: &Keys) -> Box<dyn Contender> {
        (self.open)(hashing, room, keys)
    }
}

/// `Own` is the store with the library's own hash, `Foldhash` that with foldhash.
const fn entrant<Own, Foldhash>(name: &'static str, kind: Kind) -> Entrant
where
    Own: Store + 'static,
    Foldhash: Store + 'static,
{
    let open = |hashing, room, keys: &Keys| match hashing {
        Hashing::Own => Box::new(Own::open(room, keys)) as Box<dyn Contender>,
        Hashing::Foldhash => Box::new(Foldhash::open(room, keys)),
    };
    Entrant {
        name,
        kind,
        is_on_request: false,
        open,
    }
}

/// The same of one that takes part only where it is named.
const fn on_request(entrant: Entrant) -> Entrant {
    Entrant {
        is_on_request: true,
        ..entrant
    }
}

type Each = OneAtATime<true>;
type EachInSmallPages = OneAtATime<false>;
type Batched = Batches<true>;
type BatchedInSmallPages = Batches<false>;

type Folded = foldhash::quality::RandomState;
type Std = std::hash::RandomState;
type FoyersOwn = foyer_common::code::DefaultHasher;
type QuickCachesOwn = quick_cache::DefaultHashBuilder;

/// The names that the ratios of the report ask for.
pub(crate) const LARDER: &str = "larder";
pub(crate) const LARDER_BATCHES: &str = "larder-16";

pub(crate) const ENTRANTS: &[Entrant] = &[
    entrant::<Each, Each>(LARDER, Kind::Larder),
    entrant::<Batched, Batched>(LARDER_BATCHES, Kind::Larder),
    on_request(entrant::<EachInSmallPages, EachInSmallPages>(
        "larder-base",
        Kind::Larder,
    )),
    on_request(entrant::<BatchedInSmallPages, BatchedInSmallPages>(
        "larder-16-base",
        Kind::Larder,
    )),
    entrant::<Moka<Std>, Moka<Folded>>("moka", Kind::Bounded),
    entrant::<QuickCache<QuickCachesOwn>, QuickCache<Folded>>("quick_cache", Kind::Bounded),
    entrant::<Foyer<FoyersOwn>, Foyer<Folded>>("foyer", Kind::Bounded),
    entrant::<Dashmap<Std>, Dashmap<Folded>>("dashmap", Kind::Unbounded),
    entrant::<Papaya<Std>, Papaya<Folded>>("papaya", Kind::Unbounded),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Draw;

    #[test]
    fn everything_fits_in_ample_room() {
        let keys = Keys::new(20_000);
        for entrant in ENTRANTS.iter().filter(|entrant| !entrant.is_on_request) {
            let contender = entrant.open(Hashing::Foldhash, Room::Everything, &keys);
            contender.fill(&keys);
            assert_eq!(contender.entries(), 20_000, "{}", entrant.name);
            let requests = [1, 2].map(|seed| Requests::draw(&keys, Draw::Uniform, 90, 1_000, seed));
            let gets: u64 = requests.iter().map(Requests::gets).sum();
            let turn = contender.turn(&requests);
            assert_eq!(turn.hits, gets, "{}", entrant.name);
        }
    }

    #[test]
    fn the_bounded_ones_hold_about_a_quarter_where_that_is_their_room() {
        let keys = Keys::new(200_000);
        let bounded = ENTRANTS
            .iter()
            .filter(|e| e.kind != Kind::Unbounded && !e.is_on_request);
        for entrant in bounded {
            let contender = entrant.open(Hashing::Foldhash, Room::Quarter, &keys);
            contender.fill(&keys);
            let held = contender.entries();
            assert!(
                (48_000..=51_000).contains(&held),
                "{}: {held}",
                entrant.name
            );
        }
    }
}
