//! The requests of a connection, by id: who waits for which answer.
//!
//! A request has a slot from the moment its frame is written down until both sides are done with it:
//! the server, which answers it, and its caller, who takes the answer or goes away. A slot whose caller
//! went away first waits for its reply all the same. An id is therefore free only when the server is
//! done with it, and a late reply can never be taken for another's.
//!
//! The id says which slot it is, so that a reply finds its request in one step, and the answer lies in
//! the slot until the caller's task comes for it: nothing is allocated for a request.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::Cause;

/// LIMIT: an id is 20 bits of slot and 12 bits that tell the slot's tenants apart. More slots than may
/// be under way, since answers that nobody has taken yet have theirs, too.
const INDEX_BITS: u32 = 20;

/// LIMIT: how many requests may be under way on a connection, whatever is asked for; a small part of
/// the slots, so that answers that lie around do not keep new requests from being sent.
pub(crate) const IN_FLIGHT_CEILING: u32 = 1 << 16;

/// How a request ended. Small, since it is moved from hand to hand.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The server answered, with this frame.
    Frame(Bytes),
    /// The connection ended, and the request is known not to have been executed.
    NotExecuted(Box<Cause>),
    /// The connection ended, and it is not known whether the request was executed.
    Unknown(Box<Cause>),
    /// The time for it is over.
    Overdue,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnderWay {
    /// Where its frame ends, in bytes since the connection began.
    pub(crate) end_offset: u64,
    pub(crate) sent_at: Instant,
    /// Since when the server owes the answer: as it was sent, or later where the driver was late.
    pub(crate) owed_from: Instant,
    pub(crate) give_up_at: Instant,
    /// Whether that is a moment that the caller named, and not so much time from when it was sent.
    pub(crate) is_deadline: bool,
    /// What it holds of the room on its connection until the server has answered.
    pub(crate) places: u32,
}

/// What the server's answer to a request frees.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) sent_at: Instant,
    pub(crate) places: u32,
    /// Who waits for it.
    pub(crate) waker: Option<Waker>,
}

/// What a look at the time of requests found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// When the time of another is over.
    pub(crate) next: Option<Instant>,
    /// Since when the server owes an answer that nobody waits for any more, and has not come.
    pub(crate) owed_from: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Nobody's.
    Free,
    /// The server has not answered, and the caller waits.
    Asked(Waker),
    /// The server has not answered, and the caller is to learn that its time is over.
    Overdue,
    /// The server has not answered, and nobody waits.
    GivenUp,
    /// The answer is here for the caller to take.
    Answered(Answer),
}

#[derive(Debug)]
struct Slot {
    id: u32,
    state: State,
    request: UnderWay,
}

