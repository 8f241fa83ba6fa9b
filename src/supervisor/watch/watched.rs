//! The worker process that is watched: its threads, how long each has not gone on, and what was seen of
//! those that look stuck.
//!
//! A look at a thread that goes on is a few loads of its black box. Only one that has not gone on for
//! half of what is tolerated is looked up in `/proc`: the first look there and the last are what a
//! verdict is made of.

use std::time::Duration;

use rustix::process::Pid;

use super::attention::{Attention, Stillness};
use super::ladder::Climb;
use super::recorder::monotonic_ns;
use super::report::{Finding, doing, seconds};
use super::thread::{LastCall, ThreadSample};
use super::throttle::{Throttle, Throttled};
use super::verdict::{Case, Verdict, whole_ms};
use crate::blackbox::Kind;
use crate::supervisor::sight::{Moment, Seen, SeenThread};
use crate::sync::Arc;

/// Time of a core that no step of a thread takes which comes to an end: steps are counted in microseconds,
/// and each is seen.
const AMPLE: Duration = Duration::from_millis(100);

/// A worker process.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) pid: Pid,
    pub(super) seen: Arc<Seen>,
    /// One for each thread that is seen, in their order.
    threads: Vec<Thread>,
    throttle: Throttle,
    attention: Attention,
    warn: Duration,
}

/// What was seen of a thread.
#[derive(Debug)]
struct Thread {
    stillness: Stillness,
    pin: Pin,
    first: Option<Look>,
    last: Option<Look>,
    last_call: LastCall,
    climb: Climb,
    /// The number of its session, once it has said that; 0: it has not.
    session: u32,
    /// For how long the whole process has been stopped, if it is.
    stopped: Duration,
}

/// Since when a session is pinned, and for how long that has been seen.
#[derive(Debug, Default)]
struct Pin {
    since_ms: Option<u64>,
    seen: Duration,
}

/// A look at a thread in `/proc`.
#[derive(Debug, Clone)]
struct Look {
    at: Duration,
    sample: Option<ThreadSample>,
    throttled: Throttled,
}

impl Thread {
    fn new(one: &SeenThread) -> Self {
        Self {
            stillness: Stillness::new(one.kind, one.black_box.pulse()),
            pin: Pin::default(),
            first: None,
            last: None,
            last_call: LastCall::default(),
            climb: Climb::default(),
            session: 0,
            stopped: Duration::ZERO,
        }
    }

    /// For how long it has not gone on, or has kept others from going on.
    fn overdue(&self) -> Duration {
        self.stillness
            .overdue()
            .max(self.pin.seen)
            .max(self.stopped)
    }

    fn is_stopped(&self) -> bool {
        let last = self.last.as_ref().and_then(|look| look.sample.as_ref());
        last.is_some_and(|sample| matches!(sample.state, 'T' | 't'))
    }
}

impl Watched {
    /// Begins to watch a process that serves.
    pub(super) fn new(pid: Pid, seen: Arc<Seen>, interval: Duration, warn: Duration) -> Self {
        Self {
            pid,
            threads: seen.threads.iter().map(Thread::new).collect(),
            seen,
            throttle: Throttle::default(),
            attention: Attention::new(interval),
            warn,
        }
    }

    /// Has it looked at in this interval, with so much patience.
    pub(super) fn set_limits(&mut self, interval: Duration, warn: Duration) {
        self.attention.interval = interval;
        self.warn = warn;
    }

    /// Looks at all threads.
    pub(super) fn look(&mut self) {
        self.look_at(Duration::from_nanos(monotonic_ns()));
    }

    /// The same, at this time of the monotonic clock.
    fn look_at(&mut self, now: Duration) {
        let attended = self.attention.look(now);
        for at in 0..self.threads.len() {
            let one = &self.seen.threads[at];
            if self.threads[at].session == 0 {
                self.threads[at].session = one.black_box.snapshot().session;
            }
            let pinned = self.seen.pinned_since_ms(self.threads[at].session);
            let thread = &mut self.threads[at];
            thread
                .stillness
                .look(one.kind, one.black_box.pulse(), attended);
            thread.pin.seen = match pinned.is_some() && pinned == thread.pin.since_ms {
                true => thread.pin.seen + attended,
                false => Duration::ZERO,
            };
            thread.pin.since_ms = pinned;
        }
        for at in 0..self.threads.len() {
            if attended.is_zero() {
                // What was seen before an absence is compared with nothing after it.
                self.threads[at].first = None;
            }
            let was_stopped = self.threads[at].is_stopped();
            self.look_closer(at, now);
            let thread = &mut self.threads[at];
            if was_stopped && thread.last.is_some() && !thread.is_stopped() {
                // It may go on since a moment ago, and has had no time to.
                thread.stillness.begin_anew();
                thread.pin.seen = Duration::ZERO;
                (thread.first, thread.last) = (None, None);
            }
        }
        self.look_for_a_stop(now);
    }

