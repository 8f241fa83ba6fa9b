//! A connection of one's own, for one value that is streamed.
//!
//! The connection that all tasks share must not wait for whoever reads a value slowly, or brings one
//! slowly. A stream therefore opens one for itself; what that costs is little beside a value that is
//! worth streaming.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use larder_protocol::{Class, Decoded, Response, Status, decode_response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout_at;

use crate::Error;
use crate::allowance::{Allowance, Patience};
use crate::client::ServerInfo;
use crate::connector::{Connector, Opened};
use crate::error::Cause;
use crate::reply::{Answered, Failure, Reply, is_unasked};

/// LIMIT: the longest answer that is gathered here: a header and a sentence, with room to spare.
const ANSWER_BYTES_MAX: u32 = 64 * 1024;

pub(crate) type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// A connection whose handshake is done.
pub(crate) struct Own {
    pub(crate) server: ServerInfo,
    pub(crate) incoming: Incoming,
    pub(crate) writer: Writer,
}

/// The server's side of it.
pub(crate) struct Incoming {
    pub(crate) reader: Reader,
    /// What was read and not looked at.
    pub(crate) buffer: BytesMut,
    /// How long the server is waited for.
    pub(crate) patience: Patience,
}

/// A frame of the server.
pub(crate) enum Heard {
    Answer(Answered),
    /// It answers nothing, and the answer is still to come.
    Notice,
}

/// Why no answer came.
pub(crate) enum NoAnswer {
    /// The server said that it executes nothing that it has not answered.
    NotExecuted(Cause),
    /// Nobody can tell.
    Lost(Cause),
}

impl Connector {
    /// Opens a connection for one caller, if there is one before its time is over.
    pub(crate) async fn open_own(&self, allowance: Allowance) -> Result<Own, Error> {
        let patience = allowance.patience(self.config.request_timeout);
        let not_in_time = || Error::NotExecuted(patience.timeout());
        if patience.is_none() {
            return Err(not_in_time());
        }
        let opened = timeout_at(patience.end(), self.open()).await;
        let opened = opened.map_err(|_| not_in_time())??;
        let (server, reader, writer, buffer): (_, Reader, Writer, _) = match opened {
            Opened::Tcp(open) => (
                open.server,
                Box::new(open.reader),
                Box::new(open.writer),
                open.buffer,
            ),
            Opened::Unix(open) => (
                open.server,
                Box::new(open.reader),
                Box::new(open.writer),
                open.buffer,
            ),
        };
        let incoming = Incoming {
            reader,
            buffer,
            patience,
        };
        Ok(Own {
            server,
            incoming,
            writer,
        })
    }
}

impl Own {
    /// Writes all of it; each piece that the socket takes begins the time anew.
    pub(crate) async fn write_all(
        writer: &mut Writer,
        mut bytes: &[u8],
        patience: Patience,
    ) -> Result<(), Cause> {
        while !bytes.is_empty() {
            match timeout_at(patience.end(), writer.write(bytes)).await {
                Ok(Ok(count)) if count > 0 => bytes = &bytes[count..],
                Ok(Ok(_)) => return Err(lost("it takes no more bytes")),
                Ok(Err(error)) => return Err(Cause::ConnectionLost(error.to_string())),
                Err(_) => return Err(patience.timeout()),
            }
        }
        Ok(())
    }
}

impl Incoming {
    /// A response that is there whole.
    pub(crate) fn whole(buffer: BytesMut) -> Self {
        Self {
            reader: Box::new(tokio::io::empty()),
            buffer,
            // There is nothing to wait for.
            patience: Allowance::Configured.patience(Duration::ZERO),
        }
    }

    /// Reads on, and says how much came.
    pub(crate) async fn read_more(&mut self) -> Result<(), Cause> {
        let end = self.patience.end();
        match timeout_at(end, self.reader.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => Err(lost("the server closed it")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Cause::ConnectionLost(error.to_string())),
            Err(_) => Err(self.patience.timeout()),
        }
    }

    /// The answer to the one request of this connection, however long it takes to begin.
    pub(crate) async fn early_answer(&mut self) -> Result<Answered, NoAnswer> {
        loop {
            while let Some(heard) = self.next_at_hand()? {
                if let Heard::Answer(answered) = heard {
                    return Ok(answered);
                }
            }
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(NoAnswer::Lost(lost("the server closed it"))),
                Ok(_) => {}
                Err(error) => return Err(NoAnswer::Lost(lost(&error.to_string()))),
            }
        }
    }

    /// The answer to the one request of this connection.
    pub(crate) async fn answer(&mut self) -> Result<Answered, NoAnswer> {
        loop {
            while let Some(heard) = self.next_at_hand()? {
                if let Heard::Answer(answered) = heard {
                    return Ok(answered);
                }
            }
            self.read_more().await.map_err(NoAnswer::Lost)?;
        }
    }

    /// The next frame, if it is there whole.
    pub(crate) fn next_at_hand(&mut self) -> Result<Option<Heard>, NoAnswer> {
        let (heard, consumed) = match decode_response(&self.buffer, ANSWER_BYTES_MAX) {
            Decoded::Incomplete { .. } => return Ok(None),
            Decoded::Refused(refusal) => return Err(NoAnswer::Lost(refusal.into())),
            Decoded::Frame { frame, consumed } => {
                let status = frame.status;
                let answer = match &frame.response {
                    Response::Close { message } => {
                        let message = (*message).to_owned();
                        let cause = Cause::ConnectionClosed { status, message };
                        return Err(match status.class() {
                            Class::Closing => NoAnswer::NotExecuted(cause),
                            _ => NoAnswer::Lost(cause),
                        });
                    }
                    Response::Failed { .. } if is_unasked(frame.opcode) => None,
                    Response::Failed { .. } if status == Status::DRAINING => {
                        return Err(NoAnswer::NotExecuted(Cause::Draining));
                    }
                    Response::Failed { message } => Some(Err(Failure {
                        status,
                        message: (*message).to_owned(),
                    })),
                    response => {
                        Reply::from_response(response, bytes::Bytes::copy_from_slice).map(Ok)
                    }
                };
                (answer.map_or(Heard::Notice, Heard::Answer), consumed)
            }
        };
        self.buffer.advance(consumed);
        Ok(Some(heard))
    }
}

impl From<NoAnswer> for Error {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::NotExecuted(cause) => Self::NotExecuted(cause),
            NoAnswer::Lost(cause) => Self::Unknown(cause),
        }
    }
}

fn lost(why: &str) -> Cause {
    Cause::ConnectionLost(why.to_owned())
}
