//! memcached's text protocol, classic commands and meta commands, as memcached 1.6 speaks it.
//!
//! ```text
//! bytes ── command ──> Command ── meaning ──> Request + Tag ── execute ──> reply ──> bytes
//! ```
//!
//! [`command`] is the grammar, [`meaning`] says which request a command is, and [`reply`],
//! [`meta_reply`] and [`dump`] write what came of it. What is said differently than memcached says it is listed
//! in README.md.

pub(super) mod command;
mod dump;
mod meaning;
mod meta_reply;
mod reply;
mod stats;

use super::{
    After, Circumstances, Dialect, Ending, FailedSet, Get, Greeting, Head, Parsed, Scratch, Set,
};
use crate::engine::{Entry, Placeholders};
use command::{Answer, Bounds, Complaint, Front, Then, Versions};
use meaning::Tag;
use reply::MemcachedReply;

/// What ends a value.
const VALUE_END: &[u8] = b"\r\n";

/// The dialect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memcached {
    bounds: Bounds,
}

impl Dialect for Memcached {
    /// A client that overwrites a value and is refused must not read the old one any more.
    const FAILED_SET: FailedSet = FailedSet::Deletes;
    const PLACEHOLDERS: Placeholders = Placeholders::Shown;

    type Tag<'i> = Tag<'i>;
    type Refusal = Complaint;
    type Reply<'o> = MemcachedReply<'o>;

    /// There is none: the first bytes are a command.
    fn greet(&self, _input: &[u8], _out: &mut Vec<u8>) -> Greeting {
        Greeting::Done { bytes: 0 }
    }

    #[inline]
    fn parse_get<'i>(&self, input: &'i [u8]) -> Option<Get<'i, Tag<'i>>> {
        let (key, bytes) = command::quick_get(input)?;
        let tag = Tag::Value(Versions::Hidden);
        Some(Get { tag, key, bytes })
    }

    #[inline]
    fn parse_set<'i>(&self, input: &'i [u8], now_ms: u64) -> Option<Set<'i, Tag<'i>>> {
        let (set, bytes) = command::quick_set(input, &self.bounds)?;
        let entry = Entry {
            value: set.value,
            flags: set.client_flags,
            expires_at_ms: set.expiry.at_ms(now_ms),
            new_version: None,
        };
        Some(Set {
            tag: Tag::Stored(Answer::Wanted),
            key: set.key,
            entry,
            bytes,
        })
    }

    #[inline]
    fn parse<'i>(&self, input: &'i [u8], with: Circumstances<'i>) -> Parsed<'i, Self> {
        match command::read(input, &self.bounds) {
            Front::Command { command, bytes } => {
                let (tag, request) = meaning::of(command, with);
                Parsed::Asked {
                    tag,
                    request,
                    bytes,
                }
            }
            Front::Incomplete { needed_bytes } => Parsed::Incomplete { needed_bytes },
            Front::Refused { complaint, then } => Parsed::Refused {
                refusal: complaint,
                after: match then {
                    Then::Skip { bytes } => After::Skip { bytes },
                    Then::Close => After::Close,
                },
            },
        }
    }

    fn parse_head<'i>(&self, input: &'i [u8], with: Circumstances<'i>) -> Head<'i, Self> {
        let Some((head, head_bytes)) = command::read_head(input, &self.bounds) else {
            return Head::Other;
        };
        let Some(mode) = meaning::mode(&head) else {
            return Head::Other;
        };
        Head::Store {
            tag: meaning::store_tag(&head, with.scratch),
            key: meaning::key(head.key, head.key_form(), with.scratch),
            mode,
            entry: Entry {
                value: b"",
                flags: head.client_flags,
                expires_at_ms: head.expiry.at_ms(with.now_ms),
                new_version: head.new_version(),
            },
            value_bytes: head.value_bytes.into(),
            head_bytes,
            trailer: VALUE_END,
        }
    }

    fn refuse(&self, complaint: &Complaint, out: &mut Vec<u8>) {
        complaint.write(out);
    }

    fn refuse_overloaded(&self, begun: &[u8], out: &mut Vec<u8>) -> After {
        let Some((head, head_bytes)) = command::read_head(begun, &self.bounds) else {
            out.extend_from_slice(b"SERVER_ERROR out of memory reading request\r\n");
            return After::Close;
        };
        let scratch = Scratch::default();
        let tag = meaning::store_tag(&head, &scratch);
        MemcachedReply::new(tag, 0, out).say_out_of_memory();
        let bytes = head_bytes + head.value_bytes as usize + VALUE_END.len();
        After::Skip {
            bytes: bytes as u64,
        }
    }

    #[inline]
    fn reply<'o, 'i: 'o>(
        &'o self,
        tag: Tag<'i>,
        now_ms: u64,
        out: &'o mut Vec<u8>,
    ) -> MemcachedReply<'o> {
        MemcachedReply::new(tag, now_ms, out)
    }

    /// The protocol has no words for it.
    fn notice_drain(&self, _left_ms: u64, _out: &mut Vec<u8>) {}

    fn notice_ending(&self, ending: Ending, out: &mut Vec<u8>) {
        out.extend_from_slice(match ending {
            Ending::TooManyConnections { .. } => b"ERROR Too many open connections\r\n",
            Ending::Overloaded => b"SERVER_ERROR out of memory writing get response\r\n",
            Ending::Internal => b"SERVER_ERROR internal error\r\n",
            // memcached closes without a word, and clients expect none.
            Ending::IdleTimeout { .. } | Ending::FrameTimeout { .. } | Ending::Drained => b"",
        });
    }
}
