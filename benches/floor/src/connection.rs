//! A connection: what it has not finished saying, and what it was not told yet.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use mio::net::TcpStream;

use crate::requests::{self, Replies, Rest};

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    rest: Rest,
    /// Replies that the socket did not take; nothing more is read before it does.
    backlog: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Ended,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            rest: Rest::default(),
            backlog: Vec::new(),
        }
    }

    pub(crate) fn socket(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether replies wait for the socket.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Keeps replies that the socket did not take.
    pub(crate) fn keep(&mut self, replies: &[u8]) {
        self.backlog = replies.to_vec();
    }

    /// Reads once and writes once, and again only where the read filled all the room there is, or where
    /// the peer has finished: nothing else tells of that end.
    pub(crate) fn turn(&mut self, replies: &Replies, room: &mut [u8], finished: bool) -> State {
        loop {
            match self.step(replies, room, finished) {
                Ok(Step::Again) => {}
                Ok(Step::Rest) => return State::Open,
                Err(_) => return State::Ended,
            }
        }
    }

    fn step(&mut self, replies: &Replies, room: &mut [u8], finished: bool) -> io::Result<Step> {
        if self.has_backlog() {
            let backlog = std::mem::take(&mut self.backlog);
            self.write(&backlog)?;
        }
        if self.has_backlog() {
            return Ok(Step::Rest);
        }
        let bytes = match self.stream.read(room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Rest),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Step::Again),
            Err(error) => return Err(error),
        };
        let answer = self.answer(&room[..bytes], replies)?;
        self.write(&answer)?;
        Ok(if finished || bytes == room.len() {
            Step::Again
        } else {
            Step::Rest
        })
    }

    /// The replies to what was read.
    ///
    /// # Errors
    ///
    /// It was nonsense.
    pub(crate) fn answer<'r>(
        &mut self,
        read: &[u8],
        replies: &'r Replies,
    ) -> io::Result<Cow<'r, [u8]>> {
        let answer =
            requests::count(read, &mut self.rest, replies).map_err(|_| ErrorKind::InvalidData)?;
        Ok(match replies.laid_out(&answer) {
            Some(laid_out) => Cow::Borrowed(laid_out),
            None => Cow::Owned(replies.joined(&answer)),
        })
    }

    /// Writes what the socket takes and keeps the rest.
    fn write(&mut self, mut replies: &[u8]) -> io::Result<()> {
        while !replies.is_empty() {
            match self.stream.write(replies) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => replies = &replies[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.keep(replies);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether there may be more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Again,
    Rest,
}
