//! Memory of this process's own that is wanted for a while, and reached in no order.
//!
//! In pages of the usual size each access would wait for the page's address as well as for the bytes, and
//! each page would come into being by itself. So it is asked for in huge pages; where there are none, it
//! comes in others.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::HUGE_PAGE_BYTES;
use crate::sync::AtomicU64;

/// Words that are zero at first.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// INVARIANT: the start of a mapping of `bytes` bytes that is this value's alone, until drop.
    start: NonNull<AtomicU64>,
    bytes: usize,
    /// INVARIANT: no more than have room in the mapping.
    words: usize,
}

// SAFETY: the mapping is no thread's, and is reached as atomics alone.
unsafe impl Send for Scratch {}
// SAFETY: as above.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// So many words. What fills a huge page at least takes whole ones. (There being no memory ends the
    /// process, as for any other allocation.)
    pub(crate) fn zeros(words: usize) -> Self {
        let layout = Layout::array::<AtomicU64>(words.max(1)).expect("as many as fit the memory");
        let huge_page_bytes = HUGE_PAGE_BYTES as usize;
        let is_large = layout.size() >= huge_page_bytes;
        let bytes = match is_large {
            true => layout.size().next_multiple_of(huge_page_bytes),
            false => layout.size(),
        };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                protection,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let start = mapped
            .ok()
            .and_then(|start| NonNull::new(start.cast::<AtomicU64>()));
        let start = start.unwrap_or_else(|| handle_alloc_error(layout));
        if is_large {
            // Where the system knows no huge pages, it refuses.
            // SAFETY: it is the mapping that was just made, and what it holds does not change.
            let _ =
                unsafe { rustix::mm::madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        }
        Self {
            start,
            bytes,
            words,
        }
    }
}

impl Deref for Scratch {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has room for them, begins with a page, and was all zero.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: mapped in `zeros` with this length, and nothing borrows it any more.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;
    use crate::sync::Ordering;

    #[test]
    fn words_are_zero_and_keep_what_they_are_given() {
        for words in [0, 1, 511, 513, (2 << 20) / 8, (5 << 20) / 8 + 1] {
            let scratch = Scratch::zeros(words);
            assert_eq!(scratch.len(), words);
            let is_zero = |word: &crate::sync::AtomicU64| word.load(Ordering::Relaxed) == 0;
            assert!(scratch.iter().all(is_zero));
            (0..)
                .zip(scratch.iter())
                .for_each(|(n, word)| word.store(n, Ordering::Relaxed));
            let each = (0..).zip(scratch.iter());
            assert!(
                each.into_iter()
                    .all(|(n, word)| word.load(Ordering::Relaxed) == n)
            );
        }
    }
}
