//! Where the lines that were typed are kept.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable of the environment that names another file; empty, or [`NOWHERE`], none is kept.
pub(super) const VARIABLE: &str = "LARDER_HISTORY";
const NOWHERE: &str = "/dev/null";

/// The file of the history, if one is to be kept. Its folder is made where it is missing.
pub(super) fn file() -> Option<PathBuf> {
    let file = place(env::var_os)?;
    if let Some(folder) = file.parent() {
        // Without a folder there is no history, and no harm.
        let _ = std::fs::create_dir_all(folder);
    }
    Some(file)
}

/// Whether lines can be kept there. Anything but a file may give lines for ever, as a device, or wait for somebody who
/// writes, as a pipe.
pub(super) fn is_usable(place: &Path) -> bool {
    // There is none before the first time.
    std::fs::metadata(place).map_or(true, |found| found.is_file())
}

fn place(variable: impl Fn(&'static str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(named) = variable(VARIABLE) {
        return (!named.is_empty() && named != NOWHERE).then(|| PathBuf::from(named));
    }
    let folder = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join(Path::new("larder/history")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_where_the_history_is() {
        for (variables, expected) in [
            (
                &[("HOME", "/nest/ada")][..],
                Some("/nest/ada/.local/state/larder/history"),
            ),
            (
                &[("HOME", "/nest/ada"), ("XDG_STATE_HOME", "/state")],
                Some("/state/larder/history"),
            ),
            (
                &[("HOME", "/nest/ada"), (VARIABLE, "/tmp/h")],
                Some("/tmp/h"),
            ),
            (&[("HOME", "/nest/ada"), (VARIABLE, "")], None),
            (&[("HOME", "/nest/ada"), (VARIABLE, NOWHERE)], None),
            (&[("HOME", "relative")], None),
            (&[], None),
        ] {
            let variable = |name| {
                let found = variables.iter().find(|(of, _)| *of == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(
                place(variable).as_deref(),
                expected.map(Path::new),
                "{variables:?}"
            );
        }
    }
}
