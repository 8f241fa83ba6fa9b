//! The wire format of Larder's native protocol.
//!
//! `PROTOCOL.md`, beside this crate's manifest, is the contract; this crate implements it and does
//! nothing else. It owns no socket, no clock and no buffer: bytes come in as a slice and a borrowed
//! frame comes out, a frame goes in and bytes are appended to a vector.
//!
//! # The way of a frame
//!
//! Every frame, in both directions, is a [header](RequestHeader) of [`HEADER_BYTES`] bytes and a body
//! whose length the header states, so that a receiver can skip what it does not understand.
//!
//! * A server calls [`decode_hello`] until the first frame is there, then [`decode_request()`] on
//!   what it has read. Each call answers with a [`Decoded`]: a frame and the bytes it took, the number of
//!   bytes without which there is no point in asking again, or a [`Refusal`], which says what to
//!   answer, and how many bytes to skip or that the connection is over.
//! * It answers with the functions whose names begin with `encode_`, or, for replies with many
//!   entries, with [`ValuesReply`], [`OutcomesReply`], [`ScanReply`] and [`StatsReply`].
//! * A client encodes with [`RequestFrame::encode`] and [`HelloRequest::encode`] and decodes with
//!   [`decode_response()`].
//!
//! Decoding never allocates and never panics, whatever the bytes. It is stable under splits: a prefix
//! of a frame is [`Decoded::Incomplete`] or refused for the same reason as the whole frame.
//!
//! ```
//! use larder_protocol::{Decoded, Limits, Request, RequestFrame, decode_request};
//!
//! let get = Request::Get { key: b"apple", want_expiry: false };
//! let mut wire = Vec::new();
//! RequestFrame { id: 7, quiet: false, request: get.clone() }.encode(&mut wire);
//!
//! let Decoded::Frame { frame, consumed } = decode_request(&wire, &Limits::default()) else {
//!     panic!("a whole frame decodes");
//! };
//! assert_eq!((frame.id, frame.request, consumed), (7, get, 21));
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod decode_request;
mod decode_response;
mod decoded;
mod encode_response;
mod header;
mod hello;
mod limits;
mod lists;
mod opcode;
mod replies;
mod request;
mod response;
mod shape;
mod status;
mod wire;

pub use decode_request::{
    GetFrame, SetFrame, StoreHead, decode_get, decode_request, decode_set, decode_store_head,
};
pub use decode_response::{ValueHead, decode_response, decode_value_head};
pub use decoded::{After, Decoded, Reason, Refusal};
pub use encode_response::{
    encode_close, encode_counter, encode_done, encode_drain, encode_leased_head, encode_pong,
    encode_status, encode_stored, encode_value, encode_value_head, value_head,
};
pub use header::{
    FIELD_CLIENT_FLAGS, FIELD_DELTA, FIELD_EXPIRY, FIELD_INITIAL, FIELD_LEASE, FIELD_REFRESH,
    FIELD_VERSION, FLAG_QUIET, FLAG_WANT_EXPIRY, HEADER_BYTES, REPLY_FLAG_ABSENT,
    REPLY_FLAG_EXPIRY, REPLY_FLAG_PARTIAL, REPLY_FLAG_STALE, REPLY_FLAG_TAKEN, REPLY_FLAG_WON,
    RequestHeader, ResponseHeader,
};
pub use hello::{
    HELLO_BODY_BYTES_MAX, HelloFrame, HelloReply, HelloRequest, MAGIC, NAME_BYTES_MAX,
    PROTOCOL_VERSION, decode_hello,
};
pub use limits::{KEY_BYTES_CEILING, Limits, LimitsError, VALUE_BYTES_CEILING};
pub use lists::{
    Entries, EntriesIter, Entry, EntryList, KeyList, Keys, KeysIter, Outcomes, OutcomesIter, Pair,
    Pairs, PairsIter, ScanEntries, ScanEntriesIter, ScanEntry, Values, ValuesIter,
};
pub use opcode::Opcode;
pub use replies::{Fit, OutcomesReply, ScanReply, StatsReply, ValuesAsked, ValuesReply};
pub use request::{Arithmetic, Direction, Request, RequestFrame, Store, StoreMode};
pub use response::{
    ExpiryLeft, Lease, Leased, Lookup, Presence, Response, ResponseFrame, Value, ValueMeta,
};
pub use status::{Class, Status};
pub use wire::EXPIRY_NEVER;