/// All requests of a connection with which one of the two sides is not done yet.
#[derive(Debug)]
pub(crate) struct Pending {
    slots: Vec<Slot>,
    // INVARIANT: the indices of exactly the slots that are free.
    free: Vec<u32>,
    /// How many the server has not answered.
    unanswered: u32,
    slots_max: u32,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self::with_slots(1 << INDEX_BITS)
    }

    pub(crate) fn with_slots(slots_max: u32) -> Self {
        let (slots, free) = (Vec::new(), Vec::new());
        Self {
            slots,
            free,
            unanswered: 0,
            slots_max,
        }
    }

    /// Whether all ids are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.slots_max as usize
    }

    /// Gives a request an id; not all of them may be [taken](Self::is_full).
    pub(crate) fn insert(&mut self, request: UnderWay, waker: Waker) -> u32 {
        debug_assert!(!self.is_full());
        let state = State::Asked(waker);
        self.unanswered += 1;
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.id = slot.id.wrapping_add(1 << INDEX_BITS);
                slot.state = state;
                slot.request = request;
                slot.id
            }
            None => {
                let id = self.slots.len() as u32;
                self.slots.push(Slot { id, state, request });
                id
            }
        }
    }

    /// Puts the server's answer where the caller finds it. `None` where no such request is under way.
    pub(crate) fn answer(&mut self, id: u32, answer: Answer) -> Option<Answered> {
        let slot = slot(&mut self.slots, id)?;
        let waker = match std::mem::replace(&mut slot.state, State::Free) {
            State::Asked(waker) => {
                slot.state = State::Answered(answer);
                Some(waker)
            }
            // It was woken when its time was over, and has not looked yet.
            State::Overdue => {
                slot.state = State::Answered(answer);
                None
            }
            State::GivenUp => {
                self.free.push(index(id));
                None
            }
            done @ (State::Free | State::Answered(_)) => {
                slot.state = done;
                return None;
            }
        };
        self.unanswered -= 1;
        let UnderWay {
            sent_at, places, ..
        } = slot.request;
        Some(Answered {
            sent_at,
            places,
            waker,
        })
    }

    /// Takes the answer to a request, which its caller is done with then, or has the caller's task woken
    /// when there is one.
    pub(crate) fn poll_take(&mut self, id: u32, context: &Context<'_>) -> Poll<Answer> {
        let Some(slot) = slot(&mut self.slots, id) else {
            // Whoever has an id has not taken its answer.
            debug_assert!(false, "request {id} is not under way");
            return Poll::Pending;
        };
        match &mut slot.state {
            State::Answered(_) => {
                let state = std::mem::replace(&mut slot.state, State::Free);
                self.free.push(index(id));
                match state {
                    State::Answered(answer) => Poll::Ready(answer),
                    _ => Poll::Pending,
                }
            }
            State::Overdue => {
                slot.state = State::GivenUp;
                Poll::Ready(Answer::Overdue)
            }
            State::Asked(waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            State::Free | State::GivenUp => Poll::Pending,
        }
    }

    /// The caller is done with a request, whatever comes of it. Says since when the server owes the
    /// answer, if it still does.
    pub(crate) fn give_up(&mut self, id: u32) -> Option<Instant> {
        let slot = slot(&mut self.slots, id)?;
        match slot.state {
            State::Asked(_) | State::Overdue => {
                slot.state = State::GivenUp;
                return Some(slot.request.owed_from);
            }
            State::Answered(_) => {
                slot.state = State::Free;
                self.free.push(index(id));
            }
            State::Free | State::GivenUp => {}
        }
        None
    }

    /// Has somebody else wait for the answer in the caller's place, for as long as the server may be silent.
    /// Says until when; `None` where there is no answer to wait for any more.
    pub(crate) fn pass_on(&mut self, id: u32, patience: Duration) -> Option<Instant> {
        let slot = slot(&mut self.slots, id)?;
        if let State::Overdue | State::GivenUp = slot.state {
            slot.state = State::Asked(Waker::noop().clone());
        }
        let request = &mut slot.request;
        (request.give_up_at, request.is_deadline) = (request.owed_from + patience, false);
        (!matches!(slot.state, State::Free)).then_some(request.give_up_at)
    }

    /// Gives up requests whose time is over, and adds whom to wake. Their slots are kept until the
    /// server is done with them.
    pub(crate) fn give_up_overdue(&mut self, now: Instant, wake: &mut Vec<Waker>) -> Times {
        let (mut next, mut owed_from) = (None, None);
        for slot in &mut self.slots {
            let request = &slot.request;
            match &slot.state {
                State::Asked(_) if request.give_up_at > now => {
                    next = earlier(next, Some(request.give_up_at));
                }
                State::Asked(_) => {
                    owed_from = earlier(owed_from, Some(request.owed_from));
                    if let State::Asked(waker) = std::mem::replace(&mut slot.state, State::Overdue)
                    {
                        wake.push(waker);
                    }
                }
                State::Overdue | State::GivenUp => {
                    owed_from = earlier(owed_from, Some(request.owed_from));
                }
                State::Free | State::Answered(_) => {}
            }
        }
        Times { next, owed_from }
    }

    /// Gives the requests that count as sent at a moment more time, unless their caller named the end
    /// of it.
    pub(crate) fn prolong(&mut self, sent_at: Instant, more: Duration) {
        for Slot { request, .. } in &mut self.slots {
            if request.sent_at == sent_at {
                request.owed_from += more;
                if !request.is_deadline {
                    request.give_up_at += more;
                }
            }
        }
    }

    /// Answers all that the server has not answered, and adds whom to wake.
    pub(crate) fn end(&mut self, answer: impl Fn(&UnderWay) -> Answer, wake: &mut Vec<Waker>) {
        for slot in &mut self.slots {
            match std::mem::replace(&mut slot.state, State::Free) {
                State::Asked(waker) => {
                    slot.state = State::Answered(answer(&slot.request));
                    wake.push(waker);
                }
                // Its time was over before.
                State::Overdue => {
                    slot.state = State::Answered(match answer(&slot.request) {
                        Answer::Unknown(_) => Answer::Overdue,
                        answer => answer,
                    });
                }
                State::GivenUp => self.free.push(index(slot.id)),
                done @ (State::Free | State::Answered(_)) => slot.state = done,
            }
        }
        self.unanswered = 0;
    }

    /// How many the server has not answered.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Whether the server has answered everything.
    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }
}

