//! The memory that a server process has beside its cache, as the system counts it.
//!
//! What connections hold is charged to one [budget](super::buffers), for all workers together. The C library's
//! allocator, however, gives each thread a heap of its own, and where something small still lies behind what was
//! freed, a heap keeps it for its own thread: workers that hold the budget one after the other would come to keep
//! it once each. With one heap for all, what one frees is there for the next. Threads hardly ever meet there: a
//! small request allocates nothing, and what is small has a cache for each thread in front of it.

/// Has all threads that are still to begin allocate from one heap. To be called before there are any.
pub(crate) fn share_one_heap() {
    // Elsewhere there is one heap, or nothing to be said about it.
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it changes a number of the allocator's, under the allocator's own lock.
        let is_heard = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        debug_assert_eq!(is_heard, 1);
    }
}
