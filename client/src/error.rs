//! What can go wrong, and what that means for the request.

use std::io;

use larder_protocol::{Class, Refusal, Status};

use crate::Address;

/// Why a request has no result, and whether it was executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server did not execute the request: it never got it whole, or it said so.
    #[error("not executed: {0}")]
    NotExecuted(Cause),
    /// The request was sent and no answer came; the server may have executed it or not.
    #[error("unknown whether executed: {0}")]
    Unknown(Cause),
    /// The server answered that it would not or could not do it. The status says what changed:
    /// nothing, unless its [class](Status::class) is [`Class::Unknown`].
    #[error("{}", sentence(*status, message))]
    Refused {
        /// The status.
        status: Status,
        /// The server's sentence for people; may be empty.
        message: String,
    },
}

/// What stood between a request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No connection could be made.
    #[error("{0}")]
    Unreachable(ConnectError),
    /// The connection ended.
    #[error("the connection was lost: {0}")]
    ConnectionLost(String),
    /// The server closed the connection and said why.
    #[error("the server closed the connection: {}", sentence(*status, message))]
    ConnectionClosed {
        /// The status.
        status: Status,
        /// The server's sentence for people; may be empty.
        message: String,
    },
    /// The server said something that the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The time for the request was over.
    #[error("it took longer than {after:?}")]
    Timeout {
        /// The time that it had.
        after: std::time::Duration,
    },
    /// What was to be sent could not be read.
    #[error("the source of the value failed: {0}")]
    Source(String),
    /// The server drains and took no new requests, and no other connection took them either.
    #[error("the server is draining")]
    Draining,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address makes no sense.
    #[error("{url:?} is not the address of a server: {why}")]
    Url {
        /// The address as given.
        url: String,
        /// What an address looks like.
        why: &'static str,
    },
    /// The list of [several servers](crate::Client::connect_many) makes no sense.
    #[error("the list of servers is wrong: {why}")]
    Servers {
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Nobody listens there, or the way is blocked.
    #[error("cannot connect to {address}: {why}")]
    Io {
        /// Where to.
        address: Address,
        /// What kind of error the system reported.
        kind: io::ErrorKind,
        /// The system's words.
        why: String,
    },
    /// No connection was there in time.
    #[error("cannot connect to {address}: it took longer than {after:?}")]
    Timeout {
        /// Where to.
        address: Address,
        /// How long it was tried.
        after: std::time::Duration,
    },
    /// Somebody listens there and did not answer the handshake: most likely no server of Larder's, or
    /// not its port for this protocol.
    #[error(
        "{address} took the connection and did not answer within {after:?}; is it the port where a server \
         speaks Larder's own protocol, or does that server hang?"
    )]
    Silent {
        /// Where.
        address: Address,
        /// How long it was waited for.
        after: std::time::Duration,
    },
    /// It could not be reached a moment ago, and is [left alone](crate::WhenGone::Miss) for a while.
    #[error("{address} could not be reached a moment ago, and is left alone for a while")]
    LeftAlone {
        /// Where.
        address: Address,
    },
    /// A server is there and turned the client away.
    #[error("{address} turned the client away: {}", sentence(*status, message))]
    TurnedAway {
        /// Where.
        address: Address,
        /// Why.
        status: Status,
        /// The server's sentence for people; may be empty.
        message: String,
    },
    /// What listens there does not speak Larder's protocol.
    #[error("{address} does not speak Larder's protocol: {why}")]
    NotLarder {
        /// Where.
        address: Address,
        /// What it did.
        why: String,
    },
}

impl Error {
    /// Whether the request is known to have changed nothing and left no trace, so that sending it
    /// again does no harm.
    #[must_use]
    pub fn is_not_executed(&self) -> bool {
        match self {
            Self::NotExecuted(_) => true,
            Self::Unknown(_) => false,
            Self::Refused { status, .. } => {
                matches!(status.class(), Class::Refused | Class::Closing)
            }
        }
    }

    /// Whether there was no server to ask.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NotExecuted(Cause::Unreachable(_)))
    }

    /// A reply that does not fit its request: the request was executed, but who knows what it did.
    pub(crate) fn misfit() -> Self {
        Self::broken("its reply is of another kind than the request".to_owned())
    }

    /// A reply that cannot be one.
    pub(crate) fn broken(why: String) -> Self {
        Self::Unknown(Cause::Protocol(why))
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::NotExecuted(Cause::Unreachable(error))
    }
}

impl ConnectError {
    pub(crate) fn io(address: &Address, error: &io::Error) -> Self {
        Self::Io {
            address: address.clone(),
            kind: error.kind(),
            why: error.to_string(),
        }
    }
}

impl From<Refusal> for Cause {
    fn from(refusal: Refusal) -> Self {
        Self::Protocol(refusal.to_string())
    }
}

fn sentence(status: Status, message: &str) -> String {
    match message {
        // So frequent that the server does not say more.
        "" if status == Status::NOT_A_NUMBER => {
            format!("what is stored there is no number ({status})")
        }
        "" => status.to_string(),
        message => format!("{message} ({status})"),
    }
}
