//! What the system says about its memory: how much there is, and how much is left.

use std::fs;
use std::path::{Path, PathBuf};

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The memory that this process could come to use, as far as the machine and its control groups
/// let it, in bytes; `None` where the system does not say.
pub(crate) fn available_bytes() -> Option<u64> {
    let machine = figure(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")? << 10;
    Some(least_of_groups(left_in_group).map_or(machine, |group| group.min(machine)))
}

/// All the memory that this process could ever come to use, swap included, as far as the machine and its
/// control groups let it, in bytes; `None` where the system does not say.
pub(crate) fn limit_bytes() -> Option<u64> {
    let figures = fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = |name| figure(&figures, name);
    let swap = kibibytes("SwapTotal:").unwrap_or(0) << 10;
    let machine = (kibibytes("MemTotal:")? << 10) + swap;
    let limit = least_of_groups(|group| limit_of_group(group, swap));
    Some(limit.map_or(machine, |group| group.min(machine)))
}

/// The least that the control groups of this process let it have, those above included.
fn least_of_groups(of_group: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = PathBuf::from(CONTROL_GROUPS).join(group.unwrap_or_default());
    let groups = group
        .ancestors()
        .filter(|at| at.starts_with(CONTROL_GROUPS));
    groups.filter_map(of_group).min()
}

/// What a control group may hold in all, with its part of the machine's swap; `None` where it has no limit of
/// its own.
fn limit_of_group(group: &Path, swap: u64) -> Option<u64> {
    let limit = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    };
    Some(limit("memory.max")?.saturating_add(limit("memory.swap.max").unwrap_or(swap).min(swap)))
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
    use super::{available_bytes, figure, limit_bytes, limit_of_group};

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let text = "MemTotal:  17 kB\nMemAvailable:  12 kB\n";
        assert_eq!(figure(text, "MemAvailable:"), Some(12));
        assert_eq!(figure(text, "Mem"), None);
    }

    #[test]
    fn this_machine_has_memory_left() {
        let left = available_bytes().expect("a figure");
        assert!(left > 0 && left <= limit_bytes().expect("a figure"));
    }

    #[test]
    fn a_control_group_has_its_limit_and_its_part_of_the_swap() {
        let name = format!("larder-{}-control-group", std::process::id());
        let group = std::env::temp_dir().join(name);
        std::fs::create_dir(&group).expect("a folder");
        let limit = |files: &[(&str, &str)], swap| {
            for (file, text) in files {
                std::fs::write(group.join(file), text).expect("a file");
            }
            limit_of_group(&group, swap)
        };
        let limits = [
            limit(&[], 9),
            limit(&[("memory.max", "max\n")], 9),
            limit(&[("memory.max", "100\n")], 9),
            limit(&[("memory.swap.max", "max\n")], 9),
            limit(&[("memory.swap.max", "4\n")], 9),
            limit(&[("memory.swap.max", "4\n")], 0),
        ];
        std::fs::remove_dir_all(&group).expect("it is there");
        let all = [None, None, Some(109), Some(109), Some(104), Some(100)];
        assert_eq!(limits, all);
    }
}
