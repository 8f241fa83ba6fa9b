//! A worker: one thread, one event loop, the connections that are its own.
//!
//! ```text
//! wait ──> events: a turn for each ready connection ──> run queue: a turn for each that has more
//!   ^                                                                             │
//!   └──────────────── sweep, where due: deadlines, and the end of a drain <───────┘
//! ```
//!
//! Many connections that are ready are served [`together`](super::together); of few, or without io_uring, one is
//! read before another has its turn ([`ahead`](super::ahead)).
//!
//! Events are edge-triggered: a connection whose socket may hold more waits in the run queue, not in
//! the kernel. Deadlines cost a request one store of the time; a sweep compares them.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};
use slab::Slab;

use super::ahead::Ahead;
use super::clock::whole_ms;
use super::connection::{Cause, Connection, NEVER_MS, Phase};
use super::listener::Accepted;
use super::service::{Service, Turned};
use super::settings::Io;
use super::shared::{Shared, Stage, Station};
use super::together::{CONNECTIONS_MIN, Together};
use crate::blackbox::Phase as Doing;
use crate::dialect::Ending;
use crate::engine::Session;
use crate::sync::Arc;

/// The token of the waker; connections have their place in the slab.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// LIMIT: connections that one wait may report; the others are reported by the next.
const EVENTS: usize = 1024;

/// LIMIT: how long a connection that is told to go may take to close before it is closed.
const LINGER_MS: u64 = 1000;

/// LIMIT: how long a connection must be silent during a drain to count as quiet: longer than a
/// request takes that is on its way.
const QUIET_MS: u64 = 50;

/// LIMIT: deadlines are late by this at most; a sweep looks at every connection once, some
/// nanoseconds each.
const SWEEP_MS_MAX: u64 = 1000;
const SWEEP_MS_MIN: u64 = 5;

/// One event loop and its connections.
pub(crate) struct Worker {
    poll: Poll,
    service: Service,
    connections: Slab<Connection>,
    run_queue: VecDeque<usize>,
    /// Serves several connections together, where the system has what that takes.
    together: Option<Together>,
    /// Those that are to have a turn; between two waits, none.
    ready: Vec<usize>,
    sweep_at_ms: u64,
    /// Until when it asks for events without waiting for them, by the monotonic clock.
    busy_until_ns: u64,
    draining: bool,
}

impl Worker {
    pub(crate) fn new(
        poll: Poll,
        shared: Arc<Shared>,
        station: Arc<Station>,
        session: Session,
    ) -> Self {
        Self {
            poll,
            service: Service::new(shared, station, session),
            connections: Slab::new(),
            run_queue: VecDeque::new(),
            together: None,
            ready: Vec::new(),
            sweep_at_ms: 0,
            busy_until_ns: 0,
            draining: false,
        }
    }

    /// Gets what it takes to serve several connections together, in the worker's own thread.
    fn prepare_together(&mut self) {
        if self.service.shared.settings.io == Io::Epoll {
            return;
        }
        match Together::new(self.service.shared.settings.workers) {
            Ok(together) => self.together = Some(together),
            Err(error) => tracing::warn!(%error, "a worker has no io_uring, and does without"),
        }
    }

