//! `larder status`: how a server is, on one screen.

mod screen;

use clap::Args;

use super::ask::Told;
use super::seen::Seen;
use super::{AdminCommand, AdminOptions};
use crate::cli::ending::{Ending, Failure, print};
use crate::cli::style;

/// Tell how a server is, also one that does not answer
///
/// What is told is read from outside of the process that serves: it is right also if that hangs or is
/// dead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder status
  larder status --json | jq .threads

Exit codes: 0 the server serves; 1 it does not; 2 wrong usage; 3 nobody can tell")]
pub(crate) struct StatusOptions {
    /// All that is known, as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminOptions,
}

impl AdminCommand for StatusOptions {
    const NAME: &'static str = "status";

    fn admin(&self) -> &AdminOptions {
        &self.admin
    }

    fn request(&self) -> (&'static str, String) {
        ("GET", "/status.json".to_owned())
    }

    fn is_json(&self) -> bool {
        self.json
    }

    fn told(&self, told: Told) -> Result<Ending, Failure> {
        let seen = Seen::of(&told)?;
        let shown = match self.json {
            true => format!("{}\n", told.text.trim_end()),
            false => screen::shown(&seen, style::on_stdout()),
        };
        print(shown.as_bytes())?;
        Ok(match seen.is_serving() {
            true => Ending::Done,
            false => Ending::NotFoundOrNotStored,
        })
    }
}
