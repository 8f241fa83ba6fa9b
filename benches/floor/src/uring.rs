//! The same, but for the calls: those that are ready are read by one call of io_uring and written to by
//! another, as Larder does it (`src/server/together.rs`). Each read and write says that it does not wait, so both
//! are done when the call that hands them over is.
//!
//! Whoever has filled its room, has finished, or did not take all its replies goes on as with epoll.

use std::borrow::Cow;
use std::io;

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use slab::Slab;

use crate::connection::Connection;
use crate::epoll::{self, Ready};
use crate::requests::Replies;

/// LIMIT: connections that are read by one call.
const TOGETHER: usize = 64;

/// LIMIT: bytes of one read.
const READ_BYTES: usize = 16 << 10;

struct Server<'r> {
    ring: IoUring,
    /// What came of each operation, by its place among those that were handed over with it.
    outcomes: Vec<i32>,
    rooms: Vec<[u8; READ_BYTES]>,
    replies: &'r Replies,
}

/// Serves until something is wrong with the listener, with epoll or with the ring.
pub(crate) fn serve(listener: std::net::TcpListener, replies: &Replies) -> io::Result<()> {
    let mut server = Server {
        ring: ring()?,
        outcomes: Vec::new(),
        rooms: vec![[0; READ_BYTES]; TOGETHER],
        replies,
    };
    epoll::each_wait(listener, |connections, ready| {
        ready
            .chunks(TOGETHER)
            .try_for_each(|part| server.turns(connections, part))
    })
}

/// The ring, where the kernel has one for us.
pub(crate) fn ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(TOGETHER as u32)
        .map_err(|error| {
            let needed = "it takes Linux 6.1, kernel.io_uring_disabled=0 and no filter on the call";
            io::Error::new(
                error.kind(),
                format!("io_uring is refused ({needed}): {error}"),
            )
        })
}

impl Server<'_> {
    fn turns(&mut self, connections: &mut Slab<Connection>, ready: &[Ready]) -> io::Result<()> {
        let (late, brief): (Vec<Ready>, Vec<Ready>) =
            (ready.iter()).partition(|it| connections[it.key].has_backlog());
        let receives = brief.iter().zip(&mut self.rooms).map(|(ready, room)| {
            let socket = Fd(connections[ready.key].socket());
            let receive = opcode::Recv::new(socket, room.as_mut_ptr(), READ_BYTES as u32);
            receive.flags(libc::MSG_DONTWAIT).build()
        });
        // SAFETY: the rooms last as long as the ring.
        unsafe { run(&mut self.ring, receives.collect(), &mut self.outcomes)? };
        let mut again = late;
        let mut answers = Vec::new();
        for ((ready, room), received) in brief.iter().zip(&self.rooms).zip(&self.outcomes) {
            let connection = &mut connections[ready.key];
            let bytes = usize::try_from(*received).unwrap_or(0);
            let Ok(answer) = connection.answer(&room[..bytes], self.replies) else {
                connections.remove(ready.key);
                continue;
            };
            if !answer.is_empty() {
                answers.push((ready.key, answer));
            }
            if bytes == READ_BYTES || bytes == 0 || ready.finished {
                again.push(*ready);
            }
        }
        self.send(connections, &answers)?;
        for ready in again {
            epoll::turn(connections, ready, self.replies, &mut self.rooms[0]);
        }
        Ok(())
    }

    fn send(
        &mut self,
        connections: &mut Slab<Connection>,
        answers: &[(usize, Cow<'_, [u8]>)],
    ) -> io::Result<()> {
        let sends = answers.iter().map(|(key, answer)| {
            let socket = Fd(connections[*key].socket());
            let send = opcode::Send::new(socket, answer.as_ptr(), answer.len() as u32);
            send.flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).build()
        });
        // SAFETY: the answers last until this returns.
        unsafe { run(&mut self.ring, sends.collect(), &mut self.outcomes)? };
        for ((key, answer), sent) in answers.iter().zip(&self.outcomes) {
            // One that is gone is found so when the rest is sent, or it is read.
            let sent = usize::try_from(*sent).unwrap_or(0);
            if sent < answer.len() {
                connections[*key].keep(&answer[sent..]);
            }
        }
        Ok(())
    }
}

/// Hands operations over, which are done when this returns.
///
/// # Safety
/// What they name must last until then.
unsafe fn run(
    ring: &mut IoUring,
    operations: Vec<Entry>,
    outcomes: &mut Vec<i32>,
) -> io::Result<()> {
    let numbered = operations.into_iter().zip(0..);
    let numbered: Vec<Entry> = numbered.map(|(it, place)| it.user_data(place)).collect();
    outcomes.clear();
    outcomes.resize(numbered.len(), 0);
    // SAFETY: the caller's promise.
    let pushed = unsafe { ring.submission().push_multiple(&numbered) };
    pushed.expect("no more than there is room for");
    ring.submit_and_wait(numbered.len())?;
    for completion in ring.completion() {
        outcomes[completion.user_data() as usize] = completion.result();
    }
    Ok(())
}
