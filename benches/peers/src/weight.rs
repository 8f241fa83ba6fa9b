//! Bytes per entry: how much a process grows while it takes every key in.
//!
//! Each contender is weighed in a process of its own, this program started again, so that none
//! stands on memory that another has left. What grows is the resident set (`Rss` of
//! `/proc/self/smaps_rollup`), since Larder's arena is a mapping that no allocator knows of. The peers
//! use the allocator of the system's C library.

use std::process::{Command, Stdio};

use crate::contenders::{Entrant, Hashing, Room};
use crate::load::Keys;

/// The option that makes this program a scale.
pub(crate) const WEIGH: &str = "--weigh";

/// Weighs in another process.
pub(crate) fn bytes_per_entry(entrant: &Entrant, items: usize) -> f64 {
    let this = std::env::current_exe().expect("the path of this program");
    let scale = Command::new(this)
        .args([WEIGH, entrant.name, "--items", &items.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("a second process");
    let printed = String::from_utf8_lossy(&scale.stdout);
    let bytes = printed.trim().parse().ok();
    bytes.unwrap_or_else(|| panic!("{} was not weighed: {}", entrant.name, scale.status))
}

/// Weighs in this process, which must be a fresh one. What hashes the keys weighs nothing.
pub(crate) fn weigh(entrant: &Entrant, items: usize) -> f64 {
    let keys = Keys::new(items);
    let before = resident_bytes();
    let contender = entrant.open(Hashing::Foldhash, Room::Everything, &keys);
    contender.fill(&keys);
    let entries = contender.entries();
    resident_bytes().saturating_sub(before) as f64 / entries as f64
}

fn resident_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("a Linux with smaps");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: u64 = kibibytes.and_then(|n| n.parse().ok()).expect("a number");
    kibibytes << 10
}