/// The earlier of two moments, where there are two.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The slot of a request, if the slot is still this request's.
fn slot(slots: &mut [Slot], id: u32) -> Option<&mut Slot> {
    let slot = slots.get_mut(index(id) as usize)?;
    (slot.id == id).then_some(slot)
}

fn index(id: u32) -> u32 {
    id & ((1 << INDEX_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::{Answer, Pending, UnderWay};

    fn under_way(seconds: u64) -> UnderWay {
        let now = Instant::now();
        UnderWay {
            end_offset: seconds,
            sent_at: now,
            owed_from: now,
            give_up_at: now + Duration::from_secs(seconds),
            is_deadline: false,
            places: 1,
        }
    }

    fn ask(pending: &mut Pending, seconds: u64) -> u32 {
        pending.insert(under_way(seconds), Waker::noop().clone())
    }

    fn take(pending: &mut Pending, id: u32) -> Option<Answer> {
        match pending.poll_take(id, &Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    fn frame(byte: u8) -> Answer {
        Answer::Frame(Bytes::copy_from_slice(&[byte]))
    }

    fn is_frame(answer: Option<Answer>, byte: u8) -> bool {
        matches!(answer, Some(Answer::Frame(frame)) if frame[..] == [byte])
    }

    #[test]
    fn an_answer_is_for_the_request_with_its_id() {
        let mut pending = Pending::new();
        let [first, second] = [1, 2].map(|seconds| ask(&mut pending, seconds));
        let answered = pending.answer(second, frame(2)).expect("is under way");
        assert!(answered.waker.is_some());
        assert!(pending.answer(second, frame(3)).is_none(), "answered twice");
        assert!(take(&mut pending, first).is_none());
        assert!(is_frame(take(&mut pending, second), 2));
        assert!(!pending.is_answered());
        pending.answer(first, frame(1)).expect("is under way");
        assert!(pending.is_answered());
    }

    #[test]
    fn a_slot_used_again_does_not_answer_to_its_old_id() {
        let mut pending = Pending::new();
        let old = ask(&mut pending, 1);
        pending.answer(old, frame(1));
        take(&mut pending, old);
        let new = ask(&mut pending, 1);
        assert_ne!(old, new);
        assert!(pending.answer(old, frame(1)).is_none());
        pending.give_up(old);
        assert!(pending.answer(new, frame(1)).is_some());
    }

    #[test]
    fn an_id_is_free_when_both_sides_are_done_with_it() {
        let mut pending = Pending::with_slots(2);
        let [given_up, answered] = [1, 2].map(|seconds| ask(&mut pending, seconds));
        pending.give_up(given_up);
        pending.answer(answered, frame(1));
        assert!(pending.is_full());
        assert!(
            pending
                .answer(given_up, frame(1))
                .is_some_and(|of| of.waker.is_none())
        );
        ask(&mut pending, 1);
        assert!(pending.is_full());
        pending.give_up(answered);
        assert!(!pending.is_full());
    }

    #[test]
    fn what_is_overdue_is_told_once_and_keeps_its_id() {
        let mut pending = Pending::new();
        let (overdue, later) = (ask(&mut pending, 10), ask(&mut pending, 20));
        let (now, mut wake) = (Instant::now(), Vec::new());
        assert!(pending.give_up_overdue(now, &mut wake).next.is_some());
        assert!(wake.is_empty());
        let times = pending.give_up_overdue(now + Duration::from_secs(15), &mut wake);
        assert!(
            times
                .next
                .is_some_and(|next| next > now + Duration::from_secs(15))
        );
        assert_eq!(wake.len(), 1);
        assert!(take(&mut pending, later).is_none());
        assert!(matches!(take(&mut pending, overdue), Some(Answer::Overdue)));
        assert!(
            pending.answer(overdue, frame(1)).is_some(),
            "its reply was still to come"
        );
    }

    #[test]
    fn an_answer_that_comes_before_its_caller_has_looked_is_in_time() {
        let mut pending = Pending::new();
        let id = ask(&mut pending, 1);
        pending.give_up_overdue(Instant::now() + Duration::from_secs(2), &mut Vec::new());
        pending.answer(id, frame(1)).expect("is under way");
        assert!(matches!(take(&mut pending, id), Some(Answer::Frame(_))));
    }

    #[test]
    fn whoever_waits_in_the_place_of_a_caller_gets_the_answer() {
        let mut pending = Pending::new();
        let [overdue, given_up, answered] = [1, 9, 9].map(|seconds| ask(&mut pending, seconds));
        pending.give_up_overdue(Instant::now() + Duration::from_secs(2), &mut Vec::new());
        assert!(matches!(take(&mut pending, overdue), Some(Answer::Overdue)));
        pending.give_up(given_up);
        pending.answer(answered, frame(3)).expect("is under way");
        for (id, byte) in [(overdue, 1), (given_up, 2), (answered, 3)] {
            assert!(pending.pass_on(id, Duration::from_secs(5)).is_some());
            if byte != 3 {
                pending.answer(id, frame(byte)).expect("is under way");
            }
            assert!(is_frame(take(&mut pending, id), byte));
            assert_eq!(pending.pass_on(id, Duration::from_secs(5)), None);
        }
    }

    #[test]
    fn more_time_is_for_those_of_one_moment_without_a_deadline() {
        let mut pending = Pending::new();
        let request = under_way(10);
        let others = UnderWay {
            sent_at: request.sent_at - Duration::from_secs(1),
            ..request
        };
        let named = UnderWay {
            is_deadline: true,
            ..request
        };
        let [prolonged, ..] =
            [request, others, named].map(|request| pending.insert(request, Waker::noop().clone()));
        pending.prolong(request.sent_at, Duration::from_secs(10));
        let (now, mut wake) = (request.sent_at, Vec::new());
        let times = pending.give_up_overdue(now + Duration::from_secs(15), &mut wake);
        let next = Some(now + Duration::from_secs(20));
        assert_eq!((wake.len(), times.next), (2, next));
        assert!(take(&mut pending, prolonged).is_none());
    }

    #[test]
    fn the_end_answers_what_is_under_way_and_leaves_what_was_answered() {
        let mut pending = Pending::new();
        let ids = [1, 2, 3].map(|seconds| ask(&mut pending, seconds));
        pending.answer(ids[0], frame(7));
        pending.give_up(ids[1]);
        let mut wake = Vec::new();
        pending.end(|request| frame(request.end_offset as u8), &mut wake);
        assert_eq!(wake.len(), 1);
        assert!(pending.is_answered());
        for (id, expected) in [(ids[0], 7), (ids[2], 3)] {
            assert!(is_frame(take(&mut pending, id), expected));
        }
        assert!(pending.answer(ids[1], frame(1)).is_none());
    }
}
