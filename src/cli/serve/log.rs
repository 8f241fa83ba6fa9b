//! The log on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;

use super::LogForm;

/// Starts it, for all threads of the process.
pub(super) fn start(form: LogForm, level: LevelFilter) {
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(level);
    // A second log in one process would only fail to replace the first.
    let _ = match form {
        LogForm::Human => lines.try_init(),
        LogForm::Json => lines.json().try_init(),
    };
}
