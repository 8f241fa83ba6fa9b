//! How long a process was kept from running by the limits of its control groups, its own and those
//! that they are in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where control groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// LIMIT: control groups that one may lie in.
const DEPTH_MAX: usize = 32;

/// The files that count it.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    files: Vec<PathBuf>,
}

/// What they count, from the beginning of the groups on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Throttled {
    pub(super) times: u64,
    pub(super) total: Duration,
}

impl Throttle {
    /// Finds those of a process; none, where the system has none.
    pub(super) fn of_process(process: u32) -> Self {
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        let files = candidates(&groups).into_iter();
        Self {
            files: files.filter(|file| file.exists()).collect(),
        }
    }

    /// What they say now.
    pub(super) fn read(&self) -> Throttled {
        let texts = self
            .files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok());
        texts.fold(Throttled::default(), |sum, text| {
            let one = Throttled::parse(&text);
            Throttled {
                times: sum.times + one.times,
                total: sum.total + one.total,
            }
        })
    }
}

impl Throttled {
    fn parse(text: &str) -> Self {
        let mut throttled = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            let value = value.trim().parse().unwrap_or(0);
            match name {
                "nr_throttled" => throttled.times = value,
                "throttled_usec" => throttled.total = Duration::from_micros(value),
                "throttled_time" => throttled.total = Duration::from_nanos(value),
                _ => {}
            }
        }
        throttled
    }

    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            times: self.times.saturating_sub(earlier.times),
            total: self.total.saturating_sub(earlier.total),
        }
    }
}

fn candidates(groups: &str) -> Vec<PathBuf> {
    files_of_groups(groups, "cpu", "cpu.stat")
}

/// The files of a name that there may be for a controller: of both versions of control groups, from the process's
/// own up.
pub(super) fn files_of_groups(groups: &str, controller: &str, file: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
        let (Some(controllers), Some(path)) = (controllers, path) else {
            continue;
        };
        let root = match controllers {
            "" => PathBuf::from(ROOT),
            names if names.split(',').any(|name| name == controller) => Path::new(ROOT).join(names),
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        for group in path.ancestors().take(DEPTH_MAX) {
            // A path that leads out of what this process may see is of another namespace.
            if !group.components().any(|part| part.as_os_str() == "..") {
                files.push(root.join(group).join(file));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_understood() {
        let second = "usage_usec 9\nnr_periods 40\nnr_throttled 12\nthrottled_usec 3400\n";
        let first = "nr_periods 40\nnr_throttled 12\nthrottled_time 3400000\n";
        let expected = Throttled {
            times: 12,
            total: Duration::from_micros(3400),
        };
        assert_eq!([second, first].map(Throttled::parse), [expected; 2]);
        assert_eq!(
            Throttled::parse("nonsense\nnr_throttled x"),
            Throttled::default()
        );
        assert_eq!(expected.since(expected), Throttled::default());
    }

    #[test]
    fn the_groups_around_a_group_count_too() {
        let groups = "4:memory:/a\n1:cpu,cpuacct:/box\n0::/system.slice/larder.service\n";
        let expected = [
            "cpu,cpuacct/box",
            "cpu,cpuacct",
            "system.slice/larder.service",
            "system.slice",
            "",
        ];
        let expected = expected.map(|group| Path::new(ROOT).join(group).join("cpu.stat"));
        assert_eq!(candidates(groups), expected);
        assert_eq!(
            candidates("0::/../../elsewhere\nnonsense"),
            [Path::new(ROOT).join("cpu.stat")]
        );
    }
}
