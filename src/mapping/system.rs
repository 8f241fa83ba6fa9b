//! What the system says about its memory: how much is left.

use std::fs;
use std::path::{Path, PathBuf};

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The memory that this process could come to use, as far as the machine and its control groups
/// let it, in bytes; `None` where the system does not say.
pub(crate) fn available_bytes() -> Option<u64> {
    let machine = figure(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")? << 10;
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = PathBuf::from(CONTROL_GROUPS).join(group.unwrap_or_default());
    let groups = group
        .ancestors()
        .filter(|at| at.starts_with(CONTROL_GROUPS));
    Some(groups.filter_map(left_in_group).fold(machine, u64::min))
}

/// What a control group may still come to use; `None` where it has no limit of its own.
fn left_in_group(group: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let held: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    // Cached files make room when somebody needs it.
    let cached = ["inactive_file", "active_file"];
    let cached: u64 = cached.iter().filter_map(|name| figure(&stat, name)).sum();
    Some(limit.saturating_sub(held.saturating_sub(cached)))
}

/// The number that follows a name at the beginning of a line.
fn figure(text: &str, name: &str) -> Option<u64> {
    let mut words = text
        .lines()
        .map(str::split_ascii_whitespace)
        .find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{available_bytes, figure};

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let text = "MemTotal:  17 kB\nMemAvailable:  12 kB\n";
        assert_eq!(figure(text, "MemAvailable:"), Some(12));
        assert_eq!(figure(text, "Mem"), None);
    }

    #[test]
    fn this_machine_has_memory_left() {
        assert!(available_bytes().expect("a figure") > 0);
    }
}
