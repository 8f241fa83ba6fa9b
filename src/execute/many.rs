//! Requests for many keys: looked up a batch at a time, answered one by one.

use std::ops::ControlFlow;

use larder_protocol::{Entries, Keys};

use super::{BATCH, Follow, delete, store};
use crate::blackbox::Pen;
use crate::dialect::{Failure, Reply, Room, SpacedKeys, Touch};
use crate::engine::{Entry, Guard, Key, KeyError, Mode, Reach};

/// LIMIT: keys on a page of a scan for which no number was asked.
const SCAN_KEYS_DEFAULT: u32 = 256;

/// LIMIT: keys on a page of a scan, however many were asked for: bounds a connection's turn.
const SCAN_KEYS_MAX: u32 = 1024;

/// LIMIT: keys that are answered one by one before others have their turn: as many as other requests
/// that one read may bring.
const KEYS_AT_ONCE: usize = 4096;

/// Checks, hashes and prefetches up to a batch of keys. The array holds `None` past the last.
fn prepare_keys<'i>(
    guard: &Guard<'_>,
    keys: &mut impl Iterator<Item = &'i [u8]>,
    reach: Reach,
) -> [Option<Result<Key<'i>, KeyError>>; BATCH] {
    let mut prepared = [const { None }; BATCH];
    for (place, bytes) in prepared.iter_mut().zip(keys) {
        let key = guard.key(bytes);
        if let Ok(key) = &key {
            guard.prefetch_bucket(key);
        }
        *place = Some(key);
    }
    let known = prepared.iter_mut().flatten().flatten();
    guard.prefetch_items(known.map(|key| (key, reach)));
    prepared
}

/// How many of the keys are answered.
pub(super) enum Answered {
    All,
    /// Those that lie in so many bytes of the request.
    UpTo {
        bytes: usize,
    },
}

/// Answers keys one by one. Stops before a key once the replies are as long as they may be or many
/// keys are answered, and behind a key whose value is large and has to follow.
pub(super) fn get_each(
    guard: &mut Guard<'_>,
    (mut keys, touch): (SpacedKeys<'_>, Touch),
    out_bytes_max: usize,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
    pen: &mut Pen,
) -> Answered {
    let mut begin = keys.at;
    for _ in 0..KEYS_AT_ONCE / BATCH {
        let mut batch = [const { None }; BATCH];
        for place in &mut batch {
            let Some(bytes) = keys.next() else { break };
            let key = guard.key(bytes);
            if let Ok(key) = &key {
                guard.prefetch_bucket(key);
            }
            *place = Some((key, keys.at));
        }
        if batch[0].is_none() {
            reply.end_each();
            return Answered::All;
        }
        let known = batch
            .iter_mut()
            .flatten()
            .filter_map(|(key, _)| key.as_mut().ok());
        guard.prefetch_items(known.map(|key| (key, Reach::Value)));
        for (key, end) in batch.iter().flatten() {
            if reply.written_bytes() >= out_bytes_max {
                return Answered::UpTo { bytes: begin };
            }
            name(pen, key);
            get_one(guard, key, touch, reply, large);
            begin = *end;
            if large.is_some() {
                return Answered::UpTo { bytes: begin };
            }
        }
    }
    Answered::UpTo { bytes: begin }
}

/// Tells the black box which key comes next.
#[inline]
fn name(pen: &mut Pen, key: &Result<Key<'_>, KeyError>) {
    if let Ok(key) = key {
        pen.at_key(key.hash.0);
    }
}

#[inline]
fn get_one(
    guard: &mut Guard<'_>,
    key: &Result<Key<'_>, KeyError>,
    touch: Touch,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
) {
    let (item, value) = match (key, touch) {
        (Err(error), _) => return reply.each(Err(Failure::from(*error)), None),
        (Ok(key), Touch::Keep) => match guard.get(key) {
            Some(item) if item.is_large() => (item, guard.hold(&item)),
            Some(item) => (item, None),
            None => return reply.each(Err(Failure::NotFound), None),
        },
        (Ok(key), Touch::To { expires_at_ms }) => {
            match guard.get_and_touch_held(key, expires_at_ms) {
                Ok(Some(found)) => found,
                Ok(None) => return reply.each(Err(Failure::NotFound), None),
                Err(error) => return reply.each(Err(error.into()), None),
            }
        }
    };
    reply.each(Ok(&item), value.as_ref());
    if let Some(value) = value {
        let behind = reply.behind_large();
        *large = Some(Follow { value, behind });
    }
}

pub(super) fn multi_get(guard: &Guard<'_>, keys: Keys<'_>, reply: &mut impl Reply, pen: &mut Pen) {
    reply.begin_items(keys.count());
    let mut rest = keys.iter();
    'reply: for _ in 0..keys.count().div_ceil(BATCH as u32) {
        for key in prepare_keys(guard, &mut rest, Reach::Value)
            .iter()
            .flatten()
        {
            name(pen, key);
            let item = match key {
                Ok(key) => guard.get(key).ok_or(Failure::NotFound),
                Err(error) => Err(Failure::from(*error)),
            };
            let large = match &item {
                Ok(item) if item.is_large() => guard.hold(item),
                _ => None,
            };
            let item = item.as_ref().map_err(|failure| *failure);
            if reply.push_item(item, large.as_ref()) == Room::Full {
                break 'reply;
            }
        }
    }
    reply.end_items();
}

