//! The room on a connection: how many requests may be under way, and who waits for a place.
//!
//! First come, first served: whoever comes while others wait stands behind them, so that a request of
//! many places is not overtaken for ever by those of one. Each that waits has a ticket, and comes back
//! with it when it was woken.

use std::collections::BTreeMap;
use std::task::{Context, Waker};

use tokio::time::Instant;

/// The places of a connection.
#[derive(Debug)]
pub(crate) struct Room {
    free: u32,
    next_ticket: u64,
    queue: BTreeMap<u64, Queued>,
    /// All that wait have this ticket or a later one.
    waiting_from: u64,
    /// How many wait.
    waiting: usize,
}

#[derive(Debug)]
struct Queued {
    places: u32,
    give_up_at: Instant,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    Waits(Waker),
    /// The places are its own.
    Admitted,
    Overdue,
}

/// What has become of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is not its turn.
    NotYet,
    /// It has its places, and the ticket is used up.
    Now,
    /// Its time was over before, and the ticket is used up.
    Missed,
    /// There are no more turns.
    Never,
}

impl Room {
    pub(crate) fn new(places: u32) -> Self {
        Self {
            free: places,
            next_ticket: 0,
            queue: BTreeMap::new(),
            waiting_from: 0,
            waiting: 0,
        }
    }

    /// The places of the next connection; tickets of the one before are of no use here.
    pub(crate) fn reopen(&mut self, places: u32) {
        self.free = places;
    }

    /// How many places nobody has.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// Takes places, where there are so many and nobody waits for them.
    pub(crate) fn take(&mut self, places: u32) -> bool {
        let is_there = self.waiting == 0 && places <= self.free;
        if is_there {
            self.free -= places;
        }
        is_there
    }

