//! The little of memcached's text protocol that a load needs.

use memchr::{memchr, memrchr};

use super::keys::{KeyText, Keyspace};
use super::source::Operation;
use super::wire::{Parsed, Reply, number, push_number};

/// LIMIT: the longest line that any answer begins with; a longer one is not memcached's.
const LINE_BYTES_MAX: usize = 1024;

const LINE_END: &[u8] = b"\r\n";
const VALUE: &[u8] = b"VALUE ";
const LIST_END: &[u8] = b"END\r\n";

/// What a line begins with that says no.
const REFUSALS: [&[u8]; 3] = [b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR"];

/// Appends a request.
#[inline]
pub(super) fn push_request(
    request: &[Operation],
    keyspace: &Keyspace,
    key: &mut KeyText,
    out: &mut Vec<u8>,
) {
    if let [Operation::Set(index)] = *request {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(key.of(index));
        let expire_in_s = keyspace
            .expire_in
            .map_or(0, |expire_in| expire_in.as_secs());
        out.extend_from_slice(b" 0 ");
        push_number(expire_in_s, out);
        out.push(b' ');
        push_number(keyspace.value_bytes(index) as u64, out);
        out.extend_from_slice(LINE_END);
        keyspace.push_value(index, out);
    } else {
        out.extend_from_slice(b"get");
        for operation in request {
            out.push(b' ');
            out.extend_from_slice(key.of(operation.key()));
        }
    }
    out.extend_from_slice(LINE_END);
}

/// Reads the reply to a request, and hands over what it says of each key.
#[inline]
pub(super) fn take_reply(
    request: &[Operation],
    key: &mut KeyText,
    received: &[u8],
    each: &mut impl FnMut(Operation, Reply<'_>),
) -> Parsed {
    match request {
        [operation] => match take_single(*operation, received) {
            Ok((reply, consumed)) => {
                each(*operation, reply);
                Parsed::Reply { consumed }
            }
            Err(other) => other,
        },
        many => take_many(many, key, received, each),
    }
}

/// The reply to one operation, and its length.
#[inline]
fn take_single(operation: Operation, received: &[u8]) -> Result<(Reply<'_>, usize), Parsed> {
    let line = first_line(received)?;
    let consumed = line.len() + LINE_END.len();
    let reply = match (operation, line) {
        (Operation::Get(_), b"END") => Reply::Miss,
        (Operation::Set(_), b"STORED") => Reply::Stored,
        (Operation::Get(_), line) if line.starts_with(VALUE) => {
            let value = value_behind(line, consumed, received, LIST_END.len())?;
            let consumed = consumed + value.len() + LINE_END.len() + LIST_END.len();
            return Ok((Reply::Hit(value), consumed));
        }
        (_, line) => refusal(line)?,
    };
    Ok((reply, consumed))
}

/// The reply to a get of many keys: those that were found, in the order asked, and a last line.
fn take_many(
    request: &[Operation],
    key: &mut KeyText,
    received: &[u8],
    each: &mut impl FnMut(Operation, Reply<'_>),
) -> Parsed {
    match first_line(received) {
        Ok(line) if line != b"END" && !line.starts_with(VALUE) => {
            let consumed = line.len() + LINE_END.len();
            let refused = refusal(line).map(|reply| {
                request.iter().for_each(|&operation| each(operation, reply));
            });
            return refused.map_or_else(|broken| broken, |()| Parsed::Reply { consumed });
        }
        Err(other) => return other,
        Ok(_) => {}
    }
    // The reply is looked through to its end before anything is counted.
    let List { found, consumed } = match whole_list(received) {
        Ok(found) => found,
        Err(other) => return other,
    };
    let mut lookups = request.iter().copied();
    for (found, value) in found {
        loop {
            let Some(operation) = lookups.next() else {
                return Parsed::Broken("the server answers with a key not asked for".to_owned());
            };
            if key.of(operation.key()) == found {
                each(operation, Reply::Hit(value));
                break;
            }
            each(operation, Reply::Miss);
        }
    }
    lookups.for_each(|operation| each(operation, Reply::Miss));
    Parsed::Reply { consumed }
}

/// What a get of many keys found, and the length of the reply.
struct List<'a> {
    /// Keys with their values.
    found: Vec<(&'a [u8], &'a [u8])>,
    consumed: usize,
}

/// The reply to a get of many keys, if it is there to its last line.
fn whole_list(received: &[u8]) -> Result<List<'_>, Parsed> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let rest = &received[at..];
        let needed = |parsed| match parsed {
            Parsed::Incomplete { needed_bytes } => Parsed::Incomplete {
                needed_bytes: at + needed_bytes,
            },
            other => other,
        };
        let line = first_line(rest).map_err(needed)?;
        let head_bytes = line.len() + LINE_END.len();
        if line == b"END" {
            return Ok(List {
                found,
                consumed: at + head_bytes,
            });
        }
        let Some(words) = line.strip_prefix(VALUE) else {
            let why = String::from_utf8_lossy(line);
            return Err(Parsed::Broken(format!("the server answers with `{why}`")));
        };
        let value = value_behind(line, head_bytes, rest, LIST_END.len()).map_err(needed)?;
        let key = words.split(|&byte| byte == b' ').next().unwrap_or_default();
        found.push((key, value));
        at += head_bytes + value.len() + LINE_END.len();
    }
}

