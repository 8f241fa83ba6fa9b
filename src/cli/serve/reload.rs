//! New settings for a server that runs, when SIGHUP comes.
//!
//! The process outside reads the file anew, and what it says is what the next worker process is started
//! with. The process that serves takes over what can change while it runs. It has no file of its own:
//! its supervisor writes the settings down for it ([`Sheet`]). Where there is no supervisor, it reads
//! the file itself.

use super::inside::raise_open_files;
use super::log::Level;
use super::{ServeOptions, check};
use crate::cli::settings::{Loaded, Loader};
use crate::server::{Drainer, Tuning};
use crate::supervisor::Sheet;

/// Where a process that serves finds its settings.
#[derive(Debug)]
pub(super) struct Source {
    loader: Loader,
    /// What the supervisor writes.
    written: Option<Sheet>,
}

impl Source {
    pub(super) fn new(loader: Loader, written: Option<Sheet>) -> Self {
        Self { loader, written }
    }

    /// The settings as they are now, or why they cannot be had.
    fn read(&self) -> Result<Loaded<ServeOptions>, String> {
        let loaded = match &self.written {
            None => self.loader.load(),
            Some(sheet) => {
                let arguments = sheet.read().map_err(|error| error.to_string())?;
                self.loader.with_arguments(arguments).load()
            }
        };
        loaded.map_err(|error| error.to_string())
    }

    /// Has a server take over what can change, and says so in the log.
    pub(super) fn apply(&self, drainer: &Drainer, level: &Level) {
        let tuned = self.read().and_then(|loaded| {
            let options = &loaded.options;
            // As at the start: a default gives way to the limit of open files.
            let checked = check(options).and_then(|(mut settings, _)| {
                raise_open_files(options, &mut settings)?;
                Ok(settings)
            });
            let settings =
                checked.map_err(|refusal| refusal.with_place(&loaded.settings).into_sentence())?;
            let tuning = Tuning::of(&settings);
            drainer.tune(&tuning).map_err(|error| error.to_string())?;
            level.set(options.log_level);
            Ok(tuning)
        });
        match tuned {
            Ok(tuning) => tracing::info!(?tuning, "the settings that can change are taken over"),
            Err(why) => tracing::error!("the settings stay as they are: {why}"),
        }
    }
}
