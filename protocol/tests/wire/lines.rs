//! Frames as one line of text, as PROTOCOL.md names them, and responses back to bytes.

use std::fmt::Write as _;

use larder_protocol::{
    Arithmetic, Decoded, Entry, ExpiryLeft, HEADER_BYTES, HelloFrame, Lease, Leased, Limits,
    Lookup, Opcode, OutcomesReply, Presence, Request, RequestFrame, Response, ResponseFrame,
    ResponseHeader, ScanReply, StatsReply, Status, Store, StoreMode, Value, ValuesAsked,
    ValuesReply, encode_close, encode_counter, encode_done, encode_drain, encode_leased_head,
    encode_pong, encode_status, encode_stored, encode_value,
};

/// What decoding came to, the frame itself put into words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Frame { line: String, consumed: usize },
    Incomplete { needed_bytes: usize },
    Refused { why: String },
}

pub(crate) fn tell<T>(decoded: Decoded<T>, line: impl Fn(&T) -> String) -> Told {
    match decoded {
        Decoded::Frame { frame, consumed } => Told::Frame {
            line: line(&frame),
            consumed,
        },
        Decoded::Incomplete { needed_bytes } => Told::Incomplete { needed_bytes },
        Decoded::Refused(refusal) => Told::Refused {
            why: format!("{refusal:?}"),
        },
    }
}

pub(crate) fn hello_line(frame: &HelloFrame<'_>) -> String {
    let hello = &frame.hello;
    format!(
        "HELLO id {}: versions {} to {}, features {:#x}, name {:?}",
        frame.id, hello.version_min, hello.version_max, hello.features, hello.name
    )
}

pub(crate) fn request_line(frame: &RequestFrame<'_>) -> String {
    let mut line = format!("{} id {}", frame.request.opcode(), frame.id);
    if frame.quiet {
        line += " quiet";
    }
    let details = request_details(&frame.request);
    match details.is_empty() {
        true => line,
        false => line + ": " + &details,
    }
}

fn request_details(request: &Request<'_>) -> String {
    let wants = |wanted: bool| if wanted { ", want_expiry" } else { "" };
    match request {
        Request::Get { key, want_expiry } => format!("key {}{}", text(key), wants(*want_expiry)),
        Request::GetAndTouch {
            key,
            expire_in_ms,
            want_expiry,
        } => {
            format!(
                "key {}, {}{}",
                text(key),
                expiry(*expire_in_ms),
                wants(*want_expiry)
            )
        }
        Request::Store(store) => store_details(store),
        Request::Arithmetic(arithmetic) => arithmetic_details(arithmetic),
        Request::Touch { key, expire_in_ms } => {
            format!("key {}, {}", text(key), expiry(*expire_in_ms))
        }
        Request::Delete { key, version } => format!("key {}{}", text(key), version_of(*version)),
        Request::GetOrLease {
            key,
            lease_ms,
            refresh_ms,
            want_expiry,
        } => {
            let (lease, refresh) = (ms_of("lease", *lease_ms), ms_of("refresh", *refresh_ms));
            format!("key {}{lease}{refresh}{}", text(key), wants(*want_expiry))
        }
        Request::Invalidate {
            key,
            version,
            expire_in_ms,
        } => {
            let expiry = ms_of("expire_in", *expire_in_ms);
            format!("key {}{expiry}{}", text(key), version_of(*version))
        }
        Request::EndLease { key, version } => format!("key {}, version {version}", text(key)),
        Request::Flush { delay_ms } => format!("delay {delay_ms} ms"),
        Request::MultiGet { keys, want_expiry } => {
            format!(
                "keys{}{}",
                joined(keys.iter().map(text)),
                wants(*want_expiry)
            )
        }
        Request::MultiSet { entries } => joined(entries.iter().map(entry)).trim_start().to_owned(),
        Request::MultiDelete { keys } => format!("keys{}", joined(keys.iter().map(text))),
        Request::Scan { cursor, limit } => format!("cursor {cursor}, limit {limit}"),
        Request::Stats { group } => format!("group {}", text(group)),
        Request::Ping { echo } => format!("echo {}", text(echo)),
        Request::Quit => String::new(),
    }
}

fn store_details(store: &Store<'_>) -> String {
    let mut line = format!("key {}, value {}", text(store.key), text(store.value));
    if !matches!(store.mode, StoreMode::Append | StoreMode::Prepend) {
        let _ = write!(line, ", client_flags {}", store.client_flags);
        let _ = write!(line, ", {}", expiry(store.expire_in_ms));
    }
    if let StoreMode::Cas { version } = store.mode {
        line += &version_of(Some(version));
    }
    line
}

