//! Words that belong together, written by one thread while others read: a count that is odd while
//! they change.
//!
//! A reader tries again where they changed meanwhile, some times and not for ever: the writer may
//! have died in the middle. Then it is given what is there, and told that it is torn.

use crate::arena::Arena;
use crate::shape::READ_ATTEMPTS;
use crate::sync::{Ordering, relax};

/// The place of a count, and of words behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    pub(super) at: u64,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole<T> {
    pub(super) value: T,
    /// Whether it changed all the time that it was read, or never came to an end of changing.
    pub(super) is_torn: bool,
}

impl Sequence {
    /// Writes the words that come behind the count. Only the box's thread calls this.
    pub(super) fn write(self, arena: &Arena, words: impl IntoIterator<Item = u64>) {
        let count = arena.word(self.at);
        // Of a count that a death has left odd, the next odd one.
        let begun = count.load(Ordering::Relaxed).wrapping_add(1) | 1;
        // ORDERING: Relaxed; it is the Release of each word that carries it to who reads the word.
        count.store(begun, Ordering::Relaxed);
        for (place, word) in (1..).zip(words) {
            // ORDERING: Release, for the count: see above.
            arena
                .word(self.at + place * 8)
                .store(word, Ordering::Release);
        }
        // ORDERING: Release pairs with the Acquire in `read`: who sees the end sees the words.
        count.store(begun.wrapping_add(1), Ordering::Release);
    }

    /// What `read` makes of the words; it must load them by [`Sequence::word`].
    pub(super) fn read<T>(self, arena: &Arena, mut read: impl FnMut() -> T) -> Whole<T> {
        let count = arena.word(self.at);
        for attempt in 0..READ_ATTEMPTS {
            // ORDERING: Acquire pairs with the Release at the end of `write`.
            let before = count.load(Ordering::Acquire);
            if before & 1 == 0 {
                let value = read();
                // ORDERING: Relaxed; the Acquire of each word has brought the count along.
                if count.load(Ordering::Relaxed) == before {
                    let is_torn = false;
                    return Whole { value, is_torn };
                }
            }
            relax(attempt);
        }
        let (value, is_torn) = (read(), true);
        Whole { value, is_torn }
    }

    /// One of the words, the first being 0.
    pub(super) fn word(self, arena: &Arena, place: usize) -> u64 {
        // ORDERING: Acquire pairs with the Release of the word: who sees it sees that the change that
        // it is of has begun.
        arena
            .word(self.at + 8 + place as u64 * 8)
            .load(Ordering::Acquire)
    }

    /// `N` of the words.
    pub(super) fn words<const N: usize>(self, arena: &Arena) -> Whole<[u64; N]> {
        self.read(arena, || {
            std::array::from_fn(|place| self.word(arena, place))
        })
    }
}

/// A text as words, the last filled up with zeros.
pub(super) fn text_words(text: &[u8]) -> impl Iterator<Item = u64> {
    text.chunks(8).map(|chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(bytes)
    })
}

/// The text that words were, of so many bytes. What is no text in it is replaced.
pub(super) fn words_text(words: impl IntoIterator<Item = u64>, bytes: usize) -> String {
    let mut text: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    text.truncate(bytes);
    String::from_utf8_lossy(&text).into_owned()
}

/// As much of a text as fits, up to the end of a character.
pub(super) fn fitting(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
