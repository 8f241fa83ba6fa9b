//! The bar that shows how far a replay is, on a terminal and nowhere else.

use std::io::Read;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::cli::bench::text::grouped;

const KNOWN_LENGTH: &str = "{bar:40} {percent:>3} %  {msg}  {eta} left";
const UNKNOWN_LENGTH: &str = "{spinner} {msg}  {elapsed}";

/// How often the bar is drawn while nothing moves.
const TICK: Duration = Duration::from_millis(200);

/// The bar.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Begins a bar over a trace of so many bytes as they lie in the file, if that is known.
    pub(super) fn begin(trace_bytes: Option<u64>) -> Self {
        // Drawn on standard error; indicatif draws nothing where that is no terminal.
        // A replay that fails takes its bar away before it says why.
        let bar = ProgressBar::with_draw_target(trace_bytes, ProgressDrawTarget::stderr())
            .with_finish(ProgressFinish::AndClear);
        let template = match trace_bytes {
            Some(_) => KNOWN_LENGTH,
            None => UNKNOWN_LENGTH,
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// Counts what is read.
    pub(super) fn watch<R: Read>(&self, source: R) -> impl Read + use<R> {
        self.bar.wrap_read(source)
    }

    /// So many requests are handed out.
    pub(super) fn requests(&self, requests: u64) {
        if !self.bar.is_hidden() {
            self.bar
                .set_message(format!("{} requests", grouped(requests)));
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}
