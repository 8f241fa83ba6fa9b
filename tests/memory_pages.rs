//! The memory bound as the system measures it, whatever pages the memory comes in.

use larder::{Cache, Config, ConfigError, Entry, HugePages, Mode, Pages, Prefault, Proof};

const MEMORY_BYTES: u64 = 8 << 20;

/// What arenas of this process have in memory, in bytes.
fn held_bytes() -> u64 {
    let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut kibibytes, mut inside) = (0, false);
    for line in all.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap() {
            range if !range.ends_with(':') => inside = line.contains("memfd:larder-arena"),
            "Rss:" if inside => kibibytes += words.next().unwrap().parse::<u64>().unwrap(),
            _ => {}
        }
    }
    kibibytes << 10
}

/// Stores until the index has grown and eviction goes on; the bound must hold all the while.
fn churn(cache: &Cache, what: &str) {
    let mut session = cache.session().unwrap();
    let first = cache.stats().index_bytes;
    for number in 0..150_000_u64 {
        let mut guard = session.pin(0);
        let key = number.to_le_bytes();
        let key = guard.key(&key).unwrap();
        // Eviction may have to wait for its readers, which is no matter here.
        let _ = guard.store(&key, Mode::Set, &Entry::of(&[7; 30]));
        drop(guard);
        if number.is_multiple_of(1_000) {
            session.maintain(0);
        }
        if number.is_multiple_of(10_000) {
            let held = held_bytes();
            assert!(held <= MEMORY_BYTES, "{what}: {held} after {number}");
        }
    }
    let stats = cache.stats();
    assert!(
        stats.index_bytes > 4 * first,
        "{what}: the index did not grow"
    );
    assert!(stats.evicted > 0, "{what}: nothing was evicted");
    assert!(held_bytes() <= MEMORY_BYTES, "{what}: {}", held_bytes());
}

/// Goes on in the same memory; the bound must hold while the huge pages are found and made again.
fn goes_on(cache: Cache, config: &Config, what: &str) {
    let (items, pages) = (cache.stats().items, cache.pages());
    let memory = cache.memory().try_clone_to_owned().unwrap();
    drop(cache);
    let (cache, receipt) = Cache::recover(memory, config, Proof::Contents).unwrap();
    assert_eq!(receipt.items, items, "{what}");
    let mut session = cache.session().unwrap();
    for _ in 0..100 {
        session.maintain(0);
        assert!(held_bytes() <= MEMORY_BYTES, "{what}: {}", held_bytes());
    }
    let has_huge = |pages: Pages| pages != Pages::Base;
    assert_eq!(has_huge(cache.pages()), has_huge(pages), "{what}");
}

/// One test, since what the system measures is the whole process.
#[test]
fn the_memory_bound_holds_whatever_the_pages() {
    for huge_pages in [HugePages::Never, HugePages::Auto, HugePages::Always] {
        for prefault in [Prefault::OnFirstUse, Prefault::Ahead] {
            let config = Config {
                huge_pages,
                prefault,
                ..Config::new(MEMORY_BYTES)
            };
            let what = format!("{huge_pages:?}, {prefault:?}");
            match Cache::new(config.clone()) {
                Ok(cache) => {
                    let never = huge_pages == HugePages::Never;
                    assert!(!never || cache.pages() == Pages::Base, "{what}");
                    churn(&cache, &what);
                    goes_on(cache, &config, &what);
                }
                // Where a machine has no huge pages, insisting on them is refused.
                Err(ConfigError::Pages(error)) if huge_pages == HugePages::Always => {
                    assert!(error.to_string().contains("accepted"), "{error}");
                }
                Err(error) => panic!("{what}: {error}"),
            }
            assert_eq!(held_bytes(), 0, "{what}: the memory is given back");
        }
    }
}