fn arithmetic_details(arithmetic: &Arithmetic<'_>) -> String {
    let mut line = format!("key {}, delta {}", text(arithmetic.key), arithmetic.delta);
    if let Some(initial) = arithmetic.initial {
        let _ = write!(
            line,
            ", initial {initial}, {}",
            expiry(arithmetic.expire_in_ms)
        );
    }
    line
}

pub(crate) fn response_line(frame: &ResponseFrame<'_>) -> String {
    let name = Opcode::from_u8(frame.opcode).map_or_else(
        || format!("{:#04x}", frame.opcode),
        |opcode| opcode.to_string(),
    );
    match &frame.response {
        Response::Done => format!("{name} id {} {}", frame.id, frame.status),
        Response::Hello(_) => format!("{name} id {}: {}", frame.id, response_details(frame)),
        Response::Leased(leased) => {
            let said = leased_words(leased);
            let details = response_details(frame);
            format!("{name} id {} {}{said}: {details}", frame.id, frame.status)
        }
        Response::Values { partial: true, .. } => {
            format!(
                "{name} id {} {} partial: {}",
                frame.id,
                frame.status,
                response_details(frame)
            )
        }
        _ => format!(
            "{name} id {} {}: {}",
            frame.id,
            frame.status,
            response_details(frame)
        ),
    }
}

fn response_details(frame: &ResponseFrame<'_>) -> String {
    match &frame.response {
        Response::Done => String::new(),
        Response::Value(found) => value(found),
        Response::Leased(leased) => value(&leased.value),
        Response::Stored { version } => format!("version {version}"),
        Response::Counter { number, version } => format!("number {number}, version {version}"),
        Response::Values { values, .. } => {
            let lookups = values.iter().map(|lookup| match lookup {
                Lookup::Found(found) => format!("[{}]", value(&found)),
                Lookup::Missed(status) => format!("[{status}]"),
            });
            joined(lookups).trim_start().to_owned()
        }
        Response::Outcomes(outcomes) => joined(outcomes.iter().map(|status| status.to_string()))
            .trim_start()
            .to_owned(),
        Response::Scan {
            next_cursor,
            entries,
        } => {
            let entries = entries.iter().map(|entry| {
                let (key, expiry) = (text(entry.key), expiry(entry.expire_in_ms));
                let (value_bytes, version) = (entry.value_bytes, entry.version);
                format!("[key {key}, value_bytes {value_bytes}, version {version}, {expiry}]")
            });
            format!("next_cursor {next_cursor},{}", joined(entries))
        }
        Response::Stats(pairs) => {
            let pairs = pairs
                .iter()
                .map(|pair| format!("{:?} = {:?}", pair.name, pair.value));
            joined(pairs).trim_start().to_owned()
        }
        Response::Pong { echo } => format!("echo {}", text(echo)),
        Response::Hello(hello) => {
            let limits = limits(&hello.limits);
            let (version, features) = (hello.version, hello.features);
            format!(
                "version {version}, features {features:#x}, {limits}, name {:?}",
                hello.name
            )
        }
        Response::Drain { left_ms, message } => format!("left {left_ms} ms, {message:?}"),
        Response::Close { message } | Response::Failed { message } => format!("{message:?}"),
        Response::Other { body } => text(body),
    }
}

fn limits(limits: &Limits) -> String {
    let Limits {
        frame_bytes_max,
        key_bytes_max,
        value_bytes_max,
        ..
    } = limits;
    let Limits {
        keys_per_frame_max,
        in_flight_max,
        skip_bytes_max,
        idle_ms,
        buffered_bytes_max,
        ..
    } = limits;
    format!(
        "frame_bytes_max {frame_bytes_max}, key_bytes_max {key_bytes_max}, \
         value_bytes_max {value_bytes_max}, keys_per_frame_max {keys_per_frame_max}, \
         in_flight_max {in_flight_max}, skip_bytes_max {skip_bytes_max}, idle_ms {idle_ms}, \
         buffered_bytes_max {buffered_bytes_max}"
    )
}

fn value(found: &Value<'_>) -> String {
    let (client_flags, version) = (found.meta.client_flags, found.meta.version);
    let left = match found.meta.expiry_left {
        ExpiryLeft::NotAsked => String::new(),
        ExpiryLeft::Never => ", expiry_left never".to_owned(),
        ExpiryLeft::Ms(left_ms) => format!(", expiry_left {left_ms} ms"),
    };
    format!(
        "value {}, client_flags {client_flags}, version {version}{left}",
        text(found.bytes)
    )
}

fn entry(entry: Entry<'_>) -> String {
    let Entry {
        key,
        value,
        client_flags,
        expire_in_ms,
    } = entry;
    let (key, value, expiry) = (text(key), text(value), expiry(expire_in_ms));
    format!("[key {key}, value {value}, client_flags {client_flags}, {expiry}]")
}

