//! What travels beside a request of the native protocol.

use larder_protocol::{FLAG_QUIET, FLAG_WANT_EXPIRY, Opcode};

/// What the answer to a request needs to know about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    pub(super) id: u32,
    pub(super) opcode: Opcode,
    /// As they stand in the header of a request.
    pub(super) flags: u8,
    /// With it there is nothing undefined in a tag: it is moved as one word.
    _rest: u16,
}

impl Tag {
    pub(super) fn new(id: u32, opcode: Opcode, quiet: bool, wants_expiry: bool) -> Self {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(quiet, FLAG_QUIET) | flag(wants_expiry, FLAG_WANT_EXPIRY);
        Self::with_flags(id, opcode, flags)
    }

    /// That of a request with these flags in its header.
    #[inline(always)]
    pub(super) fn with_flags(id: u32, opcode: Opcode, flags: u8) -> Self {
        Self {
            id,
            opcode,
            flags,
            _rest: 0,
        }
    }

    #[inline]
    pub(super) fn is_quiet(self) -> bool {
        self.flags & FLAG_QUIET != 0
    }

    #[inline]
    pub(super) fn wants_expiry(self) -> bool {
        self.flags & FLAG_WANT_EXPIRY != 0
    }
}
