//! The tape: every store to an arena, in the order of the program, with marks where operations begin
//! and where they are answered.
//!
//! A process that dies has made the stores up to some place of the tape. So the memory that it leaves
//! behind is the image at the beginning with those stores made, and every place of every tape is a
//! crash point. Stores that lie in one 8-byte word are one store: a processor makes them at once, or
//! they are plain bytes of an item that nobody can see yet.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::arena::Arena;
use crate::turns;

/// What happened at a place of the tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The operation of this number began.
    Begun(usize),
    /// It was answered: from here on its caller relies on it.
    Answered(usize),
    /// The word at this offset got this value.
    Store { at: u64, value: u64 },
}

/// Records what the threads that [listen](Recorder::listen) store to one arena.
pub(crate) struct Recorder {
    arena: Arena,
    tape: Mutex<Tape>,
}

struct Tape {
    events: Vec<Event>,
    /// The memory as the tape has it.
    image: Vec<u64>,
    /// Words that were lent to be written, as numbers: the first, and the one behind the last.
    lent: Vec<(usize, usize)>,
}

thread_local! {
    static OWN: RefCell<Option<Arc<Recorder>>> = const { RefCell::new(None) };
}

/// This thread's stores are recorded until this is dropped.
pub(crate) struct Listening(());

impl Drop for Listening {
    fn drop(&mut self) {
        OWN.set(None);
    }
}

impl Recorder {
    /// Begins with the arena as it is.
    pub(crate) fn of(arena: &Arena) -> Arc<Self> {
        Arc::new(Self {
            tape: Mutex::new(Tape {
                events: Vec::new(),
                image: arena.image(),
                lent: Vec::new(),
            }),
            arena: arena.again(),
        })
    }

    /// Records the stores of this thread.
    pub(crate) fn listen(self: &Arc<Self>) -> Listening {
        OWN.set(Some(Arc::clone(self)));
        Listening(())
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mark(&self, mark: Event) {
        let mut tape = self.tape();
        tape.settle_lent(&self.arena);
        tape.events.push(mark);
    }

    /// The tape, whole.
    ///
    /// # Panics
    ///
    /// If anything was stored past it.
    pub(crate) fn take(&self) -> Vec<Event> {
        let mut tape = self.tape();
        tape.settle_lent(&self.arena);
        assert!(
            tape.image == self.arena.image(),
            "something was stored that the tape does not know of"
        );
        std::mem::take(&mut tape.events)
    }
}

impl Tape {
    fn push(&mut self, at: u64, value: u64) {
        self.image[(at / 8) as usize] = value;
        self.events.push(Event::Store { at, value });
    }

    /// Records what was written to the words that were lent.
    fn settle_lent(&mut self, arena: &Arena) {
        if self.lent.is_empty() {
            return;
        }
        let now = arena.image();
        for (first, end) in std::mem::take(&mut self.lent) {
            for (at, &word) in now.iter().enumerate().take(end).skip(first) {
                if word != self.image[at] {
                    self.push(at as u64 * 8, word);
                }
            }
        }
    }
}

fn with_own(address: usize, record: impl FnOnce(&Recorder, &mut Tape, usize)) -> bool {
    OWN.with_borrow(|own| {
        let Some(recorder) = own else { return false };
        let offset = address.wrapping_sub(recorder.arena.address());
        if offset as u64 >= recorder.arena.bytes() {
            return false;
        }
        record(recorder, &mut recorder.tape(), offset);
        true
    })
}

/// Tells that the word at this address was stored to.
pub(crate) fn stored(address: usize, value: u64) {
    let recorded = with_own(address, |recorder, tape, offset| {
        tape.settle_lent(&recorder.arena);
        tape.push(offset as u64, value);
    });
    if recorded {
        turns::note_store();
    }
}

/// Tells that the bytes at this address are about to be written.
pub(crate) fn lent(address: usize, bytes: usize) {
    with_own(address, |recorder, tape, offset| {
        tape.settle_lent(&recorder.arena);
        tape.lent.push((offset / 8, (offset + bytes).div_ceil(8)));
    });
}
