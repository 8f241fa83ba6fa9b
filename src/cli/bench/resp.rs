//! The little of Redis's protocol (RESP 2) that a load needs.

use memchr::memchr;

use super::keys::{KeyText, Keyspace};
use super::source::Operation;
use super::wire::{Parsed, Reply, number, push_number};

/// LIMIT: the longest line that any answer begins with; a longer one is not Redis's.
const LINE_BYTES_MAX: usize = 1024;

const LINE_END: &[u8] = b"\r\n";

/// What Redis calls its figures, and what others call them.
const FIGURES: [(&str, &str); 3] = [
    ("process_id", "pid"),
    ("used_cpu_user", "rusage_user"),
    ("used_cpu_sys", "rusage_system"),
];

/// What an answer, or a part of one, is.
enum Element<'a> {
    /// A line that says yes.
    Simple(&'a [u8]),
    /// A line that says no, and why.
    Error(&'a [u8]),
    /// A value, or that there is none.
    Bulk(Option<&'a [u8]>),
    /// So many elements follow.
    Array(usize),
}

/// Appends a request.
#[inline]
pub(super) fn push_request(
    request: &[Operation],
    keyspace: &Keyspace,
    key: &mut KeyText,
    out: &mut Vec<u8>,
) {
    match *request {
        [Operation::Set(index)] => {
            let words = if keyspace.expire_in.is_some() { 5 } else { 3 };
            push_head(b'*', words, out);
            push_bulk(b"SET", out);
            push_bulk(key.of(index), out);
            push_head(b'$', keyspace.value_bytes(index), out);
            keyspace.push_value(index, out);
            out.extend_from_slice(LINE_END);
            if let Some(expire_in) = keyspace.expire_in {
                push_bulk(b"PX", out);
                push_bulk(expire_in.as_millis().to_string().as_bytes(), out);
            }
        }
        [operation] => {
            out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
            push_bulk(key.of(operation.key()), out);
        }
        ref many => {
            push_head(b'*', many.len() + 1, out);
            push_bulk(b"MGET", out);
            for operation in many {
                push_bulk(key.of(operation.key()), out);
            }
        }
    }
}

fn push_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    push_head(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(LINE_END);
}

fn push_head(kind: u8, count: usize, out: &mut Vec<u8>) {
    out.push(kind);
    push_number(count as u64, out);
    out.extend_from_slice(LINE_END);
}

/// Reads the reply to a request, and hands over what it says of each key.
#[inline]
pub(super) fn take_reply(
    request: &[Operation],
    received: &[u8],
    each: &mut impl FnMut(Operation, Reply<'_>),
) -> Parsed {
    let (first, head_bytes) = match element(received) {
        Ok(found) => found,
        Err(other) => return other,
    };
    let reply = match (first, request) {
        (Element::Bulk(value), [Operation::Get(_)]) => value.map_or(Reply::Miss, Reply::Hit),
        (Element::Simple(b"OK"), [Operation::Set(_)]) => Reply::Stored,
        (Element::Array(count), many) if count == many.len() => {
            return take_many(many, head_bytes, received, each);
        }
        (Element::Error(why), _) => match std::str::from_utf8(why) {
            Ok(why) => Reply::Refused(why),
            Err(_) => return Parsed::Broken("the server's line is no text".to_owned()),
        },
        _ => return Parsed::Broken("the server's answer is none to this request".to_owned()),
    };
    // A refusal is one of the whole request.
    request.iter().for_each(|&operation| each(operation, reply));
    Parsed::Reply {
        consumed: head_bytes,
    }
}

/// The values of an array that begins behind its head.
fn take_many(
    request: &[Operation],
    head_bytes: usize,
    received: &[u8],
    each: &mut impl FnMut(Operation, Reply<'_>),
) -> Parsed {
    let (mut values, mut at) = (Vec::with_capacity(request.len()), head_bytes);
    // The array is looked through to its end before anything is counted.
    for _ in request {
        match element(&received[at..]) {
            Ok((Element::Bulk(value), bytes)) => {
                values.push(value);
                at += bytes;
            }
            Ok(_) => return Parsed::Broken("the server's array holds no values".to_owned()),
            Err(Parsed::Incomplete { needed_bytes }) => {
                return Parsed::Incomplete {
                    needed_bytes: at + needed_bytes,
                };
            }
            Err(other) => return other,
        }
    }
    for (&operation, value) in request.iter().zip(values) {
        each(operation, value.map_or(Reply::Miss, Reply::Hit));
    }
    Parsed::Reply { consumed: at }
}

/// The element at the front, and its length; of an array, the length of its head.
#[inline]
fn element(received: &[u8]) -> Result<(Element<'_>, usize), Parsed> {
    let foreign = || Parsed::Broken("the server does not speak Redis's protocol".to_owned());
    let searched = &received[..received.len().min(LINE_BYTES_MAX)];
    let line = match memchr(b'\r', searched) {
        Some(end) if received.len() > end + 1 => &received[..end],
        None if received.len() > LINE_BYTES_MAX => return Err(foreign()),
        _ => {
            return Err(Parsed::Incomplete {
                needed_bytes: received.len() + 1,
            });
        }
    };
    let head_bytes = line.len() + LINE_END.len();
    match line {
        [b'+', text @ ..] => Ok((Element::Simple(text), head_bytes)),
        [b'-', text @ ..] => Ok((Element::Error(text), head_bytes)),
        b"$-1" => Ok((Element::Bulk(None), head_bytes)),
        [b'$', digits @ ..] => {
            let end = head_bytes + number(digits).ok_or_else(foreign)?;
            let needed_bytes = end + LINE_END.len();
            match received.get(head_bytes..end) {
                Some(value) if received.len() >= needed_bytes => {
                    Ok((Element::Bulk(Some(value)), needed_bytes))
                }
                _ => Err(Parsed::Incomplete { needed_bytes }),
            }
        }
        [b'*', digits @ ..] => {
            let count = number(digits).ok_or_else(foreign)?;
            Ok((Element::Array(count), head_bytes))
        }
        _ => Err(foreign()),
    }
}

/// Appends a request for the server's figures.
pub(super) fn push_stats(out: &mut Vec<u8>) {
    out.extend_from_slice(b"*1\r\n$4\r\nINFO\r\n");
}

/// Reads the server's figures, those of its process by the names that others give them; `None` as long
/// as they are not there yet.
pub(super) fn take_stats(received: &[u8]) -> Option<Vec<(String, String)>> {
    let text = match element(received) {
        Err(Parsed::Incomplete { .. }) => return None,
        Ok((Element::Bulk(Some(text)), _)) => std::str::from_utf8(text).unwrap_or_default(),
        // A server that will not say is one that does not tell.
        _ => "",
    };
    let figure = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let known = FIGURES.iter().find(|(theirs, _)| *theirs == name);
        let name = known.map_or(name, |(_, ours)| ours);
        Some((name.to_owned(), value.to_owned()))
    };
    Some(text.lines().filter_map(figure).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{push_request, take_reply, take_stats};
    use crate::cli::bench::keys::Keyspace;
    use crate::cli::bench::sizes::Sizes;
    use crate::cli::bench::source::Operation;
    use crate::cli::bench::wire::{Parsed, Reply};

    fn pushed(expire_in: Option<Duration>, requests: &[&[Operation]]) -> String {
        let keyspace = Keyspace {
            keys: 100,
            key_bytes: 3,
            sizes: Sizes::fixed(0),
            expire_in,
            seed: 0,
        };
        let (mut out, mut key) = (Vec::new(), keyspace.key_text());
        for request in requests {
            push_request(request, &keyspace, &mut key, &mut out);
        }
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn requests_are_arrays() {
        let many = [Operation::Get(1), Operation::GetNext(2)];
        let requests = [&[Operation::Get(7)][..], &[Operation::Set(8)], &many];
        assert_eq!(
            pushed(None, &requests),
            "*2 $3 GET $3 007 *3 $3 SET $3 008 $0  *3 $4 MGET $3 001 $3 002 "
        );
        assert_eq!(
            pushed(Some(Duration::from_millis(1500)), &[&[Operation::Set(8)]]),
            "*5 $3 SET $3 008 $0  $2 PX $4 1500 "
        );
    }

    /// What is read from some bytes, and which replies it hands over.
    fn taken(request: &[Operation], bytes: &[u8]) -> (Parsed, Vec<String>) {
        let mut replies = Vec::new();
        let mut each = |operation: Operation, reply: Reply<'_>| {
            replies.push(format!("{}: {reply:?}", operation.key()));
        };
        let parsed = take_reply(request, bytes, &mut each);
        (parsed, replies)
    }

    #[test]
    fn replies_are_told_apart_and_wait_for_their_end() {
        let many = [
            Operation::Get(1),
            Operation::GetNext(2),
            Operation::GetNext(3),
        ];
        for (request, bytes, expected) in [
            (&[Operation::Get(0)][..], &b"$-1\r\n"[..], &["0: Miss"][..]),
            (
                &[Operation::Get(0)],
                b"$4\r\na\r\nb\r\n",
                &["0: Hit([97, 13, 10, 98])"],
            ),
            (&[Operation::Get(0)], b"$0\r\n\r\n", &["0: Hit([])"]),
            (&[Operation::Set(0)], b"+OK\r\n", &["0: Stored"]),
            (
                &[Operation::Set(0)],
                b"-OOM full\r\n",
                &["0: Refused(\"OOM full\")"],
            ),
            (
                &many,
                b"*3\r\n$1\r\na\r\n$-1\r\n$1\r\nc\r\n",
                &["1: Hit([97])", "2: Miss", "3: Hit([99])"],
            ),
            (
                &many,
                b"-LOADING\r\n",
                &[
                    "1: Refused(\"LOADING\")",
                    "2: Refused(\"LOADING\")",
                    "3: Refused(\"LOADING\")",
                ],
            ),
        ] {
            let consumed = bytes.len();
            let (parsed, replies) = taken(request, bytes);
            assert_eq!(parsed, Parsed::Reply { consumed });
            assert_eq!(replies, expected);
            for end in 0..consumed {
                let (parsed, replies) = taken(request, &bytes[..end]);
                assert!(matches!(parsed, Parsed::Incomplete { .. }), "{end} bytes");
                assert!(replies.is_empty());
            }
        }
    }

    #[test]
    fn what_is_no_answer_ends_the_connection() {
        for bytes in [
            &b"END\r\n"[..],
            b"$x\r\n",
            b"$-2\r\n",
            b"+QUEUED\r\n",
            b"*2\r\n$-1\r\n$-1\r\n",
            &[b'+'; 2000],
        ] {
            let (parsed, replies) = taken(&[Operation::Get(0)], bytes);
            assert!(matches!(parsed, Parsed::Broken(_)), "{bytes:?}");
            assert!(replies.is_empty());
        }
    }

    #[test]
    fn figures_have_the_names_that_others_give_them() {
        let info = "# Server\r\nprocess_id:17\r\n# CPU\r\nused_cpu_sys:1.5\r\n";
        let whole = format!("${}\r\n{info}\r\n", info.len());
        let figures = [("pid", "17"), ("rusage_system", "1.5")];
        let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(take_stats(whole.as_bytes()), Some(figures.to_vec()));
        assert_eq!(take_stats(&whole.as_bytes()[..20]), None);
        assert_eq!(take_stats(b"-NOAUTH\r\n"), Some(vec![]));
    }
}
