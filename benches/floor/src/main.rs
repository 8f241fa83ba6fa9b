//! The floor under every server on epoll: one thread that counts the requests of memcached's text
//! protocol and answers each with a fixed reply of the right size. It keeps nothing and finds nothing,
//! so what it costs is reading and writing, and no server that waits in epoll can cost less.
//!
//! A turn of a connection is one read and one write. A read that does not fill the buffer says that
//! there is no more, so none is made to learn that.
//!
//! `--io uring` is the same with the reads of all that are ready in one call of io_uring, and the writes in
//! another: the floor under servers that do so, and below the first.

mod connection;
mod epoll;
mod requests;
mod uring;

use std::io;
use std::net::{SocketAddr, TcpListener};

use clap::{Parser, ValueEnum};

use crate::requests::Replies;

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

    /// By which of the kernel's interfaces
    #[arg(long, value_enum, default_value_t = Io::Epoll)]
    io: Io,

    /// Only tell whether that is to be had
    #[arg(long)]
    check: bool,
}

/// How a server learns of what there is to read, and reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Io {
    Epoll,
    Uring,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    options.io.check()?;
    if options.check {
        return Ok(());
    }
    let listener = TcpListener::bind(options.listen)?;
    println!("floor ready on {}", listener.local_addr()?);
    let replies = Replies::new(options.key_bytes.into(), options.value_bytes as usize);
    options.io.serve(listener, &replies)
}

impl Io {
    /// Whether the kernel has it for us.
    fn check(self) -> io::Result<()> {
        match self {
            Self::Epoll => Ok(()),
            Self::Uring => uring::ring().map(drop),
        }
    }

    fn serve(self, listener: TcpListener, replies: &Replies) -> io::Result<()> {
        match self {
            Self::Epoll => epoll::serve(listener, replies),
            Self::Uring => uring::serve(listener, replies),
        }
    }
}

#[cfg(test)]
mod tests;
