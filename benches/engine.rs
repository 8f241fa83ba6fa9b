//! The engine in this process: nanoseconds per get and set, and of nine gets and a set, by 1 and 2
//! threads, one at a time and in batches of 16, for uniform and Zipf keys; and what the second thread
//! brings: the operations of two threads in a given CPU time, each on a core, over those of one.
//!
//! Method: 1 million items, keys of 16 to 24 bytes, values of 32 bytes; every thread draws its keys
//! before the clock starts. "One at a time" pins for each operation, as an embedder without batches
//! would; a batch of 16 shares a pin, and gets are prefetched together. A get reads its whole value.
//! Each figure is the median of several rounds, and of a round the mean of its threads: the CPU time
//! of a thread (not the time on the wall, so that other programs disturb it little) divided by its
//! operations.
//!
//! `cargo bench --bench engine`; `-- --rounds N --operations N --items N` for other sizes.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use larder::{Cache, Config, Entry, Key, Mode, Reach, Session};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};
use rustix::time::{ClockId, clock_gettime};

const MEMORY_BYTES: u64 = 512 << 20;
const VALUE_BYTES: usize = 32;
const BATCH: usize = 16;
const ZIPF_EXPONENT: f64 = 0.99;
const NOW_MS: u64 = 0;

/// Spreads the ranks of a Zipf load over the keys: a prime.
const STRIDE: u64 = 2_654_435_761;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    items: u64,
    /// For each thread and round.
    operations: usize,
    rounds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get,
    Set,
    /// Of ten operations one is a set.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draw {
    Uniform,
    Zipf,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
struct Case {
    operation: Operation,
    batch: usize,
    threads: usize,
}

fn main() {
    let sizes = sizes();
    let keys = keys(sizes.items);
    let cache = Cache::new(Config::new(MEMORY_BYTES)).expect("a cache");
    load(&cache, &keys);
    let Sizes {
        items,
        operations,
        rounds,
    } = sizes;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{items} items, keys of 16-24 bytes, values of {VALUE_BYTES} bytes, {cores} cores");
    println!(
        "CPU ns per operation and thread: median of {rounds} rounds of {operations} operations\n"
    );
    println!(
        "{:<10} {:>6} {:>8} {:>10} {:>12}",
        "operation", "batch", "threads", "uniform", "zipf 0.99"
    );
    let mut gains = Vec::new();
    for operation in [Operation::Get, Operation::Set, Operation::Mixed] {
        for batch in [1, BATCH] {
            let name = format!("{operation:?}").to_lowercase();
            let [alone, beside] = [1, 2].map(|threads| {
                let case = Case {
                    operation,
                    batch,
                    threads,
                };
                let [uniform, zipf] = [Draw::Uniform, Draw::Zipf]
                    .map(|draw| measure(&cache, &keys, case, draw, sizes));
                println!("{name:<10} {batch:>6} {threads:>8} {uniform:>10.1} {zipf:>12.1}");
                [uniform, zipf]
            });
            let [uniform, zipf] = [0, 1].map(|draw| 2.0 * alone[draw] / beside[draw]);
            gains.push(format!(
                "{name:<10} {batch:>6} {:>8} {uniform:>10.2} {zipf:>12.2}",
                "2 : 1"
            ));
        }
    }
    println!(
        "\nwhat two threads do in the time of one\n{}",
        gains.join("\n")
    );
    let stats = cache.stats();
    let bytes = (stats.live_bytes + stats.index_bytes) as f64 / stats.items as f64;
    println!(
        "\n{} items at the end, {bytes:.1} bytes of items and index for each",
        stats.items
    );
}

