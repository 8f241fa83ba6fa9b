//! Operations to bytes and bytes to replies, in the protocol of the server under load.

use larder_protocol::{
    Class, Decoded, HEADER_BYTES, HELLO_BODY_BYTES_MAX, HelloRequest, KeyList, Limits, Lookup,
    Request, RequestFrame, Response, Status, Store, StoreMode, Values, decode_response,
};

use super::connection::Lost;
use super::keys::{KeyText, Keyspace};
use super::memcached;
use super::resp;
use super::source::Operation;
use super::target::Protocol;
use crate::sync::Arc;

/// What a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// A read found this value.
    Hit(&'a [u8]),
    /// A read found nothing.
    Miss,
    /// A write was done.
    Stored,
    /// The server would not; its word for why.
    Refused(&'a str),
}

/// What stands at the front of what was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The reply to the next request; what it says of each key has been handed over.
    Reply { consumed: usize },
    /// The server will close the connection soon: no more requests.
    Drain { consumed: usize },
    /// Nothing that matters.
    Skip { consumed: usize },
    /// The beginning of something that has so many bytes or more.
    Incomplete { needed_bytes: usize },
    /// The end of the connection, as a sentence.
    Broken(String),
}

/// Writes the requests and reads the replies of one connection.
#[derive(Debug)]
pub(super) struct Wire {
    protocol: Protocol,
    keyspace: Arc<Keyspace>,
    key: KeyText,
    keys: KeyList,
    value: Vec<u8>,
    frame_bytes_max: u32,
}

impl Wire {
    pub(super) fn new(protocol: Protocol, keyspace: &Arc<Keyspace>) -> Self {
        Self {
            protocol,
            keyspace: Arc::clone(keyspace),
            key: keyspace.key_text(),
            keys: KeyList::default(),
            value: Vec::new(),
            frame_bytes_max: HEADER_BYTES as u32 + HELLO_BODY_BYTES_MAX,
        }
    }

    /// Appends what a connection begins with; nothing where the protocol has no beginning.
    pub(super) fn push_hello(&self, out: &mut Vec<u8>) {
        if self.protocol == Protocol::Larder {
            HelloRequest::new("larder bench").encode(0, out);
        }
    }

    /// Reads the answer to the beginning, and whether the server can take the load.
    ///
    /// `None` as long as it is not there yet.
    pub(super) fn take_hello(&mut self, received: &[u8]) -> Option<Result<(), Lost>> {
        if self.protocol != Protocol::Larder {
            return Some(Ok(()));
        }
        match decode_response(received, self.frame_bytes_max) {
            Decoded::Incomplete { .. } => None,
            Decoded::Refused(refusal) => Some(Err(Lost::Said(format!(
                "it does not speak Larder's protocol: {refusal}"
            )))),
            Decoded::Frame { frame, .. } => Some(match frame.response {
                Response::Hello(hello) => self.accept(&hello.limits),
                Response::Failed { message } | Response::Close { message } => {
                    Err(Lost::Said(format!("{message} ({})", frame.status)))
                }
                _ => Err(Lost::Said("it does not speak Larder's protocol".to_owned())),
            }),
        }
    }

    fn accept(&mut self, limits: &Limits) -> Result<(), Lost> {
        let key_bytes = self.keyspace.key_bytes;
        let value_bytes = self.keyspace.sizes.max();
        self.frame_bytes_max = limits.frame_bytes_max;
        if key_bytes > limits.key_bytes_max as usize {
            let key_bytes_max = limits.key_bytes_max;
            return Err(Lost::Unfit(format!(
                "--key-bytes {key_bytes} cannot work: the server accepts up to {key_bytes_max}"
            )));
        }
        if value_bytes > limits.value_bytes_max as usize {
            let value_bytes_max = limits.value_bytes_max;
            return Err(Lost::Unfit(format!(
                "--value-bytes {} cannot work: the server accepts up to {value_bytes_max}",
                self.keyspace.sizes
            )));
        }
        Ok(())
    }

