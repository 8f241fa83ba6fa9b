//! The same by io_uring: one system call per turn. It submits the replies of the turn before, all
//! together, and waits for what was received meanwhile, into buffers that the kernel takes from
//! those it was given (`buffers.rs`). Accepting and receiving are operations that go on by themselves.
//!
//! Sends do not wait, and say nothing where all was sent: they are tried within the call that submits
//! them, so after it the replies are gone unless a completion says otherwise. Then the rest waits until
//! the socket takes more, and what is asked for meanwhile is counted.
//!
//! A connection that has ended leaves its place at the end of the next turn: its last replies are sent by
//! then, and no completion of theirs finds another connection there.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};
use slab::Slab;

use crate::buffers::{self, Buffers};
use crate::requests::{self, Answer, Replies, Rest};

/// LIMIT: operations submitted at once; more are submitted in parts.
const SUBMISSIONS: u32 = 1024;

/// LIMIT: completions that wait, and connections: what was not sent must be told in the same call.
const COMPLETIONS: u32 = 4096;

/// LIMIT: replies that wait for a reader; one that is further behind is disconnected.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What a completion is of, in the low bits of its data; the connection's key is above.
const ACCEPTED: u64 = 0;
const RECEIVED: u64 = 1;
const NOT_SENT: u64 = 2;
const WRITABLE: u64 = 3;
const KIND_BITS: u32 = 2;

struct Connection<'a> {
    stream: TcpStream,
    rest: Rest,
    /// What was asked for and is not being answered yet.
    asked: Answer,
    /// The replies that were last sent; the kernel reads them in the call that submits them.
    sending: Cow<'a, [u8]>,
    /// Those that the socket did not take; they go before all others.
    backlog: Vec<u8>,
    /// The socket takes no more for now.
    is_full: bool,
    /// It is among those of this turn that may have something to send.
    is_due: bool,
}

struct Server<'a> {
    // Declared first, dropped first: the kernel forgets the buffers before they go.
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    replies: &'a Replies,
    connections: Slab<Connection<'a>>,
    due: Vec<usize>,
    /// Those that ended in this turn.
    ended: Vec<usize>,
    /// Those that ended in the one before.
    leaving: Vec<usize>,
}

/// Serves until something is wrong with the listener or with the ring.
pub(crate) fn serve(listener: TcpListener, replies: &Replies) -> io::Result<()> {
    let ring = ring()?;
    // SAFETY: both are fields of the server, which drops the ring first.
    let buffers = unsafe { Buffers::register(&ring.submitter())? };
    Server {
        ring,
        buffers,
        listener,
        replies,
        connections: Slab::new(),
        due: Vec::new(),
        ended: Vec::new(),
        leaving: Vec::new(),
    }
    .run()
}

/// The ring, where the kernel has one for us.
pub(crate) fn ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_cqsize(COMPLETIONS)
        .setup_submit_all()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .build(SUBMISSIONS)
        .map_err(|error| {
            let needed = "it takes Linux 6.1, kernel.io_uring_disabled=0 and no filter on the call";
            io::Error::new(
                error.kind(),
                format!("io_uring is refused ({needed}): {error}"),
            )
        })
}

