//! What cannot be recovered from is refused with a sentence.

use std::os::unix::fs::FileExt;

use larder::{Cache, Config, Proof, RecoverError};

use super::{config, dead, recovered, sessions};

fn refusal(memory: std::os::fd::OwnedFd, config: &Config) -> RecoverError {
    match Cache::recover(memory, config, Proof::Contents) {
        Ok((_, receipt)) => panic!("accepted: {receipt:#?}"),
        Err(refused) => refused,
    }
}

fn memory(config: &Config) -> std::os::fd::OwnedFd {
    let cache = Cache::new(config.clone()).expect("a cache");
    let of = sessions(&cache);
    dead(cache, of, config)
}

#[test]
fn another_configuration_is_refused_and_named() {
    let config = config(4 << 20);
    let other = |change: fn(&mut Config)| {
        let mut other = config.clone();
        change(&mut other);
        refusal(memory(&config), &other).to_string()
    };
    for (changed, name) in [
        (other(|c| c.memory_bytes = 5 << 20), "memory_bytes"),
        (other(|c| c.sessions_max = 3), "sessions_max"),
        (other(|c| c.key_bytes_max = 99), "key_bytes_max"),
        (other(|c| c.value_bytes_max = Some(99)), "value_bytes_max"),
        (
            other(|c| c.access_times = larder::AccessTimes::Kept),
            "access_times",
        ),
        (other(|c| c.hash_seed = Some(1)), "hash_seed"),
    ] {
        assert!(changed.contains(name), "{changed}");
    }
}

#[test]
fn the_hash_seed_is_that_of_the_memory() {
    let mut seeded = config(4 << 20);
    seeded.hash_seed = Some(42);
    seeded.first_version = Some(1);
    let (_, _, receipt) = recovered(memory(&seeded), &config(4 << 20));
    assert_eq!(receipt.items, 0);
}

#[test]
fn what_is_no_memory_of_a_cache_is_refused() {
    let config = config(4 << 20);
    let (pipe, _other) = std::io::pipe().expect("a pipe");
    let refused = refusal(pipe.into(), &config);
    assert!(matches!(refused, RecoverError::Memory { .. }), "{refused}");

    let changed = |at: u64, bytes: &[u8]| {
        let file = std::fs::File::from(memory(&config));
        file.write_all_at(bytes, at)
            .expect("a memfd can be written");
        refusal(file.into(), &config)
    };
    assert!(matches!(changed(0, b"X"), RecoverError::NoCache));
    assert!(matches!(
        changed(8, &[77]),
        RecoverError::Layout { found: 77, .. }
    ));
    assert!(matches!(changed(16, &[1, 2, 3, 4]), RecoverError::Damaged));
    assert!(matches!(changed(512, &[1; 8]), RecoverError::Damaged));
    for at in [64, 128, 192, 320] {
        let refused = changed(at, &[0xff; 8]);
        assert!(
            matches!(refused, RecoverError::Impossible { .. }),
            "{refused}"
        );
    }
    // Buckets that nothing was paid for.
    let refused = changed(64, &(1_u64 << 12).to_le_bytes());
    assert!(
        matches!(refused, RecoverError::Impossible { .. }),
        "{refused}"
    );
}
