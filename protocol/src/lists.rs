//! The lists inside multi-key frames, pages and statistics.
//!
//! A list is walked once when its frame is decoded. What comes out is the count and the bytes, and an
//! iterator that walks them again without a result to check. Should a list be shorter than its count
//! after all, its iterator ends early.

use crate::Limits;
use crate::decoded::Reason;
use crate::response::{ExpiryLeft, Lookup, Value, ValueMeta};
use crate::shape::{check_key, check_value};
use crate::status::Status;
use crate::wire::{
    expiry_from_wire, expiry_to_wire, take, take_u16, take_u32, take_u64, text, wire_len,
};

const CUT_SHORT: Reason = Reason::BadFrame("the list is shorter than its count says");
const GOES_ON: Reason = Reason::BadFrame("the body goes on after its list");

/// Declares a checked list, and its iterator, from how one entry is taken off the front.
macro_rules! list {
    ($(#[$doc:meta])* $list:ident, $iter:ident yields $item:ty $(, with $with:ident: $with_type:ty)? => $take:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $list<'a> {
            count: u32,
            $($with: $with_type,)?
            // INVARIANT: holds `count` entries and nothing else; checked where it was made.
            bytes: &'a [u8],
        }

        impl<'a> $list<'a> {
            /// The number of entries.
            #[inline]
            #[must_use]
            pub fn count(&self) -> u32 {
                self.count
            }

            /// Whether there are no entries.
            #[inline]
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.count == 0
            }

            /// The list as it stands on the wire.
            #[inline]
            #[must_use]
            pub fn as_bytes(&self) -> &'a [u8] {
                self.bytes
            }

            /// The entries, in the order of the wire.
            #[inline]
            #[must_use]
            pub fn iter(&self) -> $iter<'a> {
                $iter { left: self.count, $($with: self.$with,)? rest: self.bytes }
            }

            /// Walks the whole list; `check` may refuse an entry.
            fn walk(self, mut check: impl FnMut($item) -> Result<(), Reason>) -> Result<Self, Reason> {
                let mut entries = self.iter();
                for _ in 0..self.count {
                    check(entries.next().ok_or(CUT_SHORT)?)?;
                }
                match entries.rest {
                    [] => Ok(self),
                    _ => Err(GOES_ON),
                }
            }
        }

        impl<'a> IntoIterator for $list<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            #[inline]
            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        #[doc = concat!("The entries of [`", stringify!($list), "`].")]
        #[derive(Clone, Debug)]
        pub struct $iter<'a> {
            left: u32,
            $($with: $with_type,)?
            rest: &'a [u8],
        }

        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                self.left = self.left.checked_sub(1)?;
                let take_entry: fn(&mut &'a [u8], $($with_type)?) -> Option<$item> = $take;
                take_entry(&mut self.rest, $(self.$with)?)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                (0, Some(self.left as usize))
            }
        }
    };
}

list! {
    /// The keys of a MULTI_GET or MULTI_DELETE.
    Keys, KeysIter yields &'a [u8] => |rest| {
        let key_bytes = take_u32(rest)?;
        take(rest, key_bytes)
    }
}

impl<'a> Keys<'a> {
    pub(crate) fn read(count: u32, bytes: &'a [u8], limits: &Limits) -> Result<Self, Reason> {
        Self { count, bytes }.walk(|key| check_key(wire_len(key.len()), limits))
    }
}

/// One item of a MULTI_SET, stored as SET stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The client's own flags.
    pub client_flags: u32,
    /// The expiry, in milliseconds from the moment the server executes the request; `None` is never.
    pub expire_in_ms: Option<u64>,
}

list! {
    /// The items of a MULTI_SET.
    Entries, EntriesIter yields Entry<'a> => |rest| {
        let [key_bytes, value_bytes, client_flags] = [take_u32(rest)?, take_u32(rest)?, take_u32(rest)?];
        let expire_in_ms = expiry_from_wire(take_u64(rest)?);
        let [key, value] = [take(rest, key_bytes)?, take(rest, value_bytes)?];
        Some(Entry { key, value, client_flags, expire_in_ms })
    }
}

impl<'a> Entries<'a> {
    pub(crate) fn read(count: u32, bytes: &'a [u8], limits: &Limits) -> Result<Self, Reason> {
        Self { count, bytes }.walk(|entry| {
            check_key(wire_len(entry.key.len()), limits)?;
            check_value(wire_len(entry.value.len()), limits)
        })
    }
}

