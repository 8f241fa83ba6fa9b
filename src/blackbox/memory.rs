//! A box's memory: made, handed over as a descriptor, attached to; and as bytes in a file.

use std::io;

use super::content::{BlackBox, Front};
use super::layout::{BYTES, COUNTERS_AT, COUNTERS_MAX, NAMES_AT};
use super::names::Kind;
use crate::arena::{Arena, BorrowedFd, OwnedFd};
use crate::sync::{Arc, AtomicU64, Ordering};

/// What a box takes of memory at most. Pages that nothing was written to take none.
pub const BOX_BYTES: u64 = BYTES.next_multiple_of(4096);

/// Why memory is no box that can be read.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// The system refused it, or it is no memory of this kind.
    #[error("the black box cannot be mapped: {0}")]
    Memory(#[from] io::Error),
    /// It begins with something else.
    #[error("this is no black box: it does not begin like one")]
    NotABox,
    /// It was made by another version of the program.
    #[error(
        "the black box has layout {found}; accepted: layout {accepted}, which this program reads"
    )]
    Version {
        /// Its layout.
        found: u64,
        /// The layout that can be read.
        accepted: u64,
    },
    /// It ends too early.
    #[error("the black box has {found_bytes} bytes; accepted: at least {accepted_bytes}")]
    TooSmall {
        /// Its length.
        found_bytes: u64,
        /// The length that the layout has.
        accepted_bytes: u64,
    },
}

impl BlackBox {
    /// Makes a box for the thread of this kind and number, which counts what the names say.
    ///
    /// # Errors
    ///
    /// Whatever the system says when it refuses the memory.
    pub fn create(kind: Kind, number: u32, counters: &[&str]) -> io::Result<Self> {
        let arena = Arena::named("larder-black-box", BOX_BYTES)?;
        Ok(Self::new(arena, kind, number, counters))
    }

    /// Attaches to a box that another process made, or another thread.
    ///
    /// # Errors
    ///
    /// If it is none that this program can read, or the system refuses the mapping.
    pub fn attach(memory: OwnedFd) -> Result<Self, BoxError> {
        Self::checked(Arena::attach(memory, NAMES_AT)?)
    }

    /// A box with these bytes, which [`to_bytes`](Self::to_bytes) gave.
    ///
    /// # Errors
    ///
    /// If they are none that this program can read, or the system refuses the memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BoxError> {
        // LIMIT: a box is never larger, and what is no box need not be copied whole.
        let bytes = &bytes[..bytes.len().min(BOX_BYTES as usize)];
        let arena = Arena::named("larder-black-box", (bytes.len() as u64).max(NAMES_AT))?;
        for (at, word) in (0..).step_by(8).zip(bytes.chunks_exact(8)) {
            let word = u64::from_le_bytes(std::array::from_fn(|at| word[at]));
            // ORDERING: Relaxed; nobody else has it yet.
            arena.word(at).store(word, Ordering::Relaxed);
        }
        Self::checked(arena)
    }

    fn checked(arena: Arena) -> Result<Self, BoxError> {
        let front = Front::of(&arena);
        if front.magic != Front::OURS.magic {
            return Err(BoxError::NotABox);
        }
        if front.version != Front::OURS.version {
            return Err(BoxError::Version {
                found: front.version,
                accepted: Front::OURS.version,
            });
        }
        if arena.bytes() < BYTES {
            return Err(BoxError::TooSmall {
                found_bytes: arena.bytes(),
                accepted_bytes: BYTES,
            });
        }
        Ok(Self { arena })
    }

    /// The shared memory, for whoever is to attach to it.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.arena.memory()
    }

    /// What is in it, to be kept in a file. Of a box whose thread goes on, it may be of two moments.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = (0..self.arena.bytes() / 8).map(|place| self.figure(place * 8));
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// The words of the counters.
    #[inline]
    pub(crate) fn counters(&self) -> &[AtomicU64; COUNTERS_MAX] {
        self.arena.words(COUNTERS_AT)
    }
}

/// The boxes of a server's threads.
#[derive(Debug, Clone)]
pub struct Boxes {
    /// One for each worker, in their order.
    pub workers: Vec<Arc<BlackBox>>,
    /// The maintenance thread's.
    pub upkeep: Arc<BlackBox>,
    /// That of the thread that accepts connections.
    pub acceptor: Arc<BlackBox>,
}

impl Boxes {
    /// All of them, each with a name that says whose it is.
    pub fn named(&self) -> impl Iterator<Item = (String, &BlackBox)> {
        let workers = self.workers.iter().enumerate();
        let workers = workers.map(|(number, one)| (format!("worker-{number}"), &**one));
        let others = [("upkeep", &self.upkeep), ("acceptor", &self.acceptor)];
        workers.chain(others.map(|(name, one)| (name.to_owned(), &**one)))
    }
}