    /// Looks a thread that seems to be stuck up in `/proc`.
    fn look_closer(&mut self, at: usize, now: Duration) {
        let thread = &self.threads[at];
        let own = thread.stillness.overdue().max(thread.pin.seen);
        let enough = self.warn / 2;
        if own < enough {
            let thread = &mut self.threads[at];
            (thread.first, thread.last) = (None, None);
            return;
        }
        if thread.first.is_none() {
            // A process may have been moved to other groups since.
            self.throttle = Throttle::of_process(self.pid.as_raw_nonzero().get().unsigned_abs());
        }
        let mut look = self.take_look(at, now);
        let pulse = self.seen.threads[at].black_box.pulse();
        let thread = &mut self.threads[at];
        if let Some(sample) = &mut look.sample {
            thread.last_call.complete(sample, pulse);
        }
        if thread.stillness.has_moved(&pulse) {
            // What was found in `/proc` is of a thread that goes on.
            thread.stillness.begin_anew();
            (thread.first, thread.last) = (None, None);
            if thread.pin.seen < enough {
                return;
            }
        }
        thread.first.get_or_insert_with(|| look.clone());
        thread.last = Some(look);
    }

    fn take_look(&self, at: usize, now: Duration) -> Look {
        let snapshot = self.seen.threads[at].black_box.snapshot();
        Look {
            at: now,
            sample: ThreadSample::take(snapshot.process, snapshot.thread),
            throttled: self.throttle.read(),
        }
    }

    /// Whoever stops a process stops all threads, also those that sleep and are not missed.
    fn look_for_a_stop(&mut self, now: Duration) {
        let stopped = self.threads.iter().filter(|thread| thread.is_stopped());
        let stopped = stopped.map(|thread| thread.stillness.overdue()).max();
        for at in 0..self.threads.len() {
            self.threads[at].stopped = Duration::ZERO;
            let Some(since) = stopped.filter(|since| *since >= self.warn) else {
                continue;
            };
            if self.threads[at].last.is_none() {
                self.threads[at].last = Some(self.take_look(at, now));
            }
            if self.threads[at].is_stopped() {
                self.threads[at].stopped = since;
            }
        }
    }

    /// The threads, by their place.
    pub(super) fn places(&self) -> std::ops::Range<usize> {
        0..self.threads.len()
    }

    pub(super) fn thread(&self, at: usize) -> &SeenThread {
        &self.seen.threads[at]
    }

    /// For how long a thread has not gone on, or has kept others from going on. One that has gone on since the
    /// last look has not been looked at as what it is now.
    pub(super) fn overdue(&self, at: usize) -> Duration {
        let thread = &self.threads[at];
        match self.has_moved(at) {
            true => thread.pin.seen,
            false => thread.overdue(),
        }
    }

    fn has_moved(&self, at: usize) -> bool {
        let pulse = self.seen.threads[at].black_box.pulse();
        self.threads[at].stillness.has_moved(&pulse)
    }

    pub(super) fn climb(&mut self, at: usize) -> &mut Climb {
        &mut self.threads[at].climb
    }

    /// Whether there are workers, and none of them goes on.
    pub(super) fn all_workers_are_stuck(&self) -> bool {
        let all = self.places();
        let workers = all.filter(|&at| self.thread(at).kind == Kind::Worker);
        let mut stuck = workers.map(|at| self.overdue(at) >= self.warn).peekable();
        stuck.peek().is_some() && stuck.all(|is_stuck| is_stuck)
    }

    /// What a thread is about.
    pub(super) fn verdict(&self, at: usize) -> Verdict {
        let thread = &self.threads[at];
        let has_moved = self.has_moved(at);
        let overdue = match has_moved {
            true => thread.pin.seen,
            false => thread.overdue(),
        };
        if overdue < self.warn {
            return Verdict::Healthy;
        }
        let (Some(last), first) = (&thread.last, &thread.first) else {
            return Verdict::Unknown;
        };
        let goes_on = !thread.is_stopped() && thread.stillness.overdue() < self.warn;
        if goes_on || has_moved {
            return Verdict::HoldsBack {
                pinned_ms: whole_ms(thread.pin.seen),
                limbo_bytes: self.limbo_bytes().unwrap_or(0),
            };
        }
        let first = first.as_ref().unwrap_or(last);
        let lock = self.lock(at);
        let case = Case {
            first: first.sample.as_ref(),
            last: last.sample.as_ref(),
            between: last.at.saturating_sub(first.at),
            throttled: last.throttled.since(first.throttled),
            lock: (lock.as_ref()).map(|(bucket, holder)| (*bucket, holder.as_deref())),
            ample: self.warn.min(AMPLE),
        };
        case.verdict()
    }

