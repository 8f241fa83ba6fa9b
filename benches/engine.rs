//! The engine in this process: nanoseconds per get and set, by 1 and 2 threads, one at a time and in
//! batches of 16, for uniform and Zipf keys.
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

use larder::{Cache, Config, Entry, Key, Mode, Session};
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
    for operation in [Operation::Get, Operation::Set] {
        for batch in [1, BATCH] {
            for threads in [1, 2] {
                let case = Case {
                    operation,
                    batch,
                    threads,
                };
                let [uniform, zipf] = [Draw::Uniform, Draw::Zipf]
                    .map(|draw| measure(&cache, &keys, case, draw, sizes));
                let name = format!("{operation:?}").to_lowercase();
                println!("{name:<10} {batch:>6} {threads:>8} {uniform:>10.1} {zipf:>12.1}");
            }
        }
    }
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

fn drawn(keys: &[Vec<u8>], draw: Draw, operations: usize, seed: u64) -> Vec<&[u8]> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let items = keys.len() as u64;
    let zipf = Zipf::new(items as f64, ZIPF_EXPONENT).expect("a distribution");
    let mut index = || match draw {
        Draw::Uniform => rng.random_range(0..items),
        Draw::Zipf => (zipf.sample(&mut rng) as u64 - 1) * STRIDE % items,
    };
    (0..operations)
        .map(|_| keys[index() as usize].as_slice())
        .collect()
}

fn run(cache: &Cache, session: &mut Session, case: Case, drawn: &[&[u8]]) {
    match case.operation {
        Operation::Get => get_all(cache, session, case.batch, drawn),
        Operation::Set => set_all(cache, session, case.batch, drawn),
    }
}

fn get_all(cache: &Cache, session: &mut Session, batch: usize, drawn: &[&[u8]]) {
    let mut value = [0; VALUE_BYTES];
    let mut hits = 0;
    if batch == 1 {
        for key in drawn {
            let guard = session.pin(NOW_MS);
            let key = cache.key(key).expect("a key");
            if let Some(item) = guard.get(&key) {
                value.copy_from_slice(item.value());
                hits += 1;
            }
        }
    } else {
        for keys in drawn.chunks_exact(batch) {
            let guard = session.pin(NOW_MS);
            let hashed: [Key<'_>; BATCH] =
                std::array::from_fn(|at| cache.key(keys[at]).expect("a key"));
            guard.get_many(&hashed, |_, item| {
                if let Some(item) = item {
                    value.copy_from_slice(item.value());
                    hits += 1;
                }
            });
        }
    }
    black_box(value);
    assert_eq!(hits, drawn.len() / batch * batch, "every key is there");
}

fn set_all(cache: &Cache, session: &mut Session, batch: usize, drawn: &[&[u8]]) {
    let value = black_box([9; VALUE_BYTES]);
    for keys in drawn.chunks_exact(batch) {
        let mut guard = session.pin(NOW_MS);
        if batch > 1 {
            let hashed: [Key<'_>; BATCH] =
                std::array::from_fn(|at| cache.key(keys[at]).expect("a key"));
            hashed.iter().for_each(|key| guard.prefetch_bucket(key));
            hashed.iter().for_each(|key| guard.prefetch_item(key));
            for key in &hashed {
                store(&mut guard, key, &value);
            }
        } else {
            let key = cache.key(keys[0]).expect("a key");
            store(&mut guard, &key, &value);
        }
    }
}

fn store(guard: &mut larder::Guard<'_>, key: &Key<'_>, value: &[u8]) {
    let stored = guard.store(key, Mode::Set, &Entry::of(value));
    let _ = black_box(stored.expect("there is room"));
}
