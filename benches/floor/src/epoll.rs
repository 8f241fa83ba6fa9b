//! Readiness by epoll, one read and one write for each connection that has something to say.

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

/// Serves until something is wrong with the listener or with epoll.
pub(crate) fn serve(listener: std::net::TcpListener, replies: &Replies) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<Connection> = Slab::new();
    let mut events = Events::with_capacity(EVENTS);
    let mut room = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
                continue;
            }
            let Some(connection) = connections.get_mut(event.token().0) else {
                continue;
            };
            let finished = event.is_read_closed();
            if connection.turn(replies, &mut room, finished) == State::Ended {
                // Closing the socket takes it out of epoll.
                connections.remove(event.token().0);
            }
        }
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
