//! The little of memcached's text protocol that a load needs.

use std::io::Write;

use super::keys::{KeyText, Keyspace};
use super::source::Operation;
use super::wire::{Parsed, Reply};

/// LIMIT: the longest line that any answer begins with; a longer one is not memcached's.
const LINE_BYTES_MAX: usize = 1024;

const LINE_END: &[u8] = b"\r\n";
const LIST_END: &[u8] = b"END\r\n";

/// Appends a request.
#[inline]
pub(super) fn push_request(
    operation: Operation,
    keyspace: &Keyspace,
    key: &mut KeyText,
    out: &mut Vec<u8>,
) {
    match operation {
        Operation::Get(index) => {
            out.extend_from_slice(b"get ");
            out.extend_from_slice(key.of(index));
        }
        Operation::Set(index) => {
            out.extend_from_slice(b"set ");
            out.extend_from_slice(key.of(index));
            // Writing to a vector cannot fail.
            let _ = write!(out, " 0 0 {}\r\n", keyspace.value_bytes);
            keyspace.push_value(index, out);
        }
    }
    out.extend_from_slice(LINE_END);
}

/// Reads the reply to an operation.
#[inline]
pub(super) fn take_reply(operation: Operation, received: &[u8]) -> Parsed<'_> {
    let Some(line) = line_of(received) else {
        return match received.len() > LINE_BYTES_MAX {
            true => Parsed::Broken("the server does not speak memcached's protocol".to_owned()),
            false => Parsed::Incomplete {
                needed_bytes: received.len() + 1,
            },
        };
    };
    let consumed = line.len() + LINE_END.len();
    let reply = match (operation, line) {
        (Operation::Get(_), b"END") => Reply::Miss,
        (Operation::Set(_), b"STORED") => Reply::Stored,
        (Operation::Get(_), line) if line.starts_with(b"VALUE ") => {
            return take_value(line, consumed, received);
        }
        (_, line) => match std::str::from_utf8(line) {
            Ok(word) => Reply::Refused(word),
            Err(_) => return Parsed::Broken("the server's line is no text".to_owned()),
        },
    };
    Parsed::Reply { reply, consumed }
}

/// Reads the value behind its `VALUE` line.
fn take_value<'a>(line: &[u8], value_at: usize, received: &'a [u8]) -> Parsed<'a> {
    let length = line.rsplit(|&byte| byte == b' ').next().and_then(number);
    let Some(value_bytes) = length else {
        return Parsed::Broken("the server's value has no length".to_owned());
    };
    let end = value_at + value_bytes;
    let needed_bytes = end + LINE_END.len() + LIST_END.len();
    match received.get(value_at..end) {
        Some(value) if received.len() >= needed_bytes => Parsed::Reply {
            reply: Reply::Hit(value),
            consumed: needed_bytes,
        },
        _ => Parsed::Incomplete { needed_bytes },
    }
}

/// Appends a request for the server's figures.
pub(super) fn push_stats(out: &mut Vec<u8>) {
    out.extend_from_slice(b"stats\r\n");
}

/// Reads the server's figures; `None` as long as they are not there yet.
pub(super) fn take_stats(received: &[u8]) -> Option<Vec<(String, String)>> {
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
    let end = received
        .iter()
        .take(LINE_BYTES_MAX)
        .position(|&byte| byte == b'\r')?;
    received[end..]
        .starts_with(LINE_END)
        .then(|| &received[..end])
}

fn number(digits: &[u8]) -> Option<usize> {
    // LIMIT: a value of more digits than these would not be in one reply.
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.len() < 10)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{push_request, take_reply, take_stats};
    use crate::cli::bench::keys::Keyspace;
    use crate::cli::bench::source::Operation;
    use crate::cli::bench::wire::{Parsed, Reply};

    #[test]
    fn requests_are_lines() {
        let keyspace = Keyspace {
            keys: 100,
            key_bytes: 4,
            value_bytes: 0,
            seed: 0,
        };
        let mut out = Vec::new();
        let mut key = keyspace.key_text();
        push_request(Operation::Get(7), &keyspace, &mut key, &mut out);
        push_request(Operation::Set(8), &keyspace, &mut key, &mut out);
        assert_eq!(out, b"get 0007\r\nset 0008 0 0 0\r\n\r\n");
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
            assert_eq!(
                take_reply(operation, bytes),
                Parsed::Reply { reply, consumed }
            );
            for end in 0..consumed {
                let part = take_reply(operation, &bytes[..end]);
                assert!(matches!(part, Parsed::Incomplete { .. }), "{end} bytes");
            }
        }
    }

    #[test]
    fn figures_are_there_with_their_last_line() {
        let whole = b"STAT pid 17\r\nSTAT version 1.6\r\nEND\r\n";
        let figures = [("pid", "17"), ("version", "1.6")];
        let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(take_stats(whole), Some(figures.to_vec()));
        assert_eq!(take_stats(&whole[..20]), None);
    }
}
