//! The log on standard error.

use std::io;

use tracing_subscriber::filter::LevelFilter;

use super::LogForm;
use crate::cli::style;

/// Starts it, for all threads of the process.
pub(super) fn start(form: LogForm, level: LevelFilter) {
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(style::on_stderr())
        .with_target(false)
        .with_max_level(level);
    // A second log in one process would only fail to replace the first.
    let _ = match form {
        LogForm::Human => lines.try_init(),
        LogForm::Json => lines.json().try_init(),
    };
}
