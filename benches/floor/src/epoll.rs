//! Readiness by epoll, and by itself one read and one write for each connection that has something to say.

use std::io::{self, ErrorKind};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::connection::{Connection, State};
use crate::requests::Replies;

const LISTENER: Token = Token(usize::MAX);

/// LIMIT: bytes of one read.
const READ_BYTES: usize = 64 << 10;

/// LIMIT: connections that are told of at once.
const EVENTS: usize = 1024;

/// A connection that has something to say, or to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) key: usize,
    /// The peer says no more than what is there.
    pub(crate) finished: bool,
}

/// Serves until something is wrong with the listener or with epoll.
pub(crate) fn serve(listener: std::net::TcpListener, replies: &Replies) -> io::Result<()> {
    let mut room = vec![0; READ_BYTES];
    each_wait(listener, |connections, ready| {
        for ready in ready {
            turn(connections, *ready, replies, &mut room);
        }
        Ok(())
    })
}

/// A turn of one connection, which may be its last.
pub(crate) fn turn(
    connections: &mut Slab<Connection>,
    ready: Ready,
    replies: &Replies,
    room: &mut [u8],
) {
    let connection = &mut connections[ready.key];
    if connection.turn(replies, room, ready.finished) == State::Ended {
        // Closing the socket takes it out of epoll.
        connections.remove(ready.key);
    }
}

/// Accepts connections, and gives those that are ready their turns, until something is wrong.
pub(crate) fn each_wait(
    listener: std::net::TcpListener,
    mut turns: impl FnMut(&mut Slab<Connection>, &[Ready]) -> io::Result<()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<Connection> = Slab::new();
    let mut events = Events::with_capacity(EVENTS);
    let mut ready = Vec::with_capacity(EVENTS);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        ready.clear();
        for event in &events {
            let Token(key) = event.token();
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
            } else if connections.contains(key) {
                let finished = event.is_read_closed();
                ready.push(Ready { key, finished });
            }
        }
        turns(&mut connections, &ready)?;
    }
}

/// Takes all connections that wait.
fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Slab<Connection>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // A client that is gone already.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let place = connections.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(place.key()), interest)?;
        place.insert(Connection::new(stream));
    }
}
