//! What is encoded decodes to the same.

use larder_protocol::{
    Arithmetic, Decoded, Direction, Entry, EntryList, ExpiryLeft, Fit, HelloReply, HelloRequest,
    KeyList, Lease, Leased, Limits, Lookup, Opcode, OutcomesReply, Pair, Presence,
    REPLY_FLAG_ABSENT, REPLY_FLAG_EXPIRY, REPLY_FLAG_STALE, REPLY_FLAG_TAKEN, REPLY_FLAG_WON,
    Request, RequestFrame, Response, ResponseFrame, ScanEntry, ScanReply, StatsReply, Status,
    Store, StoreMode, Value, ValueHead, ValueMeta, ValuesAsked, ValuesReply, decode_hello,
    decode_request, decode_response, decode_store_head, decode_value_head, encode_close,
    encode_counter, encode_done, encode_drain, encode_leased_head, encode_pong, encode_status,
    encode_stored, encode_value, encode_value_head,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => vec(any::<u8>(), 1..20), 1 => vec(any::<u8>(), 1..=250)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 0..5000)]
}

/// Any expiry but the number that means never.
fn expiry() -> impl Strategy<Value = Option<u64>> {
    of(0..u64::MAX)
}

fn mode() -> impl Strategy<Value = StoreMode> {
    let plain = [
        StoreMode::Set,
        StoreMode::Add,
        StoreMode::Replace,
        StoreMode::Append,
        StoreMode::Prepend,
    ];
    prop_oneof![
        select(plain.to_vec()),
        any::<u64>().prop_map(|version| StoreMode::Cas { version })
    ]
}

fn expiry_left() -> impl Strategy<Value = ExpiryLeft> {
    prop_oneof![
        Just(ExpiryLeft::NotAsked),
        Just(ExpiryLeft::Never),
        (0..u64::MAX).prop_map(ExpiryLeft::Ms)
    ]
}

fn meta() -> impl Strategy<Value = ValueMeta> {
    let parts = (any::<u32>(), any::<u64>(), expiry_left());
    parts.prop_map(|(client_flags, version, expiry_left)| ValueMeta {
        client_flags,
        version,
        expiry_left,
    })
}

#[track_caller]
fn goes_there_and_back(id: u32, quiet: bool, request: Request<'_>) {
    let frame = RequestFrame { id, quiet, request };
    let mut wire = b"before".to_vec();
    frame.encode(&mut wire);
    let consumed = wire.len() - 6;
    assert_eq!(consumed as u64, frame.request.frame_bytes());
    wire.extend_from_slice(b"after");
    let decoded = decode_request(&wire[6..], &Limits::default());
    assert_eq!(decoded, Decoded::Frame { frame, consumed });
}

#[track_caller]
fn arrives(wire: &[u8], id: u32, opcode: Opcode, status: Status, response: Response<'_>) {
    let frame = ResponseFrame {
        id,
        opcode: opcode as u8,
        status,
        response,
    };
    let consumed = wire.len();
    assert_eq!(
        decode_response(wire, u32::MAX),
        Decoded::Frame { frame, consumed }
    );
}

