//! What a client decodes: a stream of responses, with whatever bytes a broken server sends.

#![no_main]

use larder_protocol::{
    After, Decoded, HEADER_BYTES, Lookup, Response, decode_response, decode_value_head,
};
use libfuzzer_sys::fuzz_target;

/// LIMIT: small enough that a mutation crosses it.
const FRAME_BYTES_MAX: u32 = 1024;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some(consumed) = response(rest) {
        rest = &rest[consumed..];
    }
});

/// Checks the frame at the front; how long it was, if there is one.
fn response(bytes: &[u8]) -> Option<usize> {
    match decode_response(bytes, FRAME_BYTES_MAX) {
        Decoded::Frame { frame, consumed } => {
            assert!((HEADER_BYTES..=bytes.len()).contains(&consumed));
            let cut = decode_response(&bytes[..consumed - 1], FRAME_BYTES_MAX);
            assert!(
                matches!(cut, Decoded::Incomplete { .. }),
                "whole without its last byte: {cut:?}"
            );
            assert!(bytes_inside(&frame.response) <= consumed);
            if let Response::Value(value) = frame.response {
                let Decoded::Frame { frame, consumed } = decode_value_head(bytes, FRAME_BYTES_MAX)
                else {
                    panic!("a value without a front");
                };
                assert_eq!(
                    &bytes[consumed..][..frame.value_bytes as usize],
                    value.bytes
                );
            }
            Some(consumed)
        }
        Decoded::Incomplete { needed_bytes } => {
            assert!(needed_bytes > bytes.len() && needed_bytes <= FRAME_BYTES_MAX as usize);
            None
        }
        Decoded::Refused(refusal) => {
            assert_eq!(refusal.after, After::Close);
            None
        }
    }
}

/// Walks everything that a response lends out, and says how much that is. Every list yields as many
/// entries as it counts.
fn bytes_inside(response: &Response<'_>) -> usize {
    match response {
        Response::Value(value) => value.bytes.len(),
        Response::Leased(leased) => leased.value.bytes.len(),
        Response::Values { values, .. } => {
            assert_eq!(values.iter().count(), values.count() as usize);
            let lengths = values.iter().map(|lookup| match lookup {
                Lookup::Found(value) => value.bytes.len(),
                Lookup::Missed(_) => 0,
            });
            lengths.sum()
        }
        Response::Outcomes(outcomes) => {
            assert_eq!(outcomes.iter().count(), outcomes.count() as usize);
            2 * outcomes.iter().count()
        }
        Response::Scan { entries, .. } => {
            assert_eq!(entries.iter().count(), entries.count() as usize);
            entries.iter().map(|entry| entry.key.len()).sum()
        }
        Response::Stats(pairs) => {
            assert_eq!(pairs.iter().count(), pairs.count() as usize);
            pairs
                .iter()
                .map(|pair| pair.name.len() + pair.value.len())
                .sum()
        }
        Response::Hello(hello) => hello.name.len(),
        Response::Pong { echo } => echo.len(),
        Response::Drain { message, .. }
        | Response::Close { message }
        | Response::Failed { message } => message.len(),
        Response::Other { body } => body.len(),
        Response::Done | Response::Stored { .. } | Response::Counter { .. } => 0,
    }
}
