//! Reading a value while it arrives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use larder_protocol::{
    Decoded, ExpiryLeft, Limits, Opcode, Request, RequestFrame, ResponseHeader, Status, ValueHead,
    decode_value_head,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use crate::allowance::Patience;
use crate::connector::Connector;
use crate::error::Cause;
use crate::own::{Heard, Incoming, Own};
use crate::reply::Failure;
use crate::way::Way;
use crate::{Client, Error, embedded};

/// A value that is read while it arrives; made by [`Client::get_stream`].
///
/// It has a connection of its own, which waits for as long as nothing is read from it: not for ever,
/// since the server closes the connection of a reader that is too slow. Reading fails with an
/// [`io::Error`] where the value does not arrive whole; it ends with the last byte of the value and
/// never before. What was asked for until a [deadline](Client::until) has to be read by then.
pub struct ValueStream {
    incoming: Incoming,
    head: ValueHead,
    left_bytes: u64,
    /// When the server has been silent for too long; runs while it is waited for.
    deadline: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl std::fmt::Debug for ValueStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValueStream")
            .field("head", &self.head)
            .field("left_bytes", &self.left_bytes)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Reads an item whose value is to be read while it arrives, on a connection of its own.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a stream that nothing comes of is never tried again by itself.
    pub async fn get_stream(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueStream>, Error> {
        let key = key.as_ref();
        let request = Request::Get {
            key,
            want_expiry: true,
        };
        match &self.way {
            Way::Server(connector) => self.stream_from(connector, request).await,
            Way::Servers(servers) => {
                let number = servers.server_of(key);
                let stream = self.stream_from(servers.connector(number), request);
                match servers.ask(number, stream).await {
                    Err(error) if servers.is_miss(&error) => Ok(None),
                    begun => begun,
                }
            }
            Way::Embedded(backend) => {
                embedded::check_time(self.allowance)?;
                let response = embedded::response(&**backend, &request);
                let incoming = Incoming::whole(response);
                ValueStream::begin(backend.server().limits, incoming).await
            }
        }
    }

    /// Asks on a connection of its own.
    async fn stream_from(
        &self,
        connector: &Connector,
        request: Request<'_>,
    ) -> Result<Option<ValueStream>, Error> {
        let Own {
            server,
            incoming,
            mut writer,
        } = connector.open_own(self.allowance).await?;
        let mut frame = Vec::new();
        let (id, quiet) = (0, false);
        RequestFrame { id, quiet, request }.encode(&mut frame);
        let sent = Own::write_all(&mut writer, &frame, incoming.patience).await;
        sent.map_err(Error::NotExecuted)?;
        ValueStream::begin(server.limits, incoming).await
    }
}

/// Whether the next frame is the value that was asked for.
fn is_value(incoming: &Incoming) -> bool {
    ResponseHeader::read(&incoming.buffer)
        .is_some_and(|header| header.status == Status::OK && header.opcode == Opcode::Get as u8)
}

impl ValueStream {
    /// Reads up to the value, if there is one.
    async fn begin(limits: Limits, mut incoming: Incoming) -> Result<Option<Self>, Error> {
        loop {
            if is_value(&incoming) {
                match decode_value_head(&incoming.buffer, limits.frame_bytes_max) {
                    Decoded::Frame { frame, consumed } => {
                        incoming.buffer.advance(consumed);
                        return Ok(Some(Self::new(incoming, frame)));
                    }
                    Decoded::Incomplete { .. } => {}
                    Decoded::Refused(refusal) => return Err(Error::Unknown(refusal.into())),
                }
            } else if let Some(heard) = incoming.next_at_hand()? {
                return match heard {
                    Heard::Notice => continue,
                    Heard::Answer(Err(Failure {
                        status: Status::NOT_FOUND,
                        ..
                    })) => Ok(None),
                    Heard::Answer(Err(failure)) => Err(failure.into()),
                    Heard::Answer(Ok(_)) => Err(Error::misfit()),
                };
            }
            incoming.read_more().await.map_err(Error::Unknown)?;
        }
    }

    fn new(incoming: Incoming, head: ValueHead) -> Self {
        Self {
            left_bytes: head.value_bytes.into(),
            deadline: Box::pin(sleep_until(incoming.patience.end())),
            is_waiting: false,
            incoming,
            head,
        }
    }

    /// The length of the whole value.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        self.head.value_bytes.into()
    }

    /// What is still to be read of it.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.left_bytes
    }

    /// The version of the item.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.head.meta.version
    }

    /// The flags that the item was stored with.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.head.meta.client_flags
    }

    /// How long the item had left when it was read.
    #[must_use]
    pub fn expiry_left(&self) -> ExpiryLeft {
        self.head.meta.expiry_left
    }

    /// Reads from the socket; fails where it has been silent for too long, or the deadline is over.
    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let patience = self.incoming.patience;
        if patience.is_over() {
            return Poll::Ready(Err(overdue(patience)));
        }
        let before = into.filled().len();
        match Pin::new(&mut self.incoming.reader).poll_read(cx, into) {
            Poll::Ready(read) => {
                self.is_waiting = false;
                Poll::Ready(read.map(|()| into.filled().len() - before))
            }
            Poll::Pending => {
                if !self.is_waiting {
                    self.is_waiting = true;
                    self.deadline.as_mut().reset(patience.end());
                }
                ready!(self.deadline.as_mut().poll(cx));
                Poll::Ready(Err(overdue(patience)))
            }
        }
    }
}

fn overdue(patience: Patience) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Error::Unknown(patience.timeout()))
}

impl AsyncRead for ValueStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = usize::try_from(this.left_bytes).unwrap_or(usize::MAX);
        let room = room.min(buf.remaining());
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let buffered = &mut this.incoming.buffer;
        let count = if buffered.is_empty() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            let count = ready!(this.poll_socket(cx, &mut part))?;
            buf.advance(count);
            count
        } else {
            let count = room.min(buffered.len());
            buf.put_slice(&buffered[..count]);
            buffered.advance(count);
            count
        };
        if count == 0 {
            let (left, whole) = (this.left_bytes, this.value_bytes());
            let why = format!("the server closed it with {left} of {whole} bytes still to come");
            let error = Error::Unknown(Cause::ConnectionLost(why));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)));
        }
        this.left_bytes -= count as u64;
        Poll::Ready(Ok(()))
    }
}