/// The sizes that the command line asks for. What `cargo bench` adds of its own is passed over.
fn sizes() -> Sizes {
    let mut sizes = Sizes {
        items: 1_000_000,
        operations: 2_000_000,
        rounds: 7,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().unwrap_or_default();
            text.parse()
                .unwrap_or_else(|_| panic!("{argument} needs a whole number, not `{text}`"))
        };
        match argument.as_str() {
            "--items" => sizes.items = number() as u64,
            "--operations" => sizes.operations = number(),
            "--rounds" => sizes.rounds = number(),
            "--bench" => {}
            other => panic!("{other} is not known; accepted: --items, --operations, --rounds"),
        }
    }
    sizes
}

fn keys(items: u64) -> Vec<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64(1);
    let key = |index: u64| {
        let width = rng.random_range(16..=24);
        format!("{index:0>width$}").into_bytes()
    };
    (0..items).map(key).collect()
}

fn load(cache: &Cache, keys: &[Vec<u8>]) {
    let mut session = cache.session().expect("a session");
    for batch in keys.chunks(BATCH) {
        let mut guard = session.pin(NOW_MS);
        for key in batch {
            let key = cache.key(key).expect("a key");
            let stored = guard.store(&key, Mode::Set, &Entry::of(&[7; VALUE_BYTES]));
            let _ = stored.expect("there is room");
        }
    }
}

/// Nanoseconds per operation and thread.
fn measure(cache: &Cache, keys: &[Vec<u8>], case: Case, draw: Draw, sizes: Sizes) -> f64 {
    let barrier = Barrier::new(case.threads);
    let mut rounds: Vec<Duration> = std::thread::scope(|scope| {
        let thread = |number: usize| {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut session = cache.session().expect("a session");
                let drawn = drawn(keys, draw, sizes.operations, number as u64);
                let round = |_| {
                    barrier.wait();
                    let started = thread_cpu();
                    run(cache, &mut session, case, &drawn);
                    thread_cpu() - started
                };
                (0..sizes.rounds).map(round).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..case.threads).map(thread).collect();
        let rounds = threads
            .into_iter()
            .map(|thread| thread.join().expect("a round"));
        let sum = |one: Vec<Duration>, two: Vec<Duration>| {
            one.into_iter()
                .zip(two)
                .map(|(one, two)| one + two)
                .collect()
        };
        rounds.reduce(sum).expect("a thread")
    });
    rounds.sort_unstable();
    rounds[rounds.len() / 2].as_nanos() as f64 / (sizes.operations * case.threads) as f64
}

/// The CPU time that this thread has used so far.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The keys of a round, one behind the other: in a server they lie in the bytes just received, so
/// finding them must not cost what is measured here.
struct Drawn {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Drawn {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.bytes[start..end])
    }
}

fn drawn(keys: &[Vec<u8>], draw: Draw, operations: usize, seed: u64) -> Drawn {
    let mut rng = SmallRng::seed_from_u64(seed);
    let items = keys.len() as u64;
    let zipf = Zipf::new(items as f64, ZIPF_EXPONENT).expect("a distribution");
    let mut index = || match draw {
        Draw::Uniform => rng.random_range(0..items),
        Draw::Zipf => (zipf.sample(&mut rng) as u64 - 1) * STRIDE % items,
    };
    let mut drawn = Drawn {
        bytes: Vec::new(),
        ends: Vec::new(),
    };
    for _ in 0..operations {
        drawn.bytes.extend_from_slice(&keys[index() as usize]);
        drawn.ends.push(drawn.bytes.len());
    }
    drawn
}

fn run(cache: &Cache, session: &mut Session, case: Case, drawn: &Drawn) {
    match (case.operation, case.batch) {
        (Operation::Get, 1) => get_each(cache, session, drawn),
        (Operation::Get, _) => get_batches(cache, session, drawn),
        (Operation::Set, 1) => set_each(cache, session, drawn),
        (Operation::Set, _) => set_batches(cache, session, drawn),
        (Operation::Mixed, 1) => mix_each(cache, session, drawn),
        (Operation::Mixed, _) => mix_batches(cache, session, drawn),
    }
}

