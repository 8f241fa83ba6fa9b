//! The answers to classic commands.

use super::VALUE_END;
use super::command::{Answer, Versions};
use super::meaning::Tag;
use super::{dump, stats};
use crate::dialect::pen::Pen;
use crate::dialect::{Failure, Reply, Room};
use crate::engine::{Counted, Inspected, Item, LargeValue, Leased};

const LIST_END: &[u8] = b"END\r\n";
const VALUE_AND_LIST_END: &[u8] = b"\r\nEND\r\n";

/// LIMIT: digits of the largest number.
const DIGITS_MAX: usize = 20;

/// What the words of a value's line take beside its key: `VALUE`, four spaces, three numbers, two line
/// ends, and the end of the list.
const AROUND_VALUE_BYTES: usize = 5 + 4 + 3 * DIGITS_MAX + 4 + 5;

/// Writes the answer to one command.
#[derive(Debug)]
pub(crate) struct MemcachedReply<'o> {
    pub(super) out: &'o mut Vec<u8>,
    tag: Tag<'o>,
    pub(super) now_ms: u64,
}

/// Appends a number.
#[inline]
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..10 => out.push(b'0' + number as u8),
        _ => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

impl<'o> MemcachedReply<'o> {
    #[inline]
    pub(super) fn new(tag: Tag<'o>, now_ms: u64, out: &'o mut Vec<u8>) -> Self {
        Self { out, tag, now_ms }
    }

    /// The line before a value that follows from where it lies.
    fn value_head(&mut self, item: &Item<'_>, versions: Versions) {
        let mut pen = Pen::new(self.out, item.key().len() + AROUND_VALUE_BYTES);
        put_value_head(&mut pen, item, item.value_bytes(), versions);
        pen.finish();
    }

    /// A value with its line before it and `end` behind it.
    #[inline(always)]
    fn value(&mut self, item: &Item<'_>, versions: Versions, end: &'static [u8]) {
        let Some(value) = item.plain_value() else {
            return self.other_value(*item, versions, end);
        };
        let bytes = item.key().len() + value.len() + AROUND_VALUE_BYTES;
        let mut pen = Pen::new(self.out, bytes);
        put_value_head(&mut pen, item, value.len() as u64, versions);
        pen.put(value);
        pen.put(end);
        pen.finish();
    }

    /// A value that is spelled out, or lies in pieces. It has the item by value, so that one of a usual
    /// answer stays in registers.
    #[cold]
    fn other_value(&mut self, item: Item<'_>, versions: Versions, end: &'static [u8]) {
        self.value_head(&item, versions);
        item.append_value_to(self.out);
        self.out.extend_from_slice(end);
    }

    #[inline]
    fn say(&mut self, answer: Answer, line: &'static [u8]) {
        if answer == Answer::Wanted {
            self.out.extend_from_slice(line);
        }
    }

    /// Says that there is no memory, in the words for the command.
    pub(super) fn say_out_of_memory(&mut self) {
        match self.tag {
            Tag::Value(_) | Tag::Values(_) => {
                self.out
                    .extend_from_slice(b"SERVER_ERROR out of memory writing get response\r\n");
            }
            Tag::Counted(answer) => self.say(answer, b"SERVER_ERROR out of memory\r\n"),
            Tag::Stored(answer) | Tag::Touched(answer) => {
                self.say(answer, b"SERVER_ERROR out of memory storing object\r\n");
            }
            _ => self
                .out
                .extend_from_slice(b"SERVER_ERROR out of memory\r\n"),
        }
    }

    #[cold]
    fn failed_rarely(&mut self, failure: Failure) {
        let answer = match self.tag {
            Tag::Value(_) if failure == Failure::Quarantined => Answer::Wanted,
            // A key that cannot be there is not there.
            Tag::Value(_) => return self.out.extend_from_slice(LIST_END),
            Tag::Stored(answer)
            | Tag::Counted(answer)
            | Tag::Touched(answer)
            | Tag::Deleted(answer)
            | Tag::Ok(answer) => answer,
            Tag::Values(_) | Tag::Said(_) | Tag::Stats(_) | Tag::Dump(_) | Tag::Meta(_) => {
                Answer::Wanted
            }
        };
        match failure {
            Failure::NoSpace => self.say_out_of_memory(),
            _ => self.say(answer, rare_line(failure)),
        }
    }
}

/// The line before a value.
#[inline(always)]
fn put_value_head(pen: &mut Pen<'_>, item: &Item<'_>, value_bytes: u64, versions: Versions) {
    pen.put(b"VALUE ");
    pen.put(item.key());
    match item.flags() {
        0 => pen.put(b" 0 "),
        flags => {
            pen.put(b" ");
            pen.put_number(flags.into());
            pen.put(b" ");
        }
    }
    pen.put_number(value_bytes);
    if versions == Versions::Shown {
        pen.put(b" ");
        pen.put_number(item.version());
    }
    pen.put(VALUE_END);
}

