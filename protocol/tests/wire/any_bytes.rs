//! Whatever the bytes, decoding answers, keeps inside them, and does not change its mind when more
//! arrive.

use larder_protocol::{
    After, Decoded, Entry, EntryList, FLAG_QUIET, FLAG_WANT_EXPIRY, KeyList, Limits, Opcode,
    Request, RequestFrame, RequestHeader, Response, StoreMode, decode_get, decode_hello,
    decode_request, decode_response, decode_set,
};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};

use crate::lines::{Told, hello_line, request_line, response_line, tell};

fn limits() -> Limits {
    Limits {
        key_bytes_max: 8,
        keys_per_frame_max: 4,
        skip_bytes_max: 1 << 20,
        ..Limits::for_items(8, 64)
    }
}

/// Bytes that look like a frame from afar: a known opcode, few flags and fields, and lengths that are
/// near to what follows.
fn almost_a_frame() -> impl Strategy<Value = Vec<u8>> {
    let parts = (
        select(&Opcode::ALL[..]),
        0_u8..64,
        0_u16..128,
        any::<u32>(),
        0_u32..12,
        0_u32..80,
        vec(any::<u8>(), 0..80),
        any::<bool>(),
    );
    parts.prop_map(
        |(opcode, flags, third, id, word, body_bytes, body, exact)| {
            let body_bytes = if exact { body.len() as u32 } else { body_bytes };
            let opcode = opcode as u8;
            let header = RequestHeader {
                opcode,
                flags,
                fields: third,
                id,
                word,
                body_bytes,
            };
            [&header.to_bytes()[..], &body].concat()
        },
    )
}

/// A multi-key frame with one byte of it changed.
fn damaged_list() -> impl Strategy<Value = Vec<u8>> {
    let item = (vec(any::<u8>(), 1..8), vec(any::<u8>(), 0..8));
    (vec(item, 0..4), any::<bool>(), any::<Index>(), any::<u8>()).prop_map(
        |(items, set, at, byte)| {
            let (mut keys, mut entries) = (KeyList::default(), EntryList::default());
            for (key, value) in &items {
                keys.push(key);
                entries.push(&Entry {
                    key,
                    value,
                    client_flags: 1,
                    expire_in_ms: None,
                });
            }
            let request = match set {
                true => Request::MultiSet {
                    entries: entries.entries(),
                },
                false => Request::MultiGet {
                    keys: keys.keys(),
                    want_expiry: false,
                },
            };
            let mut wire = Vec::new();
            RequestFrame {
                id: 1,
                quiet: false,
                request,
            }
            .encode(&mut wire);
            let at = at.index(wire.len());
            wire[at] = byte;
            wire
        },
    )
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => vec(any::<u8>(), 0..100), 6 => almost_a_frame(), 3 => damaged_list()]
}

