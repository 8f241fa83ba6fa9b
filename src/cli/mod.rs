//! The command line: what a person types. Each command has its file; this one only hands out.

mod align;
mod bench;
mod commands;
mod ending;
mod picture;
mod replay;
mod serve;
pub mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[doc(hidden)]
pub use replay::{TraceFormat, TraceSummary, read_trace};

/// An in-memory cache server.
#[derive(Debug, Parser)]
#[command(name = "larder", version, arg_required_else_help = true, after_help = ending::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server.
    Serve(serve::ServeOptions),
    Ping(commands::PingOptions),
    Get(commands::GetOptions),
    Set(commands::SetOptions),
    Delete(commands::DeleteOptions),
    Incr(commands::IncrOptions),
    Stats(commands::StatsOptions),
    Bench(Box<bench::BenchOptions>),
    Replay(Box<replay::ReplayOptions>),
}

/// The server that commands talk to unless told otherwise.
const DEFAULT_URL: &str = "larder://127.0.0.1:5273";

/// The variable of the environment that tells otherwise.
const SERVER_VARIABLE: &str = "LARDER_SERVER";

/// The exit code of a command line that cannot work, as clap's own.
const WRONG_USAGE: u8 = 2;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(options) => serve::run(options),
        Command::Ping(options) => commands::run(&options),
        Command::Get(options) => commands::run(&options),
        Command::Set(options) => commands::run(&options),
        Command::Delete(options) => commands::run(&options),
        Command::Incr(options) => commands::run(&options),
        Command::Stats(options) => commands::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Replay(options) => replay::run(&options),
    }
}