    /// Serves until the server stops, or has drained.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        self.service.introduce();
        self.prepare_together();
        loop {
            self.service.pen.enter(Doing::Sleeping);
            let polled = self.poll.poll(&mut events, self.patience());
            self.service.tick();
            match polled {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "a worker cannot wait for events");
                    break;
                }
            }
            if !events.is_empty() {
                let busy_poll = self.service.shared.settings.busy_poll;
                let now_ns = self.service.now.monotonic_ns;
                self.busy_until_ns = now_ns.saturating_add(busy_poll.as_nanos() as u64);
            }
            let waiting = events.iter().count() + self.run_queue.len();
            self.service.pen.set_waiting(waiting as u64);
            self.serve(&events);
            self.run_waiting();
            self.service.call_for_upkeep();
            self.sweep_if_due();
            // Last, since whatever comes before may close the last connection of a drain.
            if self.is_over() {
                break;
            }
        }
        for connection in std::mem::take(&mut self.connections) {
            drop(connection);
            self.service.station.counters.connections_closed.add(1);
        }
        self.service.pen.enter(Doing::Ended);
        self.service.shared.end_worker();
    }

    /// How long to wait for events: not at all while connections wait for their turn, or where it is to
    /// ask again and again for a while, and for ever where no deadline runs.
    fn patience(&self) -> Option<Duration> {
        let is_busy = self.service.now.monotonic_ns < self.busy_until_ns;
        if is_busy || !self.run_queue.is_empty() {
            return Some(Duration::ZERO);
        }
        if !self.has_deadlines() {
            return None;
        }
        let now_ms = self.service.now.uptime_ms;
        Some(Duration::from_millis(
            self.sweep_at_ms.saturating_sub(now_ms).max(1),
        ))
    }

    /// Whether there is something that ends by itself: a connection's patience, or the life of what the worker
    /// has stored in segments that nobody else can free.
    fn has_deadlines(&self) -> bool {
        !self.connections.is_empty() || self.service.has_contents()
    }

    /// Whether this worker's part of the server is over.
    fn is_over(&mut self) -> bool {
        match self.service.shared.stage() {
            Stage::Serving | Stage::DrainWanted => false,
            Stage::Stopped => true,
            Stage::Draining => {
                if !self.draining {
                    self.begin_drain();
                }
                self.connections.is_empty()
            }
        }
    }

    /// Takes the connections over that the acceptor has put into the mailbox.
    fn take_over(&mut self) {
        let accepted = std::mem::take(&mut *self.service.station.mailbox.lock());
        if self.connections.is_empty() {
            self.sweep_at_ms = 0;
        }
        for accepted in accepted {
            self.adopt(accepted);
        }
        self.note_connections();
    }

    /// Does what a drill asks for, in a turn of the newest connection, where there is one.
    fn drill_if_ordered(&mut self) {
        let Some(order) = self.service.ordered_drill() else {
            return;
        };
        let by_number = |(_, connection): &(usize, &mut Connection)| connection.number;
        match self.connections.iter_mut().max_by_key(by_number) {
            Some((key, connection)) => {
                let turned = self.service.drill_turn(connection, order);
                self.after_turn(key, turned);
            }
            None => self.service.drill_alone(order),
        }
    }

    fn note_connections(&mut self) {
        let taken = self.service.station.counters.connections_opened.get();
        let connections = self.connections.len() as u64;
        self.service.pen.set_connections(connections, taken);
    }

    fn adopt(&mut self, mut accepted: Accepted) {
        let counters = &self.service.station.counters;
        counters.connections_opened.add(1);
        let entry = self.connections.vacant_entry();
        let token = Token(entry.key());
        if let Err(error) = accepted.stream.register(self.poll.registry(), token) {
            tracing::warn!(%error, "a connection cannot be watched; it is closed");
            counters.connections_closed.add(1);
            counters.closed_io_error.add(1);
            return;
        }
        let now_ms = self.service.now.uptime_ms;
        (self.service.station.roster).add(entry.key(), &accepted, now_ms);
        entry.insert(Connection::new(accepted, now_ms));
    }

    /// A turn for each connection that is ready, and what somebody outside wants.
    fn serve(&mut self, events: &Events) {
        let mut ready = std::mem::take(&mut self.ready);
        let mut is_called = false;
        for event in events {
            match event.token() {
                WAKER => is_called = true,
                Token(key) if self.notice(key, event) => ready.push(key),
                Token(_) => {}
            }
        }
        if ready.len() >= CONNECTIONS_MIN
            && let Some(together) = self.together.take()
        {
            self.together = Some(self.serve_together(together, &ready));
        } else {
            self.serve_in_order(&ready);
        }
        ready.clear();
        self.ready = ready;
        if is_called {
            self.take_over();
            self.drill_if_ordered();
        }
    }

    /// Notes what an event says; whether that is worth a turn.
    fn notice(&mut self, key: usize, event: &Event) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        connection.peer_finished |= event.is_read_closed();
        connection.readable || connection.waits_for_reader()
    }

    /// A turn for each of these, as many as there may be together at a time.
    fn serve_together(&mut self, mut together: Together, ready: &[usize]) -> Together {
        for keys in ready.chunks(together.connections_max()) {
            let (service, connections) = (&mut self.service, &mut self.connections);
            for (key, turned) in together.turns(service, connections, keys) {
                self.after_turn(key, turned);
            }
        }
        together
    }

    /// A turn for each of these. Where there are several, one is read before the turn of another.
    fn serve_in_order(&mut self, ready: &[usize]) {
        let are_several = ready.len() > 1;
        let mut next = None;
        for key in ready.iter().copied().map(Some).chain([None]) {
            let mut now = next.take();
            if let Some((_, Some(ahead))) = &mut now {
                self.service.fetch(ahead);
            }
            let reads_ahead = are_several && self.service.was_brief();
            next = key.map(|key| {
                let connection = self.connections.get_mut(key).filter(|_| reads_ahead);
                let ahead = connection.and_then(|it| self.service.read_ahead(it));
                (key, ahead)
            });
            if let Some((key, ahead)) = now {
                self.turn(key, ahead);
            }
        }
    }

    fn turn(&mut self, key: usize, ahead: Option<Ahead>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let turned = self.service.turn(connection, ahead);
        self.after_turn(key, turned);
    }

    fn after_turn(&mut self, key: usize, turned: Turned) {
        match turned {
            Turned::Wait => {}
            Turned::Again => {
                let connection = &mut self.connections[key];
                if !connection.queued {
                    connection.queued = true;
                    self.run_queue.push_back(key);
                }
            }
            Turned::Close(cause) => self.close(key, cause),
        }
    }

    /// One turn for each connection that waited for one when this began.
    fn run_waiting(&mut self) {
        for _ in 0..self.run_queue.len() {
            let Some(key) = self.run_queue.pop_front() else {
                break;
            };
            // A place may have been given to another connection since; a turn too many is harmless.
            if let Some(connection) = self.connections.get_mut(key) {
                connection.queued = false;
                self.turn(key, None);
            }
        }
    }

    fn close(&mut self, key: usize, cause: Cause) {
        let counters = &self.service.station.counters;
        counters.connections_closed.add(1);
        match cause {
            Cause::Finished | Cause::Panic => {}
            Cause::Io => counters.closed_io_error.add(1),
            Cause::SlowReader => counters.closed_slow_reader.add(1),
        }
        // Dropping the socket takes it out of the poll, and dropping the buffers frees the budget.
        drop(self.connections.remove(key));
        self.service.station.roster.remove(key);
        self.note_connections();
    }

    fn sweep_if_due(&mut self) {
        let now_ms = self.service.now.uptime_ms;
        if now_ms < self.sweep_at_ms || !self.has_deadlines() {
            return;
        }
        self.service.pen.enter(Doing::Maintaining);
        self.sweep_at_ms = now_ms + self.sweep_every_ms();
        self.service.rest();
        self.service.station.roster.note(self.connections.iter());
        let over = self.draining && now_ms >= self.service.shared.drain_deadline_ms();
        for key in 0..self.connections.capacity() {
            let Some(connection) = self.connections.get(key) else {
                continue;
            };
            let mut verdict = self.verdict(connection, now_ms);
            if verdict == Verdict::Close(Cause::SlowReader) {
                // The system says late that a client has read some; who tries knows sooner.
                self.turn(key, None);
                match self.connections.get(key) {
                    Some(connection) => verdict = self.verdict(connection, now_ms),
                    None => continue,
                }
            }
            match verdict {
                Verdict::Stay if over => self.end(key, Ending::Drained),
                Verdict::Stay => continue,
                Verdict::End(ending) => self.end(key, ending),
                Verdict::Close(cause) => self.close(key, cause),
            }
            if over && self.connections.contains(key) {
                self.close(key, Cause::Finished);
            }
        }
    }

    /// How long until deadlines are looked at again.
    fn sweep_every_ms(&self) -> u64 {
        if self.draining {
            return SWEEP_MS_MIN;
        }
        let Shared {
            settings, tuned, ..
        } = &*self.service.shared;
        let idle_ms = settings.idle_timeout.map_or(u64::MAX, whole_ms);
        let shortest_ms = idle_ms.min(tuned.frame_ms()).min(tuned.write_ms());
        (shortest_ms / 8).clamp(SWEEP_MS_MIN, SWEEP_MS_MAX)
    }

    fn end(&mut self, key: usize, ending: Ending) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let counters = &self.service.station.counters;
        match ending {
            Ending::IdleTimeout { .. } => counters.closed_idle.add(1),
            Ending::FrameTimeout { .. } => counters.closed_frame_timeout.add(1),
            _ => {}
        }
        let turned = match connection.phase {
            Phase::Greeting | Phase::Open => self.service.end(connection, ending),
            Phase::Finishing | Phase::Lingering => Turned::Wait,
        };
        self.after_turn(key, turned);
    }

    /// What the time says about a connection.
    fn verdict(&self, connection: &Connection, now_ms: u64) -> Verdict {
        let Shared {
            settings, tuned, ..
        } = &*self.service.shared;
        let since = |start_ms: u64| now_ms.saturating_sub(start_ms);
        if connection.phase == Phase::Lingering {
            return match since(connection.waiting_ms) >= LINGER_MS {
                true => Verdict::Close(Cause::Finished),
                false => Verdict::Stay,
            };
        }
        if connection.waits_for_reader() {
            return match since(connection.waiting_ms) >= tuned.write_ms() {
                true => Verdict::Close(Cause::SlowReader),
                false => Verdict::Stay,
            };
        }
        let frame_ms = tuned.frame_ms();
        let silent_ms = since(connection.active_ms);
        let is_late = match connection.phase {
            // Who has never greeted has no right to wait.
            Phase::Greeting if connection.begun_ms == NEVER_MS => silent_ms >= frame_ms,
            _ => connection.begun_ms != NEVER_MS && since(connection.begun_ms) >= frame_ms,
        };
        if is_late {
            return Verdict::End(Ending::FrameTimeout { frame_ms });
        }
        if let Some(idle_ms) = settings.idle_timeout.map(whole_ms)
            && silent_ms >= idle_ms
        {
            return Verdict::End(Ending::IdleTimeout { idle_ms });
        }
        if self.draining && connection.is_quiet() && !connection.readable && silent_ms >= QUIET_MS {
            return Verdict::End(Ending::Drained);
        }
        Verdict::Stay
    }

    /// Takes the last connections over and tells all of them.
    fn begin_drain(&mut self) {
        self.draining = true;
        self.take_over();
        self.sweep_at_ms = 0;
        let shared = &self.service.shared;
        let left_ms = shared
            .drain_deadline_ms()
            .saturating_sub(shared.clock.now().uptime_ms);
        for key in 0..self.connections.capacity() {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.phase == Phase::Open
            {
                let turned = self.service.notice_drain(connection, left_ms);
                self.after_turn(key, turned);
            }
        }
    }
}

/// What the time says about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stay,
    /// End it and say why.
    End(Ending),
    /// Close it without a word.
    Close(Cause),
}

#[cfg(test)]
mod tests;
