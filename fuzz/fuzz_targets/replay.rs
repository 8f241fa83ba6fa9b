//! The readers of traces: whatever the bytes, a count or a sentence, and always the same one.

#![no_main]

use std::io::{self, Read};

use larder::cli::{TraceFormat, TraceSummary, read_trace};
use libfuzzer_sys::fuzz_target;

/// The first bytes of a compressed trace.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes of a record of libCacheSim's binary.
const RECORD_BYTES: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let csv = check(bytes, TraceFormat::Csv);
    let binary = check(bytes, TraceFormat::OracleGeneral);
    let auto = check(bytes, TraceFormat::Auto);
    assert!(auto == csv || auto == binary, "{auto:?}");
    if let Ok(summary) = binary
        && !bytes.starts_with(&ZSTD)
        && !bytes
            .get(1..4)
            .is_some_and(|magic| magic == [0x2a, 0x4d, 0x18])
    {
        let expected = bytes.len() / RECORD_BYTES;
        assert_eq!(summary.requests, expected as u64);
    }
});

/// Reads at once, and in small pieces; neither may matter.
fn check(bytes: &[u8], format: TraceFormat) -> Result<TraceSummary, String> {
    let whole = read_trace(bytes, format);
    let pieces = read_trace(Pieces { bytes, turn: 0 }, format);
    assert_eq!(whole, pieces);
    match &whole {
        Ok(summary) => assert!(summary.requests > 0 && summary.stored_bytes > 0),
        Err(sentence) => assert!(
            !sentence.is_empty() && !sentence.contains('\n'),
            "{sentence}"
        ),
    }
    whole
}

/// A source that gives a few bytes at a time.
struct Pieces<'b> {
    bytes: &'b [u8],
    turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        let length = (self.turn % 7 + 1).min(room.len());
        self.bytes.read(&mut room[..length])
    }
}
