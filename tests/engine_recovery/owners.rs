//! A memory has one owner at a time; others may look at it, and what they see is told afterwards.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use larder::{Cache, Config, Entry, LastOwner, Mode, Proof, RecoverError, Session};

use super::{NOW_MS, as_it_is, config, recovered, sessions};

fn fill(session: &mut Session, keys: usize) {
    for number in 0..keys {
        let mut guard = session.pin(NOW_MS);
        let name = format!("key {number}");
        let key = guard.key(name.as_bytes()).expect("a key");
        let value = vec![7; if number % 100 == 0 { 9000 } else { 90 }];
        let _ = guard
            .store(&key, Mode::Set, &Entry::of(&value))
            .expect("room");
    }
}

fn duplicate(cache: &Cache) -> OwnedFd {
    cache.memory().try_clone_to_owned().expect("a descriptor")
}

fn recover(memory: &OwnedFd, config: &Config) -> Result<Cache, RecoverError> {
    let memory = memory.try_clone().expect("a descriptor");
    Cache::recover(memory, config, Proof::Contents).map(|(cache, _)| cache)
}

fn bytes(memory: &OwnedFd) -> Vec<u8> {
    let file = File::from(memory.try_clone().expect("a descriptor"));
    let mut bytes = vec![0; file.metadata().expect("a size").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("it can be read");
    bytes
}

#[test]
fn a_memory_that_is_in_use_is_refused_until_the_last_of_it_has_ended() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    fill(&mut of[0], 100);
    let memory = duplicate(&cache);
    let is_refused = || matches!(recover(&memory, &config), Err(RecoverError::InUse));
    assert!(is_refused());
    let large = {
        let guard = of[1].pin(NOW_MS);
        let item = guard.get(&guard.key(b"key 0").expect("a key"));
        guard
            .hold(&item.expect("it was stored"))
            .expect("a large value")
    };
    drop(cache);
    assert!(is_refused(), "sessions are left");
    drop(of);
    assert!(is_refused(), "a reader of a large value is left");
    drop(large);
    let first = recover(&memory, &config).expect("nobody has it");
    assert!(is_refused(), "it has an owner again");
    drop(first);
    recover(&memory, &config).expect("nobody has it");
}

#[test]
fn a_refused_memory_is_nobodys() {
    let config = config(4 << 20);
    let memory = duplicate(&Cache::new(config.clone()).expect("a cache"));
    let mut other = config.clone();
    other.sessions_max = 1;
    assert!(matches!(
        recover(&memory, &other),
        Err(RecoverError::Differs { .. })
    ));
    recover(&memory, &config).expect("nobody has it");
}

#[test]
fn a_look_at_a_memory_tells_what_recovery_keeps_and_changes_nothing() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    fill(&mut of[0], 3000);
    fill(&mut of[1], 1500);
    let memory = duplicate(&cache);
    let before = bytes(&memory);
    let seen = Cache::examine(memory.as_fd(), &config).expect("it is one of this program's");
    assert!(before == bytes(&memory));
    assert_eq!((seen.owner, seen.items), (LastOwner::AtWork, 3000));
    // It is no reason for its owner not to go on, nor for the next one not to begin.
    fill(&mut of[0], 10);
    let left = as_it_is(&cache, &config);
    let examined = Cache::examine(left.as_fd(), &config).expect("the same");
    assert_eq!(examined.owner, LastOwner::Died);
    let (_, _, receipt) = recovered(left, &config);
    assert_eq!(examined.items, receipt.items);
    assert_eq!(examined.item_bytes, receipt.item_bytes);
    // What was overwritten is not free before its readers are gone, which are with their process.
    assert!(examined.large_bytes >= receipt.large_bytes && receipt.large_bytes > 0);
}

#[test]
fn what_recovery_would_refuse_is_refused_by_a_look() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut other = config.clone();
    other.key_bytes_max = 99;
    let refused = Cache::examine(cache.memory(), &other).unwrap_err();
    assert!(refused.to_string().contains("key_bytes_max"), "{refused}");
    let (pipe, _other) = std::io::pipe().expect("a pipe");
    let refused = Cache::examine(pipe.as_fd(), &config).unwrap_err();
    assert!(matches!(refused, RecoverError::Memory { .. }), "{refused}");
    let file = File::from(duplicate(&cache));
    for (at, bytes) in [(0, b"X".to_vec()), (64, vec![0xff; 8]), (512, vec![1; 8])] {
        let mut was = vec![0; bytes.len()];
        file.read_exact_at(&mut was, at).expect("it can be read");
        file.write_all_at(&bytes, at).expect("it can be written");
        assert!(Cache::examine(file.as_fd(), &config).is_err(), "{at}");
        file.write_all_at(&was, at).expect("it can be written");
    }
    assert!(Cache::examine(file.as_fd(), &config).is_ok());
}

#[test]
fn the_memory_tells_how_its_last_owner_ended_and_when_it_was_last_in_use() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let memory = duplicate(&cache);
    let seen = |memory: &OwnedFd| {
        let seen = Cache::examine(memory.as_fd(), &config).expect("a cache's");
        (seen.owner, seen.last_used_ms)
    };
    assert_eq!(seen(&memory), (LastOwner::AtWork, None));
    let mut of = sessions(&cache);
    fill(&mut of[0], 1);
    assert_eq!(seen(&memory).1, Some(NOW_MS));
    let _ = of[0].maintain(NOW_MS + 7);
    assert_eq!(seen(&memory), (LastOwner::AtWork, Some(NOW_MS + 7)));
    let left = as_it_is(&cache, &config);
    assert_eq!(seen(&left), (LastOwner::Died, Some(NOW_MS + 7)));

    // Something is left of it: that is no end yet.
    assert!(!cache.clone().close());
    drop(of);
    assert!(cache.close());
    assert_eq!(seen(&memory), (LastOwner::Ended, Some(NOW_MS + 7)));
    let (cache, of, receipt) = recovered(memory, &config);
    let told = (receipt.last_owner, receipt.last_used_ms);
    assert_eq!(told, (LastOwner::Ended, Some(NOW_MS + 7)));
    // The next owner has not ended.
    let left = as_it_is(&cache, &config);
    assert_eq!(seen(&left).0, LastOwner::Died);
    drop(of);
    let (_, _, receipt) = recovered(left, &config);
    assert_eq!(receipt.last_owner, LastOwner::Died);
}

#[test]
fn a_panic_that_takes_a_cache_with_it_is_no_end_in_order() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let memory = duplicate(&cache);
    let ended = std::thread::spawn(move || {
        let _cache = cache;
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(ended.join().is_err());
    let seen = Cache::examine(memory.as_fd(), &config).expect("a cache's");
    assert_eq!(seen.owner, LastOwner::Died);
}
