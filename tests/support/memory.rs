//! What a process that dies leaves behind, without a process that dies.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use larder::{Cache, Config};

const PAGE_BYTES: usize = 4096;

/// The memory of a cache as it is at this moment, in another one that nobody owns: what its sessions
/// still do to theirs when they end does not come to it, as if their process had died.
pub(crate) fn as_it_is(cache: &Cache, config: &Config) -> OwnedFd {
    let other = Cache::new(config.clone()).expect("the same was accepted before");
    let memory = |cache: &Cache| File::from(cache.memory().try_clone_to_owned().expect("memory"));
    let (from, to) = (memory(cache), memory(&other));
    drop(other);
    let mut bytes = vec![0; from.metadata().expect("a size").len() as usize];
    from.read_exact_at(&mut bytes, 0).expect("it can be read");
    for (number, page) in (0..).zip(bytes.chunks(PAGE_BYTES)) {
        if number == 0 || page.iter().any(|&byte| byte != 0) {
            let at = number * PAGE_BYTES as u64;
            to.write_all_at(page, at).expect("it can be written");
        }
    }
    to.into()
}