/// The first line of what was received, without its end.
#[inline]
fn first_line(received: &[u8]) -> Result<&[u8], Parsed> {
    line_of(received).ok_or_else(|| match received.len() > LINE_BYTES_MAX {
        true => Parsed::Broken("the server does not speak memcached's protocol".to_owned()),
        false => Parsed::Incomplete {
            needed_bytes: received.len() + 1,
        },
    })
}

/// The value behind its `VALUE` line, if it is there, and so many bytes beyond.
#[inline]
fn value_behind<'a>(
    line: &[u8],
    value_at: usize,
    received: &'a [u8],
    beyond_bytes: usize,
) -> Result<&'a [u8], Parsed> {
    let length = memrchr(b' ', line).and_then(|space| number(&line[space + 1..]));
    let Some(value_bytes) = length else {
        return Err(Parsed::Broken(
            "the server's value has no length".to_owned(),
        ));
    };
    let end = value_at + value_bytes;
    let needed_bytes = end + LINE_END.len() + beyond_bytes;
    match received.get(value_at..end) {
        Some(value) if received.len() >= needed_bytes => Ok(value),
        _ => Err(Parsed::Incomplete { needed_bytes }),
    }
}

fn refusal(line: &[u8]) -> Result<Reply<'_>, Parsed> {
    match std::str::from_utf8(line) {
        Ok(word) => Ok(Reply::Refused(word)),
        Err(_) => Err(Parsed::Broken("the server's line is no text".to_owned())),
    }
}

/// Appends a request for the server's figures.
pub(super) fn push_stats(out: &mut Vec<u8>) {
    out.extend_from_slice(b"stats\r\n");
}