fn text(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn expiry(expire_in_ms: Option<u64>) -> String {
    expire_in_ms.map_or("expire_in never".to_owned(), |ms| {
        format!("expire_in {ms} ms")
    })
}

/// What the flags say: ` stale, won`.
fn leased_words(leased: &Leased<'_>) -> String {
    let presence = match leased.presence {
        Presence::Fresh => None,
        Presence::Stale => Some("stale"),
        Presence::Absent => Some("absent"),
    };
    let lease = match leased.lease {
        Lease::None => None,
        Lease::Won => Some("won"),
        Lease::Taken => Some("taken"),
    };
    let words: Vec<_> = [presence, lease].into_iter().flatten().collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(" {}", words.join(", ")),
    }
}

fn ms_of(name: &str, ms: Option<u64>) -> String {
    ms.map_or(String::new(), |ms| format!(", {name} {ms} ms"))
}

fn version_of(version: Option<u64>) -> String {
    version.map_or(String::new(), |version| format!(", version {version}"))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.map(|part| format!(" {part}")).collect()
}

/// Encodes a response as a server would that means the same.
pub(crate) fn encode_response(frame: &ResponseFrame<'_>, out: &mut Vec<u8>) {
    const ROOM: u32 = u32::MAX;
    let Some(opcode) = Opcode::from_u8(frame.opcode) else {
        return encode_unknown(frame, out);
    };
    let id = frame.id;
    match &frame.response {
        Response::Done => encode_done(out, opcode, id),
        Response::Value(found) => encode_value(out, opcode, id, &found.meta, found.bytes),
        Response::Leased(leased) => {
            let Value { meta, bytes } = &leased.value;
            let said = (leased.presence, leased.lease);
            encode_leased_head(out, id, meta, said, bytes.len() as u32);
            out.extend_from_slice(bytes);
        }
        Response::Stored { version } => encode_stored(out, opcode, id, *version),
        Response::Counter { number, version } => encode_counter(out, opcode, id, *number, *version),
        Response::Values { values, partial } => {
            let want_expiry = values.iter().any(|lookup| {
                matches!(lookup, Lookup::Found(found) if found.meta.expiry_left != ExpiryLeft::NotAsked)
            });
            let keys = values.count() + u32::from(*partial);
            let asked = ValuesAsked {
                id,
                keys,
                want_expiry,
                frame_bytes_max: ROOM,
            };
            let mut reply = ValuesReply::begin(out, asked);
            for lookup in values.iter() {
                let _ = match lookup {
                    Lookup::Found(found) => reply.push_value(out, &found.meta, found.bytes),
                    Lookup::Missed(status) => reply.push_miss(out, status),
                };
            }
            reply.finish(out);
        }
        Response::Outcomes(outcomes) => {
            let mut reply = OutcomesReply::begin(out, opcode, id);
            outcomes.iter().for_each(|status| reply.push(out, status));
            reply.finish(out);
        }
        Response::Scan {
            next_cursor,
            entries,
        } => {
            let mut reply = ScanReply::begin(out, id, ROOM);
            for entry in entries.iter() {
                let _ = reply.push(out, &entry);
            }
            reply.finish(out, *next_cursor);
        }
        Response::Stats(pairs) => {
            let mut reply = StatsReply::begin(out, id, ROOM);
            for pair in pairs.iter() {
                let _ = reply.push(out, pair.name, pair.value);
            }
            reply.finish(out);
        }
        Response::Pong { echo } => encode_pong(out, id, echo),
        Response::Hello(hello) => hello.encode(id, out),
        Response::Drain { left_ms, message } => encode_drain(out, *left_ms, message),
        Response::Close { message } => encode_close(out, frame.status, message),
        Response::Failed { message } => encode_status(out, opcode, id, frame.status, message),
        Response::Other { .. } => encode_unknown(frame, out),
    }
}

/// A response to an opcode without a name, as a newer server might send it.
fn encode_unknown(frame: &ResponseFrame<'_>, out: &mut Vec<u8>) {
    let body = match &frame.response {
        Response::Failed { message } => message.as_bytes(),
        Response::Other { body } => body,
        other => panic!("{other:?} has an opcode with a name"),
    };
    let header = ResponseHeader {
        opcode: frame.opcode,
        flags: 0,
        status: frame.status,
        id: frame.id,
        word: 0,
        body_bytes: body.len() as u32,
    };
    assert_eq!(header.to_bytes().len(), HEADER_BYTES);
    assert!(frame.status != Status::OK || matches!(frame.response, Response::Other { .. }));
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(body);
}
