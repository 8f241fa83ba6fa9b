//! Serving together: the connections of a wait are received from in one call of the system, and sent to in one.
//!
//! ```text
//!   receive from all ─> ask for all buckets ─> ask for all items ─> a turn for each, ─> send to all
//!                                                                   replies kept
//! ```
//!
//! Where clients wait for each reply, most of what a request costs is the way into the system and out of it,
//! twice; together, all of a wait share that, and memory is waited for by all of them at once. It needs
//! io_uring ([`Ring`]); without it, or where few are ready, connections are read [`ahead`](super::ahead), one by one.
//!
//! Only the last replies of a turn are kept, and only few bytes: what is more leaves at once. A
//! connection whose turn went otherwise (it ends, it waits for its reader, it sends a large value) has nothing
//! to do with it. Nobody's replies wait for anything but the turns of the same wait, and for one long turn at most:
//! after that what is kept is sent, since the call is a small part of what such a turn costs.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use slab::Slab;

use super::ahead::Ahead;
use super::connection::Connection;
use super::ring::{Ring, SOCKETS_MAX};
use super::service::{Service, Turned};
use super::transfer::Sent;
use crate::blackbox::Phase;

/// LIMIT: connections that are worth it. Fewer are served one by one: a client that has few connections, and waits
/// for all of them at once as well, would wait while the server works, and the server while the client does, each
/// woken anew every time. What this many take is longer than that.
pub(crate) const CONNECTIONS_MIN: usize = 12;

/// LIMIT: bytes of a turn's replies that are kept. The way into the system is a small part of sending more.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// LIMIT: requests of a turn that is not long: some microseconds.
const REQUESTS_NOT_LONG: u64 = 128;

/// LIMIT: connections that all workers serve together at a time, each worker its part of them: what is read of
/// each and what is kept for it take 8 MiB, for up to 128 workers.
const OF_ALL_WORKERS: usize = 256;

/// LIMIT: connections of a worker's part at least, which halve its calls.
const OF_A_WORKER_MIN: usize = 2;

/// What a worker serves connections together with.
#[derive(Debug)]
pub(crate) struct Together {
    ring: Ring,
    /// How many there may be at a time.
    connections_max: usize,
    outcomes: Vec<io::Result<usize>>,
    members: Vec<Member>,
}

/// One of the connections that are served together.
#[derive(Debug)]
struct Member {
    /// Its place among the worker's connections.
    key: usize,
    ahead: Option<Ahead>,
    turned: Turned,
    /// Where its replies are among those that are kept.
    replies: Range<usize>,
}

/// Replies that leave when all have had their turns.
#[derive(Debug, Default)]
pub(super) struct Kept {
    replies: Vec<u8>,
    /// Whether there is somebody who will send them.
    is_wanted: bool,
}

impl Together {
    /// What the calling thread needs for it, one of so many workers.
    ///
    /// # Errors
    ///
    /// The system has no io_uring for it.
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        Ok(Self {
            ring: Ring::open()?,
            connections_max: connections_max(workers),
            outcomes: Vec::new(),
            members: Vec::new(),
        })
    }

    /// How many connections may have their turns together.
    pub(crate) fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// A turn for each of up to [`Self::connections_max`] connections; what each then needs.
    pub(crate) fn turns<'t>(
        &'t mut self,
        service: &mut Service,
        connections: &mut Slab<Connection>,
        keys: &[usize],
    ) -> impl Iterator<Item = (usize, Turned)> + use<'t> {
        self.read(service, connections, keys);
        for ahead in self.members.iter_mut().filter_map(|it| it.ahead.as_mut()) {
            service.fetch(ahead);
        }
        service.kept.is_wanted = true;
        let mut unsent = 0;
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            let begin = service.kept.replies.len();
            member.turned = service.turn(&mut connections[member.key], member.ahead.take());
            member.replies = begin..service.kept.replies.len();
            if service.was_long() {
                self.send(service, connections, unsent..at + 1);
                unsent = at + 1;
            }
        }
        service.kept.is_wanted = false;
        self.send(service, connections, unsent..self.members.len());
        self.members.drain(..).map(|it| (it.key, it.turned))
    }

    /// Reads what turns will begin with, from all whose turns begin with a read.
    fn read(&mut self, service: &mut Service, connections: &mut Slab<Connection>, keys: &[usize]) {
        for &key in keys {
            let Some(connection) = connections.get(key) else {
                continue;
            };
            let begins_with_a_read = connection.begins_with_a_read();
            self.members.push(Member {
                key,
                ahead: begins_with_a_read.then(|| Ahead::into(service.inputs.take_ahead())),
                turned: Turned::Wait,
                replies: 0..0,
            });
        }
        service.pen.enter(Phase::Reading);
        let receives = self.members.iter_mut().filter_map(|member| {
            let socket = connections[member.key].stream.as_fd();
            Some((socket, &mut *member.ahead.as_mut()?.input))
        });
        self.ring.receive(receives, &mut self.outcomes);
        let aheads = self.members.iter_mut();
        let aheads = aheads.filter_map(|it| Some((it.key, it.ahead.as_mut()?)));
        for ((key, ahead), outcome) in aheads.zip(self.outcomes.drain(..)) {
            let connection = &mut connections[key];
            ahead.outcome = service.note_read(connection, &mut ahead.input, outcome);
            service.foresee(connection, ahead);
        }
    }

    /// Sends the replies that were kept, which are those of some members.
    fn send(
        &mut self,
        service: &mut Service,
        connections: &mut Slab<Connection>,
        of: Range<usize>,
    ) {
        if service.kept.replies.is_empty() {
            return;
        }
        let members = &mut self.members[of];
        let replies = std::mem::take(&mut service.kept.replies);
        service.pen.enter(Phase::Writing);
        let with_replies = |it: &&Member| !it.replies.is_empty();
        let sends = members.iter().filter(with_replies);
        let sends = sends.map(|it| {
            let socket = connections[it.key].stream.as_fd();
            (socket, &replies[it.replies.clone()])
        });
        self.ring.send(sends, &mut self.outcomes);
        let members = members.iter_mut().filter(|it| !it.replies.is_empty());
        for (member, outcome) in members.zip(self.outcomes.drain(..)) {
            let connection = &mut connections[member.key];
            let sent = service.note_sent(connection, &replies[member.replies.clone()], outcome);
            match sent {
                Ok(Sent::All) => {}
                Ok(_) => member.turned = Turned::Wait,
                Err(cause) => member.turned = Turned::Close(cause),
            }
        }
        service.kept.replies = replies;
        service.kept.replies.clear();
    }
}

/// How many one of so many workers may serve together.
fn connections_max(workers: usize) -> usize {
    (OF_ALL_WORKERS / workers.max(1)).clamp(OF_A_WORKER_MIN, SOCKETS_MAX)
}

impl Service {
    /// Keeps the replies of a turn for the call that sends those of all, where there will be one.
    pub(super) fn keep_replies(&mut self, connection: &Connection) -> bool {
        let may_wait = self.kept.is_wanted
            && self.output.len() <= KEPT_BYTES_MAX
            && !connection.waits_for_reader();
        if may_wait {
            self.kept.replies.append(&mut self.output);
        }
        may_wait
    }

    /// Whether the last turn took so long that nobody's replies are to wait for another such.
    fn was_long(&self) -> bool {
        let bytes = self.copied_bytes.max(self.sent_in_turn());
        self.requests > REQUESTS_NOT_LONG || bytes > KEPT_BYTES_MAX as u64
    }
}

#[cfg(test)]
mod tests;