list! {
    /// What a MULTI_GET found, key by key, in the order asked.
    Values, ValuesIter yields Lookup<'a>, with expiry: bool => |rest, expiry| {
        let status = Status(take_u16(rest)?);
        take_u16(rest)?;
        if status != Status::OK {
            return Some(Lookup::Missed(status));
        }
        let [client_flags, value_bytes] = [take_u32(rest)?, take_u32(rest)?];
        let version = take_u64(rest)?;
        let expiry_left = match expiry {
            true => ExpiryLeft::from_wire(take_u64(rest)?),
            false => ExpiryLeft::NotAsked,
        };
        let meta = ValueMeta { client_flags, version, expiry_left };
        Some(Lookup::Found(Value { meta, bytes: take(rest, value_bytes)? }))
    }
}

impl<'a> Values<'a> {
    pub(crate) fn read(count: u32, expiry: bool, bytes: &'a [u8]) -> Result<Self, Reason> {
        Self {
            count,
            expiry,
            bytes,
        }
        .walk(|_| Ok(()))
    }
}

list! {
    /// How each entry of a MULTI_SET or MULTI_DELETE came out, in the order asked.
    Outcomes, OutcomesIter yields Status => |rest| take_u16(rest).map(Status)
}

impl<'a> Outcomes<'a> {
    pub(crate) fn read(count: u32, bytes: &'a [u8]) -> Result<Self, Reason> {
        Self { count, bytes }.walk(|_| Ok(()))
    }
}

/// One key of a page of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanEntry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The length of its value.
    pub value_bytes: u32,
    /// The version of the item.
    pub version: u64,
    /// How long the item has left, in milliseconds; `None` is for ever.
    pub expire_in_ms: Option<u64>,
}

list! {
    /// The keys of a page of a scan.
    ScanEntries, ScanEntriesIter yields ScanEntry<'a> => |rest| {
        let [key_bytes, value_bytes] = [take_u32(rest)?, take_u32(rest)?];
        let [version, expiry] = [take_u64(rest)?, take_u64(rest)?];
        let (key, expire_in_ms) = (take(rest, key_bytes)?, expiry_from_wire(expiry));
        Some(ScanEntry { key, value_bytes, version, expire_in_ms })
    }
}

impl<'a> ScanEntries<'a> {
    pub(crate) fn read(count: u32, bytes: &'a [u8]) -> Result<Self, Reason> {
        Self { count, bytes }.walk(|_| Ok(()))
    }
}

/// One counter of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value, as text.
    pub value: &'a str,
}

list! {
    /// The counters of a STATS reply.
    Pairs, PairsIter yields Pair<'a> => |rest| {
        let [name_bytes, value_bytes] = [take_u16(rest)?, take_u16(rest)?];
        let [name, value] = [take(rest, name_bytes.into())?, take(rest, value_bytes.into())?];
        Some(Pair { name: text(name), value: text(value) })
    }
}

impl<'a> Pairs<'a> {
    pub(crate) fn read(count: u32, bytes: &'a [u8]) -> Result<Self, Reason> {
        Self { count, bytes }.walk(|_| Ok(()))
    }
}

/// Keys gathered by a client for a [`MultiGet`](crate::Request::MultiGet) or
/// [`MultiDelete`](crate::Request::MultiDelete).
#[derive(Clone, Debug, Default)]
pub struct KeyList {
    count: u32,
    bytes: Vec<u8>,
}

impl KeyList {
    /// Adds a key.
    pub fn push(&mut self, key: &[u8]) {
        self.count += 1;
        self.bytes
            .extend_from_slice(&wire_len(key.len()).to_le_bytes());
        self.bytes.extend_from_slice(key);
    }

    /// Forgets the keys and keeps their memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// The keys so far.
    #[must_use]
    pub fn keys(&self) -> Keys<'_> {
        Keys {
            count: self.count,
            bytes: &self.bytes,
        }
    }
}

/// Items gathered by a client for a [`MultiSet`](crate::Request::MultiSet).
#[derive(Clone, Debug, Default)]
pub struct EntryList {
    count: u32,
    bytes: Vec<u8>,
}

impl EntryList {
    /// Adds an item.
    pub fn push(&mut self, entry: &Entry<'_>) {
        self.count += 1;
        for number in [
            wire_len(entry.key.len()),
            wire_len(entry.value.len()),
            entry.client_flags,
        ] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes
            .extend_from_slice(&expiry_to_wire(entry.expire_in_ms).to_le_bytes());
        self.bytes.extend_from_slice(entry.key);
        self.bytes.extend_from_slice(entry.value);
    }

    /// The items so far.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries {
            count: self.count,
            bytes: &self.bytes,
        }
    }
}
