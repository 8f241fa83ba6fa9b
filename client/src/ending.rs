//! How a connection comes to its end, and what that is to those whose requests it held.

use larder_protocol::Status;

use crate::error::Cause;

/// Why a connection ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// All was answered and no more was to come.
    Finished,
    /// The socket broke, or was closed by the server without a word.
    Lost(String),
    /// The server said why it closes.
    Closed { status: Status, message: String },
    /// The server broke the protocol.
    Broken(String),
}

impl From<Ending> for Cause {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Finished => Self::ConnectionLost("the client was dropped".to_owned()),
            Ending::Lost(why) => Self::ConnectionLost(why),
            Ending::Closed { status, message } => Self::ConnectionClosed { status, message },
            Ending::Broken(why) => Self::Protocol(why),
        }
    }
}