impl Server<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.accept()?;
        let mut completions = Vec::new();
        loop {
            let wanted = usize::from(self.leaving.is_empty());
            match self.ring.submit_and_wait(wanted) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                submitted => submitted?,
            };
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.complete(&completion)?;
            }
            self.buffers.publish();
            for key in self.leaving.drain(..) {
                // An operation that waits for the socket to take more would hold it open.
                self.connections.remove(key).shut_down();
            }
            std::mem::swap(&mut self.ended, &mut self.leaving);
            self.answer()?;
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let data = completion.user_data();
        let key = (data >> KIND_BITS) as usize;
        match data & ((1 << KIND_BITS) - 1) {
            ACCEPTED => self.accepted(completion),
            RECEIVED => self.received(key, completion),
            NOT_SENT => self.not_sent(key, completion.result()),
            _ => self.writable(key),
        }
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        if let Some(stream) = accepted(completion.result())? {
            // SAFETY: the kernel has just opened it for us.
            let stream = unsafe { TcpStream::from_raw_fd(stream) };
            if self.connections.len() < COMPLETIONS as usize {
                stream.set_nodelay(true)?;
                let key = self.connections.insert(Connection::new(stream));
                self.receive(key)?;
            }
        }
        match cqueue::more(completion.flags()) {
            true => Ok(()),
            false => self.accept(),
        }
    }

    /// Bytes in a buffer, or the end of a connection.
    fn received(&mut self, key: usize, completion: &cqueue::Entry) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let mut is_open = completion.result() == -libc::ENOBUFS;
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            let bytes = completion.result().max(0) as usize;
            let received = self.buffers.received(buffer, bytes);
            is_open = bytes > 0 && connection.take(received, self.replies);
            self.buffers.give_back(buffer);
            connection.falls_due(key, &mut self.due);
        }
        match (is_open, cqueue::more(completion.flags())) {
            (true, true) => {}
            (true, false) => self.receive(key)?,
            // The operation goes on until it finds that there is nothing more to receive.
            (false, true) => connection.shut_down(),
            (false, false) => self.ended.push(key),
        }
        Ok(())
    }

    /// The socket took some of the replies, or none.
    fn not_sent(&mut self, key: usize, result: i32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        if result < 0 && result != -libc::EAGAIN {
            connection.shut_down();
            return Ok(());
        }
        connection.backlog = connection.sending[result.max(0) as usize..].to_vec();
        connection.is_full = true;
        let socket = Fd(connection.stream.as_raw_fd());
        let wait = opcode::PollAdd::new(socket, libc::POLLOUT as u32).build();
        self.push(wait, WRITABLE, key)
    }

    fn writable(&mut self, key: usize) -> io::Result<()> {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_full = false;
            connection.falls_due(key, &mut self.due);
        }
        Ok(())
    }

    /// Lays out what is sent with the next call.
    fn answer(&mut self) -> io::Result<()> {
        for at in 0..self.due.len() {
            let key = self.due[at];
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.is_due = false;
            if connection.is_full {
                continue;
            }
            connection.answer(self.replies);
            let (bytes, count) = (connection.sending.as_ptr(), connection.sending.len());
            if count == 0 {
                continue;
            }
            let socket = Fd(connection.stream.as_raw_fd());
            // All of them or a completion: without the second flag a part would count as success.
            let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
            let send = opcode::Send::new(socket, bytes, count as u32).flags(flags);
            self.push(send.build().flags(Flags::SKIP_SUCCESS), NOT_SENT, key)?;
        }
        self.due.clear();
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()));
        self.push(accept.build(), ACCEPTED, 0)
    }

    fn receive(&mut self, key: usize) -> io::Result<()> {
        let socket = Fd(self.connections[key].stream.as_raw_fd());
        let receive = opcode::RecvMulti::new(socket, buffers::GROUP);
        self.push(receive.build(), RECEIVED, key)
    }

    fn push(&mut self, operation: Entry, kind: u64, key: usize) -> io::Result<()> {
        let operation = operation.user_data((key as u64) << KIND_BITS | kind);
        // SAFETY: an operation names no memory but buffers, which outlive the ring, or replies, which
        // stay where they are until the call that submits them is over.
        while unsafe { self.ring.submission().push(&operation) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }
}

impl<'a> Connection<'a> {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            rest: Rest::default(),
            asked: Answer::default(),
            sending: Cow::Borrowed(&[]),
            backlog: Vec::new(),
            is_full: false,
            is_due: false,
        }
    }

    /// Counts what was asked for; `false` for nonsense, and where too much waits already.
    fn take(&mut self, received: &[u8], replies: &Replies) -> bool {
        match requests::count(received, &mut self.rest, replies) {
            Ok(answer) => self.asked.append(answer, replies),
            Err(_) => return false,
        }
        self.backlog.len() + self.asked.bytes(replies) <= WAITING_BYTES_MAX
    }

    fn falls_due(&mut self, key: usize, due: &mut Vec<usize>) {
        if !self.is_due {
            self.is_due = true;
            due.push(key);
        }
    }

    /// What is sent next: the backlog, and the replies to all that was asked for.
    fn answer(&mut self, replies: &'a Replies) {
        let answer = std::mem::take(&mut self.asked);
        self.sending = match replies.laid_out(&answer) {
            Some(laid_out) if self.backlog.is_empty() => Cow::Borrowed(laid_out),
            _ => {
                let mut all = std::mem::take(&mut self.backlog);
                all.extend(replies.joined(&answer));
                Cow::Owned(all)
            }
        };
    }

    /// Ends the operations that wait for the socket.
    fn shut_down(&self) {
        // A peer that is gone already is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// What an operation came to; nothing where the client is gone already.
fn accepted(result: i32) -> io::Result<Option<i32>> {
    match result {
        0.. => Ok(Some(result)),
        _ if result == -libc::ECONNABORTED => Ok(None),
        _ => Err(io::Error::from_raw_os_error(-result)),
    }
}
