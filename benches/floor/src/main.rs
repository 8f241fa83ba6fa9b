//! The floor under every server on epoll: one thread that counts the requests of memcached's text
//! protocol and answers each with a fixed reply of the right size. It keeps nothing and finds nothing,
//! so what it costs is reading and writing, and no server that waits in epoll can cost less.
//!
//! A turn of a connection is one read and one write. A read that does not fill the buffer says that
//! there is no more, so none is made to learn that.

mod connection;
mod requests;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use clap::Parser;
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

/// A server that only counts requests: get KEY has a fixed reply, a set is skipped.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:11999")]
    listen: SocketAddr,

    /// Length of the key in a reply
    #[arg(long, value_name = "BYTES", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=250))]
    key_bytes: u16,

    /// Length of the value in a reply
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65536))]
    value_bytes: u32,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut listener = TcpListener::bind(options.listen)?;
    println!("floor ready on {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let replies = Replies::new(options.key_bytes.into(), options.value_bytes as usize);
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
            if connection.turn(&replies, &mut room) == State::Ended {
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