/// Reads the server's figures; `None` as long as they are not there yet. Servers that do not tell any
/// refuse to.
pub(super) fn take_stats(received: &[u8]) -> Option<Vec<(String, String)>> {
    let is_refusal = |line: &[u8]| REFUSALS.iter().any(|word| line.starts_with(word));
    if line_of(received).is_some_and(is_refusal) {
        return Some(Vec::new());
    }
    let list = received.strip_suffix(LIST_END)?;
    let lines = std::str::from_utf8(list).unwrap_or_default().lines();
    let figure = |line: &str| {
        let (name, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
        Some((name.to_owned(), value.to_owned()))
    };
    Some(lines.filter_map(figure).collect())
}

#[inline]
fn line_of(received: &[u8]) -> Option<&[u8]> {
    let searched = &received[..received.len().min(LINE_BYTES_MAX)];
    let end = memchr(b'\r', searched)?;
    (received.get(end + 1) == Some(&b'\n')).then(|| &received[..end])
}

#[cfg(test)]
mod tests {
    use super::{push_request, take_reply, take_stats};
    use crate::cli::bench::keys::Keyspace;
    use crate::cli::bench::sizes::Sizes;
    use crate::cli::bench::source::Operation;
    use crate::cli::bench::wire::{Parsed, Reply};

    fn keyspace() -> Keyspace {
        Keyspace {
            keys: 100,
            key_bytes: 4,
            sizes: Sizes::fixed(0),
            expire_in: None,
            seed: 0,
        }
    }

    #[test]
    fn requests_are_lines() {
        let keyspace = keyspace();
        let mut out = Vec::new();
        let mut key = keyspace.key_text();
        let many = [Operation::Get(1), Operation::GetNext(2)];
        for request in [&[Operation::Get(7)][..], &[Operation::Set(8)], &many] {
            push_request(request, &keyspace, &mut key, &mut out);
        }
        assert_eq!(out, b"get 0007\r\nset 0008 0 0 0\r\n\r\nget 0001 0002\r\n");
    }

    /// What is read from some bytes, and which replies it hands over.
    fn taken(request: &[Operation], bytes: &[u8]) -> (Parsed, Vec<String>) {
        let mut replies = Vec::new();
        let mut each = |operation: Operation, reply: Reply<'_>| {
            replies.push(format!("{}: {reply:?}", operation.key()));
        };
        let parsed = take_reply(request, &mut keyspace().key_text(), bytes, &mut each);
        (parsed, replies)
    }

    #[test]
    fn replies_are_told_apart_and_wait_for_their_end() {
        for (operation, bytes, reply) in [
            (Operation::Get(0), &b"END\r\n"[..], Reply::Miss),
            (
                Operation::Get(0),
                b"VALUE k 0 5\r\nab\r\nc\r\nEND\r\n",
                Reply::Hit(b"ab\r\nc"),
            ),
            (Operation::Set(0), b"STORED\r\n", Reply::Stored),
            (
                Operation::Set(0),
                b"SERVER_ERROR full\r\n",
                Reply::Refused("SERVER_ERROR full"),
            ),
        ] {
            let consumed = bytes.len();
            let (parsed, replies) = taken(&[operation], bytes);
            assert_eq!(parsed, Parsed::Reply { consumed });
            assert_eq!(replies, [format!("0: {reply:?}")]);
            for end in 0..consumed {
                let (parsed, replies) = taken(&[operation], &bytes[..end]);
                assert!(matches!(parsed, Parsed::Incomplete { .. }), "{end} bytes");
                assert!(replies.is_empty());
            }
        }
    }

    #[test]
    fn a_get_of_many_keys_tells_the_found_from_the_missing() {
        let request = [1, 2, 2, 3].map(Operation::GetNext);
        for (bytes, expected) in [
            (
                &b"END\r\n"[..],
                ["1: Miss", "2: Miss", "2: Miss", "3: Miss"],
            ),
            (
                b"VALUE 0002 0 1\r\na\r\nVALUE 0002 0 1\r\nb\r\nEND\r\n",
                ["1: Miss", "2: Hit([97])", "2: Hit([98])", "3: Miss"],
            ),
            (
                b"VALUE 0001 0 0\r\n\r\nVALUE 0003 0 5\r\nEND\r\n\r\nEND\r\n",
                [
                    "1: Hit([])",
                    "2: Miss",
                    "2: Miss",
                    "3: Hit([69, 78, 68, 13, 10])",
                ],
            ),
            (
                b"SERVER_ERROR full\r\n",
                [
                    "1: Refused(\"SERVER_ERROR full\")",
                    "2: Refused(\"SERVER_ERROR full\")",
                    "2: Refused(\"SERVER_ERROR full\")",
                    "3: Refused(\"SERVER_ERROR full\")",
                ],
            ),
        ] {
            let consumed = bytes.len();
            let (parsed, replies) = taken(&request, bytes);
            assert_eq!(
                (parsed, &replies[..]),
                (Parsed::Reply { consumed }, &expected.map(str::to_owned)[..])
            );
            for end in 0..consumed {
                let (parsed, replies) = taken(&request, &bytes[..end]);
                assert!(matches!(parsed, Parsed::Incomplete { .. }), "{end} bytes");
                assert!(replies.is_empty());
            }
        }
        let (parsed, _) = taken(&request, b"VALUE 0009 0 1\r\na\r\nEND\r\n");
        assert!(
            matches!(parsed, Parsed::Broken(_)),
            "a key that nobody asked for"
        );
    }

    #[test]
    fn figures_are_there_with_their_last_line() {
        let whole = b"STAT pid 17\r\nSTAT version 1.6\r\nEND\r\n";
        let figures = [("pid", "17"), ("version", "1.6")];
        let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(take_stats(whole), Some(figures.to_vec()));
        assert_eq!(take_stats(&whole[..20]), None);
        for refused in [&b"ERROR\r\n"[..], b"SERVER_ERROR not here\r\n"] {
            assert_eq!(take_stats(refused), Some(vec![]));
            assert_eq!(take_stats(&refused[..5]), None);
        }
    }
}
