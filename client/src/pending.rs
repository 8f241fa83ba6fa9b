//! The requests of a connection that are not answered yet.
//!
//! A slot keeps a request until its reply comes, even if nobody waits for the reply any more. An id
//! is therefore free only when the server is done with it, and a late reply can never be taken for
//! another's.

use larder_protocol::Status;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Cause;
use crate::reply::Reply;

/// LIMIT: an id is 16 bits of slot and 16 bits that tell the slot's tenants apart.
pub(crate) const IN_FLIGHT_CEILING: u32 = 1 << 16;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The server answered.
    Reply(Reply),
    /// The server answered with a status that is not OK.
    Failed {
        /// The status.
        status: Status,
        /// The server's sentence.
        message: String,
    },
    /// The connection ended, and the request is known not to have been executed.
    NotExecuted(Cause),
    /// The connection ended, and it is not known whether the request was executed.
    Unknown(Cause),
    /// The time for it is over.
    Overdue,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Where its frame ends, in bytes since the connection began.
    pub(crate) end_offset: u64,
    pub(crate) sent_at: Instant,
    pub(crate) give_up_at: Instant,
    /// `None` once it was given up.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
    /// What it holds of the room on its connection; to be given back with the slot.
    pub(crate) places: u32,
}

impl Waiting {
    /// Says how it ended, unless it was given up before.
    pub(crate) fn tell(mut self, answer: Answer) {
        if let Some(told) = self.answer.take() {
            // Whoever dropped its future has dropped the other end.
            let _ = told.send(answer);
        }
    }
}

#[derive(Debug)]
struct Slot {
    tenants: u16,
    waiting: Option<Waiting>,
}

/// All requests under way on a connection, by id.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    slots: Vec<Slot>,
    // INVARIANT: the indices of exactly the slots without a tenant.
    free: Vec<u16>,
}

impl Pending {
    /// Gives a request an id. The room on the connection bounds how many there are.
    pub(crate) fn insert(&mut self, waiting: Waiting) -> u32 {
        let index = match self.free.pop() {
            Some(index) => usize::from(index),
            None => {
                self.slots.push(Slot {
                    tenants: 0,
                    waiting: None,
                });
                self.slots.len() - 1
            }
        };
        debug_assert!(index < IN_FLIGHT_CEILING as usize);
        let slot = &mut self.slots[index];
        slot.tenants = slot.tenants.wrapping_add(1);
        slot.waiting = Some(waiting);
        u32::from(slot.tenants) << 16 | index as u32
    }

    /// Takes the request with this id out, if it is under way.
    pub(crate) fn remove(&mut self, id: u32) -> Option<Waiting> {
        let slot = self.slots.get_mut((id & 0xffff) as usize)?;
        if u32::from(slot.tenants) != id >> 16 {
            return None;
        }
        let waiting = slot.waiting.take()?;
        self.free.push(id as u16);
        Some(waiting)
    }

    /// Gives up requests whose time is over, and says when that of another is. Their slots are kept
    /// until the server is done with them.
    pub(crate) fn give_up_overdue(&mut self, now: Instant) -> Option<Instant> {
        let mut next = None::<Instant>;
        for waiting in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.waiting.as_mut())
        {
            if waiting.answer.is_none() {
                continue;
            }
            if waiting.give_up_at > now {
                let sooner = next.is_none_or(|next| waiting.give_up_at < next);
                next = if sooner {
                    Some(waiting.give_up_at)
                } else {
                    next
                };
            } else if let Some(answer) = waiting.answer.take() {
                let _ = answer.send(Answer::Overdue);
            }
        }
        next
    }

    /// Takes all requests out.
    pub(crate) fn take_all(&mut self) -> Vec<Waiting> {
        self.free.clear();
        self.slots
            .drain(..)
            .filter_map(|slot| slot.waiting)
            .collect()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::{Answer, Pending, Waiting};

    fn waiting(end_offset: u64) -> Waiting {
        Waiting {
            end_offset,
            sent_at: Instant::now(),
            give_up_at: Instant::now() + Duration::from_secs(end_offset),
            answer: Some(oneshot::channel().0),
            places: 1,
        }
    }

    #[test]
    fn a_request_is_found_by_its_id_and_only_once() {
        let mut pending = Pending::default();
        let [first, second] = [1, 2].map(|offset| pending.insert(waiting(offset)));
        assert_eq!(
            pending.remove(second).map(|waiting| waiting.end_offset),
            Some(2)
        );
        assert!(pending.remove(second).is_none());
        assert!(!pending.is_empty());
        assert_eq!(
            pending.remove(first).map(|waiting| waiting.end_offset),
            Some(1)
        );
        assert!(pending.is_empty());
    }

    #[test]
    fn a_slot_used_again_does_not_answer_to_its_old_id() {
        let mut pending = Pending::default();
        let old = pending.insert(waiting(1));
        pending.remove(old);
        let new = pending.insert(waiting(2));
        assert_ne!(old, new);
        assert!(pending.remove(old).is_none());
        assert_eq!(pending.take_all().len(), 1);
        assert!(pending.remove(new).is_none());
    }

    #[test]
    fn what_is_overdue_is_told_once_and_keeps_its_id() {
        let mut pending = Pending::default();
        let (answer, mut answered) = oneshot::channel();
        let overdue = pending.insert(Waiting {
            answer: Some(answer),
            ..waiting(10)
        });
        let later = waiting(20);
        let later_at = later.give_up_at;
        pending.insert(later);
        let now = Instant::now();
        assert!(
            pending
                .give_up_overdue(now)
                .is_some_and(|next| next < later_at)
        );
        assert!(answered.try_recv().is_err());
        let next = pending.give_up_overdue(now + Duration::from_secs(15));
        assert_eq!(next, Some(later_at));
        assert!(matches!(answered.try_recv(), Ok(Answer::Overdue)));
        assert!(
            pending.remove(overdue).is_some(),
            "its reply is still to come"
        );
    }
}
