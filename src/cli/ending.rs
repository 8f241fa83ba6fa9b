//! How a command of a client ends: its exit code, and its sentence where something went wrong.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use larder_client::{Class, Error, Status};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// What was asked for is done.
    Done,
    /// There is no such item, or it was not stored.
    NotFoundOrNotStored,
    /// The command line cannot work.
    WrongUsage,
    /// There is no server, or it did not answer.
    Unreachable,
}

/// What the help says about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 not found, not stored or refused; 2 wrong usage; 3 no server, or no answer";

impl Ending {
    /// What it is called in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotFoundOrNotStored => "not_done",
            Self::WrongUsage => "usage",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A command that did not do what was asked, and why.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(crate) struct Failure {
    pub(crate) ending: Ending,
    pub(crate) sentence: String,
    /// Whether no connection to the server could be made: what is asked next would fare no better.
    pub(crate) no_connection: bool,
}

impl Failure {
    /// A command line that cannot work.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            ending: Ending::WrongUsage,
            sentence: sentence.into(),
            no_connection: false,
        }
    }

    /// What is not there, or was not stored.
    pub(crate) fn not_done(sentence: impl Into<String>) -> Self {
        Self {
            ending: Ending::NotFoundOrNotStored,
            sentence: sentence.into(),
            no_connection: false,
        }
    }

    /// A server that is not there, or went away.
    pub(crate) fn unreachable(sentence: impl Into<String>) -> Self {
        Self {
            ending: Ending::Unreachable,
            sentence: sentence.into(),
            no_connection: false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let ending = match &error {
            Error::Refused { status, .. } => ending_of(*status),
            _ => Ending::Unreachable,
        };
        Self {
            ending,
            sentence: error.to_string(),
            no_connection: error.is_unreachable(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            ending: Ending::NotFoundOrNotStored,
            sentence: error.to_string(),
            no_connection: false,
        }
    }
}

/// What a status means to somebody who typed a command.
fn ending_of(status: Status) -> Ending {
    match status {
        Status::KEY_EMPTY | Status::KEY_TOO_LONG => Ending::WrongUsage,
        status if matches!(status.class(), Class::Outcome | Class::Refused) => {
            Ending::NotFoundOrNotStored
        }
        _ => Ending::Unreachable,
    }
}

impl Ending {
    /// Its exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotFoundOrNotStored => 1,
            Self::WrongUsage => super::WRONG_USAGE,
            Self::Unreachable => 3,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending.code())
    }
}

/// Turns the end of a command into its exit code, and says on standard error what went wrong.
pub(crate) fn conclude(command: &str, ended: Result<Ending, Failure>) -> ExitCode {
    let ending = ended.unwrap_or_else(|failure| {
        say(&format!("larder {command}: {failure}"));
        failure.ending
    });
    ending.into()
}

/// Writes a line for people to standard error. Nobody reading it is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes what was asked for to standard output. A reader that has seen enough is no error.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    print_on(bytes).map(|_| ())
}

/// Writes a part of what was asked for to standard output, and says whether to go on: there is no need
/// to where the reader has seen enough.
pub(crate) fn print_on(bytes: &[u8]) -> Result<ControlFlow<()>, Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// What came of writing to standard output, and whether to go on.
pub(crate) fn written(outcome: io::Result<()>) -> Result<ControlFlow<()>, Failure> {
    match outcome {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::not_done(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}
