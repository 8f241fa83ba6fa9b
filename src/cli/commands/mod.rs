//! The commands of a client, over `larder-client`.
//!
//! There is one grammar for them all: [`Request`]. A command line adds to it which server is asked,
//! a batch and a shell ask the one that they are connected to. A command says what it found as an
//! [`Answer`]; only what comes piece by piece goes to standard output at once.

mod answer;
mod change;
mod files;
mod get;
mod keys;
mod pattern;
mod scan;
mod server;
mod set;
mod stats;

use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches, Subcommand};
use larder_client::{Address, Client, Config, ConnectError};

use super::ending::{Ending, Failure, conclude, print, say};
use super::style;
use super::units;
use super::{DEFAULT_URL, SERVER_VARIABLE};

pub(crate) use self::answer::{Answer, Form, failure_as_json};
pub(crate) use self::files::STANDARD_INPUT;

/// What the address of a server begins with.
const LARDER_SCHEME: &str = "larder://";

/// What a client asks a server.
#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    Get(get::GetOptions),
    Set(set::SetOptions),
    Touch(change::TouchOptions),
    Delete(change::DeleteOptions),
    Incr(change::IncrOptions),
    Scan(scan::ScanOptions),
    Ping(server::PingOptions),
    Stats(stats::StatsOptions),
    Flush(server::FlushOptions),
}

/// Which server is asked, and how long it may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerOptions {
    /// The server: larder://HOST:PORT or larder+unix:///PATH
    #[arg(
        long, value_name = "URL", env = SERVER_VARIABLE, default_value = DEFAULT_URL,
        value_parser = server_address
    )]
    pub(crate) server: Address,

    /// How long to wait for the connection, and then for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    timeout: Duration,
}

/// The address of a server; where it looks like one that was written in short, the whole is named.
pub(crate) fn server_address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: ConnectError| {
        let whole = format!("{LARDER_SCHEME}{text}");
        match whole.parse::<Address>() {
            Ok(_) if text.contains(':') && !text.contains('/') => {
                format!("{error}; did you mean {whole}?")
            }
            _ => error.to_string(),
        }
    })
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AnswerOptions {
    /// Answer in JSON: one object on a line, of a failure as well
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// How answers are shown.
    pub(crate) form: Form,
    /// Who asks.
    pub(crate) place: Place,
}

/// Who asks for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Somebody who typed it, and nothing else.
    CommandLine,
    /// A line of standard input, or of a file.
    Batch {
        /// Its number, from 1.
        line: u64,
    },
    /// Somebody who types one command after the other.
    Shell,
}

impl Place {
    /// What standard input is, where it is not free for values and keys.
    fn input_is(self) -> Option<&'static str> {
        match self {
            Self::CommandLine => None,
            Self::Batch { .. } => Some("the batch itself"),
            Self::Shell => Some("where commands are typed"),
        }
    }
}

impl Site {
    /// What an answer is to programs, made only where one asks.
    fn json(self, of: impl FnOnce() -> serde_json::Value) -> serde_json::Value {
        match self.form {
            Form::Json => of(),
            _ => serde_json::Value::Null,
        }
    }

    /// An object on a line of its own, with what tells it from those of other commands.
    fn object(self, mut object: serde_json::Value) -> Vec<u8> {
        if let Place::Batch { line } = self.place {
            object["line"] = line.into();
        }
        format!("{object}\n").into_bytes()
    }
}

impl Request {
    /// Asks the server.
    pub(crate) async fn ask(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        match self {
            Self::Get(options) => options.ask(client, site).await,
            Self::Set(options) => options.ask(client, site).await,
            Self::Touch(options) => options.ask(client, site).await,
            Self::Delete(options) => options.ask(client, site).await,
            Self::Incr(options) => options.ask(client).await,
            Self::Scan(options) => options.ask(client, site).await,
            Self::Ping(_) => server::ping(client).await,
            Self::Stats(options) => options.ask(client, site).await,
            Self::Flush(options) => options.ask(client).await,
        }
    }
}

impl Request {
    /// The request that words without options make, by what such words of another key, or another key
    /// and value, made. `None` where that tells nothing.
    pub(crate) fn of_words(&self, words: &[Vec<u8>]) -> Option<Self> {
        Some(match (self, words) {
            (Self::Get(options), [_, key]) => Self::Get(options.of(key)),
            (Self::Set(options), [_, key, value]) => Self::Set(options.of(key, value)),
            (Self::Delete(options), [_, key]) => Self::Delete(options.of(key)),
            (Self::Incr(options), [_, key]) => Self::Incr(options.of(key)),
            _ => return None,
        })
    }

