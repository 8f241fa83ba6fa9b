//! The acceptor: takes connections from the listeners and gives each to the worker with the fewest.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::listener::{Accepted, Listener, Stream};
use super::shared::{Shared, Stage};
use super::tongue::{Spoken, in_tongue};
use crate::blackbox::{Pen, Phase};
use crate::dialect::{Dialect, Ending};
use crate::sync::Arc;

/// The token of the waker; listeners have their place in the list.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// LIMIT: listeners of one server, and a few connections at a time.
const EVENTS: usize = 64;

/// LIMIT: how long a refused connection is kept open for its client to read why, and how soon an
/// accept that failed for want of files is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// LIMIT: refused connections kept open at a time; more push the oldest out.
const REFUSED_MAX: usize = 64;

/// LIMIT: how often it is said at most that connections cannot be accepted.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Takes connections and hands them out.
pub(crate) struct Acceptor {
    poll: Poll,
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
    /// Connections given to each worker since the start.
    given: Vec<u64>,
    pen: Pen,
    refused: VecDeque<(u64, Stream)>,
    /// Whether a listener may have connections that no event will report again.
    retry: bool,
    complaint: Complaint,
}

/// That connections cannot be accepted, and that they are again, as far as it is said: where files run out and
/// come back by the second, each would be said as often.
#[derive(Debug, Default)]
struct Complaint {
    /// Whether it was said that they cannot; since then that was so at each try.
    is_said: bool,
    /// From when on it may be said once more, in milliseconds of uptime.
    may_from_ms: u64,
}

impl Complaint {
    /// Whether to say that connections cannot be accepted.
    fn begins(&mut self, now_ms: u64) -> bool {
        if self.is_said || now_ms < self.may_from_ms {
            return false;
        }
        self.is_said = true;
        self.may_from_ms = now_ms + super::clock::whole_ms(COMPLAINT_PAUSE);
        true
    }

    /// Whether to say that they are accepted again.
    fn ends(&mut self) -> bool {
        std::mem::take(&mut self.is_said)
    }
}

