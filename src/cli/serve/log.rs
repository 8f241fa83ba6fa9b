//! The log on standard error.
//!
//! A thread of its own writes it: whoever reads standard error may be slow, or have stopped, and a
//! supervisor that waited for that would start nothing again. What cannot be written in time is dropped, and
//! is among the last lines all the same that are kept with evidence.
//!
//! What the language's runtime says of a panic, or as it ends the process, it writes there itself, in the thread
//! that it is about. So where standard error is a pipe, nobody but the log's thread waits for its reader.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{FileType, Mode, OFlags};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::LogForm;
use crate::cli::style;
use crate::supervisor::RecentLog;

/// LIMIT: lines that wait to be written.
const LINES_WAITING_MAX: usize = 4096;

/// The log of this process.
pub(super) struct Log {
    pub(super) level: Level,
    writer: NonBlocking,
    guard: WorkerGuard,
}

impl Log {
    /// Writes a last line, if there is one, after all that waits; gives that up after a second in which
    /// nobody reads.
    pub(super) fn end(mut self, last: Option<&str>) {
        if let Some(last) = last {
            // It takes what it is given, or drops it.
            let _ = writeln!(self.writer, "{last}");
        }
        drop(self.guard);
    }
}

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
pub(super) fn start(form: LogForm, level: LevelFilter) -> Log {
    let builder = NonBlockingBuilder::default();
    let builder = builder.buffered_lines_limit(LINES_WAITING_MAX).lossy(true);
    let target = pipe_of_stderr().unwrap_or_else(|_| Box::new(io::stderr()));
    let (writer, guard) = builder.thread_name("larder-log").finish(target);
    let (filter, handle) = reload::Layer::new(level);
    let lines = fmt::layer()
        .with_writer(writer.clone())
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
    Log {
        level: Level { handle, recent },
        writer,
        guard,
    }
}

/// Where standard error is a pipe: a way into it that waits for its reader; standard error itself waits no
/// more. (It is opened anew for that, since others have it, too, and go on as they were.)
fn pipe_of_stderr() -> io::Result<Box<dyn Write + Send>> {
    const STDERR: &str = "/proc/self/fd/2";
    let stat = rustix::fs::fstat(io::stderr())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // Where there is no reader, to open it without this would wait for one.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let waits = rustix::fs::open(STDERR, flags, Mode::empty())?;
    rustix::fs::fcntl_setfl(&waits, OFlags::empty())?;
    rustix::stdio::dup2_stderr(rustix::fs::open(STDERR, flags, Mode::empty())?)?;
    Ok(Box::new(File::from(waits)))
}
