//! `larder postmortem`: what is known of the last process of a server that died, from its supervisor or
//! from the files that this one saved.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::ask::Told;
use super::{AdminCommand, AdminOptions};
use crate::cli::commands::conclude_as_asked;
use crate::cli::ending::{Ending, Failure, print};
use crate::supervisor::{Postmortem, REPORT};

/// Tell what the last worker process of a server died of
///
/// What killed it, what each thread was doing and did last, where the memory was, and what the next
/// process kept of the contents. All of it was in shared memory when the process died, whatever it died
/// of.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder postmortem
  larder postmortem --bundle /var/lib/larder/evidence/larder-2026-05-04T031501.250Z-death")]
pub(crate) struct PostmortemOptions {
    /// A folder of evidence that was saved, in place of asking a server
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,

    /// Tell it in JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminOptions,
}

/// Asks, or reads what was saved.
pub(crate) fn run(options: &PostmortemOptions) -> ExitCode {
    match &options.bundle {
        None => super::run(options),
        Some(bundle) => {
            let read = options.read(bundle);
            conclude_as_asked(PostmortemOptions::NAME, options.json, read)
        }
    }
}

impl PostmortemOptions {
    fn read(&self, bundle: &Path) -> Result<Ending, Failure> {
        let path = bundle.join(REPORT);
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!(
                "{} cannot be read: {error}; a bundle is a folder that the server saved, with a file \
                 {REPORT} in it",
                path.display()
            ))
        })?;
        self.tell(&text)
    }

    fn tell(&self, text: &str) -> Result<Ending, Failure> {
        let postmortem: Postmortem = serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("this is no post-mortem: {error}")))?;
        match self.json {
            true => print(format!("{}\n", text.trim_end()).as_bytes())?,
            false => print(postmortem.to_string().as_bytes())?,
        }
        Ok(Ending::Done)
    }
}

impl AdminCommand for PostmortemOptions {
    const NAME: &'static str = "postmortem";

    fn admin(&self) -> &AdminOptions {
        &self.admin
    }

    fn request(&self) -> (&'static str, String) {
        ("GET", "/postmortem.json".to_owned())
    }

    fn is_json(&self) -> bool {
        self.json
    }

    fn told(&self, told: Told) -> Result<Ending, Failure> {
        match told.is_done {
            true => self.tell(&told.text),
            false => Err(Failure::not_done(told.text.trim_end())),
        }
    }
}
