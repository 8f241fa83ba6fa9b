//! What a server decodes: a handshake or a stream of requests, with whatever bytes a stranger sends.

#![no_main]

use larder_protocol::{
    After, Decoded, HEADER_BYTES, Limits, decode_hello, decode_request, decode_response,
    decode_store_head,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    handshake(bytes);
    // LIMIT: small enough that a mutation crosses every bound.
    let limits = Limits {
        keys_per_frame_max: 8,
        skip_bytes_max: 1 << 17,
        ..Limits::for_items(32, 256)
    };
    let mut rest = bytes;
    while let Some(consumed) = request(rest, &limits) {
        rest = &rest[consumed..];
    }
});

fn handshake(bytes: &[u8]) {
    match decode_hello(bytes) {
        Decoded::Frame { frame, consumed } => {
            assert!((HEADER_BYTES..=bytes.len()).contains(&consumed));
            let mut again = Vec::new();
            frame.hello.encode(frame.id, &mut again);
            let Decoded::Frame { frame: second, .. } = decode_hello(&again) else {
                panic!("what decodes does not decode again");
            };
            // A name past its bound is cut when it is encoded.
            assert_eq!(second.hello.features, frame.hello.features);
            assert!(frame.hello.name.starts_with(second.hello.name));
        }
        Decoded::Incomplete { needed_bytes } => assert!(needed_bytes > bytes.len()),
        Decoded::Refused(refusal) => assert_eq!(refusal.after, After::Close),
    }
}

/// Checks the frame at the front; how long it was, if there is another behind it.
fn request(bytes: &[u8], limits: &Limits) -> Option<usize> {
    match decode_request(bytes, limits) {
        Decoded::Frame { frame, consumed } => {
            assert!((HEADER_BYTES..=bytes.len()).contains(&consumed));
            let cut = decode_request(&bytes[..consumed - 1], limits);
            assert!(
                matches!(cut, Decoded::Incomplete { .. }),
                "whole without its last byte: {cut:?}"
            );
            let mut again = Vec::new();
            frame.encode(&mut again);
            assert_eq!(again.len() as u64, frame.request.frame_bytes());
            let consumed_again = again.len();
            let decoded = decode_request(&again, limits);
            assert_eq!(
                decoded,
                Decoded::Frame {
                    frame: frame.clone(),
                    consumed: consumed_again
                }
            );
            Some(consumed)
        }
        Decoded::Incomplete { needed_bytes } => {
            assert!(needed_bytes > bytes.len() && needed_bytes <= limits.frame_bytes_max as usize);
            match decode_store_head(bytes, limits) {
                Decoded::Frame { frame, consumed } => {
                    assert!(frame.store.value.is_empty() && consumed <= bytes.len());
                    assert_eq!(consumed + frame.value_bytes as usize, needed_bytes);
                }
                Decoded::Incomplete { needed_bytes: head } => {
                    assert!(head > bytes.len() && head <= needed_bytes);
                }
                Decoded::Refused(refusal) => panic!("refused its front alone: {refusal}"),
            }
            None
        }
        Decoded::Refused(refusal) => {
            let mut answer = Vec::new();
            refusal.encode(&mut answer);
            assert!(matches!(
                decode_response(&answer, 4096),
                Decoded::Frame { .. }
            ));
            match refusal.after {
                After::Skip { frame_bytes } => {
                    assert!(frame_bytes <= u64::from(limits.skip_bytes_max));
                    usize::try_from(frame_bytes)
                        .ok()
                        .filter(|&skipped| skipped <= bytes.len())
                }
                After::Close => None,
            }
        }
    }
}