/// Checks one decoder on all prefixes of some bytes, the whole included.
fn check(bytes: &[u8], frame_bytes_max: u32, decode: impl Fn(&[u8]) -> Told) {
    let whole = decode(bytes);
    for end in 0..=bytes.len() {
        match decode(&bytes[..end]) {
            Told::Incomplete { needed_bytes } => {
                assert!(needed_bytes > end, "asks for {needed_bytes} of {end}");
                assert!(needed_bytes <= frame_bytes_max as usize);
            }
            told => {
                assert_eq!(told, whole, "changes its mind after {end} bytes");
                if let Told::Frame { consumed, .. } = told {
                    assert!((16..=end).contains(&consumed));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_upset_the_decoder_of_a_server(bytes in any_bytes()) {
        let limits = limits();
        check(&bytes, limits.frame_bytes_max, |bytes| tell(decode_request(bytes, &limits), request_line));
        check(&bytes, 16 + 1024, |bytes| tell(decode_hello(bytes), hello_line));
    }

    #[test]
    fn a_get_is_the_same_whichever_way_it_is_read(
        mut bytes in any_bytes(),
        key in vec(any::<u8>(), 0..10),
        is_get in any::<bool>(),
    ) {
        let limits = limits();
        if is_get {
            // Flags as they happen to be, of which not all are allowed; the length of the key twice.
            let lengths = (key.len() as u32).to_le_bytes().repeat(2);
            bytes.resize(16, 0);
            let kind = [Opcode::Get as u8, bytes[1] & 7, 0, 0];
            bytes[..4].copy_from_slice(&kind);
            bytes[8..].copy_from_slice(&lengths);
            bytes.extend_from_slice(&key);
        }
        let long_way = match decode_request(&bytes, &limits) {
            Decoded::Frame { frame, consumed } => match frame.request {
                Request::Get { key, want_expiry } => {
                    Some((frame.id, frame.quiet, want_expiry, key, consumed))
                }
                _ => None,
            },
            _ => None,
        };
        let short_way = decode_get(&bytes, &limits).map(|(get, consumed)| {
            let has = |flag: u8| get.flags & flag != 0;
            (get.id, has(FLAG_QUIET), has(FLAG_WANT_EXPIRY), get.key, consumed)
        });
        assert_eq!(short_way, long_way);
    }

    #[test]
    fn the_short_way_to_a_set_leads_to_the_same(
        bytes in any_bytes(),
        key in vec(any::<u8>(), 0..10),
        value in vec(any::<u8>(), 0..80),
        (options, is_set, excess) in (any::<u8>(), any::<bool>(), -2..3_i32),
    ) {
        let (limits, mut bytes) = (limits(), bytes);
        if is_set {
            // Flags and fields as they happen to be, of which not all are allowed.
            let fields = u16::from(options >> 2 & 0b1_0011);
            let mut header = RequestHeader {
                opcode: Opcode::Set as u8,
                flags: options & 3,
                fields,
                id: 5,
                word: key.len() as u32,
                body_bytes: 0,
            };
            let body_bytes = header.fields_bytes() + (key.len() + value.len()) as u32;
            header.body_bytes = body_bytes.saturating_add_signed(excess);
            bytes.clear();
            bytes.resize(16 + header.fields_bytes() as usize, 7);
            bytes[..16].copy_from_slice(&header.to_bytes());
            bytes.extend_from_slice(&key);
            bytes.extend_from_slice(&value);
        }
        let long_way = match decode_request(&bytes, &limits) {
            Decoded::Frame { frame, consumed } => match frame.request {
                Request::Store(store) if store.mode == StoreMode::Set => {
                    Some((frame.id, frame.quiet, store, consumed))
                }
                _ => None,
            },
            _ => None,
        };
        let short_way = decode_set(&bytes, &limits).map(|(set, consumed)| {
            (set.id, set.flags & FLAG_QUIET != 0, set.store, consumed)
        });
        assert_eq!(short_way, long_way);
    }

    #[test]
    fn no_bytes_upset_the_decoder_of_a_client(bytes in any_bytes()) {
        check(&bytes, 100, |bytes| tell(decode_response(bytes, 100), response_line));
    }

    #[test]
    fn what_decodes_is_within_the_limits_and_encodes_to_what_decodes_the_same(bytes in any_bytes()) {
        let limits = limits();
        let Decoded::Frame { frame, .. } = decode_request(&bytes, &limits) else { return Ok(()) };
        match &frame.request {
            Request::Get { key, .. } | Request::Touch { key, .. } | Request::Delete { key, .. } => {
                assert!((1..=8).contains(&key.len()));
            }
            Request::Store(store) => assert!((1..=8).contains(&store.key.len()) && store.value.len() <= 64),
            Request::MultiGet { keys, .. } | Request::MultiDelete { keys } => {
                assert_eq!(keys.iter().count(), keys.count() as usize);
                assert!(keys.count() <= 4 && keys.iter().all(|key| (1..=8).contains(&key.len())));
            }
            Request::MultiSet { entries } => {
                assert_eq!(entries.iter().count(), entries.count() as usize);
            }
            _ => {}
        }
        let mut again = Vec::new();
        frame.encode(&mut again);
        let consumed = again.len();
        assert_eq!(decode_request(&again, &limits), Decoded::Frame { frame: frame.clone(), consumed });
    }

    #[test]
    fn a_refusal_skips_exactly_the_frame_or_closes(bytes in any_bytes()) {
        let limits = limits();
        let Decoded::Refused(refusal) = decode_request(&bytes, &limits) else { return Ok(()) };
        let header = RequestHeader::read(&bytes).expect("nothing is refused before its header is there");
        match refusal.after {
            After::Skip { frame_bytes } => assert_eq!(frame_bytes, header.frame_bytes()),
            After::Close => assert!(header.frame_bytes() > u64::from(limits.skip_bytes_max)),
        }
        let mut answer = Vec::new();
        refusal.encode(&mut answer);
        let Decoded::Frame { frame, .. } = decode_response(&answer, 65536) else { panic!("no answer") };
        assert_eq!((frame.id, frame.opcode, frame.status), (header.id, header.opcode, refusal.status()));
        if header.opcode != Opcode::Close as u8 {
            assert_eq!(frame.response, Response::Failed { message: &refusal.to_string() });
        }
    }
}
