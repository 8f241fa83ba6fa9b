//! Caches that go on in the memory of others, whose processes are gone.

#[allow(dead_code, reason = "each test uses its own part of the support")]
#[path = "../support/mod.rs"]
mod support;

mod contents;
mod owners;
mod refusals;
mod scrub;

use std::os::fd::OwnedFd;

use larder::{Cache, Config, Proof, Receipt, Session};

use support::memory::as_it_is;

const NOW_MS: u64 = 1_000_000;

/// Two sessions' cache.
fn config(memory_bytes: u64) -> Config {
    let mut config = Config::new(memory_bytes);
    config.sessions_max = 2;
    config
}

fn sessions(cache: &Cache) -> [Session; 2] {
    [(); 2].map(|()| cache.session().expect("two are allowed"))
}

/// The memory of a cache as if its process died now: nothing of it is ended, and what was deferred
/// never comes.
fn dead(cache: Cache, sessions: [Session; 2], config: &Config) -> OwnedFd {
    let memory = as_it_is(&cache, config);
    drop((sessions, cache));
    memory
}

/// The cache in that memory, and what its recovery says; it must agree with itself.
fn recovered(memory: OwnedFd, config: &Config) -> (Cache, [Session; 2], Receipt) {
    let recovered = Cache::recover(memory, config, Proof::Contents);
    let (cache, receipt) = recovered.expect("the memory is accepted");
    let mut sessions = sessions(&cache);
    assert_eq!(sessions[0].verify(), Ok(()), "{receipt:#?}");
    (cache, sessions, receipt)
}
