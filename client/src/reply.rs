//! Replies that own what they say.

use bytes::Bytes;
use larder_protocol::{ExpiryLeft, Lookup, Response, Status, Value};

use crate::lease::Leased;
use crate::scan::ScanKey;

/// An item as a read returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub value: Bytes,
    /// The flags that the item was stored with.
    pub flags: u32,
    /// The version, for [`Client::cas`](crate::Client::cas) and
    /// [`Client::delete_if_version`](crate::Client::delete_if_version).
    pub version: u64,
    /// How long the item has left, where the read asked for it.
    pub expiry_left: ExpiryLeft,
}

/// A reply whose status is OK.
#[derive(Debug)]
pub(crate) enum Reply {
    Done,
    Item(Item),
    Leased(Leased),
    Stored {
        version: u64,
    },
    Counter {
        number: u64,
        version: u64,
    },
    Items {
        items: Vec<Result<Item, Status>>,
        partial: bool,
    },
    Outcomes(Vec<Status>),
    Scan {
        next_cursor: u64,
        keys: Vec<ScanKey>,
    },
    Stats(Vec<(String, String)>),
}

impl Reply {
    /// Makes a reply own what it says; `own` turns a slice of the frame into bytes. `None` for
    /// responses that answer no request, or refuse one.
    pub(crate) fn from_response(
        response: &Response<'_>,
        own: impl Fn(&[u8]) -> Bytes,
    ) -> Option<Self> {
        Some(match response {
            // The client's own PINGs are empty.
            Response::Done | Response::Pong { .. } => Self::Done,
            Response::Value(value) => Self::Item(item(value, &own)),
            Response::Leased(leased) => {
                Self::Leased(Leased::from_wire(leased, item(&leased.value, &own)))
            }
            Response::Stored { version } => Self::Stored { version: *version },
            Response::Counter { number, version } => Self::Counter {
                number: *number,
                version: *version,
            },
            Response::Values { values, partial } => {
                let items = values.iter().map(|lookup| match lookup {
                    Lookup::Found(value) => Ok(item(&value, &own)),
                    Lookup::Missed(status) => Err(status),
                });
                Self::Items {
                    items: items.collect(),
                    partial: *partial,
                }
            }
            Response::Outcomes(outcomes) => Self::Outcomes(outcomes.iter().collect()),
            Response::Scan {
                next_cursor,
                entries,
            } => {
                let keys = entries.iter().map(|entry| ScanKey {
                    key: own(entry.key),
                    value_bytes: entry.value_bytes,
                    version: entry.version,
                    expiry_left: entry.expire_in_ms.map_or(ExpiryLeft::Never, ExpiryLeft::Ms),
                });
                Self::Scan {
                    next_cursor: *next_cursor,
                    keys: keys.collect(),
                }
            }
            Response::Stats(pairs) => Self::Stats(
                pairs
                    .iter()
                    .map(|pair| (pair.name.into(), pair.value.into()))
                    .collect(),
            ),
            Response::Hello(_)
            | Response::Drain { .. }
            | Response::Close { .. }
            | Response::Failed { .. }
            | Response::Other { .. } => return None,
        })
    }
}

fn item(value: &Value<'_>, own: impl Fn(&[u8]) -> Bytes) -> Item {
    Item {
        value: own(value.bytes),
        flags: value.meta.client_flags,
        version: value.meta.version,
        expiry_left: value.meta.expiry_left,
    }
}
