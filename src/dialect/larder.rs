//! Larder's own protocol: `larder-protocol` on one side, [`Request`] and [`Reply`] on the other.

mod tag;

use larder_protocol::{
    After as WireAfter, Arithmetic as WireArithmetic, Decoded, Direction, ExpiryLeft,
    FLAG_WANT_EXPIRY, Fit, Lease as WireLease, Limits, Opcode, OutcomesReply, Presence, Refusal,
    Request as WireRequest, RequestHeader, ScanEntry, ScanReply, StatsReply, Status,
    Store as WireStore, StoreMode, ValueMeta, ValuesAsked, ValuesReply,
};

use super::pen::Pen;
use super::{
    After, Circumstances, Dialect, Ending, Failure, Get, Greeting, Head, Parsed, Reply, Request,
    Room, Set, Touch,
};
use crate::engine::{
    Arithmetic, Counted, Entry, Freshness, Initial, Inspected, Invalidation, Item, LargeValue,
    Lease, Leased, Mode, NewExpiry, Terms,
};
use tag::Tag;

/// What the server calls itself in the handshake.
const NAME: &str = concat!("larder ", env!("CARGO_PKG_VERSION"));

/// LIMIT: what a value has before it in a reply of many, the frame's header included; rounded up.
const HEAD_BYTES_MAX: u64 = 64;

/// The dialect, with the limits that clients are told.
#[derive(Debug, Clone)]
pub(crate) struct Larder {
    pub(crate) limits: Limits,
}

impl Dialect for Larder {
    type Tag<'i> = Tag;
    type Refusal = Refusal;
    type Reply<'o> = LarderReply<'o>;

    fn greet(&self, input: &[u8], out: &mut Vec<u8>) -> Greeting {
        let refusal = match larder_protocol::decode_hello(input) {
            Decoded::Incomplete { needed_bytes } => return Greeting::Incomplete { needed_bytes },
            Decoded::Frame { frame, consumed } => {
                match frame.hello.accept(frame.id, 0, self.limits, NAME) {
                    Ok(reply) => {
                        reply.encode(frame.id, out);
                        return Greeting::Done { bytes: consumed };
                    }
                    Err(refusal) => refusal,
                }
            }
            Decoded::Refused(refusal) => refusal,
        };
        refusal.encode(out);
        Greeting::Refused
    }