impl Acceptor {
    pub(crate) fn new(
        poll: Poll,
        mut listeners: Vec<Listener>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(index))?;
        }
        let given = vec![0; shared.stations.len()];
        let pen = shared.pen(&shared.boxes.acceptor);
        Ok(Self {
            poll,
            listeners,
            shared,
            given,
            pen,
            refused: VecDeque::new(),
            retry: false,
            complaint: Complaint::default(),
        })
    }

    /// Accepts until the server drains; then closes the listeners and lets the workers know.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        self.shared.introduce(&mut self.pen, 0);
        while self.shared.stage() == Stage::Serving {
            let pause = (self.retry || !self.refused.is_empty()).then_some(PAUSE);
            self.enter(Phase::Sleeping);
            match self.poll.poll(&mut events, pause) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the acceptor cannot wait for events");
                    self.shared.drain();
                }
            }
            self.enter(Phase::Accepting);
            self.pen.count_turn();
            if std::mem::take(&mut self.retry) {
                self.accept_from_all();
                if !self.retry && self.complaint.ends() {
                    tracing::info!("connections are accepted again");
                }
            }
            for event in &events {
                if event.token() != WAKER {
                    self.accept_from(event.token().0);
                }
            }
            self.let_go_of_refused();
        }
        // What the kernel has already accepted is told to go like the others.
        self.accept_from_all();
        self.listeners.clear();
        tracing::info!("no longer listening");
        self.shared.advance(Stage::Draining);
        self.enter(Phase::Ended);
    }

    fn enter(&mut self, phase: Phase) {
        self.pen.tick(self.shared.clock.now().monotonic_ns);
        self.pen.enter(phase);
    }

    fn accept_from_all(&mut self) {
        for index in 0..self.listeners.len() {
            self.accept_from(index);
        }
    }

    fn accept_from(&mut self, index: usize) {
        loop {
            match self.listeners[index].accept() {
                Ok(accepted) => self.give(accepted),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        let now_ms = self.shared.clock.now().uptime_ms;
                        if self.complaint.begins(now_ms) {
                            tracing::warn!(%error, "cannot accept connections; trying again");
                        }
                        self.retry = true;
                        return;
                    }
                },
            }
        }
    }

    /// Gives the connection to the worker with the fewest, unless there are too many already. Workers
    /// that are to be avoided get none while there are others.
    fn give(&mut self, mut accepted: Accepted) {
        let open = |index: usize| {
            self.given[index]
                - self.shared.stations[index]
                    .counters
                    .connections_closed
                    .get()
        };
        let workers = 0..self.given.len();
        let connections: u64 = workers.clone().map(open).sum();
        if connections >= u64::from(self.shared.tuned.connections_max()) {
            return self.refuse(accepted);
        }
        let is_avoided = |index: usize| self.shared.stations[index].black_box.is_avoided();
        let Some(fewest) = workers.min_by_key(|&index| (is_avoided(index), open(index))) else {
            return;
        };
        self.given[fewest] += 1;
        accepted.number = self.given.iter().sum();
        let station = &self.shared.stations[fewest];
        station.black_box.set_given(self.given[fewest]);
        station.mailbox.lock().push(accepted);
        if let Err(error) = station.waker.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }

    fn refuse(&mut self, accepted: Accepted) {
        let Accepted { stream, tongue, .. } = accepted;
        let connections_max = self.shared.tuned.connections_max();
        self.shared.acceptor_counters.connections_refused.add(1);
        let mut notice = Vec::new();
        let ending = Ending::TooManyConnections { connections_max };
        in_tongue!(tongue, D => D::of(&self.shared).notice_ending(ending, &mut notice));
        // The socket is new, so its buffer takes a sentence; a client that is gone needs none.
        let _ = stream.write(&notice);
        stream.finish_writing();
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused
            .push_back((self.shared.clock.now().uptime_ms, stream));
    }

    fn let_go_of_refused(&mut self) {
        let now_ms = self.shared.clock.now().uptime_ms;
        let pause_ms = super::clock::whole_ms(PAUSE);
        while self
            .refused
            .front()
            .is_some_and(|(since_ms, _)| now_ms - since_ms >= pause_ms)
        {
            self.refused.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::Poll;

    use super::{Acceptor, Complaint};
    use crate::server::Settings;
    use crate::server::ahead::tests::{accepted, start};
    use crate::sync::Arc;

    #[test]
    fn of_connections_that_are_refused_some_are_kept_until_they_have_read_why() {
        let (running, _session) = start(Settings::default());
        let (poll, shared) = (Poll::new().unwrap(), Arc::clone(&running.shared));
        let mut acceptor = Acceptor::new(poll, Vec::new(), shared).unwrap();
        for number in 0..200 {
            acceptor.refuse(accepted(number, b"").0);
            assert!(acceptor.refused.len() as u64 == (number + 1).min(64));
        }
    }

    #[test]
    fn what_comes_and_goes_is_said_once_a_minute() {
        let mut complaint = Complaint::default();
        let said: Vec<(u64, bool)> = (0..1200_u64)
            .map(|tenth| tenth * 100)
            .flat_map(|now_ms| {
                let begins = complaint.begins(now_ms).then_some((now_ms, true));
                let ends = complaint.ends().then_some((now_ms, false));
                [begins, ends].into_iter().flatten()
            })
            .collect();
        let expected = [(0, true), (0, false), (60_000, true), (60_000, false)];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_stays_is_said_once_and_its_end_once() {
        let mut complaint = Complaint::default();
        let begins = (0..100).filter(|minute| complaint.begins(minute * 60_000));
        assert_eq!(begins.count(), 1);
        assert!(complaint.ends());
        assert!(!complaint.ends());
    }
}
