//! The descriptors that the supervisor keeps for its workers: sockets and memory, and what the last
//! worker's threads did.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::handover::{BLACK_BOX, MEMORY, name_of};
use super::post::Note;
use crate::server::Entrance;

/// LIMIT: descriptors that workers may leave here; a worker has one for each of its threads.
const DESCRIPTORS_MAX: usize = 2048;

/// What is kept.
#[derive(Debug)]
pub(super) struct Kept {
    entrances: Vec<Entrance>,
    left: BTreeMap<String, OwnedFd>,
    /// What there was before a program that has to prove itself.
    memory_before: Option<OwnedFd>,
}

impl Kept {
    pub(super) fn new(entrances: Vec<Entrance>) -> Self {
        Self {
            entrances,
            left: BTreeMap::new(),
            memory_before: None,
        }
    }

    /// The sockets that workers serve.
    pub(super) fn entrances(&self) -> &[Entrance] {
        &self.entrances
    }

    /// Does with descriptors what a note says.
    pub(super) fn take(&mut self, note: &mut Note) {
        let Some(name) = note.name.take() else { return };
        if note.forget {
            self.left.remove(&name);
        }
        for descriptor in note.descriptors.drain(..) {
            let has_room = self.left.len() < DESCRIPTORS_MAX || self.left.contains_key(&name);
            if note.keep && has_room {
                self.left.insert(name.clone(), descriptor);
            }
        }
    }

    /// What is handed to the next worker, by name.
    pub(super) fn handed(&self) -> Vec<(&str, BorrowedFd<'_>)> {
        let entrances = self.entrances.iter();
        let sockets = entrances.map(|entrance| (name_of(entrance), entrance.socket.as_fd()));
        sockets.chain(self.memory()).collect()
    }

    /// The memory, by its name.
    pub(super) fn memory(&self) -> Option<(&str, BorrowedFd<'_>)> {
        let memory = self.left.get(MEMORY)?;
        Some((MEMORY, memory.as_fd()))
    }

    /// The black boxes of the last worker's threads, by the names of these.
    pub(super) fn black_boxes(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        let left = self.left.iter();
        left.filter_map(|(name, memory)| Some((name.strip_prefix(BLACK_BOX)?, memory.as_fd())))
    }

    /// The next worker starts cold.
    pub(super) fn drop_memory(&mut self) {
        self.left.remove(MEMORY);
    }

    /// Whether there is one aside, which may be needed again.
    pub(super) fn has_memory_aside(&self) -> bool {
        self.memory_before.is_some()
    }

    /// Puts the memory aside, so that what a new program leaves does not replace it for good.
    pub(super) fn put_memory_aside(&mut self) {
        let memory = self.left.get(MEMORY).map(OwnedFd::try_clone);
        self.memory_before = memory.and_then(Result::ok);
    }

    /// The new program proved itself: what it left counts.
    pub(super) fn let_go_of_memory_aside(&mut self) {
        self.memory_before = None;
    }

    /// The new program did not: what there was before counts.
    pub(super) fn take_memory_back(&mut self) {
        if let Some(memory) = self.memory_before.take() {
            self.left.insert(MEMORY.to_owned(), memory);
        }
    }
}