    /// The one key that the request is about, if it is about one and travels as one frame. Requests on
    /// different keys may overlap.
    pub(crate) fn its_one_key(&self) -> Option<&[u8]> {
        let key = match self {
            Self::Get(options) if options.output.is_none() => options.one()?,
            Self::Set(options) if options.file.is_none() => &options.key,
            Self::Touch(options) => options.keys.one()?,
            Self::Delete(options) => options.keys.one()?,
            Self::Incr(options) => &options.key,
            _ => return None,
        };
        Some(key.as_bytes())
    }
}

/// Gives every command of a client the options that are the same for all.
pub(crate) fn augment(
    command: clap::Command,
    with: fn(clap::Command) -> clap::Command,
) -> clap::Command {
    let requests = Request::augment_subcommands(clap::Command::new("larder"));
    let add = |command: clap::Command, request: &clap::Command| {
        let about = request.get_about().cloned().unwrap_or_default();
        let name = request.get_name().to_owned();
        // Options have words of their own about themselves, which would take its place.
        command.mut_subcommand(name, |command| {
            let command = with(command).about(about);
            // Of its own, since clap's for a mistake names what the environment gives as if it were missing.
            let mut named = command.clone();
            named = named.bin_name(format!("larder {}", command.get_name()));
            let usage = named.render_usage().to_string();
            command.override_usage(usage.trim_start_matches("Usage: ").to_owned())
        })
    };
    requests.get_subcommands().fold(command, add)
}

/// Runs a command that was typed in a command line, whose matches are given.
pub(crate) fn run(request: &Request, matches: &ArgMatches) -> ExitCode {
    let (name, matches) = matches.subcommand().expect("a command was parsed");
    let options = ServerOptions::from_arg_matches(matches)
        .and_then(|server| Ok((server, AnswerOptions::from_arg_matches(matches)?)));
    let (server, answer) = options.unwrap_or_else(|error| error.exit());
    let site = Site {
        form: form_on_stdout(answer.json),
        place: Place::CommandLine,
    };
    let ended = connected(&server, name, async |client| {
        let answer = request.ask(client, site).await?;
        print(&answer.shown(site.form))?;
        Ok(answer)
    });
    match ended {
        Ok(Answer {
            ending, complaint, ..
        }) => {
            if let Some(complaint) = complaint.filter(|_| !answer.json) {
                say(&format!("larder {name}: {complaint}"));
            }
            ending.into()
        }
        Err(failure) => conclude_as_asked(name, answer.json, Err(failure)),
    }
}

/// How answers are shown where they go to standard output.
pub(crate) fn form_on_stdout(json: bool) -> Form {
    match (json, io::stdout().is_terminal()) {
        (true, _) => Form::Json,
        (_, false) => Form::Bare,
        (_, true) => Form::Readable {
            colours: style::on_stdout(),
        },
    }
}

/// Ends a command, whose failure is an object as well where its answers are JSON.
pub(crate) fn conclude_as_asked(
    name: &str,
    json: bool,
    ended: Result<Ending, Failure>,
) -> ExitCode {
    let ended = match ended {
        Err(failure) if json => {
            let object = format!("{}\n", failure_as_json(&failure));
            print(object.as_bytes()).map(|()| failure.ending)
        }
        ended => ended,
    };
    conclude(name, ended)
}

/// Connects, and hands the connection to whoever has something to ask.
pub(crate) fn connected<T>(
    options: &ServerOptions,
    name: &str,
    ask: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::not_done(format!("cannot wait for events: {error}")))?;
    runtime.block_on(async {
        let client = connect(options, name).await?;
        ask(&client).await
    })
}

/// Connects, in one attempt, for the command of this name.
pub(crate) async fn connect(options: &ServerOptions, name: &str) -> Result<Client, Failure> {
    let ServerOptions { server, timeout } = options;
    let config = Config {
        request_timeout: *timeout,
        connect_timeout: *timeout,
        name: format!("larder {name}"),
        ..Config::default()
    };
    Ok(Client::connect_with(&server.to_string(), config).await?)
}

/// What is said to somebody where no server of ours is.
pub(crate) fn is_it_running() -> String {
    format!(
        "is it running? `larder serve` starts a server, --server or {SERVER_VARIABLE} names another"
    )
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let sentence = match error {
            ConnectError::Url { .. } => return Self::usage(error.to_string()),
            ConnectError::Io {
                kind: io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound,
                ..
            } => format!("{error}; {}", is_it_running()),
            _ => error.to_string(),
        };
        Self {
            no_connection: true,
            ..Self::unreachable(sentence)
        }
    }
}

/// The failure of a command on one key.
fn not_found(key: &[u8]) -> Failure {
    Failure::not_done(format!("{} is not there", answer::readable_key(key)))
}