    #[inline]
    fn parse_get<'i>(&self, input: &'i [u8]) -> Option<Get<'i, Tag>> {
        let (get, bytes) = larder_protocol::decode_get(input, &self.limits)?;
        let tag = Tag::with_flags(get.id, Opcode::Get, get.flags);
        let key = get.key;
        Some(Get { tag, key, bytes })
    }

    #[inline]
    fn parse_set<'i>(&self, input: &'i [u8], now_ms: u64) -> Option<Set<'i, Tag>> {
        let (set, bytes) = larder_protocol::decode_set(input, &self.limits)?;
        Some(Set {
            tag: Tag::with_flags(set.id, Opcode::Set, set.flags),
            key: set.store.key,
            entry: entry(&set.store, now_ms),
            bytes,
        })
    }

    #[inline]
    fn parse<'i>(&self, input: &'i [u8], with: Circumstances<'i>) -> Parsed<'i, Self> {
        match larder_protocol::decode_request(input, &self.limits) {
            Decoded::Frame { frame, consumed } => {
                let wants_expiry = wants_expiry(&frame.request);
                let opcode = frame.request.opcode();
                Parsed::Asked {
                    tag: Tag::new(frame.id, opcode, frame.quiet, wants_expiry),
                    request: neutral(frame.request, with.now_ms),
                    bytes: consumed,
                }
            }
            Decoded::Incomplete { needed_bytes } => Parsed::Incomplete { needed_bytes },
            Decoded::Refused(refusal) => {
                let after = match refusal.after {
                    WireAfter::Skip { frame_bytes } => After::Skip { bytes: frame_bytes },
                    WireAfter::Close => After::Close,
                };
                Parsed::Refused { refusal, after }
            }
        }
    }

    fn parse_head<'i>(&self, input: &'i [u8], with: Circumstances<'i>) -> Head<'i, Self> {
        match larder_protocol::decode_store_head(input, &self.limits) {
            Decoded::Frame { frame, consumed } => Head::Store {
                tag: Tag::new(
                    frame.id,
                    WireRequest::Store(frame.store.clone()).opcode(),
                    frame.quiet,
                    false,
                ),
                key: frame.store.key,
                mode: store_mode(frame.store.mode),
                entry: entry(&frame.store, with.now_ms),
                value_bytes: frame.value_bytes.into(),
                head_bytes: consumed,
                trailer: b"",
            },
            Decoded::Incomplete { needed_bytes } => Head::Incomplete { needed_bytes },
            Decoded::Refused(_) => Head::Other,
        }
    }

    fn refuse(&self, refusal: &Refusal, out: &mut Vec<u8>) {
        refusal.encode(out);
    }

    fn refuse_overloaded(&self, begun: &[u8], out: &mut Vec<u8>) -> After {
        let header = RequestHeader::read(begun);
        let opcode = header.and_then(|header| Opcode::from_u8(header.opcode));
        let (Some(header), Some(opcode)) = (header, opcode) else {
            self.notice_ending(Ending::Overloaded, out);
            return After::Close;
        };
        let sentence = "the server holds as many unfinished frames as it can; ask again later";
        larder_protocol::encode_status(out, opcode, header.id, Status::OVERLOADED, sentence);
        After::Skip {
            bytes: header.frame_bytes(),
        }
    }

    #[inline]
    fn reply<'o, 'i: 'o>(&'o self, tag: Tag, now_ms: u64, out: &'o mut Vec<u8>) -> LarderReply<'o> {
        LarderReply {
            out,
            tag,
            now_ms,
            frame_bytes_max: self.limits.buffered_bytes_max,
            draft: Draft::None,
        }
    }

    fn notice_drain(&self, left_ms: u64, out: &mut Vec<u8>) {
        let left_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
        larder_protocol::encode_drain(out, left_ms, "the server is shutting down");
    }

    fn notice_ending(&self, ending: Ending, out: &mut Vec<u8>) {
        let (status, sentence) = match ending {
            Ending::TooManyConnections { connections_max } => (
                Status::TOO_MANY_CONNECTIONS,
                format!("the server has {connections_max} connections, as many as it accepts"),
            ),
            Ending::IdleTimeout { idle_ms } => (
                Status::IDLE_TIMEOUT,
                format!("nothing was sent for {idle_ms} ms"),
            ),
            Ending::FrameTimeout { frame_ms } => (
                Status::FRAME_TIMEOUT,
                format!("of a frame that was begun too little came in {frame_ms} ms"),
            ),
            Ending::Overloaded => (
                Status::SLOW_READER,
                "the server has no room for replies that are not read".to_owned(),
            ),
            Ending::Drained => (Status::DRAINED, "the server is shutting down".to_owned()),
            Ending::Internal => (
                Status::INTERNAL,
                "the server failed while it served this connection".to_owned(),
            ),
        };
        larder_protocol::encode_close(out, status, &sentence);
    }
}

fn wants_expiry(request: &WireRequest<'_>) -> bool {
    match request {
        WireRequest::Get { want_expiry, .. }
        | WireRequest::GetAndTouch { want_expiry, .. }
        | WireRequest::GetOrLease { want_expiry, .. }
        | WireRequest::MultiGet { want_expiry, .. } => *want_expiry,
        _ => false,
    }
}

