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
use larder_client::Address as Url;

pub(crate) use address::{
    AdminAddress, EvidencePlace, second_address, usual_address, usual_evidence,
};
pub(crate) use drill::{DrillOptions, run as drill};
pub(crate) use postmortem::{PostmortemOptions, run as run_postmortem};
pub(crate) use status::StatusOptions;
pub(crate) use upgrade::UpgradeOptions;
pub(crate) use why::WhyOptions;

use super::commands::{conclude_as_asked, server_address};
use super::ending::{Ending, Failure};
use super::{SERVER_VARIABLE, units};
use crate::server::Address;
use ask::Told;

/// The variable of the environment that names an admin endpoint.
pub(crate) const ADMIN_VARIABLE: &str = "LARDER_ADMIN";

/// Which supervisor is asked, and how long it may take.
#[derive(Debug, Args)]
pub(crate) struct AdminOptions {
    /// The server, on this machine: larder://HOST:PORT or larder+unix:///PATH. Its admin endpoint is found by
    /// its port or its path [default: larder://127.0.0.1:5273]
    #[arg(long, value_name = "URL", env = SERVER_VARIABLE, value_parser = server_address)]
    server: Option<Url>,

    /// The admin endpoint itself: HOST:PORT or unix:PATH [default: that of the server]
    #[arg(long, value_name = "ADDRESS", env = ADMIN_VARIABLE)]
    admin: Option<Address>,

    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = units::duration)]
    timeout: Duration,
}

impl AdminOptions {
    /// The endpoint to ask.
    fn address(&self) -> Result<Address, Failure> {
        match &self.admin {
            Some(admin) => Ok(admin.clone()),
            None => self.usual_address(),
        }
    }

    /// The endpoint to ask for something that changes the server: a Unix socket, since no other does that.
    fn address_to_change(&self) -> Result<Address, Failure> {
        let address = self.address()?;
        if let Address::Unix(_) = address {
            return Ok(address);
        }
        let other = match self.usual_address() {
            Ok(usual) => format!("--admin {usual}, where the server has its usual one"),
            Err(_) => "--admin unix:PATH, on the machine of the server".to_owned(),
        };
        Err(Failure::usage(format!(
            "the admin endpoint {address} only tells, since anybody could ask over TCP; what changes a server \
             is taken on its Unix socket alone: {other}"
        )))
    }

    /// Where the endpoint of the server is, if nobody says otherwise.
    fn usual_address(&self) -> Result<Address, Failure> {
        let server = self.server.clone();
        let server = server.unwrap_or_else(address::default_server);
        let listens = address::of_this_machine(&server)?;
        Ok(address::found_address(&listens))
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
    fn is_json(&self) -> bool;

    /// What to do with the answer.
    fn told(&self, told: Told) -> Result<Ending, Failure>;
}

/// Asks, and reports how it ended.
pub(crate) fn run<C: AdminCommand>(command: &C) -> ExitCode {
    let admin = command.admin();
    let (method, path) = command.request();
    let address = match method {
        "GET" => admin.address(),
        _ => admin.address_to_change(),
    };
    let told = address.and_then(|address| ask::ask(&address, method, &path, admin.timeout));
    let ended = told.and_then(|told| command.told(told));
    conclude_as_asked(C::NAME, command.is_json(), ended)
}
