//! What an item costs beside its key and its value: 10 million items of 20-byte keys and 32-byte
//! values in a cache whose memory is about full with them.
//!
//! Items are stored one after the other, with the upkeep that a server's maintenance thread does
//! beside it. The cost is the whole budget divided by the items that the index names, less the 52
//! bytes of key and value: index, ghosts, headers, padding, open segments, what is free and what waits
//! are all in it. It is told at three moments, with the ledger of each per item:
//!
//! - *before*: the last look before an item was evicted to make space: the most items there ever are,
//!   and no ghosts yet;
//! - *begun*: the first look after it, by when the ghosts have taken their memory;
//! - *later*: when a tenth as many items again were stored, so that every one is at a time when some
//!   leave.
//!
//! `cargo bench --bench cost`; `-- --memory BYTES` for another budget (880,000,000: what 10 million
//! items may take at 36 bytes beside key and value, so that eviction begins at fewer where they cost
//! more).

use larder::{Cache, Config, Entry, Mode, Session, Stats};

const KEY_BYTES: usize = 20;
const VALUE_BYTES: usize = 32;
const NOW_MS: u64 = 1;

/// What 10 million items may take at 36 bytes beside key and value.
const MEMORY_BYTES: u64 = 10_000_000 * (KEY_BYTES + VALUE_BYTES + 36) as u64;

/// LIMIT: items between two looks at the figures: the error of the count.
const ITEMS_PER_LOOK: u64 = 1000;

fn main() {
    let memory_bytes = memory_bytes();
    let cache = Cache::new(Config::new(memory_bytes)).expect("a cache");
    let mut session = cache.session().expect("a session");
    let (mut stored, mut refused) = (0, 0);
    let mut look = || {
        refused += store(&cache, &mut session, stored);
        stored += ITEMS_PER_LOOK;
        while session.maintain(NOW_MS) {}
        cache.stats()
    };
    let (mut before, mut begun) = (look(), look());
    while begun.evicted_small + begun.evicted_main == 0 {
        before = begun;
        begun = look();
    }
    let mut later = begun;
    for _ in 0..begun.stored / 10 / ITEMS_PER_LOOK {
        later = look();
    }
    report(&[("before", before), ("begun", begun), ("later", later)]);
    println!("\n{refused} of {stored} stores found no memory");
}

/// The memory that the command line asks for. What `cargo bench` adds of its own is passed over.
fn memory_bytes() -> u64 {
    let mut memory_bytes = MEMORY_BYTES;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--memory" => {
                let text = arguments.next().unwrap_or_default();
                let number = text.parse();
                memory_bytes = number.unwrap_or_else(|_| {
                    panic!("--memory needs a whole number of bytes, not `{text}`")
                });
            }
            "--bench" => {}
            other => panic!("{other} is not known; accepted: --memory"),
        }
    }
    memory_bytes
}

/// Stores the next items, and gives how many found no memory.
fn store(cache: &Cache, session: &mut Session, first: u64) -> u64 {
    let mut refused = 0;
    for number in first..first + ITEMS_PER_LOOK {
        let name = format!("{number:0>KEY_BYTES$}");
        let key = cache.key(name.as_bytes()).expect("a key");
        let mut value = [0; VALUE_BYTES];
        value[..KEY_BYTES].copy_from_slice(name.as_bytes());
        let mut guard = session.pin(NOW_MS);
        let stored = guard.store(&key, Mode::Set, &Entry::of(&value));
        refused += u64::from(stored.is_err());
    }
    refused
}

fn report(moments: &[(&str, Stats)]) {
    let own = (KEY_BYTES + VALUE_BYTES) as f64;
    let line = |name: &str, figure: &dyn Fn(&Stats) -> String| {
        let figures = moments.iter().map(|(_, stats)| figure(stats));
        let cells: String = figures.map(|figure| format!("{figure:>14}")).collect();
        println!("{name:<16}{cells}");
    };
    let each = |bytes: u64, stats: &Stats| bytes as f64 / stats.items as f64;
    let memory_bytes = moments[0].1.memory_bytes;
    println!("{memory_bytes} bytes of memory, items of {own} bytes of key and value\n");
    let names: String = moments
        .iter()
        .map(|(name, _)| format!("{name:>14}"))
        .collect();
    println!("{:<16}{names}", "");
    line("stored", &|stats| stats.stored.to_string());
    line("held", &|stats| stats.items.to_string());
    line("full buckets", &|stats| stats.evicted_bucket.to_string());
    println!("\nbytes for each item held");
    for (at, (name, _)) in moments[0].1.ledger().into_iter().enumerate() {
        line(name, &|stats| {
            format!("{:.2}", each(stats.ledger()[at].1, stats))
        });
    }
    line("all", &|stats| format!("{:.2}", each(memory_bytes, stats)));
    line("cost", &|stats| {
        format!("{:.2}", each(memory_bytes, stats) - own)
    });
}
