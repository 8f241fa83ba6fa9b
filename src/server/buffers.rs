//! Memory that connections own, all of it drawn from one budget.
//!
//! A connection owns bytes in two cases only: the part of a frame that has arrived, and replies its
//! socket did not take. Both are charged here by capacity, so that whatever thousands of clients
//! send or leave unread, their sum stays under `--buffer-memory`.

use crate::sync::{Arc, AtomicU64, Ordering};

/// LIMIT: below this a buffer is not worth resizing again; it also bounds how many buffers the
/// budget can be split into.
const BUFFER_BYTES_MIN: usize = 512;

/// LIMIT: a begun header costs nothing of the budget, so that a refusal can always name the request;
/// the number of connections bounds these.
const FREE_BYTES_MAX: usize = 32;

/// What all connections of a server may hold together.
#[derive(Debug)]
pub(crate) struct BufferBudget {
    bytes_max: u64,
    held: AtomicU64,
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetSpent;

impl BufferBudget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            held: AtomicU64::new(0),
        }
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        // ORDERING: Relaxed; a figure for people, nothing is read through it.
        self.held.load(Ordering::Relaxed)
    }

    /// Takes all that is left, and says how much that is.
    pub(super) fn take_rest(&self) -> u64 {
        let left = self.bytes_max.saturating_sub(self.held_bytes());
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        self.take(left).map_or(0, |()| left as u64)
    }

    fn take(&self, bytes: usize) -> Result<(), BudgetSpent> {
        let bytes = bytes as u64;
        // ORDERING: Relaxed; the counter guards an amount, not memory that another thread wrote.
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bytes_max {
            self.give(bytes);
            return Err(BudgetSpent);
        }
        Ok(())
    }

    /// Gives back what was taken.
    pub(super) fn give(&self, bytes: u64) {
        // ORDERING: as in `take`.
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that one connection owns. Empty, it owns no memory.
#[derive(Debug, Default)]
pub(crate) struct HeldBuffer {
    bytes: Vec<u8>,
    // INVARIANT: the budget that `bytes` is charged to; `None` where nothing is charged.
    charged: Option<Arc<BufferBudget>>,
}

impl HeldBuffer {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn extend(
        &mut self,
        from: &[u8],
        budget: &Arc<BufferBudget>,
    ) -> Result<(), BudgetSpent> {
        self.reserve(from.len(), budget)?;
        self.bytes.extend_from_slice(from);
        Ok(())
    }

    /// Lets `read` fill up to `bytes_max` more bytes; keeps as many as it says it wrote.
    pub(crate) fn fill<E>(
        &mut self,
        bytes_max: usize,
        budget: &Arc<BufferBudget>,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, BudgetSpent> {
        self.reserve(bytes_max, budget)?;
        let start = self.bytes.len();
        self.bytes.resize(start + bytes_max, 0);
        let outcome = read(&mut self.bytes[start..]);
        let kept = outcome.as_ref().map_or(0, |&count| count.min(bytes_max));
        self.bytes.truncate(start + kept);
        Ok(outcome)
    }

    /// Forgets the first `count` bytes; the last of them frees the memory.
    pub(crate) fn consume(&mut self, count: usize) {
        if count >= self.bytes.len() {
            self.release();
        } else {
            self.bytes.drain(..count);
        }
    }

    /// Gives the memory back.
    pub(crate) fn release(&mut self) {
        let capacity = std::mem::take(&mut self.bytes).capacity();
        if let Some(budget) = self.charged.take() {
            budget.give(capacity as u64);
        }
    }

    fn reserve(&mut self, more: usize, budget: &Arc<BufferBudget>) -> Result<(), BudgetSpent> {
        let (held, wanted) = (self.bytes.capacity(), self.bytes.len() + more);
        if wanted <= held {
            return Ok(());
        }
        if wanted <= FREE_BYTES_MAX {
            self.bytes.reserve_exact(FREE_BYTES_MAX - self.bytes.len());
            return Ok(());
        }
        let capacity = wanted.max(held + held / 2).max(BUFFER_BYTES_MIN);
        let charged = if self.charged.is_some() { held } else { 0 };
        budget.take(capacity - charged)?;
        self.charged.get_or_insert_with(|| Arc::clone(budget));
        self.bytes.reserve_exact(capacity - self.bytes.len());
        debug_assert_eq!(
            self.bytes.capacity(),
            capacity,
            "what is charged is what is held"
        );
        Ok(())
    }
}

impl Drop for HeldBuffer {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes_max: u64) -> Arc<BufferBudget> {
        Arc::new(BufferBudget::new(bytes_max))
    }

    #[test]
    fn an_empty_buffer_holds_nothing_of_the_budget() {
        let budget = budget(4096);
        let mut buffer = HeldBuffer::default();
        buffer.extend(&[7; 1000], &budget).unwrap();
        assert!(budget.held_bytes() >= 1000);
        buffer.consume(400);
        assert_eq!(buffer.as_slice(), &[7; 600]);
        buffer.consume(600);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn the_budget_is_never_exceeded_and_a_refusal_costs_nothing() {
        let budget = budget(2048);
        let mut buffers: Vec<HeldBuffer> = (0..8).map(|_| HeldBuffer::default()).collect();
        let granted = buffers
            .iter_mut()
            .filter_map(|b| b.extend(&[0; 512], &budget).ok())
            .count();
        assert_eq!(granted, 4);
        assert_eq!(budget.held_bytes(), 2048);
        drop(buffers);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn a_header_is_held_whatever_the_budget() {
        let budget = budget(0);
        let mut buffer = HeldBuffer::default();
        buffer.extend(&[1; 15], &budget).unwrap();
        assert_eq!(buffer.extend(&[1; 1000], &budget), Err(BudgetSpent));
        assert_eq!((buffer.len(), budget.held_bytes()), (15, 0));
    }

    #[test]
    fn a_buffer_that_grows_is_charged_once() {
        let budget = budget(1 << 20);
        let mut buffer = HeldBuffer::default();
        for _ in 0..1000 {
            buffer.extend(&[1; 100], &budget).unwrap();
        }
        assert!(budget.held_bytes() >= 100_000 && budget.held_bytes() <= 150_000);
        drop(buffer);
        assert_eq!(budget.held_bytes(), 0);
    }
}
