//! The answers to meta commands: a code of two letters, and what the flags ask for, in their order.
//!
//! ```text
//! VA <bytes> <flag>*\r\n<value>\r\n      HD <flag>*\r\n      EN, NF, NS, EX: there was no such thing
//! ```

use super::VALUE_END;
use super::command::{Answer, Flags, KeyForm, MetaVerb, words};
use super::reply::{MemcachedReply, push_number, rare_line};
use crate::dialect::Failure;
use crate::engine::{Counted, Freshness, History, Inspected, Item, Lease, Leased};

/// What the answer to a meta command needs to know about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetaTag<'i> {
    verb: MetaVerb,
    /// As it was written.
    key: &'i [u8],
    key_form: KeyForm,
    /// The flags as they were written.
    text: &'i [u8],
    answer: Answer,
    value: ValueWanted,
    /// Length of the value of a store.
    pub(super) value_bytes: u32,
}

/// Whether the answer has the value in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueWanted {
    No,
    Yes,
    /// The client has that of one version.
    UnlessVersion(u64),
}

impl<'i> MetaTag<'i> {
    pub(super) fn of(verb: MetaVerb, key: &'i [u8], flags: &Flags<'i>) -> Self {
        Self {
            verb,
            key,
            key_form: flags.key_form,
            text: flags.text,
            answer: flags.answer(),
            value: match (flags.has(b'v'), verb, flags.version) {
                (false, _, _) => ValueWanted::No,
                (true, MetaVerb::Get, Some(version)) => ValueWanted::UnlessVersion(version),
                (true, _, _) => ValueWanted::Yes,
            },
            value_bytes: 0,
        }
    }

    /// Whether the answer has this item's value in it.
    pub(super) fn shows_value(&self, item: &Item<'_>) -> bool {
        match self.value {
            ValueWanted::No => false,
            ValueWanted::Yes => true,
            ValueWanted::UnlessVersion(version) => version != item.version(),
        }
    }

    fn is_silent(&self) -> bool {
        self.answer == Answer::Unwanted
    }
}

/// What an answer can tell beside its code; what is not known is not told.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    value_bytes: Option<u64>,
    client_flags: Option<u32>,
    version: Option<u64>,
    expiry: Option<ExpiryKnown>,
    /// What that was before the command changed it.
    expiry_before: Option<ExpiryKnown>,
    /// Whether the command has made the item.
    is_new: bool,
    /// Whether the value was read before.
    history: Option<History>,
    /// When it was.
    read_at_ms: Option<u64>,
    /// What stands behind the flags: Z if another client makes a new value, X if this one is stale,
    /// W if this client is to make it.
    marks: &'static [u8],
}

/// When an item expires.
#[derive(Debug, Clone, Copy)]
struct ExpiryKnown(Option<u64>);

impl Facts {
    fn of(item: &Item<'_>) -> Self {
        Self {
            value_bytes: Some(item.value_bytes()),
            client_flags: Some(item.flags()),
            version: Some(item.version()),
            expiry: Some(ExpiryKnown(item.expires_at_ms())),
            ..Self::default()
        }
    }

    fn of_leased(item: &Item<'_>, leased: &Leased<'_>) -> Self {
        Self {
            history: Some(leased.history),
            read_at_ms: leased.read_at_ms,
            expiry_before: Some(ExpiryKnown(leased.expires_at_ms_before)),
            is_new: item.is_placeholder() && leased.lease == Lease::Won,
            marks: match (leased.lease, leased.freshness) {
                (Lease::None, Freshness::Fresh) => b"",
                (Lease::Won, Freshness::Fresh) => b" W",
                (Lease::Taken, Freshness::Fresh) => b" Z",
                (Lease::None, Freshness::Stale) => b" X",
                (Lease::Won, Freshness::Stale) => b" X W",
                (Lease::Taken, Freshness::Stale) => b" Z X",
            },
            ..Self::of(item)
        }
    }
}