/// Runs `work` for each batch of keys, hashed.
fn for_each_batch(cache: &Cache, drawn: &Drawn, mut work: impl FnMut(&[Key<'_>])) {
    let mut keys = drawn.iter().map(|key| cache.key(key).expect("a key"));
    for _ in 0..drawn.ends.len() / BATCH {
        let batch: [Key<'_>; BATCH] = std::array::from_fn(|_| keys.next().expect("a whole batch"));
        work(&batch);
    }
}

fn get_each(cache: &Cache, session: &mut Session, drawn: &Drawn) {
    let mut value = [0; VALUE_BYTES];
    for key in drawn.iter() {
        let guard = session.pin(NOW_MS);
        let item = guard.get(&cache.key(key).expect("a key"));
        value.copy_from_slice(&item.expect("every key is there").value());
    }
    black_box(value);
}

fn get_batches(cache: &Cache, session: &mut Session, drawn: &Drawn) {
    let mut value = [0; VALUE_BYTES];
    for_each_batch(cache, drawn, |keys| {
        session.pin(NOW_MS).get_many(keys, |_, item| {
            value.copy_from_slice(&item.expect("every key is there").value());
        });
    });
    black_box(value);
}

fn set_each(cache: &Cache, session: &mut Session, drawn: &Drawn) {
    let value = black_box([9; VALUE_BYTES]);
    for key in drawn.iter() {
        let mut guard = session.pin(NOW_MS);
        store(&mut guard, &cache.key(key).expect("a key"), &value);
    }
}

fn set_batches(cache: &Cache, session: &mut Session, drawn: &Drawn) {
    let value = black_box([9; VALUE_BYTES]);
    for_each_batch(cache, drawn, |keys| {
        let mut guard = session.pin(NOW_MS);
        let keys = &mut keys.to_vec();
        keys.iter().for_each(|key| guard.prefetch_bucket(key));
        guard.prefetch_items(keys.iter_mut().map(|key| (key, Reach::Key)));
        for key in keys {
            store(&mut guard, key, &value);
        }
    });
}

/// Which of ten operations is a set.
const SET_OF_TEN: usize = 9;

fn mix_each(cache: &Cache, session: &mut Session, drawn: &Drawn) {
    let mut value = [9; VALUE_BYTES];
    for (number, key) in drawn.iter().enumerate() {
        let mut guard = session.pin(NOW_MS);
        let key = cache.key(key).expect("a key");
        if number % 10 == SET_OF_TEN {
            store(&mut guard, &key, &value);
        } else {
            let item = guard.get(&key);
            value.copy_from_slice(&item.expect("every key is there").value());
        }
    }
    black_box(value);
}

/// As a server does it: all keys are looked at ahead, and each operation comes in its turn.
fn mix_batches(cache: &Cache, session: &mut Session, drawn: &Drawn) {
    let mut value = [9; VALUE_BYTES];
    let mut number = 0;
    for_each_batch(cache, drawn, |keys| {
        let mut guard = session.pin(NOW_MS);
        let keys = &mut keys.to_vec();
        keys.iter().for_each(|key| guard.prefetch_bucket(key));
        let of_ten = (number..).map(|number| match number % 10 {
            SET_OF_TEN => Reach::Key,
            _ => Reach::Value,
        });
        guard.prefetch_items(keys.iter_mut().zip(of_ten));
        for key in keys {
            if number % 10 == SET_OF_TEN {
                store(&mut guard, key, &value);
            } else {
                let item = guard.get(key);
                value.copy_from_slice(&item.expect("every key is there").value());
            }
            number += 1;
        }
    });
    black_box(value);
}

fn store(guard: &mut larder::Guard<'_>, key: &Key<'_>, value: &[u8]) {
    let stored = guard.store(key, Mode::Set, &Entry::of(value));
    let _ = black_box(stored.expect("there is room"));
}
