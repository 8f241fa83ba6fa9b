//! The queues of sealed segments, one for each log, in the order in which eviction takes them.
//!
//! Doubly linked by segment number, so that a segment leaves from anywhere in the queue and another
//! can take its place. Everything here is behind the lock of the lists.

use crate::engine::log::segment::Log;

const NONE: u32 = u32::MAX;

/// Both queues.
#[derive(Debug)]
pub(crate) struct Queues {
    ends: [Ends; 2],
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
    /// The queue that the segment is in.
    log: Option<Log>,
}

impl Queues {
    pub(crate) fn new(segments: u32) -> Self {
        let unlinked = Link {
            older: NONE,
            newer: NONE,
            log: None,
        };
        let empty = Ends {
            oldest: NONE,
            newest: NONE,
        };
        Self {
            ends: [empty; 2],
            links: vec![unlinked; segments as usize],
        }
    }

    /// Whether the segment is in a queue.
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.links[id as usize].log.is_some()
    }

    /// The segments of a log, the oldest first.
    pub(crate) fn oldest_first(&self, log: Log) -> impl Iterator<Item = u32> {
        let mut next = self.ends[log as usize].oldest;
        std::iter::from_fn(move || {
            let id = (next != NONE).then_some(next)?;
            next = self.links[id as usize].newer;
            Some(id)
        })
    }

    /// Puts a segment behind the newest.
    pub(crate) fn push(&mut self, log: Log, id: u32) {
        let older = self.ends[log as usize].newest;
        self.link(log, id, older, NONE);
    }

    /// Puts a segment before the oldest.
    pub(crate) fn push_oldest(&mut self, log: Log, id: u32) {
        let newer = self.ends[log as usize].oldest;
        self.link(log, id, NONE, newer);
    }

    /// Puts a segment before another one of the same log: it will be taken just before it.
    pub(crate) fn insert_before(&mut self, id: u32, place: u32) {
        let Link { older, log, .. } = self.links[place as usize];
        let log = log.expect("the place is in a queue");
        self.link(log, id, older, place);
    }

    /// Takes a segment out of its queue, if it is in one.
    pub(crate) fn unlink(&mut self, id: u32) {
        let link = self.links[id as usize];
        let Some(log) = link.log else {
            return;
        };
        self.links[id as usize].log = None;
        self.join(log, link.older, link.newer);
    }

    fn link(&mut self, log: Log, id: u32, older: u32, newer: u32) {
        debug_assert!(!self.contains(id), "in a queue twice");
        self.links[id as usize] = Link {
            older,
            newer,
            log: Some(log),
        };
        match older {
            NONE => self.ends[log as usize].oldest = id,
            _ => self.links[older as usize].newer = id,
        }
        match newer {
            NONE => self.ends[log as usize].newest = id,
            _ => self.links[newer as usize].older = id,
        }
    }

    fn join(&mut self, log: Log, older: u32, newer: u32) {
        match older {
            NONE => self.ends[log as usize].oldest = newer,
            _ => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.ends[log as usize].newest = older,
            _ => self.links[newer as usize].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Queues;
    use crate::engine::log::segment::Log;

    fn order(queues: &Queues, log: Log) -> Vec<u32> {
        queues.oldest_first(log).collect()
    }

    #[test]
    fn segments_leave_from_anywhere_and_others_take_their_place() {
        let mut queues = Queues::new(8);
        for id in 0..4 {
            queues.push(Log::Small, id);
        }
        queues.push(Log::Main, 7);
        queues.insert_before(5, 0);
        queues.insert_before(6, 2);
        assert_eq!(order(&queues, Log::Small), [5, 0, 1, 6, 2, 3]);
        queues.unlink(5);
        queues.push_oldest(Log::Small, 5);
        assert_eq!(order(&queues, Log::Small), [5, 0, 1, 6, 2, 3]);
        for id in [5, 6, 3, 3] {
            queues.unlink(id);
        }
        assert_eq!(order(&queues, Log::Small), [0, 1, 2]);
        queues.push(Log::Small, 3);
        assert_eq!(order(&queues, Log::Small), [0, 1, 2, 3]);
        assert_eq!(order(&queues, Log::Main), [7]);
        assert!(!queues.contains(5) && queues.contains(7));
    }
}
