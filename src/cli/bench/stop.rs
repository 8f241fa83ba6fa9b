//! An early end, asked for by Ctrl-C.

use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::ending::{Ending, Failure};
use crate::sync::{Arc, AtomicU64, Ordering};

/// How often somebody who waits looks whether an early end was asked for.
const CHECK: Duration = Duration::from_millis(50);

/// What a process that a signal ends reports: 128 and the number of the signal.
const ENDED_BY_SIGNAL: i32 = 128;

/// Whether somebody asked for an early end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    asked: Arc<AtomicU64>,
}

impl Stop {
    /// A stop that the first Ctrl-C asks for; a second one ends the process where it stands.
    pub(super) fn on_interrupt() -> Result<Self, Failure> {
        let stop = Self::default();
        let asked = stop.clone();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new()
            .name("larder-signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if asked.is_asked() {
                        std::process::exit(ENDED_BY_SIGNAL + signal);
                    }
                    asked.ask();
                }
            })?;
        Ok(stop)
    }

    /// Asks for the end.
    pub(super) fn ask(&self) {
        // ORDERING: Relaxed; a wish, with which nothing else travels.
        self.asked.store(1, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        // ORDERING: as in `ask`.
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// Comes to its end when the end was asked for.
    pub(super) async fn wait(&self) {
        while !self.is_asked() {
            tokio::time::sleep(CHECK).await;
        }
    }

    /// What there is to say where the end was asked for before there was anything to report: no failure.
    pub(super) fn early() -> Failure {
        Failure {
            ending: Ending::Done,
            sentence: "ended before the load began".to_owned(),
            no_connection: false,
        }
    }
}