impl MemcachedReply<'_> {
    /// The answer to `mg`; a large value follows it.
    pub(super) fn meta_leased(&mut self, tag: &MetaTag<'_>, leased: &Leased<'_>) {
        let Some(item) = &leased.item else {
            return self.meta_failed(tag, Failure::NotFound);
        };
        self.value_line(tag, item, &Facts::of_leased(item, leased));
        if tag.shows_value(item) && leased.large.is_none() {
            item.append_value_to(self.out);
            self.out.extend_from_slice(VALUE_END);
        }
    }

    /// The line before a value, or the whole answer where none is wanted.
    fn value_line(&mut self, tag: &MetaTag<'_>, item: &Item<'_>, facts: &Facts) {
        match tag.shows_value(item) {
            true => {
                self.out.extend_from_slice(b"VA ");
                push_number(self.out, item.value_bytes());
            }
            false => self.out.extend_from_slice(b"HD"),
        }
        self.finish_line(tag, facts);
    }

    pub(super) fn meta_stored(&mut self, tag: &MetaTag<'_>, version: u64, value_bytes: u64) {
        let facts = match tag.verb {
            // An item that stays, marked: what is asked about it is asked of what is gone.
            MetaVerb::Delete => Facts::default(),
            _ => Facts {
                value_bytes: Some(value_bytes),
                version: Some(version),
                ..Facts::default()
            },
        };
        self.ordinary(tag, b"HD", &facts);
    }

    pub(super) fn meta_counter(&mut self, tag: &MetaTag<'_>, counted: &Counted) {
        if tag.is_silent() {
            return;
        }
        let facts = Facts {
            version: Some(counted.version),
            expiry: Some(ExpiryKnown(counted.expires_at_ms)),
            expiry_before: Some(ExpiryKnown(counted.expires_at_ms_before)),
            is_new: counted.is_new,
            ..Facts::default()
        };
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(counted.value).as_bytes();
        if tag.value == ValueWanted::No {
            return self.coded(tag, b"HD", &facts);
        }
        self.out.extend_from_slice(b"VA ");
        push_number(self.out, digits.len() as u64);
        self.finish_line(tag, &facts);
        self.out.extend_from_slice(digits);
        self.out.extend_from_slice(VALUE_END);
    }

    pub(super) fn meta_done(&mut self, tag: &MetaTag<'_>) {
        self.ordinary(tag, b"HD", &Facts::default());
    }

    pub(super) fn meta_failed(&mut self, tag: &MetaTag<'_>, failure: Failure) {
        let nothing = match tag.verb {
            // As memcached does, where the version was asked for.
            MetaVerb::Set => Facts {
                version: Some(0),
                ..Facts::default()
            },
            _ => Facts::default(),
        };
        match (tag.verb, failure) {
            (MetaVerb::Debug, Failure::NotFound) => self.out.extend_from_slice(b"EN\r\n"),
            (MetaVerb::Get, Failure::NotFound) => self.ordinary(tag, b"EN", &nothing),
            (_, Failure::NotFound) => self.coded(tag, b"NF", &nothing),
            (_, Failure::NotStored) => self.coded(tag, b"NS", &nothing),
            (_, Failure::Exists) => self.coded(tag, b"EX", &nothing),
            (MetaVerb::Count { .. }, Failure::NoSpace) => {
                self.out
                    .extend_from_slice(b"SERVER_ERROR out of memory\r\n");
            }
            _ => self.out.extend_from_slice(rare_line(failure)),
        }
    }

    /// An answer that a client can do without.
    fn ordinary(&mut self, tag: &MetaTag<'_>, code: &[u8; 2], facts: &Facts) {
        if !tag.is_silent() {
            self.coded(tag, code, facts);
        }
    }

    fn coded(&mut self, tag: &MetaTag<'_>, code: &[u8; 2], facts: &Facts) {
        self.out.extend_from_slice(code);
        self.finish_line(tag, facts);
    }

    /// What the flags ask for, and the end of the line.
    fn finish_line(&mut self, tag: &MetaTag<'_>, facts: &Facts) {
        let mut expiry = facts.expiry_before.or(facts.expiry);
        for word in words(tag.text) {
            match word[0] {
                // Flags take effect in their order.
                b'T' => expiry = facts.expiry,
                b'N' if facts.is_new => expiry = facts.expiry,
                b'O' => {
                    self.out.push(b' ');
                    self.out.extend_from_slice(word);
                }
                b'k' => {
                    self.out.extend_from_slice(b" k");
                    self.out.extend_from_slice(tag.key);
                    if tag.key_form == KeyForm::Base64 {
                        self.out.extend_from_slice(b" b");
                    }
                }
                b's' => self.fact(b's', facts.value_bytes),
                b'f' => self.fact(b'f', facts.client_flags.map(u64::from)),
                b'c' => self.fact(b'c', facts.version),
                b't' => self.seconds_left(expiry),
                b'h' => self.fact(b'h', facts.history.map(|h| u64::from(h == History::Read))),
                b'l' => self.fact(
                    b'l',
                    facts.read_at_ms.map(|at_ms| self.seconds_since(at_ms)),
                ),
                _ => {}
            }
        }
        self.out.extend_from_slice(facts.marks);
        self.out.extend_from_slice(VALUE_END);
    }

    fn fact(&mut self, letter: u8, number: Option<u64>) {
        if let Some(number) = number {
            self.out.extend_from_slice(&[b' ', letter]);
            push_number(self.out, number);
        }
    }

    fn seconds_left(&mut self, expiry: Option<ExpiryKnown>) {
        match expiry {
            None => {}
            Some(ExpiryKnown(None)) => self.out.extend_from_slice(b" t-1"),
            Some(ExpiryKnown(Some(at_ms))) => self.fact(b't', Some(self.seconds_to(at_ms))),
        }
    }

    /// Whole seconds, a begun one among them: an item that was given a minute has 60.
    fn seconds_to(&self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.now_ms).div_ceil(1000)
    }

    /// Whole seconds that have passed.
    fn seconds_since(&self, at_ms: u64) -> u64 {
        self.now_ms.saturating_sub(at_ms) / 1000
    }

    /// All that is known about an item: the answer to `me`.
    pub(super) fn debug(&mut self, tag: &MetaTag<'_>, inspected: &Inspected<'_>) {
        let item = &inspected.item;
        self.out.extend_from_slice(b"ME ");
        self.out.extend_from_slice(tag.key);
        self.out.extend_from_slice(b" exp=");
        match item.expires_at_ms() {
            None => self.out.extend_from_slice(b"-1"),
            Some(at_ms) => push_number(self.out, self.seconds_to(at_ms)),
        }
        if let Some(at_ms) = inspected.read_at_ms {
            self.out.extend_from_slice(b" la=");
            push_number(self.out, self.seconds_since(at_ms));
        }
        self.out.extend_from_slice(b" cas=");
        push_number(self.out, item.version());
        self.out.extend_from_slice(match inspected.history {
            History::Read => b" fetch=yes cls=1 size=",
            History::Unread => b" fetch=no cls=1 size=",
        });
        push_number(self.out, item.bytes());
        self.out.extend_from_slice(VALUE_END);
    }
}
