//! The server's side of writing: replies of many entries.
//!
//! Each is begun with its header, grows entry by entry, and is finished by filling in the counts that
//! the header lacked. None of them holds on to the buffer, so that a server can put large values
//! elsewhere in between and keep its output where it likes. A reply that is not finished leaves a
//! frame with no entries behind; [`ValuesReply::abandon`] takes it back.

use crate::header::{HEADER_BYTES, REPLY_FLAG_EXPIRY, REPLY_FLAG_PARTIAL, ResponseHeader};
use crate::lists::ScanEntry;
use crate::opcode::Opcode;
use crate::response::ValueMeta;
use crate::status::Status;
use crate::wire::{expiry_to_wire, shorten, wire_len};

/// Whether an entry found room in its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fit {
    /// It is in.
    Added,
    /// It would have made the frame too long and is not in; the reply is as it was.
    Full,
}

/// A reply under construction.
#[derive(Debug)]
struct Draft {
    /// Where the header stands in the output.
    start: usize,
    header: ResponseHeader,
    frame_bytes_max: u32,
}

impl Draft {
    fn begin(out: &mut Vec<u8>, opcode: Opcode, id: u32, frame_bytes_max: u32) -> Self {
        let (opcode, status) = (opcode as u8, Status::OK);
        let header = ResponseHeader {
            opcode,
            flags: 0,
            status,
            id,
            word: 0,
            body_bytes: 0,
        };
        let start = out.len();
        out.extend_from_slice(&header.to_bytes());
        Self {
            start,
            header,
            frame_bytes_max,
        }
    }

    /// Counts an entry of this length if there is room for it.
    #[inline]
    fn make_room(&mut self, entry_bytes: u64) -> Fit {
        if self.header.frame_bytes() + entry_bytes > u64::from(self.frame_bytes_max) {
            return Fit::Full;
        }
        self.header.word += 1;
        self.header.body_bytes += entry_bytes as u32;
        Fit::Added
    }

    fn finish(self, out: &mut [u8]) {
        out[self.start..self.start + HEADER_BYTES].copy_from_slice(&self.header.to_bytes());
    }
}

/// What a MULTI_GET asked, as far as its reply must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValuesAsked {
    /// The id of the request.
    pub id: u32,
    /// For how many keys it asked.
    pub keys: u32,
    /// Whether it asked how long the items have left.
    pub want_expiry: bool,
    /// How long the reply may get.
    pub frame_bytes_max: u32,
}

/// The reply to a MULTI_GET under construction.
///
/// Where [`Fit::Full`] comes back, stop and [`finish`](Self::finish): the client asks again for the
/// keys that were not answered. The limits see to it that at least one always fits.
#[derive(Debug)]
pub struct ValuesReply {
    draft: Draft,
    asked: u32,
    silent: bool,
}

impl ValuesReply {
    /// Begins the reply.
    pub fn begin(out: &mut Vec<u8>, asked: ValuesAsked) -> Self {
        let mut draft = Draft::begin(out, Opcode::MultiGet, asked.id, asked.frame_bytes_max);
        draft.header.flags = if asked.want_expiry {
            REPLY_FLAG_EXPIRY
        } else {
            0
        };
        Self {
            draft,
            asked: asked.keys,
            silent: true,
        }
    }

    /// Adds the next key's item.
    #[inline]
    pub fn push_value(&mut self, out: &mut Vec<u8>, meta: &ValueMeta, value: &[u8]) -> Fit {
        let fit = self.push_value_head(out, meta, wire_len(value.len()));
        if fit == Fit::Added {
            out.extend_from_slice(value);
        }
        fit
    }

    /// Adds the next key's item without its value: if there is room, `value_bytes` bytes must follow.
    #[inline]
    pub fn push_value_head(
        &mut self,
        out: &mut Vec<u8>,
        meta: &ValueMeta,
        value_bytes: u32,
    ) -> Fit {
        const HEAD_BYTES: usize = 20;
        let want_expiry = self.draft.header.flags & REPLY_FLAG_EXPIRY != 0;
        let head_bytes = HEAD_BYTES + if want_expiry { 8 } else { 0 };
        if self
            .draft
            .make_room(head_bytes as u64 + u64::from(value_bytes))
            == Fit::Full
        {
            return Fit::Full;
        }
        self.silent = false;
        let expiry_ms = meta.expiry_left.to_wire().unwrap_or(expiry_to_wire(None));
        let mut head = [0; HEAD_BYTES + 8];
        head[0..2].copy_from_slice(&Status::OK.0.to_le_bytes());
        head[4..8].copy_from_slice(&meta.client_flags.to_le_bytes());
        head[8..12].copy_from_slice(&value_bytes.to_le_bytes());
        head[12..20].copy_from_slice(&meta.version.to_le_bytes());
        head[20..28].copy_from_slice(&expiry_ms.to_le_bytes());
        out.extend_from_slice(&head[..head_bytes]);
        Fit::Added
    }

