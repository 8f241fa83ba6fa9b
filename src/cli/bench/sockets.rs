//! Several sockets at a time: by one call of the system, or, where it has no io_uring, by one for each.

use std::io;
use std::os::fd::BorrowedFd;
use std::vec::Drain;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::server::Ring;

/// What one thread receives and sends with. Nothing waits: what came of each is told as the system tells it.
#[derive(Debug)]
pub(super) struct Sockets {
    ring: Option<Ring>,
    outcomes: Vec<io::Result<usize>>,
}

impl Sockets {
    /// For the calling thread alone.
    pub(super) fn new() -> Self {
        Self {
            ring: Ring::probe().and_then(|()| Ring::open()).ok(),
            outcomes: Vec::new(),
        }
    }

    /// Receives once from each of up to [`SOCKETS_MAX`](crate::server::SOCKETS_MAX) sockets; what came of it,
    /// in the same order.
    pub(super) fn receive<'a>(
        &mut self,
        receives: impl Iterator<Item = (BorrowedFd<'a>, &'a mut [u8])>,
    ) -> Drain<'_, io::Result<usize>> {
        match &mut self.ring {
            Some(ring) if may_be_several(&receives) => ring.receive(receives, &mut self.outcomes),
            _ => self.outcomes.extend(receives.map(|(socket, into)| {
                let (_, bytes) = recv(socket, into, RecvFlags::DONTWAIT)?;
                Ok(bytes)
            })),
        }
        self.outcomes.drain(..)
    }

    /// Sends once to each of as many, in the same way.
    pub(super) fn send<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
    ) -> Drain<'_, io::Result<usize>> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match &mut self.ring {
            Some(ring) if may_be_several(&sends) => ring.send(sends, &mut self.outcomes),
            _ => (self.outcomes).extend(sends.map(|(socket, from)| Ok(send(socket, from, flags)?))),
        }
        self.outcomes.drain(..)
    }
}

/// Whether it is worth to hand them over together.
fn may_be_several(sockets: &impl Iterator) -> bool {
    sockets.size_hint().1 != Some(1)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn told(outcomes: Drain<'_, io::Result<usize>>) -> Vec<String> {
        let told = outcomes.map(|outcome| match outcome {
            Ok(bytes) => bytes.to_string(),
            Err(error) => format!("{:?}", error.kind()),
        });
        told.collect()
    }

    /// Those of this thread as they are, and without io_uring.
    fn both_ways() -> [Sockets; 2] {
        let without = Sockets {
            ring: None,
            outcomes: Vec::new(),
        };
        [Sockets::new(), without]
    }

    #[test]
    fn what_comes_of_each_socket_is_told_in_both_ways() {
        for mut sockets in both_ways() {
            let [short, silent, over] = [(); 3].map(|()| UnixStream::pair().unwrap());
            (&short.0).write_all(b"ab").unwrap();
            drop(over.0);
            let ends = [&short.1, &silent.1, &over.1];
            let mut rooms = [*b"____"; 3];
            let receives = ends.iter().zip(&mut rooms);
            let receives = receives.map(|(end, room)| (end.as_fd(), &mut room[..]));
            let received = told(sockets.receive(receives));
            assert_eq!(received, ["2", "WouldBlock", "0"], "{sockets:?}");
            assert_eq!(rooms, [*b"ab__", *b"____", *b"____"]);
            let sends = ends.iter().map(|end| (end.as_fd(), &b"abc"[..]));
            let sent = told(sockets.send(sends));
            assert_eq!(sent, ["3", "3", "BrokenPipe"], "{sockets:?}");
        }
    }

    #[test]
    fn a_socket_takes_what_there_is_room_for_and_then_nothing() {
        let much = vec![7; 8 << 20];
        for mut sockets in both_ways() {
            let pairs = [(); 2].map(|()| UnixStream::pair().unwrap());
            let mut send = || {
                let sends = pairs.iter().map(|(end, _)| (end.as_fd(), &much[..]));
                told(sockets.send(sends))
            };
            for first in send() {
                let taken: usize = first.parse().expect("a part is taken");
                assert!((1..much.len()).contains(&taken), "{taken}");
            }
            while send() != ["WouldBlock", "WouldBlock"] {}
        }
    }
}