    /// Appends a request: a set, or a get of one key or many.
    #[inline]
    pub(super) fn push_request(&mut self, request: &[Operation], id: u32, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Larder => self.push_frame(request, id, out),
            Protocol::Memcached => {
                memcached::push_request(request, &self.keyspace, &mut self.key, out);
            }
            Protocol::Redis => resp::push_request(request, &self.keyspace, &mut self.key, out),
        }
    }

    #[inline]
    fn push_frame(&mut self, request: &[Operation], id: u32, out: &mut Vec<u8>) {
        let mut encode = |request| {
            let quiet = false;
            RequestFrame { id, quiet, request }.encode(out);
        };
        match *request {
            [Operation::Set(index)] => {
                self.value.clear();
                self.keyspace.push_value(index, &mut self.value);
                encode(Request::Store(Store {
                    mode: StoreMode::Set,
                    key: self.key.of(index),
                    value: &self.value,
                    client_flags: 0,
                    expire_in_ms: (self.keyspace.expire_in)
                        .map(|expire_in| expire_in.as_millis() as u64),
                }));
            }
            [operation] => encode(Request::Get {
                key: self.key.of(operation.key()),
                want_expiry: false,
            }),
            ref many => {
                self.keys.clear();
                for operation in many {
                    self.keys.push(self.key.of(operation.key()));
                }
                encode(Request::MultiGet {
                    keys: self.keys.keys(),
                    want_expiry: false,
                });
            }
        }
    }

    /// Reads the reply to a request, and hands over what it says of each key.
    #[inline]
    pub(super) fn take_reply(
        &mut self,
        id: u32,
        request: &[Operation],
        received: &[u8],
        each: &mut impl FnMut(Operation, Reply<'_>),
    ) -> Parsed {
        match self.protocol {
            Protocol::Larder => self.take_frame(id, request, received, each),
            Protocol::Memcached => memcached::take_reply(request, &mut self.key, received, each),
            Protocol::Redis => resp::take_reply(request, received, each),
        }
    }

    #[inline]
    fn take_frame(
        &self,
        id: u32,
        request: &[Operation],
        received: &[u8],
        each: &mut impl FnMut(Operation, Reply<'_>),
    ) -> Parsed {
        let (frame, consumed) = match decode_response(received, self.frame_bytes_max) {
            Decoded::Incomplete { needed_bytes } => return Parsed::Incomplete { needed_bytes },
            Decoded::Refused(refusal) => return Parsed::Broken(refusal.to_string()),
            Decoded::Frame { frame, consumed } => (frame, consumed),
        };
        let reply = match frame.response {
            Response::Value(value) => Reply::Hit(value.bytes),
            Response::Stored { .. } => Reply::Stored,
            Response::Failed { .. } if frame.status == Status::NOT_FOUND => Reply::Miss,
            Response::Failed { message } => match frame.status.class() {
                Class::Outcome | Class::Refused => {
                    Reply::Refused(frame.status.name().unwrap_or(message))
                }
                _ => return Parsed::Broken(format!("{message} ({})", frame.status)),
            },
            Response::Values { values, .. } if frame.id == id => {
                if values.count() as usize != request.len() {
                    return Parsed::Broken(format!(
                        "the server answers {} of {} keys in one frame; --multi-get asks for too many",
                        values.count(),
                        request.len()
                    ));
                }
                hand_over(request, &values, each);
                return Parsed::Reply { consumed };
            }
            Response::Drain { .. } => return Parsed::Drain { consumed },
            Response::Close { message } => {
                return Parsed::Broken(format!("{message} ({})", frame.status));
            }
            _ => return Parsed::Skip { consumed },
        };
        if frame.id != id {
            return Parsed::Broken(format!("reply {} came in place of {id}", frame.id));
        }
        // A refusal is one of the whole request.
        request.iter().for_each(|&operation| each(operation, reply));
        Parsed::Reply { consumed }
    }

    /// Appends a request for the server's figures.
    pub(super) fn push_stats(&self, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Larder => {
                let request = Request::Stats { group: b"" };
                RequestFrame {
                    id: 0,
                    quiet: false,
                    request,
                }
                .encode(out);
            }
            Protocol::Memcached => memcached::push_stats(out),
            Protocol::Redis => resp::push_stats(out),
        }
    }

    /// Reads the server's figures; `None` as long as they are not there yet.
    pub(super) fn take_stats(&self, received: &[u8]) -> Option<Vec<(String, String)>> {
        match self.protocol {
            Protocol::Larder => {}
            Protocol::Memcached => return memcached::take_stats(received),
            Protocol::Redis => return resp::take_stats(received),
        }
        match decode_response(received, self.frame_bytes_max) {
            Decoded::Incomplete { .. } => None,
            Decoded::Frame { frame, .. } => Some(match frame.response {
                Response::Stats(pairs) => pairs
                    .iter()
                    .map(|pair| (pair.name.to_owned(), pair.value.to_owned()))
                    .collect(),
                _ => Vec::new(),
            }),
            Decoded::Refused(_) => Some(Vec::new()),
        }
    }
}

