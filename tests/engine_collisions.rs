//! Keys that all belong to one bucket: chains of overflow buckets, and what happens when they are
//! full.

use larder::{Cache, Config, Deletion, Entry, Guard, Mode, Outcome};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SEED: u64 = 1;
/// What one bucket holds with all the overflow buckets it may have.
const CHAIN: usize = 7 + 10 * 3;

fn cache() -> Cache {
    let mut config = Config::new(32 << 20);
    config.hash_seed = Some(SEED);
    config.first_version = Some(1);
    Cache::new(config).expect("the configuration is accepted")
}

/// Keys whose buckets differ only where there are more than 65,536 of them, or nowhere at all.
fn colliding_keys(count: usize) -> Vec<[u8; 8]> {
    keys_of_bucket(0, count)
}

fn keys_of_bucket(bucket: u64, count: usize) -> Vec<[u8; 8]> {
    let names = (0_u64..).map(u64::to_be_bytes);
    let belongs = |name: &[u8; 8]| xxh3_64_with_seed(name, SEED) & 0xffff == bucket;
    names.filter(belongs).take(count).collect()
}

fn delete(guard: &mut Guard<'_>, name: &[u8]) {
    let key = guard.key(name).expect("a key");
    assert_eq!(guard.delete(&key, None), Deletion::Deleted);
}

fn set(guard: &mut Guard<'_>, name: &[u8], value: &[u8]) {
    let key = guard.key(name).expect("a key");
    let stored = guard.store(&key, Mode::Set, &Entry::of(value));
    assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
}

fn has(guard: &Guard<'_>, name: &[u8]) -> bool {
    let key = guard.key(name).expect("a key");
    let item = guard.get(&key);
    assert!(item.is_none_or(|item| item.value() == name));
    item.is_some()
}

#[test]
fn a_chain_holds_every_key_until_it_is_full() {
    let cache = cache();
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    let names = colliding_keys(CHAIN);
    for name in &names {
        set(&mut guard, name, name);
    }
    assert!(names.iter().all(|name| has(&guard, name)));
    assert_eq!(cache.stats().evicted, 0);
    for name in &names {
        delete(&mut guard, name);
        assert!(!has(&guard, name));
        set(&mut guard, name, name);
    }
    assert!(names.iter().all(|name| has(&guard, name)));
}

#[test]
fn an_insert_into_a_full_chain_evicts_one_cold_key_and_says_so() {
    let cache = cache();
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    let names = colliding_keys(CHAIN + 40);
    let (hot, cold) = names.split_at(CHAIN / 2);
    for (inserted, name) in (1..).zip(hot.iter().chain(cold)) {
        set(&mut guard, name, name);
        hot.iter()
            .take(inserted)
            .for_each(|name| assert!(has(&guard, name)));
        assert!(inserted <= hot.len() || has(&guard, name), "just stored");
    }
    let found = names.iter().filter(|name| has(&guard, &name[..])).count();
    assert_eq!(found, CHAIN);
    drop(guard);
    drop(session);
    let stats = cache.stats();
    assert_eq!(
        (stats.evicted, stats.items),
        (40, CHAIN as u64),
        "{stats:#?}"
    );
    // 16 bytes of header, 8 of key, 8 of value.
    assert_eq!(stats.live_bytes, 32 * CHAIN as u64, "{stats:#?}");
}

#[test]
fn a_full_chain_that_is_split_keeps_what_it_held() {
    let cache = cache();
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    let names = colliding_keys(CHAIN);
    for name in &names {
        set(&mut guard, name, name);
    }
    let buckets = cache.stats().buckets;
    for filler in 0..40_000_u32 {
        set(&mut guard, &filler.to_be_bytes(), &filler.to_be_bytes());
    }
    assert!(cache.stats().buckets > 4 * buckets);
    let found = names.iter().filter(|name| has(&guard, &name[..])).count();
    let lost = (CHAIN - found) as u64;
    assert!(lost <= cache.stats().evicted, "{:#?}", cache.stats());
    // Others that fall into the same bucket may take the places of a few.
    assert!(found > CHAIN / 2, "{found} of {CHAIN}");
    let mut scanned = 0;
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        cursor = guard.scan(at, 100, |_| scanned += 1);
    }
    assert_eq!(scanned, cache.stats().items);
}

/// In whichever order a chain's keys go, whatever overflow buckets that frees are used by the next.
#[test]
fn overflow_buckets_go_from_one_chain_to_another_and_none_is_lost() {
    let cache = cache();
    let mut session = cache.session().expect("a session is free");
    let chains = [0, 1].map(|bucket| keys_of_bucket(bucket, CHAIN));
    let orders: [fn(usize) -> usize; 4] = [
        |at| at,
        |at| CHAIN - 1 - at,
        |at| at * 10 % CHAIN,
        |at| at * 17 % CHAIN,
    ];
    for (round, order) in orders.into_iter().enumerate() {
        let names = &chains[round % 2];
        for name in names {
            set(&mut session.pin(0), name, name);
        }
        assert_eq!(session.verify(), Ok(()));
        for at in 0..CHAIN {
            delete(&mut session.pin(0), &names[order(at)]);
            assert_eq!(session.verify(), Ok(()), "round {round}, deletion {at}");
            let left = (at + 1..CHAIN).map(order);
            let guard = session.pin(0);
            left.for_each(|at| assert!(has(&guard, &names[at])));
        }
    }
    assert_eq!(cache.stats().evicted, 0);
}
