//! The command line: what a person types. Each command has its file; this one only hands out.

mod serve;
pub mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An in-memory cache server.
#[derive(Debug, Parser)]
#[command(name = "larder", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server.
    Serve(serve::ServeOptions),
}

/// The exit code of a command line that cannot work, as clap's own.
const WRONG_USAGE: u8 = 2;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(options) => serve::run(options),
    }
}