/// What a multi-get found, key by key.
fn hand_over(
    request: &[Operation],
    values: &Values<'_>,
    each: &mut impl FnMut(Operation, Reply<'_>),
) {
    for (&operation, lookup) in request.iter().zip(values.iter()) {
        let reply = match lookup {
            Lookup::Found(value) => Reply::Hit(value.bytes),
            Lookup::Missed(Status::NOT_FOUND) => Reply::Miss,
            Lookup::Missed(status) => Reply::Refused(status.name().unwrap_or("not answered")),
        };
        each(operation, reply);
    }
}

/// Appends a number in decimal digits.
#[inline]
pub(super) fn push_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number of decimal digits alone.
#[inline]
pub(super) fn number(digits: &[u8]) -> Option<usize> {
    // LIMIT: a value of more digits than these would not be in one reply.
    if digits.is_empty() || digits.len() >= 10 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        let is_digit = digit.is_ascii_digit();
        is_digit.then(|| number * 10 + usize::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_protocol::{
        Decoded, Fit, Limits, Opcode, Request, Status, ValueMeta, ValuesAsked, ValuesReply,
        decode_request, encode_status, encode_stored, encode_value,
    };

    use super::{Parsed, Reply, Wire};
    use crate::cli::bench::keys::Keyspace;
    use crate::cli::bench::sizes::Sizes;
    use crate::cli::bench::source::Operation;
    use crate::cli::bench::target::Protocol;
    use crate::sync::Arc;

    fn wire() -> (Wire, Arc<Keyspace>) {
        let keyspace = Keyspace {
            keys: 100,
            key_bytes: 5,
            sizes: Sizes::fixed(30),
            expire_in: Some(Duration::from_millis(1500)),
            seed: 3,
        };
        let keyspace = Arc::new(keyspace);
        (Wire::new(Protocol::Larder, &keyspace), keyspace)
    }

    #[test]
    fn a_set_carries_the_value_that_its_key_determines() {
        let (mut wire, keyspace) = wire();
        let mut out = Vec::new();
        wire.push_request(&[Operation::Set(42)], 9, &mut out);
        let Decoded::Frame { frame, consumed } = decode_request(&out, &Limits::default()) else {
            panic!("the frame is whole");
        };
        let Request::Store(store) = frame.request else {
            panic!("it stores")
        };
        assert_eq!(
            (frame.id, consumed, store.key),
            (9, out.len(), &b"00042"[..])
        );
        assert!(keyspace.is_value(42, store.value));
        assert_eq!(store.expire_in_ms, Some(1500));
    }

    /// What is read from some bytes, and which replies it hands over.
    fn taken(
        wire: &mut Wire,
        id: u32,
        request: &[Operation],
        bytes: &[u8],
    ) -> (Parsed, Vec<String>) {
        let mut replies = Vec::new();
        let mut each = |operation: Operation, reply: Reply<'_>| {
            replies.push(format!("{}: {reply:?}", operation.key()));
        };
        let parsed = wire.take_reply(id, request, bytes, &mut each);
        (parsed, replies)
    }

    #[test]
    fn replies_are_told_apart() {
        let (mut wire, _) = wire();
        let mut value = Vec::new();
        encode_value(&mut value, Opcode::Get, 5, &ValueMeta::default(), b"bread");
        let mut missed = Vec::new();
        encode_status(&mut missed, Opcode::Get, 5, Status::NOT_FOUND, "");
        let mut refused = Vec::new();
        encode_status(&mut refused, Opcode::Set, 5, Status::NO_SPACE, "no room");
        let mut stored = Vec::new();
        encode_stored(&mut stored, Opcode::Set, 5, 77);
        for (bytes, operation, reply) in [
            (value, Operation::Get(0), Reply::Hit(b"bread")),
            (missed, Operation::Get(0), Reply::Miss),
            (refused, Operation::Set(0), Reply::Refused("NO_SPACE")),
            (stored, Operation::Set(0), Reply::Stored),
        ] {
            let (consumed, request) = (bytes.len(), [operation]);
            let (parsed, replies) = taken(&mut wire, 5, &request, &bytes);
            assert_eq!(parsed, Parsed::Reply { consumed });
            assert_eq!(replies, [format!("0: {reply:?}")]);
            let (parsed, replies) = taken(&mut wire, 6, &request, &bytes);
            assert!(matches!(parsed, Parsed::Broken(_)) && replies.is_empty());
            let (parsed, _) = taken(&mut wire, 5, &request, &bytes[..consumed - 1]);
            assert!(matches!(parsed, Parsed::Incomplete { .. }));
        }
    }

    #[test]
    fn a_multi_get_is_one_frame_with_a_reply_for_each_key() {
        let (mut wire, _) = wire();
        let request = [3, 4, 5].map(Operation::GetNext);
        let mut out = Vec::new();
        wire.push_request(&request, 9, &mut out);
        let Decoded::Frame { frame, .. } = decode_request(&out, &Limits::default()) else {
            panic!("the frame is whole");
        };
        let Request::MultiGet { keys, .. } = frame.request else {
            panic!("it asks for many")
        };
        let keys: Vec<_> = keys.iter().collect();
        assert_eq!(keys, [b"00003", b"00004", b"00005"]);
        let asked = ValuesAsked {
            id: 9,
            want_expiry: false,
            keys: 3,
            frame_bytes_max: 1000,
        };
        let mut answer = Vec::new();
        let mut reply = ValuesReply::begin(&mut answer, asked);
        let meta = ValueMeta::default();
        let fits = [
            reply.push_value(&mut answer, &meta, b"a"),
            reply.push_miss(&mut answer, Status::NOT_FOUND),
            reply.push_value(&mut answer, &meta, b"c"),
        ];
        assert_eq!(fits, [Fit::Added; 3]);
        reply.finish(&mut answer);
        wire.frame_bytes_max = 1000;
        let (parsed, replies) = taken(&mut wire, 9, &request, &answer);
        let consumed = answer.len();
        assert_eq!(parsed, Parsed::Reply { consumed });
        assert_eq!(replies, ["3: Hit([97])", "4: Miss", "5: Hit([99])"]);
        let (parsed, _) = taken(&mut wire, 9, &request[..2], &answer);
        assert!(matches!(parsed, Parsed::Broken(why) if why.contains("answers 3 of 2 keys")));
    }
}
