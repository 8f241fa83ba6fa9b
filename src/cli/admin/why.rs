//! `larder why`: what every thread of a server is about, and why one does not go on.

use clap::Args;

use super::ask::Told;
use super::{AdminCommand, AdminOptions};
use crate::cli::ending::{Ending, Failure, print};
use crate::cli::units;
use crate::supervisor::Why;

/// Say what each thread of a server is doing, and why one hangs
///
/// The process beside the server that started it answers, from what the threads have written down and
/// what the system knows of them, without a word from any of them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder why
  larder why 0 --json

Exit codes: 0 nothing is stuck; 1 something is; 2 wrong usage, or there is no such worker; 3 nobody can tell")]
pub(crate) struct WhyOptions {
    /// The worker to tell of, from 0 on [default: all threads]
    #[arg(value_name = "WORKER", value_parser = units::number::<u32>)]
    worker: Option<u32>,

    /// Tell it in JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminOptions,
}

impl AdminCommand for WhyOptions {
    const NAME: &'static str = "why";

    fn admin(&self) -> &AdminOptions {
        &self.admin
    }

    fn request(&self) -> (&'static str, String) {
        let path = match self.worker {
            None => "/why.json".to_owned(),
            Some(worker) => format!("/why.json?worker={worker}"),
        };
        ("GET", path)
    }

    fn is_json(&self) -> bool {
        self.json
    }

    fn told(&self, told: Told) -> Result<Ending, Failure> {
        if told.is_missing {
            return Err(Failure::usage(told.text.trim_end()));
        }
        if !told.is_done {
            return Err(Failure::not_done(told.text.trim_end()));
        }
        let why: Why = serde_json::from_str(&told.text).map_err(|error| {
            Failure::unreachable(format!("the answer cannot be understood: {error}"))
        })?;
        match self.json {
            true => print(format!("{}\n", told.text.trim_end()).as_bytes())?,
            false => print(why.to_string().as_bytes())?,
        }
        Ok(match why.is_stuck {
            true => Ending::NotFoundOrNotStored,
            false => Ending::Done,
        })
    }
}
