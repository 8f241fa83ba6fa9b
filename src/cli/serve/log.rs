//! The log on standard error.

use std::io;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::LogForm;
use crate::cli::style;
use crate::supervisor::RecentLog;

/// What is logged, while the process runs.
#[derive(Debug, Clone)]
pub(super) struct Level {
    handle: Handle<LevelFilter, Registry>,
    /// The last lines.
    pub(super) recent: RecentLog,
}

impl Level {
    /// Changes it.
    pub(super) fn set(&self, level: LevelFilter) {
        // It fails only where the log is gone.
        let _ = self.handle.modify(|now| *now = level);
    }
}

/// Starts it, for all threads of the process.
pub(super) fn start(form: LogForm, level: LevelFilter) -> Level {
    let (filter, handle) = reload::Layer::new(level);
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(style::on_stderr())
        .with_target(false);
    let lines = match form {
        LogForm::Human => lines.boxed(),
        LogForm::Json => lines.json().boxed(),
    };
    let recent = RecentLog::default();
    let kept = recent.clone();
    let remembered = fmt::layer()
        .with_writer(move || kept.clone())
        .with_ansi(false)
        .with_target(false);
    // A second log in one process would only fail to replace the first.
    let log = Registry::default().with(filter).with(lines);
    let _ = log.with(remembered).try_init();
    Level { handle, recent }
}
