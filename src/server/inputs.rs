//! What a worker reads into: a buffer for the turn that is under way, and one for each connection that is read
//! before its turn.

/// LIMIT: what one read may bring; it stays in the processor's cache.
pub(crate) const INPUT_BYTES: usize = 64 << 10;

/// LIMIT: what a read may bring before the turn that it belongs to. As many buffers are in use as connections are
/// served together.
pub(super) const INPUT_AHEAD_BYTES: usize = 16 << 10;

/// The buffers that are not in use. (Whoever panics does not give theirs back.)
#[derive(Debug, Default)]
pub(super) struct Inputs {
    own: Option<Box<[u8]>>,
    ahead: Vec<Box<[u8]>>,
}

impl Inputs {
    /// The buffer for the turn that is under way.
    pub(super) fn take(&mut self) -> Box<[u8]> {
        let input = self.own.take();
        input.unwrap_or_else(|| vec![0; INPUT_BYTES].into_boxed_slice())
    }

    pub(super) fn give_back(&mut self, input: Box<[u8]>) {
        self.own = Some(input);
    }

    /// A buffer for a connection that is read before its turn.
    pub(super) fn take_ahead(&mut self) -> Box<[u8]> {
        let input = self.ahead.pop();
        input.unwrap_or_else(|| vec![0; INPUT_AHEAD_BYTES].into_boxed_slice())
    }

    pub(super) fn give_back_ahead(&mut self, input: Box<[u8]>) {
        self.ahead.push(input);
    }
}
