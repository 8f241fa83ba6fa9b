//! memcached's text protocol with whatever bytes a stranger sends: the parser beside the second one
//! that the tests keep, on whole streams and on their beginnings.

#![no_main]

#[path = "../../src/dialect/memcached/command/mod.rs"]
#[allow(dead_code, reason = "the parser has more uses than to be described")]
mod command;
#[path = "../../tests/memcached_parser/described.rs"]
mod described;
#[path = "../../tests/memcached_parser/oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;
use oracle::{Limits, Told};

/// LIMIT: small enough that a mutation crosses every bound.
const LIMITS: Limits = Limits {
    line: 64,
    keys_line: 600,
    joined: 5,
};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while !rest.is_empty() {
        let told = described::front(rest, LIMITS);
        assert_eq!(told, oracle::front(rest, LIMITS));
        beginnings(rest, &told);
        let taken = match told {
            Told::Command(_, bytes) => bytes,
            Told::Refused(_, Some(skip)) => usize::try_from(skip).unwrap_or(usize::MAX),
            Told::Refused(_, None) | Told::Incomplete(_) => return,
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
});

/// What the bytes mean does not depend on how many of them are there, once enough are.
fn beginnings(bytes: &[u8], whole: &Told) {
    for end in [bytes.len() / 2, bytes.len() - 1] {
        match described::front(&bytes[..end], LIMITS) {
            Told::Incomplete(needed) => assert!(needed > end),
            told => assert_eq!(&told, whole),
        }
    }
}
