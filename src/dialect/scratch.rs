//! Room for the few bytes that a parser has to write down, since they do not lie in the input as they
//! are meant: keys that come encoded.

use bumpalo::Bump;

/// Bytes that last until the batch that they belong to is done. Unused, it owns no memory.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Bump);

impl Scratch {
    /// Keeps a copy.
    pub(crate) fn keep(&self, bytes: &[u8]) -> &[u8] {
        self.0.alloc_slice_copy(bytes)
    }

    /// Keeps one thing.
    pub(crate) fn keep_one<T: Copy>(&self, one: T) -> &T {
        self.0.alloc(one)
    }

    /// Forgets everything; the memory is used again.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }
}
