//! The commands of a client: one request each, over `larder-client`.

mod files;
mod items;
mod ledger;
mod server;
mod tables;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use larder_client::{Address, Client, Config, ConnectError};

use super::ending::{Ending, Failure, conclude};
use super::units;
use super::{DEFAULT_URL, SERVER_VARIABLE};

pub(crate) use self::items::{DeleteOptions, GetOptions, IncrOptions, SetOptions};
pub(crate) use self::server::{PingOptions, StatsOptions};

/// Which server is asked, and how long it may take.
#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// The server: larder://HOST:PORT or larder+unix:///PATH
    #[arg(long, value_name = "URL", env = SERVER_VARIABLE, default_value = DEFAULT_URL)]
    server: Address,

    /// How long to wait for the connection, and then for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    timeout: Duration,
}

/// A command that one connection serves.
pub(crate) trait ClientCommand {
    /// The name that it is typed by.
    const NAME: &'static str;

    /// The server to ask.
    fn server(&self) -> &ServerOptions;

    /// What it asks, and what it prints.
    async fn ask(&self, client: &Client) -> Result<Ending, Failure>;
}

/// Connects, runs a command and reports how it ended.
pub(crate) fn run<C: ClientCommand>(command: &C) -> ExitCode {
    conclude(C::NAME, connect_and_ask(command))
}

fn connect_and_ask<C: ClientCommand>(command: &C) -> Result<Ending, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let ServerOptions { server, timeout } = command.server();
        let config = Config {
            request_timeout: *timeout,
            connect_timeout: *timeout,
            name: format!("larder {}", C::NAME),
            ..Config::default()
        };
        let client = Client::connect_with(&server.to_string(), config).await?;
        command.ask(&client).await
    })
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Url { .. } => Self::usage(error.to_string()),
            _ => Self::unreachable(error.to_string()),
        }
    }
}