    /// Stands in the queue for places.
    pub(crate) fn queue(&mut self, places: u32, give_up_at: Instant, waker: Waker) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let queued = Queued {
            places,
            give_up_at,
            standing: Standing::Waits(waker),
        };
        self.queue.insert(ticket, queued);
        self.waiting += 1;
        ticket
    }

    /// Asks whether it is a ticket's turn; where it is not yet, the task is woken when it is.
    pub(crate) fn ask(&mut self, ticket: u64, context: &Context<'_>) -> Turn {
        let Some(queued) = self.queue.get_mut(&ticket) else {
            return Turn::Never;
        };
        let turn = match &mut queued.standing {
            Standing::Waits(waker) => {
                waker.clone_from(context.waker());
                return Turn::NotYet;
            }
            Standing::Admitted => Turn::Now,
            Standing::Overdue => Turn::Missed,
        };
        self.queue.remove(&ticket);
        turn
    }

    /// Leaves the queue, and gives the places back that it may have got there.
    pub(crate) fn leave(&mut self, ticket: u64, wake: &mut Vec<Waker>) {
        if let Some(Queued {
            places, standing, ..
        }) = self.queue.remove(&ticket)
        {
            match standing {
                Standing::Waits(_) => self.waiting -= 1,
                Standing::Admitted => self.free += places,
                Standing::Overdue => {}
            }
            self.admit(wake);
        }
    }

    /// Gives places back, and adds whom to wake since it has got them.
    #[inline]
    pub(crate) fn give_back(&mut self, places: u32, wake: &mut Vec<Waker>) {
        self.free += places;
        if self.waiting > 0 {
            self.admit(wake);
        }
    }

    /// Gives places back for which nobody has a use at this moment.
    pub(crate) fn put_back(&mut self, places: u32) {
        self.free += places;
    }

    /// Admits the first in the queue for as long as there are places for them.
    fn admit(&mut self, wake: &mut Vec<Waker>) {
        while self.waiting > 0 {
            let mut from = self.queue.range_mut(self.waiting_from..);
            let first = from.find(|(_, queued)| matches!(queued.standing, Standing::Waits(_)));
            let Some((&ticket, queued)) = first else {
                return;
            };
            self.waiting_from = ticket;
            if queued.places > self.free {
                return;
            }
            self.free -= queued.places;
            self.waiting -= 1;
            self.waiting_from = ticket + 1;
            if let Standing::Waits(waker) =
                std::mem::replace(&mut queued.standing, Standing::Admitted)
            {
                wake.push(waker);
            }
        }
    }

    /// Gives up those whose time is over, adds whom to wake, and says when that of another is.
    pub(crate) fn give_up_overdue(
        &mut self,
        now: Instant,
        wake: &mut Vec<Waker>,
    ) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        let mut next = None::<Instant>;
        for queued in self.queue.values_mut() {
            if !matches!(queued.standing, Standing::Waits(_)) {
                continue;
            }
            if queued.give_up_at > now {
                next = Some(next.map_or(queued.give_up_at, |next| next.min(queued.give_up_at)));
            } else if let Standing::Waits(waker) =
                std::mem::replace(&mut queued.standing, Standing::Overdue)
            {
                self.waiting -= 1;
                wake.push(waker);
            }
        }
        // The first may have stood in the way of others.
        self.admit(wake);
        next
    }

    /// Sends all away that wait.
    pub(crate) fn close(&mut self, wake: &mut Vec<Waker>) {
        for queued in std::mem::take(&mut self.queue).into_values() {
            if let Standing::Waits(waker) = queued.standing {
                wake.push(waker);
            }
        }
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Room, Turn};

    fn queue(room: &mut Room, places: u32) -> u64 {
        let give_up_at = Instant::now() + Duration::from_secs(10);
        room.queue(places, give_up_at, Waker::noop().clone())
    }

    fn turns<const N: usize>(room: &mut Room, tickets: [u64; N]) -> [Turn; N] {
        tickets.map(|ticket| room.ask(ticket, &Context::from_waker(Waker::noop())))
    }

    #[test]
    fn whoever_comes_later_does_not_overtake() {
        let (mut room, mut wake) = (Room::new(3), Vec::new());
        assert!(room.take(2));
        let (large, small) = (queue(&mut room, 2), queue(&mut room, 1));
        assert!(!room.take(1), "others wait");
        assert_eq!(turns(&mut room, [large, small]), [Turn::NotYet; 2]);
        room.give_back(2, &mut wake);
        assert_eq!((wake.len(), room.free()), (2, 0));
        assert_eq!(turns(&mut room, [large, small]), [Turn::Now; 2]);
        assert_eq!(
            turns(&mut room, [large]),
            [Turn::Never],
            "a ticket is used once"
        );
        room.give_back(3, &mut wake);
        assert!(room.take(3));
    }

    #[test]
    fn who_leaves_lets_others_in() {
        let (mut room, mut wake) = (Room::new(2), Vec::new());
        assert!(room.take(1));
        let (large, small) = (queue(&mut room, 2), queue(&mut room, 1));
        room.leave(large, &mut wake);
        assert_eq!(wake.len(), 1);
        room.leave(small, &mut wake);
        assert_eq!(room.free(), 1, "it left with a place that it had got");
        room.leave(small, &mut wake);
        assert_eq!(room.free(), 1);
    }

    #[test]
    fn who_has_waited_too_long_is_told_and_lets_others_in() {
        let (mut room, mut wake) = (Room::new(1), Vec::new());
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(5));
        let large = room.queue(2, soon, Waker::noop().clone());
        let small = room.queue(1, later, Waker::noop().clone());
        assert_eq!(room.give_up_overdue(now, &mut wake), Some(soon));
        let next = room.give_up_overdue(soon, &mut wake);
        assert_eq!((next, wake.len()), (Some(later), 2));
        assert_eq!(turns(&mut room, [large, small]), [Turn::Missed, Turn::Now]);
        assert_eq!(room.give_up_overdue(later, &mut wake), None);
    }

    #[test]
    fn the_end_of_turns_is_told_to_all() {
        let (mut room, mut wake) = (Room::new(1), Vec::new());
        assert!(room.take(1));
        let tickets = [queue(&mut room, 1), queue(&mut room, 1)];
        room.close(&mut wake);
        assert_eq!(wake.len(), 2);
        assert_eq!(turns(&mut room, tickets), [Turn::Never; 2]);
        room.leave(tickets[0], &mut wake);
        assert_eq!(room.free(), 0);
    }
}