/// The same request, with absolute times.
#[inline]
fn neutral(request: WireRequest<'_>, now_ms: u64) -> Request<'_> {
    let at = |in_ms: Option<u64>| in_ms.map(|in_ms| now_ms.saturating_add(in_ms));
    match request {
        WireRequest::Get { key, .. } => Request::Get { key },
        WireRequest::GetAndTouch {
            key, expire_in_ms, ..
        } => Request::GetAndTouch {
            key,
            expires_at_ms: at(expire_in_ms),
        },
        WireRequest::Store(store) => Request::Store {
            key: store.key,
            mode: store_mode(store.mode),
            entry: entry(&store, now_ms),
        },
        WireRequest::Arithmetic(asked) => count(&asked, at(asked.expire_in_ms)),
        WireRequest::Touch { key, expire_in_ms } => Request::Touch {
            key,
            expires_at_ms: at(expire_in_ms),
        },
        WireRequest::Delete { key, version } => Request::Delete { key, version },
        WireRequest::GetOrLease {
            key,
            lease_ms,
            refresh_ms,
            ..
        } => Request::GetOrLease {
            key,
            terms: Terms {
                placeholder_until_ms: at(lease_ms),
                refresh_below_ms: refresh_ms,
                ..Terms::default()
            },
        },
        WireRequest::Invalidate {
            key,
            version,
            expire_in_ms,
        } => Request::Invalidate {
            key,
            how: Invalidation {
                version,
                expiry: at(expire_in_ms)
                    .map_or(NewExpiry::Kept, |at_ms| NewExpiry::At(Some(at_ms))),
                ..Invalidation::default()
            },
        },
        WireRequest::EndLease { key, version } => Request::EndLease { key, version },
        WireRequest::Flush { delay_ms: 0 } => Request::Flush { at_ms: None },
        WireRequest::Flush { delay_ms } => Request::Flush {
            at_ms: at(Some(delay_ms)),
        },
        WireRequest::MultiGet { keys, .. } => Request::MultiGet(keys),
        WireRequest::MultiSet { entries } => Request::MultiSet(entries),
        WireRequest::MultiDelete { keys } => Request::MultiDelete(keys),
        WireRequest::Scan { cursor, limit } => Request::Scan {
            cursor,
            keys_max: limit,
        },
        WireRequest::Stats { group } => Request::Stats { group },
        WireRequest::Ping { echo } => Request::Ping { echo },
        WireRequest::Quit => Request::Quit,
    }
}

#[inline]
fn entry<'i>(store: &WireStore<'i>, now_ms: u64) -> Entry<'i> {
    Entry {
        value: store.value,
        flags: store.client_flags,
        expires_at_ms: store.expire_in_ms.map(|in_ms| now_ms.saturating_add(in_ms)),
        new_version: None,
    }
}

fn store_mode(mode: StoreMode) -> Mode {
    match mode {
        StoreMode::Set => Mode::Set,
        StoreMode::Add => Mode::Add,
        StoreMode::Replace => Mode::Replace,
        StoreMode::Append => Mode::Append,
        StoreMode::Prepend => Mode::Prepend,
        StoreMode::Cas { version } => Mode::CompareAndSet { version },
    }
}

fn count<'i>(asked: &WireArithmetic<'i>, expires_at_ms: Option<u64>) -> Request<'i> {
    let by = match asked.direction {
        Direction::Increment => Arithmetic::Increment(asked.delta),
        Direction::Decrement => Arithmetic::Decrement(asked.delta),
    };
    let initial = asked.initial.map(|value| Initial {
        value,
        expires_at_ms,
    });
    Request::Count {
        key: asked.key,
        by,
        initial,
        version: None,
        new_version: None,
        touch: Touch::Keep,
    }
}

/// A reply of many entries under construction.
#[derive(Debug)]
enum Draft {
    None,
    Values(ValuesReply),
    Outcomes(OutcomesReply),
    Page(ScanReply),
}

/// Writes the answer to one request.
#[derive(Debug)]
pub(crate) struct LarderReply<'o> {
    out: &'o mut Vec<u8>,
    tag: Tag,
    now_ms: u64,
    /// The longest reply of many entries.
    frame_bytes_max: u32,
    draft: Draft,
}

fn meta_of(tag: Tag, now_ms: u64, item: &Item<'_>) -> ValueMeta {
    let expiry_left = match (tag.wants_expiry(), item.expires_at_ms()) {
        (false, _) => ExpiryLeft::NotAsked,
        (true, None) => ExpiryLeft::Never,
        (true, Some(at_ms)) => ExpiryLeft::Ms(at_ms.saturating_sub(now_ms)),
    };
    ValueMeta {
        client_flags: item.flags(),
        version: item.version(),
        expiry_left,
    }
}

impl LarderReply<'_> {
    /// [`Reply::item`] of what is less usual; by value, so that the item of a usual answer stays in registers.
    #[cold]
    fn other_item(out: &mut Vec<u8>, tag: Tag, now_ms: u64, item: Item<'_>) {
        let meta = meta_of(tag, now_ms, &item);
        larder_protocol::encode_value(out, tag.opcode, tag.id, &meta, &item.value());
    }

    fn is_silent(&self, status: Status) -> bool {
        self.tag.is_quiet() && status.is_silent(self.tag.opcode)
    }
}

