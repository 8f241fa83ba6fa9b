use larder_protocol::{Decoded, Limits, Request as Asked, RequestFrame, Response, decode_response};

use super::*;
use crate::dialect::larder::Larder;
use crate::dialect::memcached::Memcached;
use crate::engine::{Cache, Config, Session};

const NOW_MS: u64 = 1_000_000;

/// What a listing tells of a key, at most.
const LINE_BYTES_MAX: usize = 200;

/// Keys that a page may have beyond what was asked for: it ends between two buckets.
const BUCKET_KEYS_MAX: u32 = 32;

struct NoReport;

impl Report for NoReport {
    fn groups(&self) -> &'static str {
        "none"
    }

    fn figures(&self, _: &[u8], _: &Guard<'_>) -> Option<Vec<(String, String)>> {
        None
    }

    fn reset(&self) {}
}

/// Stores so many items, each with a value of so many bytes.
fn stored(items: usize, value_bytes: usize) -> Session {
    let cache = Cache::new(Config::new(4 << 20)).unwrap();
    let mut session = cache.session().unwrap();
    let value = vec![b'v'; value_bytes];
    for number in 0..items {
        let mut guard = session.pin(NOW_MS);
        let name = format!("key-{number}");
        let key = guard.key(name.as_bytes()).unwrap();
        let stored = guard.store(&key, Mode::Set, &Entry::of(&value));
        assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
    }
    session
}

/// Executes one batch of the input, of which so much is answered, with replies of so many bytes.
fn execute<D: Dialect>(
    dialect: &D,
    session: &mut Session,
    (input, answered): (&[u8], u64),
    out_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Round<D> {
    let scratch = Scratch::default();
    let setting = Setting {
        now_ms: NOW_MS,
        answered,
        scratch: &scratch,
        report: &NoReport,
        quarantine: &[],
        out_bytes_max,
        copied_bytes_max: u64::MAX,
    };
    let mut guard = session.pin(NOW_MS);
    execute_batch(dialect, &mut guard, setting, input, out, &mut Pen::off())
}

#[test]
fn requests_wait_once_the_replies_to_those_before_are_long() {
    let mut session = stored(1, 500);
    for (request, enough) in [("get key-0\r\n", 1000), ("get none\r\n", 10)] {
        let (input, mut out) = (request.repeat(20), Vec::new());
        let input = (input.as_bytes(), 0);
        let round = execute(&Memcached::default(), &mut session, input, enough, &mut out);
        assert_eq!(round.requests, 2, "{request}");
        assert_eq!(round.consumed_bytes, 2 * request.len());
    }
}

/// Executes a request, part by part, and says what it answers; no part is longer than so.
fn parts(session: &mut Session, request: &str, enough: usize, part_bytes_max: usize) -> String {
    let (mut answer, mut answered, mut count) = (Vec::new(), 0, 0);
    loop {
        let (mut out, input) = (Vec::new(), (request.as_bytes(), answered));
        let round = execute(&Memcached::default(), session, input, enough, &mut out);
        assert!(out.len() <= part_bytes_max, "{} bytes", out.len());
        answer.extend_from_slice(&out);
        count += 1;
        answered = round.answered;
        if answered == 0 {
            assert_eq!(round.requests, 1);
            assert!(count > 1, "all of it at once");
            return String::from_utf8(answer).unwrap();
        }
    }
}

#[test]
fn a_request_for_many_keys_is_answered_in_parts_that_are_not_long() {
    let mut session = stored(20, 500);
    let names: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let request = format!("get {}\r\n", names.join(" "));
    let answer = parts(&mut session, &request, 1000, 1000 + 600);
    let value = "v".repeat(500);
    let found = |name: &String| format!("VALUE {name} 0 500\r\n{value}\r\n");
    let found: String = names.iter().map(found).collect();
    assert_eq!(answer, format!("{found}END\r\n"));
}

#[test]
fn all_keys_are_listed_in_parts_that_are_not_long() {
    let mut session = stored(200, 10);
    let request = "lru_crawler metadump all\r\n";
    let answer = parts(&mut session, request, 1000, 1000 + LINE_BYTES_MAX);
    for number in 0..200 {
        let name = format!("key=key-{number} ");
        assert_eq!(answer.matches(&name).count(), 1, "{name}");
    }
}

#[test]
fn a_page_of_a_scan_has_so_many_keys_and_no_more_whatever_was_asked_for() {
    let mut session = stored(2000, 1);
    let limits = Limits::for_items(250, 1 << 20);
    for (limit, expected) in [(0, 256), (1000, 1000), (1024, 1024), (1500, 1024)] {
        let (mut request, mut out) = (Vec::new(), Vec::new());
        RequestFrame {
            id: 1,
            quiet: false,
            request: Asked::Scan { cursor: 0, limit },
        }
        .encode(&mut request);
        let input = (&request[..], 0);
        let round = execute(
            &Larder { limits },
            &mut session,
            input,
            usize::MAX,
            &mut out,
        );
        assert_eq!(round.requests, 1);
        let Decoded::Frame { frame, .. } = decode_response(&out, 1 << 20) else {
            panic!("no frame")
        };
        let Response::Scan { entries, .. } = frame.response else {
            panic!("{frame:?}")
        };
        let keys = entries.count();
        let accepted = expected..expected + BUCKET_KEYS_MAX;
        assert!(
            accepted.contains(&keys),
            "{keys} where {limit} were asked for"
        );
    }
}
