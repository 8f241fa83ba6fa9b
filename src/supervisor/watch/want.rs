//! Whether the kernel has killed for want of memory: it kills by SIGKILL, as anybody may, and does not say why.
//!
//! It counts whom it has killed in their control group, whatever memory was short, the group's or the machine's.
//! Worker processes are in that of their supervisor.

use std::fs;
use std::path::{Path, PathBuf};

use super::throttle::files_of_groups;

/// The count of the own control group, as it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Kills {
    /// `None`: the system has none.
    file: Option<PathBuf>,
    known: u64,
}

impl Kills {
    /// Counts from now on.
    pub(super) fn of_own_group() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let names = ["memory.oom_control", "memory.events"];
        let each = names.map(|name| files_of_groups(&groups, "memory", name));
        // The own group is the first, unless it has another name where this process may look.
        let mut files = each.into_iter().flatten();
        let mut kills = Self {
            file: files.find(|file| count_in(file).is_some()),
            known: 0,
        };
        kills.more();
        kills
    }

    /// How many there were since it was asked last.
    pub(super) fn more(&mut self) -> u64 {
        let count = self
            .file
            .as_deref()
            .and_then(count_in)
            .unwrap_or(self.known);
        count.saturating_sub(std::mem::replace(&mut self.known, count))
    }
}

fn count_in(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut counts = text.lines().filter_map(|line| line.split_once(' '));
    let (_, count) = counts.find(|(name, _)| *name == "oom_kill")?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_from_one_time_to_the_next() {
        let name = format!("larder-kills-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let mut kills = Kills {
            file: Some(file.clone()),
            known: 2,
        };
        let mut after = |text: &str| {
            fs::write(&file, text).unwrap();
            kills.more()
        };
        assert_eq!(
            after("low 0\nmax 7\noom 3\noom_kill 3\noom_group_kill 0\n"),
            1
        );
        assert_eq!(after("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 0);
        assert_eq!(after("oom_kill_disable 0\nunder_oom 1\noom_kill 5\n"), 2);
        assert_eq!(after("under_oom 1\n"), 0);
        fs::remove_file(&file).unwrap();
        assert_eq!(kills.more(), 0);
    }
}