impl Reply for LarderReply<'_> {
    #[inline(always)]
    fn item(&mut self, item: &Item<'_>) {
        let Some(value) = item.plain_value().filter(|_| !self.tag.wants_expiry()) else {
            return Self::other_item(self.out, self.tag, self.now_ms, *item);
        };
        let Tag { opcode, id, .. } = self.tag;
        let (flags, version) = (item.flags(), item.version());
        let head = larder_protocol::value_head(opcode, id, flags, version, value.len());
        let mut pen = Pen::new(self.out, head.len() + value.len());
        pen.put(&head);
        pen.put(value);
        pen.finish();
    }

    fn large_item(&mut self, item: &Item<'_>) {
        let meta = meta_of(self.tag, self.now_ms, item);
        // INVARIANT: no value is longer than the limits say, which are 32 bits.
        let value_bytes = u32::try_from(item.value_bytes()).unwrap_or(u32::MAX);
        let Tag { opcode, id, .. } = self.tag;
        larder_protocol::encode_value_head(self.out, opcode, id, &meta, value_bytes);
    }

    fn inspected(&mut self, _inspected: &Inspected<'_>) {
        // INVARIANT: no request of this protocol asks for it.
    }

    fn leased(&mut self, leased: &Leased<'_>) {
        let Some(item) = &leased.item else {
            return self.failed(Failure::NotFound);
        };
        let lease = match leased.lease {
            Lease::None => WireLease::None,
            Lease::Won => WireLease::Won,
            Lease::Taken => WireLease::Taken,
        };
        let presence = match (item.is_placeholder(), leased.freshness) {
            (true, _) => Presence::Absent,
            (false, Freshness::Stale) => Presence::Stale,
            (false, Freshness::Fresh) => Presence::Fresh,
        };
        let meta = meta_of(self.tag, self.now_ms, item);
        let value_bytes = u32::try_from(item.value_bytes()).unwrap_or(u32::MAX);
        let said = (presence, lease);
        larder_protocol::encode_leased_head(self.out, self.tag.id, &meta, said, value_bytes);
        if leased.large.is_none() {
            item.append_value_to(self.out);
        }
    }

    #[inline]
    fn stored(&mut self, version: u64) {
        if !self.is_silent(Status::OK) {
            larder_protocol::encode_stored(self.out, self.tag.opcode, self.tag.id, version);
        }
    }

    fn counter(&mut self, counted: &Counted) {
        if !self.is_silent(Status::OK) {
            let Tag { opcode, id, .. } = self.tag;
            larder_protocol::encode_counter(self.out, opcode, id, counted.value, counted.version);
        }
    }

    fn done(&mut self) {
        if !self.is_silent(Status::OK) {
            larder_protocol::encode_done(self.out, self.tag.opcode, self.tag.id);
        }
    }

    #[inline]
    fn failed(&mut self, failure: Failure) {
        let status = status_of(failure);
        if self.is_silent(status) {
            return;
        }
        let Tag { opcode, id, .. } = self.tag;
        match failure {
            // These are ordinary outcomes: the status says it all.
            Failure::NotFound | Failure::NotStored | Failure::Exists | Failure::NotANumber => {
                larder_protocol::encode_status(self.out, opcode, id, status, "");
            }
            _ => {
                let sentence = failure.to_string();
                larder_protocol::encode_status(self.out, opcode, id, status, &sentence);
            }
        }
    }

    fn echo(&mut self, bytes: &[u8]) {
        larder_protocol::encode_pong(self.out, self.tag.id, bytes);
    }

    fn stats(&mut self, figures: &[(String, String)]) {
        let mut reply = StatsReply::begin(self.out, self.tag.id, self.frame_bytes_max);
        for (name, value) in figures {
            if reply.push(self.out, name, value) == Fit::Full {
                break;
            }
        }
        reply.finish(self.out);
    }

    fn written_bytes(&self) -> usize {
        self.out.len()
    }

    fn begin_items(&mut self, asked: u32) {
        let Tag { id, flags, .. } = self.tag;
        let frame_bytes_max = self.frame_bytes_max;
        let asked = ValuesAsked {
            id,
            keys: asked,
            want_expiry: flags & FLAG_WANT_EXPIRY != 0,
            frame_bytes_max,
        };
        self.draft = Draft::Values(ValuesReply::begin(self.out, asked));
    }

    fn push_item(&mut self, found: Result<&Item<'_>, Failure>, large: Option<&LargeValue>) -> Room {
        let meta = found
            .ok()
            .map(|item| meta_of(self.tag, self.now_ms, item))
            .unwrap_or_default();
        let Draft::Values(reply) = &mut self.draft else {
            return Room::Full;
        };
        room(match found {
            // A value that would not even fit alone is no reason to answer nothing for ever.
            Ok(item) if item.value_bytes() + HEAD_BYTES_MAX > u64::from(self.frame_bytes_max) => {
                reply.push_miss(self.out, status_of(Failure::ToBeReadAlone))
            }
            Ok(item) => match large {
                Some(value) => push_large(reply, self.out, &meta, value),
                None => reply.push_value(self.out, &meta, &item.value()),
            },
            Err(failure) => reply.push_miss(self.out, status_of(failure)),
        })
    }

    fn end_items(&mut self) {
        if let Draft::Values(reply) = std::mem::replace(&mut self.draft, Draft::None) {
            match self.tag.is_quiet() && reply.is_silent() {
                true => reply.abandon(self.out),
                false => reply.finish(self.out),
            }
        }
    }

    fn begin_outcomes(&mut self) {
        let Tag { opcode, id, .. } = self.tag;
        self.draft = Draft::Outcomes(OutcomesReply::begin(self.out, opcode, id));
    }

    fn push_outcome(&mut self, outcome: Result<(), Failure>) {
        if let Draft::Outcomes(reply) = &mut self.draft {
            reply.push(self.out, outcome.map_or_else(status_of, |()| Status::OK));
        }
    }

    fn end_outcomes(&mut self) {
        if let Draft::Outcomes(reply) = std::mem::replace(&mut self.draft, Draft::None) {
            match self.tag.is_quiet() && reply.is_silent() {
                true => reply.abandon(self.out),
                false => reply.finish(self.out),
            }
        }
    }

    fn begin_page(&mut self) {
        let reply = ScanReply::begin(self.out, self.tag.id, self.frame_bytes_max);
        self.draft = Draft::Page(reply);
    }

    fn push_key(&mut self, inspected: &Inspected<'_>) -> Room {
        let Draft::Page(reply) = &mut self.draft else {
            return Room::Full;
        };
        let item = &inspected.item;
        let entry = ScanEntry {
            key: item.key(),
            value_bytes: u32::try_from(item.value_bytes()).unwrap_or(u32::MAX),
            version: item.version(),
            expire_in_ms: item
                .expires_at_ms()
                .map(|at_ms| at_ms.saturating_sub(self.now_ms)),
        };
        room(reply.push(self.out, &entry))
    }

    fn end_page(&mut self, next_cursor: Option<u64>) {
        if let Draft::Page(reply) = std::mem::replace(&mut self.draft, Draft::None) {
            reply.finish(self.out, next_cursor.unwrap_or(0));
        }
    }
}

