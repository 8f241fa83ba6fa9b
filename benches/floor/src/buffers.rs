//! The buffers that the kernel receives into: it takes one where bytes have come, so that a connection
//! that says nothing holds none. They are handed over in a ring that both sides see, and come back with
//! the completion that names them.
//!
//! The ring of completions is one of deferred work: the kernel takes a buffer and writes into it only
//! inside a call of the one thread that has the ring, never beside it.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The group that a receiving operation names to have these.
pub(crate) const GROUP: u16 = 0;

/// LIMIT: buffers; where they are used up, a receiving operation ends and is begun again.
const BUFFERS: u16 = 64;

/// LIMIT: bytes received at a time.
const BUFFER_BYTES: u32 = 4096;

/// What is handed over; the kernel wants it at the beginning of a page.
#[repr(C, align(4096))]
struct Entries([BufRingEntry; BUFFERS as usize]);

pub(crate) struct Buffers {
    entries: Box<Entries>,
    memory: Vec<u8>,
    /// Handed over so far, round and round.
    tail: u16,
}

impl Buffers {
    /// All of them, the kernel's.
    ///
    /// # Safety
    /// They must outlive the ring.
    pub(crate) unsafe fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        // SAFETY: an entry is numbers, of which zero is one.
        let entries = unsafe { Box::new(MaybeUninit::<Entries>::zeroed().assume_init()) };
        let mut buffers = Self {
            entries,
            memory: vec![0; usize::from(BUFFERS) * BUFFER_BYTES as usize],
            tail: 0,
        };
        let at = (&raw mut *buffers.entries) as u64;
        // SAFETY: the entries are a page of their own with room for as many, and neither they nor the
        // memory move while the ring is there.
        unsafe { submitter.register_buf_ring_with_flags(at, BUFFERS, GROUP, 0)? };
        for buffer in 0..BUFFERS {
            buffers.give_back(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The first bytes of a buffer that a completion has named.
    pub(crate) fn received(&self, buffer: u16, bytes: usize) -> &[u8] {
        let at = usize::from(buffer) * BUFFER_BYTES as usize;
        &self.memory[at..][..bytes.min(BUFFER_BYTES as usize)]
    }

    /// Hands a buffer over again; the kernel knows of it once that is published.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        let at = usize::from(buffer) * BUFFER_BYTES as usize;
        let entry = &mut self.entries.0[usize::from(self.tail % BUFFERS)];
        entry.set_addr(self.memory[at..].as_mut_ptr() as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Tells the kernel of all that was handed over.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the entries are the base of the ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.0.as_mut_ptr()) }.cast_mut();
        // SAFETY: the tail lies in a part of the first entry that nothing else uses, aligned.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        // ORDERING: the kernel reads the tail with acquire, and then the entries before it.
        tail.store(self.tail, Ordering::Release);
    }
}
