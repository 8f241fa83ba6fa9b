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
    let groups = groups_of(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let with_those_above = groups.iter().flat_map(|group| group.ancestors());
    let all = with_those_above.filter(|at| at.starts_with(CONTROL_GROUPS));
    all.filter_map(of_group).min()
}

/// The folders of a process's control groups that may limit its memory: of version 2, and of version 1, where
/// each controller has a hierarchy of its own.
fn groups_of(listed: &str) -> Vec<PathBuf> {
    let root = Path::new(CONTROL_GROUPS);
    let version_2 = listed.lines().find_map(|line| line.strip_prefix("0::/"));
    let version_1 = listed.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(":/")?;
        let is_memory = controllers.split(',').any(|name| name == "memory");
        is_memory.then(|| root.join("memory").join(group))
    });
    let version_2 = root.join(version_2.unwrap_or_default());
    [version_2].into_iter().chain(version_1).collect()
}

/// What a control group may hold in all, with its part of the machine's swap; `None` where it has no limit of
/// its own.
fn limit_of_group(group: &Path, swap: u64) -> Option<u64> {
    if let Some(limit) = number_in(group, "memory.max") {
        let own = number_in(group, "memory.swap.max")
            .unwrap_or(swap)
            .min(swap);
        return Some(limit.saturating_add(own));
    }
    // Version 1; the second is of both together, and not on every system.
    let limit = number_in(group, "memory.limit_in_bytes")?.saturating_add(swap);
    let both = number_in(group, "memory.memsw.limit_in_bytes");
    Some(both.map_or(limit, |both| both.min(limit)))
}

/// What a control group may still come to use; `None` where it has no limit of its own.
fn left_in_group(group: &Path) -> Option<u64> {
    let of_version = |limit, held, cached: [&str; 2]| {
        let (limit, held) = (number_in(group, limit)?, number_in(group, held)?);
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        // Cached files make room when somebody needs it.
        let cached: u64 = cached.iter().filter_map(|name| figure(&stat, name)).sum();
        Some(limit.saturating_sub(held.saturating_sub(cached)))
    };
    let cached = ["inactive_file", "active_file"];
    of_version("memory.max", "memory.current", cached).or_else(|| {
        let (limit, held) = ("memory.limit_in_bytes", "memory.usage_in_bytes");
        of_version(limit, held, ["total_inactive_file", "total_active_file"])
    })
}

/// The number that a file of a control group has; `None`: it has none, or says that there is no limit.
fn number_in(group: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(group.join(file)).ok()?;
    text.trim().parse().ok()
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
    use super::{available_bytes, figure, groups_of, left_in_group, limit_bytes, limit_of_group};

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

    #[test]
    fn control_groups_of_both_versions_are_found() {
        let listed = "12:cpu,cpuacct:/a\n5:memory:/docker/one\n1:name=systemd:/x\n0::/user/two\n";
        let found = [
            "/sys/fs/cgroup/user/two",
            "/sys/fs/cgroup/memory/docker/one",
        ];
        assert_eq!(groups_of(listed), found.map(std::path::PathBuf::from));
        let alone = [std::path::PathBuf::from("/sys/fs/cgroup")];
        assert_eq!(groups_of("0::/\n"), alone);
        assert_eq!(groups_of(""), alone);
    }

    #[test]
    fn a_control_group_of_version_1_has_its_limits() {
        let name = format!("larder-{}-control-group-1", std::process::id());
        let group = std::env::temp_dir().join(name);
        std::fs::create_dir(&group).expect("a folder");
        let write = |file: &str, text: &str| {
            std::fs::write(group.join(file), text).expect("a file");
        };
        write("memory.limit_in_bytes", "100\n");
        write("memory.usage_in_bytes", "50\n");
        write(
            "memory.stat",
            "inactive_file 1\ntotal_inactive_file 10\ntotal_active_file 5\n",
        );
        let (left, limit) = (left_in_group(&group), limit_of_group(&group, 30));
        write("memory.memsw.limit_in_bytes", "110\n");
        let with_swap = limit_of_group(&group, 30);
        std::fs::remove_dir_all(&group).expect("it is there");
        let all = (Some(65), Some(130), Some(110));
        assert_eq!((left, limit, with_swap), all);
    }
}