/// Adds a value that lies in pieces, and fits a reply.
fn push_large(
    reply: &mut ValuesReply,
    out: &mut Vec<u8>,
    meta: &ValueMeta,
    value: &LargeValue,
) -> Fit {
    let fit = reply.push_value_head(out, meta, value.value_bytes() as u32);
    let mut at = 0;
    while fit == Fit::Added && at < value.value_bytes() {
        let piece = value.piece_at(at);
        out.extend_from_slice(piece);
        at += piece.len() as u64;
    }
    fit
}

fn room(fit: Fit) -> Room {
    match fit {
        Fit::Added => Room::Taken,
        Fit::Full => Room::Full,
    }
}

fn status_of(failure: Failure) -> Status {
    match failure {
        Failure::NotFound | Failure::NoSuchStats { .. } => Status::NOT_FOUND,
        Failure::NotStored => Status::NOT_STORED,
        Failure::Exists => Status::EXISTS,
        Failure::NotANumber => Status::NOT_A_NUMBER,
        Failure::KeyEmpty => Status::KEY_EMPTY,
        Failure::KeyTooLong { .. } => Status::KEY_TOO_LONG,
        Failure::TooLarge { .. } | Failure::ExtendedTooLarge { .. } | Failure::ToBeReadAlone => {
            Status::TOO_LARGE
        }
        Failure::NoSpace => Status::NO_SPACE,
        Failure::Quarantined => Status::QUARANTINED,
        // Frames say how long they are, and nothing else ends a value.
        Failure::Unterminated => Status::BAD_FRAME,
    }
}