    /// Adds that the next key has no item, or why it could not be looked up. `status` is not OK.
    #[inline]
    pub fn push_miss(&mut self, out: &mut Vec<u8>, status: Status) -> Fit {
        debug_assert_ne!(status, Status::OK, "a miss needs a reason");
        let fit = self.draft.make_room(4);
        if fit == Fit::Added {
            self.silent &= status == Status::NOT_FOUND;
            let [low, high] = status.0.to_le_bytes();
            out.extend_from_slice(&[low, high, 0, 0]);
        }
        fit
    }

    /// Whether no key so far has an item, so that a quiet request goes unanswered. One whose value is
    /// too large for the reply has.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Completes the frame.
    pub fn finish(mut self, out: &mut [u8]) {
        if self.draft.header.word < self.asked {
            self.draft.header.flags |= REPLY_FLAG_PARTIAL;
        }
        self.draft.finish(out);
    }

    /// Takes the frame back, out of an output that nothing else was appended to since.
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.draft.start);
    }
}

/// The reply to a MULTI_SET or MULTI_DELETE under construction. Always fits: the limits see to it.
#[derive(Debug)]
pub struct OutcomesReply {
    draft: Draft,
    silent: bool,
}

impl OutcomesReply {
    /// Begins the reply.
    pub fn begin(out: &mut Vec<u8>, opcode: Opcode, id: u32) -> Self {
        Self {
            draft: Draft::begin(out, opcode, id, u32::MAX),
            silent: true,
        }
    }

    /// Adds how the next entry came out.
    #[inline]
    pub fn push(&mut self, out: &mut Vec<u8>, status: Status) {
        self.silent &= status == Status::OK;
        if self.draft.make_room(2) == Fit::Added {
            out.extend_from_slice(&status.0.to_le_bytes());
        }
    }

    /// Whether every entry so far came out OK, so that a quiet request goes unanswered.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Completes the frame.
    pub fn finish(self, out: &mut [u8]) {
        self.draft.finish(out);
    }

    /// Takes the frame back, out of an output that nothing else was appended to since.
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.draft.start);
    }
}

/// A page of a scan under construction.
#[derive(Debug)]
pub struct ScanReply {
    draft: Draft,
}

impl ScanReply {
    /// Begins the page.
    pub fn begin(out: &mut Vec<u8>, id: u32, frame_bytes_max: u32) -> Self {
        let mut draft = Draft::begin(out, Opcode::Scan, id, frame_bytes_max);
        out.extend_from_slice(&0_u64.to_le_bytes());
        draft.header.body_bytes = 8;
        Self { draft }
    }

    /// Adds a key, if there is room.
    #[inline]
    pub fn push(&mut self, out: &mut Vec<u8>, entry: &ScanEntry<'_>) -> Fit {
        const HEAD_BYTES: usize = 24;
        let key_bytes = wire_len(entry.key.len());
        if self
            .draft
            .make_room(HEAD_BYTES as u64 + u64::from(key_bytes))
            == Fit::Full
        {
            return Fit::Full;
        }
        let mut head = [0; HEAD_BYTES];
        head[0..4].copy_from_slice(&key_bytes.to_le_bytes());
        head[4..8].copy_from_slice(&entry.value_bytes.to_le_bytes());
        head[8..16].copy_from_slice(&entry.version.to_le_bytes());
        head[16..24].copy_from_slice(&expiry_to_wire(entry.expire_in_ms).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(entry.key);
        Fit::Added
    }

    /// How many keys the page holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.draft.header.word
    }

    /// Completes the frame. A cursor of 0 says that this was the last page.
    pub fn finish(self, out: &mut [u8], next_cursor: u64) {
        let cursor_at = self.draft.start + HEADER_BYTES;
        out[cursor_at..cursor_at + 8].copy_from_slice(&next_cursor.to_le_bytes());
        self.draft.finish(out);
    }
}

/// The reply to STATS under construction.
#[derive(Debug)]
pub struct StatsReply {
    draft: Draft,
}

impl StatsReply {
    /// Begins the reply.
    pub fn begin(out: &mut Vec<u8>, id: u32, frame_bytes_max: u32) -> Self {
        Self {
            draft: Draft::begin(out, Opcode::Stats, id, frame_bytes_max),
        }
    }

    /// Adds a counter, if there is room. Names and values of more than 64 KiB are cut.
    pub fn push(&mut self, out: &mut Vec<u8>, name: &str, value: &str) -> Fit {
        let [name, value] = [name, value].map(|text| shorten(text, u16::MAX.into()));
        let fit = self.draft.make_room((4 + name.len() + value.len()) as u64);
        if fit == Fit::Added {
            for text in [name, value] {
                out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        fit
    }

    /// Completes the frame.
    pub fn finish(self, out: &mut [u8]) {
        self.draft.finish(out);
    }
}
