//! The command line: what a person types. Each command has its file; this one only hands out.

mod admin;
mod align;
mod batch;
mod bench;
mod commands;
mod completions;
mod ending;
mod grammar;
mod overview;
mod picture;
mod replay;
mod serve;
mod settings;
mod shell;
mod style;
pub mod units;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::ending::Ending;

#[doc(hidden)]
pub use replay::{TraceFormat, TraceSummary, read_trace};

/// An in-memory cache server, and what to ask it with
#[derive(Debug, Parser)]
#[command(name = "larder", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    Serve(Box<serve::ServeOptions>),
    Config(settings::ConfigOptions),
    #[command(flatten)]
    Request(commands::Request),
    Batch(batch::BatchOptions),
    Shell(shell::ShellOptions),
    Status(admin::StatusOptions),
    Upgrade(admin::UpgradeOptions),
    Why(admin::WhyOptions),
    Postmortem(admin::PostmortemOptions),
    Drill(admin::DrillOptions),
    Bench(Box<bench::BenchOptions>),
    Replay(Box<replay::ReplayOptions>),
    Completions(completions::CompletionsOptions),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  larder serve
  larder serve --memory 4GiB --listen 0.0.0.0:5273 --listen unix:/run/larder.sock
  larder serve --memcached 127.0.0.1:11211
  larder serve --config larder.toml";

const SERVE_EXIT_CODES: &str = "\
Exit codes: 0 it ended as it was told to; 1 it could not serve; 2 wrong usage, or a setting that cannot \
work; 4 the processes that serve died again and again; 137 the last one did not end, and was killed";

/// The server that commands talk to unless told otherwise.
const DEFAULT_URL: &str = "larder://127.0.0.1:5273";

/// The variable of the environment that tells otherwise.
const SERVER_VARIABLE: &str = "LARDER_SERVER";

/// The exit code of a command line that cannot work, as clap's own.
const WRONG_USAGE: u8 = 2;

/// The whole command line: what a client asks, with the server to ask it, and the rest.
fn command_line() -> clap::Command {
    let command = commands::augment(Cli::command(), |command| {
        commands::ServerOptions::augment_args(commands::AnswerOptions::augment_args(command))
    });
    let command = command
        .mut_subcommand("serve", |command| {
            let ways = settings::OTHER_WAYS;
            let help = format!("{SERVE_EXAMPLES}\n\n{ways}\n\n{SERVE_EXIT_CODES}");
            settings::prepare(command).after_help(help)
        })
        .mut_subcommand("config", |command| {
            let (about, help) = (
                command.get_about().cloned(),
                command.get_after_help().cloned(),
            );
            let command = serve::ServeOptions::augment_args(command);
            // The options of the server have words of their own about themselves.
            settings::prepare(command)
                .about(about.unwrap_or_default())
                .after_help(help.unwrap_or_default())
        });
    overview::in_groups(command)
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let matches = command_line().try_get_matches();
    let matches = matches.unwrap_or_else(|error| end_with(&error));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        Command::Serve(_) => serve_as_told(),
        Command::Config(options) => {
            let loader = settings::Loader::new(command_line(), "config");
            settings::run(&options, &loader, serve::refusal)
        }
        Command::Request(request) => commands::run(&request, &matches),
        Command::Batch(options) => batch::run(&options),
        Command::Shell(options) => shell::run(options),
        Command::Status(options) => admin::run(&options),
        Command::Upgrade(options) => admin::run(&options),
        Command::Why(options) => admin::run(&options),
        Command::Postmortem(options) => admin::run_postmortem(&options),
        Command::Drill(options) => admin::drill(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Completions(options) => completions::run(&options, command_line()),
    }
}

/// Ends with the help or the version that was asked for, or with a mistake of the command line. One in a
/// variable is told as that: clap names the option.
fn end_with(error: &clap::Error) -> ! {
    // Keys are bytes, so arguments may be no UTF-8.
    let arguments: Vec<String> = (std::env::args_os().skip(1))
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let is_text = std::env::args_os().all(|argument| argument.to_str().is_some());
    let command = arguments.first().cloned().unwrap_or_default();
    let wrong = |variable: &str| {
        if error.kind() == ErrorKind::InvalidUtf8 && is_text {
            let value = std::env::var_os(variable)?.into_string().err()?;
            return Some(format!("{variable}: `{}` is not UTF-8", value.display()));
        }
        let option = variable.strip_prefix("LARDER_")?.to_lowercase();
        let option = format!("--{option}");
        let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
            return None;
        };
        let is_meant = named.split(' ').next() == Some(&option);
        let is_typed = arguments.iter().any(|typed| typed.starts_with(&option));
        let why = std::error::Error::source(error).filter(|_| is_meant && !is_typed)?;
        Some(format!("{variable}: {why}"))
    };
    match [SERVER_VARIABLE, admin::ADMIN_VARIABLE]
        .into_iter()
        .find_map(wrong)
    {
        // Its output is output like any other; clap would not say that nobody has it.
        None if !error.use_stderr() => {
            let written = ending::written(error.print().and_then(|()| io::stdout().flush()));
            if let Err(failure) = &written {
                ending::say(&format!("larder: {failure}"));
            }
            let ending = written.map_or_else(|failure| failure.ending, |_| Ending::Done);
            std::process::exit(ending.code().into())
        }
        None => error.exit(),
        Some(sentence) => {
            ending::say(&format!("larder {command}: {sentence}"));
            std::process::exit(WRONG_USAGE.into())
        }
    }
}

/// Runs a server as its flags, its environment and its file tell.
fn serve_as_told() -> ExitCode {
    let loader = settings::Loader::new(command_line(), "serve");
    match loader.load::<serve::ServeOptions>() {
        Ok(loaded) => serve::run(loaded, loader),
        Err(settings::SettingsError::CommandLine(error)) => error.exit(),
        Err(error) => ending::conclude("serve", Err(ending::Failure::usage(error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        super::command_line().debug_assert();
    }
}