    /// The bucket whose lock a thread waits for, and what its holder is about.
    fn lock(&self, at: usize) -> Option<(u64, Option<String>)> {
        let session = self.thread(at).black_box.snapshot().session;
        let wait = self.seen.lookout.as_ref()?.session(session)?.waits_for?;
        let holder = wait
            .held_by
            .map(|holder| match self.seen.with_session(holder) {
                Some(one) => {
                    let doing = doing(&one.black_box, monotonic_ns(), false);
                    format!("{} holds, which {doing}", one.name)
                }
                None => format!("session {holder} holds, which no thread has"),
            });
        Some((wait.bucket, holder))
    }

    /// What cannot be used again while somebody is pinned.
    fn limbo_bytes(&self) -> Option<u64> {
        Some(self.seen.stats(Moment::now())?.limbo_bytes)
    }

    /// Where the memory is, by name.
    pub(super) fn figures(&self) -> Vec<(String, String)> {
        let Some(stats) = self.seen.stats(Moment::now()) else {
            return Vec::new();
        };
        let items = ("items", stats.items);
        let ledger = stats.ledger().into_iter();
        let named = std::iter::once(items).chain(ledger.filter(|(_, bytes)| *bytes > 0));
        named
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .collect()
    }

    /// What a thread is about, with what that is based on.
    pub(super) fn finding(&self, at: usize) -> Finding {
        let one = self.thread(at);
        let thread = one.name.clone();
        // Before the verdict: if it goes on in between, the verdict knows.
        let doing = doing(&one.black_box, monotonic_ns(), false);
        let verdict = self.verdict(at);
        let overdue = match &verdict {
            Verdict::Healthy => Duration::ZERO,
            _ => self.overdue(at),
        };
        let sentence = match &verdict {
            Verdict::Healthy => format!("{thread} is healthy: it {doing}"),
            Verdict::HoldsBack { .. } => format!("{thread} {verdict}; it {doing}"),
            _ => format!(
                "{thread} has not gone on for {} and {verdict}; it {doing}",
                seconds(overdue)
            ),
        };
        Finding {
            evidence: self.evidence(at),
            stuck_ms: whole_ms(overdue),
            thread,
            verdict,
            sentence,
        }
    }

    fn evidence(&self, at: usize) -> Vec<(String, String)> {
        let thread = &self.threads[at];
        let snapshot = self.thread(at).black_box.snapshot();
        let mut facts = vec![
            (
                "thread",
                format!("{} of process {}", snapshot.thread, snapshot.process),
            ),
            ("turns", snapshot.turns.to_string()),
        ];
        if let Some(fingerprint) = snapshot
            .operation
            .as_ref()
            .and_then(|one| one.fingerprint())
        {
            facts.push(("at", fingerprint.to_string()));
        }
        if let Some((first, last)) = thread.first.as_ref().zip(thread.last.as_ref()) {
            facts.extend(compared(first, last));
        }
        if let Some((bucket, holder)) = self.lock(at) {
            let holder = holder.unwrap_or_else(|| "nobody seems to hold".to_owned());
            facts.push(("lock", format!("of bucket {bucket}, which {holder}")));
        }
        if let Some(since_ms) = thread.pin.since_ms {
            let now_ms = self.seen.cache_ms(Moment::now());
            let pinned = Duration::from_millis(now_ms.saturating_sub(since_ms));
            facts.push(("pinned", format!("for {}", seconds(pinned))));
            if let Some(bytes) = self.limbo_bytes() {
                facts.push(("limbo", format!("{bytes} bytes wait for readers")));
            }
        }
        let owned = facts.into_iter();
        owned
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// What two looks at a thread tell.
fn compared(first: &Look, last: &Look) -> Vec<(&'static str, String)> {
    let (Some(before), Some(now)) = (&first.sample, &last.sample) else {
        return vec![("state", "it has ended".to_owned())];
    };
    let grown = |later: Duration, earlier: Duration| seconds(later.saturating_sub(earlier));
    let throttled = last.throttled.since(first.throttled);
    let mut facts = vec![
        ("state", now.state.to_string()),
        ("looked for", grown(last.at, first.at)),
        (
            "ran",
            format!(
                "{} ({} in the program, {} in the kernel)",
                grown(now.ran, before.ran),
                grown(now.user, before.user),
                grown(now.system, before.system)
            ),
        ),
        ("was ready", grown(now.waited, before.waited)),
        ("system call", now.call.name()),
        (
            "major faults",
            now.major_faults
                .saturating_sub(before.major_faults)
                .to_string(),
        ),
    ];
    if !now.waits_in.is_empty() {
        facts.push(("waits in", now.waits_in.clone()));
    }
    if throttled.times > 0 {
        facts.push(("throttled", format!("{} times", throttled.times)));
    }
    facts
}

#[cfg(test)]
mod tests;
