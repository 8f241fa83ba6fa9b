//! Replies that own what they say.

use bytes::Bytes;
use larder_protocol::{
    Decoded, ExpiryLeft, Lookup, Opcode, Response, Status, Value, ValueMeta, decode_response,
};

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

/// What the server answered, if it did.
pub(crate) type Answered = Result<Reply, Failure>;

/// A status other than OK. Some are results, some are errors; the operation decides.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
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

/// Whether frames with this opcode answer no request, whether it is known or not.
pub(crate) fn is_unasked(opcode: u8) -> bool {
    opcode >= Opcode::Drain as u8
}

/// Reads a response that is there whole, and makes it own what it says: `own` turns a slice of it into
/// bytes.
///
/// # Errors
///
/// How it breaks the protocol.
pub(crate) fn read_answer(
    response: &[u8],
    own: impl Fn(&[u8]) -> Bytes,
) -> Result<Answered, String> {
    let broken = |why: &str| Err(why.to_owned());
    // How long it may be was looked at before it was gathered.
    match decode_response(response, u32::MAX) {
        Decoded::Frame { frame, .. } => match &frame.response {
            Response::Failed { message } => Ok(Err(Failure {
                status: frame.status,
                message: (*message).to_owned(),
            })),
            response => match Reply::from_response(response, own) {
                Some(reply) => Ok(Ok(reply)),
                None => broken("its reply is of another kind than the request"),
            },
        },
        Decoded::Incomplete { .. } => broken("a reply is not whole"),
        Decoded::Refused(refusal) => broken(&refusal.to_string()),
    }
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
    Item::new(own(value.bytes), &value.meta)
}

impl Item {
    #[inline]
    pub(crate) fn new(value: Bytes, meta: &ValueMeta) -> Self {
        Self {
            value,
            flags: meta.client_flags,
            version: meta.version,
            expiry_left: meta.expiry_left,
        }
    }
}
