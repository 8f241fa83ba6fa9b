//! The answers to meta commands: a code of two letters, and what the flags ask for, in their order.
//!
//! ```text
//! VA <bytes> <flag>*\r\n<value>\r\n      HD <flag>*\r\n      EN, NF, NS, EX: there was no such thing
//! ```

use super::VALUE_END;
use super::command::{Answer, Flags, KeyForm, MetaVerb, words};
use super::reply::{MemcachedReply, push_number, rare_line};
use crate::dialect::Failure;
use crate::engine::Item;

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

    /// Whether the answer may have the value in it.
    pub(super) fn wants_value(&self) -> bool {
        self.value != ValueWanted::No
    }

    fn shows_value(&self, item: &Item<'_>) -> bool {
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
        }
    }
}

impl MemcachedReply<'_> {
    pub(super) fn meta_item(&mut self, tag: &MetaTag<'_>, item: &Item<'_>) {
        self.meta_head(tag, item);
        if tag.verb != MetaVerb::Debug && tag.shows_value(item) {
            item.append_value_to(self.out);
            self.out.extend_from_slice(VALUE_END);
        }
    }

    /// The line before a value, or the whole answer where none is wanted.
    pub(super) fn meta_head(&mut self, tag: &MetaTag<'_>, item: &Item<'_>) {
        if tag.verb == MetaVerb::Debug {
            return self.debug(tag, item);
        }
        match tag.shows_value(item) {
            true => {
                self.out.extend_from_slice(b"VA ");
                push_number(self.out, item.value_bytes());
            }
            false => self.out.extend_from_slice(b"HD"),
        }
        self.finish_line(tag, &Facts::of(item));
    }

    pub(super) fn meta_stored(&mut self, tag: &MetaTag<'_>, version: u64, value_bytes: u64) {
        let facts = Facts {
            value_bytes: Some(value_bytes),
            version: Some(version),
            ..Facts::default()
        };
        self.ordinary(tag, b"HD", &facts);
    }

    pub(super) fn meta_counter(
        &mut self,
        tag: &MetaTag<'_>,
        value: u64,
        version: u64,
        expires_at_ms: Option<u64>,
    ) {
        if tag.is_silent() {
            return;
        }
        let facts = Facts {
            version: Some(version),
            expiry: Some(ExpiryKnown(expires_at_ms)),
            ..Facts::default()
        };
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value).as_bytes();
        if !tag.wants_value() {
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
        for word in words(tag.text) {
            match word[0] {
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
                b't' => self.seconds_left(facts.expiry),
                _ => {}
            }
        }
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

    /// All that is known about an item.
    fn debug(&mut self, tag: &MetaTag<'_>, item: &Item<'_>) {
        self.out.extend_from_slice(b"ME ");
        self.out.extend_from_slice(tag.key);
        self.out.extend_from_slice(b" exp=");
        match item.expires_at_ms() {
            None => self.out.extend_from_slice(b"-1"),
            Some(at_ms) => push_number(self.out, self.seconds_to(at_ms)),
        }
        self.out.extend_from_slice(b" cas=");
        push_number(self.out, item.version());
        self.out.extend_from_slice(b" size=");
        push_number(self.out, item.bytes());
        self.out.extend_from_slice(VALUE_END);
    }
}