/// What is said of failures that mean the same for all commands.
pub(super) fn rare_line(failure: Failure) -> &'static [u8] {
    match failure {
        Failure::NotFound => b"NOT_FOUND\r\n",
        Failure::NotStored => b"NOT_STORED\r\n",
        Failure::Exists => b"EXISTS\r\n",
        Failure::NotANumber => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        Failure::KeyEmpty | Failure::KeyTooLong { .. } => {
            b"CLIENT_ERROR bad command line format\r\n"
        }
        Failure::TooLarge { .. } | Failure::ExtendedTooLarge { .. } | Failure::ToBeReadAlone => {
            b"SERVER_ERROR object too large for cache\r\n"
        }
        Failure::NoSpace => b"SERVER_ERROR out of memory storing object\r\n",
        Failure::Unterminated => b"CLIENT_ERROR bad data chunk\r\n",
        Failure::Quarantined => {
            b"SERVER_ERROR refused: such requests for this key have brought the server down\r\n"
        }
        Failure::NoSuchStats { .. } => b"ERROR\r\n",
    }
}

impl Reply for MemcachedReply<'_> {
    #[inline(always)]
    fn item(&mut self, item: &Item<'_>) {
        // INVARIANT: meta commands read on terms, or look.
        if let Tag::Value(versions) = self.tag {
            self.value(item, versions, VALUE_AND_LIST_END);
        }
    }

    fn inspected(&mut self, inspected: &Inspected<'_>) {
        // INVARIANT: only `me` looks.
        if let Tag::Meta(tag) = self.tag {
            self.debug(tag, inspected);
        }
    }

    fn leased(&mut self, leased: &Leased<'_>) {
        // INVARIANT: only meta commands read on terms.
        if let Tag::Meta(tag) = self.tag {
            self.meta_leased(tag, leased);
        }
    }

    fn large_item(&mut self, item: &Item<'_>) {
        match self.tag {
            Tag::Value(versions) | Tag::Values(versions) => self.value_head(item, versions),
            _ => {}
        }
    }

    fn behind_large(&self) -> &'static [u8] {
        match self.tag {
            Tag::Value(_) => VALUE_AND_LIST_END,
            _ => VALUE_END,
        }
    }

    #[inline]
    fn wants_value(&self, item: &Item<'_>) -> bool {
        match self.tag {
            Tag::Meta(tag) => tag.shows_value(item),
            _ => true,
        }
    }

    #[inline]
    fn stored(&mut self, version: u64) {
        match self.tag {
            Tag::Stored(answer) => self.say(answer, b"STORED\r\n"),
            Tag::Meta(tag) => self.meta_stored(tag, version, tag.value_bytes.into()),
            _ => {}
        }
    }

    fn joined(&mut self, version: u64, value_bytes: u64) {
        match self.tag {
            Tag::Meta(tag) => self.meta_stored(tag, version, value_bytes),
            _ => self.stored(version),
        }
    }

    fn counter(&mut self, counted: &Counted) {
        match self.tag {
            Tag::Counted(Answer::Wanted) => {
                push_number(self.out, counted.value);
                self.out.extend_from_slice(b"\r\n");
            }
            Tag::Meta(tag) => self.meta_counter(tag, counted),
            _ => {}
        }
    }

    fn done(&mut self) {
        match self.tag {
            Tag::Touched(answer) => self.say(answer, b"TOUCHED\r\n"),
            Tag::Deleted(answer) => self.say(answer, b"DELETED\r\n"),
            Tag::Ok(answer) => self.say(answer, b"OK\r\n"),
            Tag::Said(bytes) => self.out.extend_from_slice(bytes),
            Tag::Meta(tag) => self.meta_done(tag),
            _ => {}
        }
    }

    #[inline]
    fn failed(&mut self, failure: Failure) {
        match (self.tag, failure) {
            (Tag::Value(_), Failure::NotFound) => self.out.extend_from_slice(LIST_END),
            (Tag::Meta(tag), _) => self.meta_failed(tag, failure),
            _ => self.failed_rarely(failure),
        }
    }

    fn echo(&mut self, _bytes: &[u8]) {
        self.done();
    }

    fn stats(&mut self, figures: &[(String, String)]) {
        if let Tag::Stats(group) = self.tag {
            stats::write(group, figures, self.out);
        }
    }

    #[inline]
    fn each(&mut self, found: Result<&Item<'_>, Failure>, large: Option<&LargeValue>) {
        let Tag::Values(versions) = self.tag else {
            return;
        };
        match (found, large) {
            (Ok(item), None) => self.value(item, versions, VALUE_END),
            (Ok(item), Some(_)) => self.value_head(item, versions),
            (Err(_), _) => {}
        }
    }

    fn end_each(&mut self) {
        self.out.extend_from_slice(LIST_END);
    }

    #[inline]
    fn written_bytes(&self) -> usize {
        self.out.len()
    }

    fn begin_page(&mut self) {
        self.out.extend_from_slice(b"OK\r\n");
    }

    fn push_key(&mut self, inspected: &Inspected<'_>) -> Room {
        if let Tag::Dump(style) = self.tag {
            dump::push(style, inspected, self.out);
        }
        Room::Taken
    }

    fn end_page(&mut self, _next_cursor: Option<u64>) {
        if let Tag::Dump(style) = self.tag {
            self.out.extend_from_slice(dump::end(style));
        }
    }

    // The requests that these belong to are none of this protocol.

    fn begin_items(&mut self, _asked: u32) {}

    fn push_item(&mut self, _found: Result<&Item<'_>, Failure>, _: Option<&LargeValue>) -> Room {
        Room::Full
    }

    fn end_items(&mut self) {}

    fn begin_outcomes(&mut self) {}

    fn push_outcome(&mut self, _outcome: Result<(), Failure>) {}

    fn end_outcomes(&mut self) {}
}
