//! The board: figures as text, rewritten now and then by one thread of the server, so that they can
//! be shown when it does not answer any more.

use super::layout::BOARD_AT;
use super::sequence::{Sequence, fitting, text_words, words_text};
use crate::arena::Arena;
use crate::shape::BOARD_BYTES;

const BOARD: Sequence = Sequence { at: BOARD_AT };
/// The time and the length come before the text.
const TIME: usize = 0;
const LENGTH: usize = 1;
const TEXT: usize = 2;

/// A text, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// When it was written, by the monotonic clock; 0: never.
    pub time_ns: u64,
    /// Lines of `name=value`.
    pub text: String,
    /// Whether it is of two times.
    pub is_torn: bool,
}

impl Board {
    /// The figures, by name.
    pub fn figures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once('='))
    }
}

/// Writes as many of the lines as fit. Only the box's thread calls this.
pub(super) fn write(arena: &Arena, time_ns: u64, text: &str) {
    let mut text = fitting(text, BOARD_BYTES as usize);
    if text.len() as u64 == BOARD_BYTES {
        // A line that is cut off would be another figure.
        text = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    }
    let head = [time_ns, text.len() as u64];
    BOARD.write(arena, head.into_iter().chain(text_words(text.as_bytes())));
}

pub(super) fn read(arena: &Arena) -> Board {
    let read = BOARD.read(arena, || {
        let bytes = BOARD.word(arena, LENGTH).min(BOARD_BYTES) as usize;
        let words = (0..bytes.div_ceil(8)).map(|place| BOARD.word(arena, TEXT + place));
        (BOARD.word(arena, TIME), words_text(words, bytes))
    });
    let (time_ns, text) = read.value;
    Board {
        time_ns,
        text,
        is_torn: read.is_torn,
    }
}