proptest! {
    #[test]
    fn requests_with_one_key_survive(
        id in any::<u32>(), quiet in any::<bool>(), want_expiry in any::<bool>(),
        key in key(), expire_in_ms in expiry(), version in of(any::<u64>()),
    ) {
        let key = &key[..];
        goes_there_and_back(id, quiet, Request::Get { key, want_expiry });
        goes_there_and_back(id, quiet, Request::GetAndTouch { key, expire_in_ms, want_expiry });
        goes_there_and_back(id, quiet, Request::Touch { key, expire_in_ms });
        goes_there_and_back(id, quiet, Request::Delete { key, version });
        goes_there_and_back(id, quiet, Request::Invalidate { key, version, expire_in_ms });
        goes_there_and_back(id, quiet, Request::EndLease { key, version: id.into() });
    }

    #[test]
    fn reads_on_terms_survive(
        id in any::<u32>(), quiet in any::<bool>(), want_expiry in any::<bool>(), key in key(),
        [lease_ms, refresh_ms] in [of(any::<u64>()), of(any::<u64>())],
    ) {
        let key = &key[..];
        let request = Request::GetOrLease { key, lease_ms, refresh_ms, want_expiry };
        goes_there_and_back(id, quiet, request);
    }

    #[test]
    fn what_a_read_on_terms_found_survives(
        id in any::<u32>(), meta in meta(), value in value(),
        presence in select(&[Presence::Fresh, Presence::Stale, Presence::Absent][..]),
        lease in select(&[Lease::None, Lease::Won, Lease::Taken][..]),
    ) {
        let bytes = if presence == Presence::Absent { &[] } else { &value[..] };
        let mut wire = Vec::new();
        encode_leased_head(&mut wire, id, &meta, (presence, lease), bytes.len() as u32);
        wire.extend_from_slice(bytes);
        let value = Value { meta, bytes };
        let leased = Leased { value, presence, lease };
        arrives(&wire, id, Opcode::GetOrLease, Status::OK, Response::Leased(leased));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused(id in any::<u32>(), value in value()) {
        for flags in 0_u8..64 {
            let mut wire = Vec::new();
            encode_leased_head(&mut wire, id, &ValueMeta::default(), Default::default(), value.len() as u32);
            wire.extend_from_slice(&value);
            wire[1] = flags & !REPLY_FLAG_EXPIRY;
            let has = |both: u8| wire[1] & both == both;
            let absent_with_value = has(REPLY_FLAG_ABSENT) && !value.is_empty();
            let contradicts = has(REPLY_FLAG_STALE | REPLY_FLAG_ABSENT)
                || has(REPLY_FLAG_WON | REPLY_FLAG_TAKEN)
                || absent_with_value;
            let decoded = decode_response(&wire, u32::MAX);
            assert_eq!(matches!(decoded, Decoded::Refused(_)), contradicts, "{flags:#b}");
        }
    }

    #[test]
    fn stores_survive(
        id in any::<u32>(), quiet in any::<bool>(), mode in mode(), key in key(), value in value(),
        client_flags in any::<u32>(), expire_in_ms in expiry(),
    ) {
        let keeps_the_rest = matches!(mode, StoreMode::Append | StoreMode::Prepend);
        let (client_flags, expire_in_ms) =
            if keeps_the_rest { (0, None) } else { (client_flags, expire_in_ms) };
        let store = Store { mode, key: &key, value: &value, client_flags, expire_in_ms };
        goes_there_and_back(id, quiet, Request::Store(store));
    }

    #[test]
    fn counting_survives(
        id in any::<u32>(), quiet in any::<bool>(), key in key(), delta in any::<u64>(),
        initial in of(any::<u64>()), expire_in_ms in expiry(),
        direction in select(&[Direction::Increment, Direction::Decrement][..]),
    ) {
        let arithmetic = Arithmetic { direction, key: &key, delta, initial, expire_in_ms };
        goes_there_and_back(id, quiet, Request::Arithmetic(arithmetic));
    }

    #[test]
    fn requests_without_a_key_survive(
        id in any::<u32>(), number in any::<u64>(), limit in any::<u32>(), bytes in value(),
    ) {
        goes_there_and_back(id, true, Request::Flush { delay_ms: number });
        goes_there_and_back(id, false, Request::Scan { cursor: number, limit });
        goes_there_and_back(id, false, Request::Stats { group: &bytes });
        goes_there_and_back(id, false, Request::Ping { echo: &bytes });
        goes_there_and_back(id, false, Request::Quit);
    }

    #[test]
    fn requests_with_many_keys_survive(
        id in any::<u32>(), quiet in any::<bool>(), want_expiry in any::<bool>(),
        items in vec((key(), value(), any::<u32>(), expiry()), 0..20),
    ) {
        let (mut keys, mut entries) = (KeyList::default(), EntryList::default());
        for (key, value, client_flags, expire_in_ms) in &items {
            keys.push(key);
            let (client_flags, expire_in_ms) = (*client_flags, *expire_in_ms);
            entries.push(&Entry { key, value, client_flags, expire_in_ms });
        }
        goes_there_and_back(id, quiet, Request::MultiGet { keys: keys.keys(), want_expiry });
        goes_there_and_back(id, quiet, Request::MultiDelete { keys: keys.keys() });
        goes_there_and_back(id, quiet, Request::MultiSet { entries: entries.entries() });
        assert!(keys.keys().iter().eq(items.iter().map(|item| &item.0[..])));
        assert!(entries.entries().iter().map(|entry| entry.value).eq(items.iter().map(|item| &item.1[..])));
    }

    #[test]
    fn the_head_of_a_request_and_its_tail_make_the_frame(
        id in any::<u32>(), mode in mode(), key in key(), value in value(), expire_in_ms in expiry(),
    ) {
        let store = Store { mode, key: &key, value: &value, client_flags: 7, expire_in_ms };
        let frame = RequestFrame { id, quiet: false, request: Request::Store(store) };
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        frame.encode(&mut whole);
        frame.encode_head(&mut pieces);
        pieces.extend_from_slice(&value);
        assert_eq!(whole, pieces);
    }

    #[test]
    fn the_handshake_survives(
        id in any::<u32>(), version_min in any::<u16>(), version_max in any::<u16>(),
        features in any::<u64>(), name in "\\PC{0,60}", numbers in any::<[u32; 8]>(),
    ) {
        let mut wire = Vec::new();
        let hello = HelloRequest { version_min, version_max, features, name: &name };
        hello.encode(id, &mut wire);
        let Decoded::Frame { frame, consumed } = decode_hello(&wire) else { panic!("no frame") };
        assert_eq!((frame.id, frame.hello, consumed), (id, hello, wire.len()));

        let [frame_bytes_max, key_bytes_max, value_bytes_max, keys_per_frame_max, ..] = numbers;
        let [.., in_flight_max, skip_bytes_max, idle_ms, buffered_bytes_max] = numbers;
        let limits = Limits {
            frame_bytes_max, key_bytes_max, value_bytes_max, keys_per_frame_max,
            in_flight_max, skip_bytes_max, idle_ms, buffered_bytes_max,
        };
        let reply = HelloReply { version: version_max, features, limits, name: &name };
        wire.clear();
        reply.encode(id, &mut wire);
        arrives(&wire, id, Opcode::Hello, Status::OK, Response::Hello(reply));
    }

    #[test]
    fn the_front_of_a_store_is_read_before_its_value_is_there(
        id in any::<u32>(), quiet in any::<bool>(), mode in mode(), key in key(), value in value(),
        client_flags in any::<u32>(), expire_in_ms in expiry(),
    ) {
        let keeps_the_rest = matches!(mode, StoreMode::Append | StoreMode::Prepend);
        let (client_flags, expire_in_ms) = match keeps_the_rest {
            true => (0, None),
            false => (client_flags, expire_in_ms),
        };
        let store = Store { mode, key: &key, value: &value, client_flags, expire_in_ms };
        let mut wire = Vec::new();
        RequestFrame { id, quiet, request: Request::Store(store.clone()) }.encode(&mut wire);
        let head_bytes = wire.len() - value.len();
        for there in 0..wire.len() {
            match decode_store_head(&wire[..there], &Limits::default()) {
                Decoded::Frame { frame, consumed } => {
                    assert!(!keeps_the_rest && there >= head_bytes);
                    assert_eq!((frame.id, frame.quiet, consumed), (id, quiet, head_bytes));
                    assert_eq!(frame.value_bytes as usize, value.len());
                    assert_eq!(frame.store, Store { value: &[], ..store.clone() });
                }
                Decoded::Incomplete { needed_bytes } => {
                    assert!(there < needed_bytes && needed_bytes <= wire.len());
                    assert!(keeps_the_rest || needed_bytes <= head_bytes);
                }
                Decoded::Refused(refusal) => panic!("{refusal}"),
            }
        }
    }

    #[test]
    fn the_front_of_a_value_is_read_before_the_value_is_there(
        id in any::<u32>(), meta in meta(), value in value(),
    ) {
        let mut wire = Vec::new();
        encode_value(&mut wire, Opcode::Get, id, &meta, &value);
        let head_bytes = wire.len() - value.len();
        for there in 0..=wire.len() {
            match decode_value_head(&wire[..there], u32::MAX) {
                Decoded::Frame { frame, consumed } => {
                    assert!(there >= head_bytes);
                    let value_bytes = value.len() as u32;
                    assert_eq!((frame, consumed), (ValueHead { id, meta, value_bytes }, head_bytes));
                }
                Decoded::Incomplete { needed_bytes } => {
                    assert!(there < needed_bytes && needed_bytes <= head_bytes);
                }
                Decoded::Refused(refusal) => panic!("{refusal}"),
            }
        }
    }

    #[test]
    fn a_value_survives_whole_and_in_two_pieces(
        id in any::<u32>(), meta in meta(), value in value(),
        opcode in select(&[Opcode::Get, Opcode::GetAndTouch][..]),
    ) {
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        encode_value(&mut whole, opcode, id, &meta, &value);
        encode_value_head(&mut pieces, opcode, id, &meta, value.len() as u32);
        pieces.extend_from_slice(&value);
        assert_eq!(whole, pieces);
        arrives(&whole, id, opcode, Status::OK, Response::Value(Value { meta, bytes: &value }));
    }

    #[test]
    fn replies_of_one_piece_survive(
        id in any::<u32>(), [number, version] in any::<[u64; 2]>(), left_ms in any::<u32>(),
        sentence in "\\PC{0,60}", status in select(&Status::ALL[1..]), echo in value(),
    ) {
        let mut wire = Vec::new();
        encode_done(&mut wire, Opcode::Delete, id);
        arrives(&wire, id, Opcode::Delete, Status::OK, Response::Done);
        wire.clear();
        encode_stored(&mut wire, Opcode::Cas, id, version);
        arrives(&wire, id, Opcode::Cas, Status::OK, Response::Stored { version });
        wire.clear();
        encode_counter(&mut wire, Opcode::Decrement, id, number, version);
        arrives(&wire, id, Opcode::Decrement, Status::OK, Response::Counter { number, version });
        wire.clear();
        encode_pong(&mut wire, id, &echo);
        arrives(&wire, id, Opcode::Ping, Status::OK, Response::Pong { echo: &echo });
        let message = &sentence[..];
        wire.clear();
        encode_status(&mut wire, Opcode::Get, id, status, message);
        arrives(&wire, id, Opcode::Get, status, Response::Failed { message });
        wire.clear();
        encode_drain(&mut wire, left_ms, message);
        arrives(&wire, 0, Opcode::Drain, Status::OK, Response::Drain { left_ms, message });
        wire.clear();
        encode_close(&mut wire, status, message);
        arrives(&wire, 0, Opcode::Close, status, Response::Close { message });
    }

    #[test]
    fn the_values_of_a_multi_get_survive_as_far_as_there_is_room(
        id in any::<u32>(), want_expiry in any::<bool>(), frame_bytes_max in 100_u32..2000,
        found in vec(of((any::<u32>(), any::<u64>(), value())), 0..20),
    ) {
        let expiry_left = if want_expiry { ExpiryLeft::Ms(5) } else { ExpiryLeft::NotAsked };
        let mut wire = b"before".to_vec();
        let keys = found.len() as u32;
        let mut reply = ValuesReply::begin(&mut wire, ValuesAsked { id, keys, want_expiry, frame_bytes_max });
        let mut answered = Vec::new();
        for item in &found {
            let (fit, lookup) = match item {
                None => (reply.push_miss(&mut wire, Status::NOT_FOUND), Lookup::Missed(Status::NOT_FOUND)),
                Some((client_flags, version, bytes)) => {
                    let (client_flags, version) = (*client_flags, *version);
                    let meta = ValueMeta { client_flags, version, expiry_left };
                    (reply.push_value(&mut wire, &meta, bytes), Lookup::Found(Value { meta, bytes }))
                }
            };
            if fit == Fit::Full {
                break;
            }
            answered.push(lookup);
        }
        reply.finish(&mut wire);
        assert!(wire.len() - 6 <= frame_bytes_max as usize);
        let Decoded::Frame { frame, .. } = decode_response(&wire[6..], frame_bytes_max) else {
            panic!("no frame")
        };
        let Response::Values { values, partial } = frame.response else { panic!("no values") };
        assert!(values.iter().eq(answered.iter().copied()));
        assert_eq!(partial, answered.len() < found.len());
    }

    #[test]
    fn outcomes_pages_and_statistics_survive(
        id in any::<u32>(), statuses in vec(select(Status::ALL), 0..20), next_cursor in any::<u64>(),
        keys in vec((key(), any::<u32>(), any::<u64>(), expiry()), 0..20),
        pairs in vec(("\\PC{0,20}", "\\PC{0,20}"), 0..20),
    ) {
        let mut wire = Vec::new();
        let mut reply = OutcomesReply::begin(&mut wire, Opcode::MultiSet, id);
        statuses.iter().for_each(|&status| reply.push(&mut wire, status));
        assert_eq!(reply.is_silent(), statuses.iter().all(|&status| status == Status::OK));
        reply.finish(&mut wire);
        let Decoded::Frame { frame, .. } = decode_response(&wire, u32::MAX) else { panic!("no frame") };
        let Response::Outcomes(outcomes) = frame.response else { panic!("no outcomes") };
        assert!(outcomes.iter().eq(statuses.iter().copied()));

        wire.clear();
        let listed: Vec<_> = keys
            .iter()
            .map(|(key, value_bytes, version, expire_in_ms)| ScanEntry {
                key, value_bytes: *value_bytes, version: *version, expire_in_ms: *expire_in_ms,
            })
            .collect();
        let mut reply = ScanReply::begin(&mut wire, id, u32::MAX);
        for entry in &listed {
            assert_eq!(reply.push(&mut wire, entry), Fit::Added);
        }
        reply.finish(&mut wire, next_cursor);
        let Decoded::Frame { frame, .. } = decode_response(&wire, u32::MAX) else { panic!("no frame") };
        let Response::Scan { next_cursor: cursor, entries } = frame.response else { panic!("no page") };
        assert_eq!(cursor, next_cursor);
        assert!(entries.iter().eq(listed.iter().copied()));

        wire.clear();
        let mut reply = StatsReply::begin(&mut wire, id, u32::MAX);
        for (name, value) in &pairs {
            assert_eq!(reply.push(&mut wire, name, value), Fit::Added);
        }
        reply.finish(&mut wire);
        let Decoded::Frame { frame, .. } = decode_response(&wire, u32::MAX) else { panic!("no frame") };
        let Response::Stats(told) = frame.response else { panic!("no statistics") };
        assert!(told.iter().eq(pairs.iter().map(|(name, value)| Pair { name, value })));
    }
}