pub(super) fn multi_set(
    guard: &mut Guard<'_>,
    entries: Entries<'_>,
    now_ms: u64,
    reply: &mut impl Reply,
    pen: &mut Pen,
) {
    reply.begin_outcomes();
    let mut keys = entries.iter().map(|entry| entry.key);
    let mut rest = entries.iter();
    for _ in 0..entries.count().div_ceil(BATCH as u32) {
        let prepared = prepare_keys(guard, &mut keys, Reach::Key);
        for (key, entry) in prepared.iter().flatten().zip(rest.by_ref()) {
            let wanted = Entry {
                value: entry.value,
                flags: entry.client_flags,
                expires_at_ms: entry.expire_in_ms.map(|in_ms| now_ms.saturating_add(in_ms)),
                new_version: None,
            };
            name(pen, key);
            let outcome = match key {
                Ok(key) => store(guard, key, Mode::Set, &wanted).map(|_| ()),
                Err(error) => Err(Failure::from(*error)),
            };
            reply.push_outcome(outcome);
        }
    }
    reply.end_outcomes();
}

pub(super) fn multi_delete(
    guard: &mut Guard<'_>,
    keys: Keys<'_>,
    reply: &mut impl Reply,
    pen: &mut Pen,
) {
    reply.begin_outcomes();
    let mut rest = keys.iter();
    for _ in 0..keys.count().div_ceil(BATCH as u32) {
        for key in prepare_keys(guard, &mut rest, Reach::Key).iter().flatten() {
            name(pen, key);
            reply.push_outcome(match key {
                Ok(key) => delete(guard, key, None),
                Err(error) => Err(Failure::from(*error)),
            });
        }
    }
    reply.end_outcomes();
}

/// Fills a page; the key that does not fit is the first of the next page.
pub(super) fn scan(guard: &Guard<'_>, cursor: u64, keys_max: u32, reply: &mut impl Reply) {
    let wanted = match keys_max {
        0 => SCAN_KEYS_DEFAULT,
        asked => asked.min(SCAN_KEYS_MAX),
    };
    reply.begin_page();
    let next = guard.scan_while(cursor, wanted as usize, |inspected| {
        match reply.push_key(&inspected) {
            Room::Taken => ControlFlow::Continue(()),
            Room::Full => ControlFlow::Break(()),
        }
    });
    reply.end_page(next);
}

/// Goes on with a scan that is to come to its end, until the replies are as long as they may be or many keys were
/// come to; gives the cursor at which the next part begins, or none at the end.
pub(super) fn scan_all(
    guard: &Guard<'_>,
    cursor: u64,
    out_bytes_max: usize,
    reply: &mut impl Reply,
) -> Option<u64> {
    if cursor == 0 {
        reply.begin_page();
    }
    let mut has_any = false;
    let next = guard.scan_while(cursor, KEYS_AT_ONCE, |inspected| {
        // Whatever was there before, a part has one key at least.
        if has_any && reply.written_bytes() >= out_bytes_max {
            return ControlFlow::Break(());
        }
        has_any = true;
        // INVARIANT: replies of this kind have no bound of their own.
        let _ = reply.push_key(&inspected);
        ControlFlow::Continue(())
    });
    if next.is_none() {
        reply.end_page(None);
    }
    next
}
