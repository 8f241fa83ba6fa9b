//! Every refusal, and what becomes of the connection.

use larder_protocol::{
    After, Decoded, Entry, EntryList, HelloRequest, KeyList, Limits, Opcode, Reason, Refusal,
    Request, RequestFrame, RequestHeader, Status, Store, StoreMode, decode_hello, decode_request,
    decode_response,
};

fn limits() -> Limits {
    Limits {
        keys_per_frame_max: 4,
        skip_bytes_max: 1 << 20,
        ..Limits::for_items(10, 100)
    }
}

fn header(opcode: Opcode) -> RequestHeader {
    RequestHeader {
        opcode: opcode as u8,
        flags: 0,
        fields: 0,
        id: 9,
        word: 3,
        body_bytes: 3,
    }
}

fn refusal(bytes: &[u8]) -> Refusal {
    match decode_request(bytes, &limits()) {
        Decoded::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Refused with nothing but its header there, and skipped as a whole.
#[track_caller]
fn is_refused_at_once(header: RequestHeader, status: Status) {
    let refusal = refusal(&header.to_bytes());
    assert_eq!(
        (refusal.status(), refusal.id, refusal.opcode),
        (status, 9, header.opcode)
    );
    assert_eq!(
        refusal.after,
        After::Skip {
            frame_bytes: header.frame_bytes()
        }
    );
}

#[test]
fn what_a_header_shows_is_refused_before_the_body_is_there() {
    let get = header(Opcode::Get);
    is_refused_at_once(RequestHeader { word: 0, ..get }, Status::KEY_EMPTY);
    is_refused_at_once(
        RequestHeader {
            word: 11,
            body_bytes: 11,
            ..get
        },
        Status::KEY_TOO_LONG,
    );
    is_refused_at_once(RequestHeader { word: 4, ..get }, Status::BAD_FRAME);
    is_refused_at_once(
        RequestHeader {
            body_bytes: 4,
            ..get
        },
        Status::BAD_FRAME,
    );
    is_refused_at_once(RequestHeader { flags: 4, ..get }, Status::UNSUPPORTED);
    is_refused_at_once(RequestHeader { fields: 1, ..get }, Status::UNSUPPORTED);
    is_refused_at_once(
        RequestHeader {
            opcode: 0x7f,
            ..get
        },
        Status::UNKNOWN_OPCODE,
    );
    is_refused_at_once(
        RequestHeader {
            opcode: Opcode::Drain as u8,
            ..get
        },
        Status::UNKNOWN_OPCODE,
    );
    is_refused_at_once(
        RequestHeader {
            fields: 1,
            ..header(Opcode::Touch)
        },
        Status::BAD_FRAME,
    );
    is_refused_at_once(
        RequestHeader {
            body_bytes: 104,
            ..header(Opcode::Set)
        },
        Status::TOO_LARGE,
    );
    is_refused_at_once(header(Opcode::Cas), Status::UNSUPPORTED);
    is_refused_at_once(
        RequestHeader {
            word: 5,
            ..header(Opcode::MultiSet)
        },
        Status::TOO_MANY_KEYS,
    );
    is_refused_at_once(
        RequestHeader {
            body_bytes: 1 << 17,
            ..header(Opcode::Ping)
        },
        Status::FRAME_TOO_LARGE,
    );
    is_refused_at_once(header(Opcode::Quit), Status::BAD_FRAME);
    is_refused_at_once(header(Opcode::Flush), Status::BAD_FRAME);
    is_refused_at_once(
        RequestHeader {
            flags: 1,
            ..header(Opcode::Ping)
        },
        Status::UNSUPPORTED,
    );
}

#[test]
fn a_frame_too_long_to_skip_ends_the_connection() {
    for opcode in [Opcode::Set as u8, 0x7f] {
        let refusal = refusal(
            &RequestHeader {
                opcode,
                body_bytes: 1 << 20,
                ..header(Opcode::Set)
            }
            .to_bytes(),
        );
        assert_eq!(refusal.after, After::Close);
        assert_eq!(refusal.status(), Status::FRAME_UNSKIPPABLE);
    }
}

#[test]
fn a_second_hello_is_refused_and_the_connection_goes_on() {
    let mut wire = Vec::new();
    HelloRequest::new("twice").encode(9, &mut wire);
    let refusal = refusal(&wire);
    assert_eq!(refusal.status(), Status::BAD_FRAME);
    assert_eq!(
        refusal.after,
        After::Skip {
            frame_bytes: wire.len() as u64
        }
    );
}

#[test]
fn one_bad_entry_refuses_its_whole_list() {
    let mut keys = KeyList::default();
    keys.push(b"good");
    keys.push(b"");
    let mut wire = Vec::new();
    let request = Request::MultiDelete { keys: keys.keys() };
    RequestFrame {
        id: 9,
        quiet: true,
        request,
    }
    .encode(&mut wire);
    assert_eq!(refusal(&wire).reason, Reason::KeyEmpty);

    let mut entries = EntryList::default();
    entries.push(&Entry {
        key: b"good",
        value: &[0; 101],
        client_flags: 0,
        expire_in_ms: None,
    });
    wire.clear();
    let request = Request::MultiSet {
        entries: entries.entries(),
    };
    RequestFrame {
        id: 9,
        quiet: false,
        request,
    }
    .encode(&mut wire);
    assert_eq!(
        refusal(&wire).reason,
        Reason::TooLarge {
            value_bytes: 101,
            value_bytes_max: 100
        }
    );
}

#[test]
fn a_list_whose_count_is_wrong_is_a_bad_frame() {
    let mut keys = KeyList::default();
    keys.push(b"one");
    keys.push(b"two");
    let mut wire = Vec::new();
    let request = Request::MultiGet {
        keys: keys.keys(),
        want_expiry: false,
    };
    RequestFrame {
        id: 9,
        quiet: false,
        request,
    }
    .encode(&mut wire);
    for count in [0, 1, 3] {
        wire[8] = count;
        assert_eq!(refusal(&wire).status(), Status::BAD_FRAME);
    }
}

#[test]
fn the_longest_key_with_the_longest_value_and_every_field_fits_a_frame() {
    let (key, value) = ([7; 10], [8; 100]);
    let mode = StoreMode::Cas { version: 1 };
    let store = Store {
        mode,
        key: &key,
        value: &value,
        client_flags: 1,
        expire_in_ms: Some(1),
    };
    let mut wire = Vec::new();
    RequestFrame {
        id: 1,
        quiet: false,
        request: Request::Store(store),
    }
    .encode(&mut wire);
    assert!(matches!(
        decode_request(&wire, &limits()),
        Decoded::Frame { .. }
    ));
}

#[test]
fn what_is_gathered_has_a_shorter_limit_than_what_is_received_in_place() {
    let limits = Limits::for_items(10, 1 << 20).with_buffered_values(1000);
    assert_eq!(limits.check(), Ok(()));
    assert_eq!(limits.buffered_bytes_max, 256 << 10);
    let beyond = |opcode| RequestHeader {
        word: 3,
        body_bytes: limits.buffered_bytes_max,
        ..header(opcode)
    };
    for opcode in [
        Opcode::Append,
        Opcode::Prepend,
        Opcode::Ping,
        Opcode::MultiSet,
    ] {
        let Decoded::Refused(refusal) = decode_request(&beyond(opcode).to_bytes(), &limits) else {
            panic!("{opcode} is not refused")
        };
        assert_eq!(refusal.status(), Status::FRAME_TOO_LARGE, "{opcode}");
        assert!(refusal.to_string().contains("262144"), "{refusal}");
    }
    for opcode in [Opcode::Set, Opcode::Add, Opcode::Replace] {
        let header = beyond(opcode).to_bytes();
        let decoded = decode_request(&header, &limits);
        assert!(matches!(decoded, Decoded::Incomplete { .. }), "{opcode}");
    }
    let none = Limits {
        buffered_bytes_max: 1000,
        ..limits
    };
    assert!(none.check().is_err());
    let more_than_frames = Limits {
        buffered_bytes_max: limits.frame_bytes_max + 1,
        ..limits
    };
    assert!(more_than_frames.check().is_err());
}

#[test]
fn a_stranger_is_told_at_the_first_byte() {
    for first in [b"g", b"*", b"\x80", b"\x08", b"G"] {
        let Decoded::Refused(refusal) = decode_hello(first) else {
            panic!("not refused")
        };
        assert_eq!(
            (refusal.status(), refusal.after),
            (Status::HELLO_REQUIRED, After::Close)
        );
    }
    assert!(matches!(decode_hello(b"\x01"), Decoded::Incomplete { .. }));
}

#[test]
fn a_client_of_another_version_is_told_which_one_is_spoken() {
    let later = HelloRequest {
        version_min: 2,
        version_max: 3,
        ..HelloRequest::new("later")
    };
    let refusal = later
        .accept(4, 0, Limits::default(), "larder")
        .expect_err("versions differ");
    assert_eq!(
        (refusal.status(), refusal.after, refusal.id),
        (Status::VERSION_MISMATCH, After::Close, 4)
    );
    assert!(
        refusal
            .to_string()
            .contains("versions 2 to 3; this server speaks 1")
    );
}

#[test]
fn a_server_grants_only_features_that_both_have() {
    let hello = HelloRequest {
        features: 0b110,
        ..HelloRequest::new("client")
    };
    let reply = hello
        .accept(1, 0b011, Limits::default(), "larder")
        .expect("versions agree");
    assert_eq!(reply.features, 0b010);
}

#[test]
fn a_response_longer_than_was_agreed_ends_the_connection() {
    let header = RequestHeader {
        body_bytes: 1 << 20,
        ..header(Opcode::Get)
    };
    let Decoded::Refused(refusal) = decode_response(&header.to_bytes(), 1 << 20) else {
        panic!("not refused")
    };
    assert_eq!(refusal.after, After::Close);
}
