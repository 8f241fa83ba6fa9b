//! A connection: what it has not finished saying, and what it was not told yet.

use std::io::{self, ErrorKind, Read, Write};

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
        if !self.backlog.is_empty() {
            let backlog = std::mem::take(&mut self.backlog);
            self.write(&backlog)?;
        }
        if !self.backlog.is_empty() {
            return Ok(Step::Rest);
        }
        let bytes = match self.stream.read(room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Rest),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Step::Again),
            Err(error) => return Err(error),
        };
        let answer = requests::count(&room[..bytes], &mut self.rest, replies)
            .map_err(|_| ErrorKind::InvalidData)?;
        match replies.laid_out(&answer) {
            Some(laid_out) => self.write(laid_out)?,
            None => self.write(&replies.joined(&answer))?,
        }
        Ok(if finished || bytes == room.len() {
            Step::Again
        } else {
            Step::Rest
        })
    }

    /// Writes what the socket takes and keeps the rest.
    fn write(&mut self, mut replies: &[u8]) -> io::Result<()> {
        while !replies.is_empty() {
            match self.stream.write(replies) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => replies = &replies[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.backlog = replies.to_vec();
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
