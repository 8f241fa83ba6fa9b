//! How long `Cache::recover` takes, by the size of values and the number of threads.
//!
//! Method: a memory is filled with items (keys of about 16 bytes) until it is full, as by a process that
//! then dies; it is recovered again and again, each time by a mapping of its own, so that every page is
//! touched anew. The times are medians, beside the least CPU time, from which that for each item is made. The
//! time on the wall is what a server waits, and says little where other programs use the cores; the CPU time
//! is that of all threads together. A third of what was stored was overwritten, so the log holds dead items
//! too.
//!
//! `cargo bench --bench recovery`; `-- --memory-mib N`, `--value-bytes N,...`, `--threads N,...`, `--rounds N`
//! for other sizes, `--contents` for the stronger proof, `--huge-pages` for items in huge pages.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use larder::{Cache, Config, Entry, HugePages, Mode, Proof};
use rustix::time::{ClockId, clock_gettime};

/// What is measured.
#[derive(Debug)]
struct Sizes {
    memory_bytes: u64,
    value_bytes: Vec<usize>,
    threads: Vec<usize>,
    rounds: usize,
    proof: Proof,
    huge_pages: HugePages,
}

fn main() {
    let sizes = sizes();
    let memory_mib = sizes.memory_bytes >> 20;
    println!(
        "{memory_mib} MiB, {:?}, huge pages {:?}, median of {} rounds\n",
        sizes.proof, sizes.huge_pages, sizes.rounds
    );
    println!(
        "{:>11} {:>8} {:>11} {:>9} {:>9} {:>9} {:>12}",
        "value bytes", "threads", "items", "wall ms", "CPU ms", "least", "CPU ns/item"
    );
    for &value_bytes in &sizes.value_bytes {
        let config = config(&sizes);
        let memory = filled(&config, value_bytes);
        for &threads in &sizes.threads {
            let (items, [wall, cpu, least]) = measure(&memory, &config, threads, &sizes);
            let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "{value_bytes:>11} {threads:>8} {items:>11} {:>9.1} {:>9.1} {:>9.1} {:>12.1}",
                milliseconds(wall),
                milliseconds(cpu),
                milliseconds(least),
                least.as_nanos() as f64 / items as f64
            );
        }
    }
}

fn config(sizes: &Sizes) -> Config {
    let mut config = Config::new(sizes.memory_bytes);
    config.huge_pages = sizes.huge_pages;
    config.hash_seed = Some(7);
    config.first_version = Some(1);
    config.sessions_max = 4;
    config
}

/// A memory that is full.
fn filled(config: &Config, value_bytes: usize) -> OwnedFd {
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut session = cache.session().expect("a session");
    let value = vec![b'v'; value_bytes];
    for number in 0_u64.. {
        let mut guard = session.pin(0);
        // Every third overwrites one of not long before.
        let number = if number % 3 == 2 { number / 2 } else { number };
        let name = format!("key:{:012}", number * 2_654_435_761 % 1_000_000_000_000);
        let key = guard.key(name.as_bytes()).expect("a key");
        let _ = guard
            .store(&key, Mode::Set, &Entry::of(&value))
            .expect("it can evict");
        drop(guard);
        if number % 4096 == 0 && cache.stats().evicted > 0 {
            break;
        }
    }
    cache.memory().try_clone_to_owned().expect("a descriptor")
}

/// Items, the time on the wall, the CPU time, and the least of that.
fn measure(
    memory: &OwnedFd,
    config: &Config,
    threads: usize,
    sizes: &Sizes,
) -> (u64, [Duration; 3]) {
    let mut items = 0;
    let (mut walls, mut cpus): (Vec<_>, Vec<_>) = (0..sizes.rounds)
        .map(|_| {
            let memory = memory.try_clone().expect("a descriptor");
            let (start, cpu) = (Instant::now(), cpu_time());
            let (cache, receipt) = recover(memory, config, sizes.proof, threads);
            let took = (start.elapsed(), cpu_time() - cpu);
            items = receipt.items;
            drop(cache);
            took
        })
        .unzip();
    let medians = [&mut walls, &mut cpus].map(|times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    let [wall, cpu] = medians;
    (items, [wall, cpu, cpus[0]])
}

/// The CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn recover(
    memory: OwnedFd,
    config: &Config,
    proof: Proof,
    threads: usize,
) -> (Cache, larder::Receipt) {
    let hands = |work: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    };
    Cache::recover_with(memory, config, proof, &hands).expect("the memory is whole")
}

/// The sizes that the command line asks for. What `cargo bench` adds of its own is passed over.
fn sizes() -> Sizes {
    let mut sizes = Sizes {
        memory_bytes: 1 << 30,
        value_bytes: vec![1000, 175, 40],
        threads: vec![1, 2],
        rounds: 5,
        proof: Proof::Lengths,
        huge_pages: HugePages::Never,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut numbers = || -> Vec<usize> {
            let text = arguments.next().unwrap_or_default();
            let number = |text: &str| text.parse().ok();
            let numbers = text.split(',').map(number).collect::<Option<Vec<_>>>();
            numbers.unwrap_or_else(|| panic!("{argument} needs whole numbers, not `{text}`"))
        };
        match argument.as_str() {
            "--memory-mib" => sizes.memory_bytes = (numbers()[0] as u64) << 20,
            "--value-bytes" => sizes.value_bytes = numbers(),
            "--threads" => sizes.threads = numbers(),
            "--rounds" => sizes.rounds = numbers()[0],
            "--huge-pages" => sizes.huge_pages = HugePages::Always,
            "--contents" => sizes.proof = Proof::Contents,
            _ => {}
        }
    }
    sizes
}
