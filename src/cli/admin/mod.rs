//! What is asked of a server's supervisor, over its admin endpoint: it answers also when the server
//! does not.

mod address;
mod ask;
mod drill;
mod postmortem;
mod seen;
mod status;
mod upgrade;
mod why;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

pub(crate) use address::{AdminAddress, EvidencePlace, usual_address, usual_evidence};
pub(crate) use drill::{DrillOptions, run as drill};
pub(crate) use postmortem::{PostmortemOptions, run as run_postmortem};
pub(crate) use status::StatusOptions;
pub(crate) use upgrade::UpgradeOptions;
pub(crate) use why::WhyOptions;

use super::commands::conclude_in_json;
use super::ending::{Ending, Failure, conclude};
use super::units;
use crate::server::Address;
use ask::Told;

/// The variable of the environment that names an admin endpoint.
pub(crate) const ADMIN_VARIABLE: &str = "LARDER_ADMIN";

/// Which supervisor is asked, and how long it may take.
#[derive(Debug, Args)]
pub(crate) struct AdminOptions {
    /// The admin endpoint: HOST:PORT or unix:PATH [default: that of the server at port 5273]
    #[arg(long, value_name = "ADDRESS", env = ADMIN_VARIABLE)]
    admin: Option<Address>,

    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = units::duration)]
    timeout: Duration,
}

impl AdminOptions {
    /// The endpoint to ask.
    fn address(&self) -> Address {
        let usual = || usual_address(&address::default_server());
        self.admin.clone().unwrap_or_else(usual)
    }
}

/// A command that one request to an admin endpoint serves.
pub(crate) trait AdminCommand {
    /// The name that it is typed by.
    const NAME: &'static str;

    /// The supervisor to ask.
    fn admin(&self) -> &AdminOptions;

    /// The method and the path of the request.
    fn request(&self) -> (&'static str, String);

    /// Whether a failure is said in JSON as well.
    fn is_json(&self) -> bool {
        false
    }

    /// What to do with the answer.
    fn told(&self, told: Told) -> Result<Ending, Failure>;
}

/// Asks, and reports how it ended.
pub(crate) fn run<C: AdminCommand>(command: &C) -> ExitCode {
    let admin = command.admin();
    let (method, path) = command.request();
    let told = ask::ask(&admin.address(), method, &path, admin.timeout);
    let ended = told.and_then(|told| command.told(told));
    match ended {
        Err(failure) if command.is_json() => conclude_in_json(C::NAME, &failure),
        ended => conclude(C::NAME, ended),
    }
}
