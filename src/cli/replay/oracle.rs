//! libCacheSim's oracleGeneral: records of 24 bytes, little-endian, nothing between them.
//!
//! ```text
//!  0  4        12  16                24
//! +--+--------+---+------------------+
//! |time|object|size|next access       |
//! +--+--------+---+------------------+
//! ```
//!
//! A time in seconds (4 bytes), a number for the object (8), its size (4), and when it is read next
//! (8), which a replay does not use.

use std::io::Read;

use super::request::{Operation, Request, TraceKey};
use super::trace::{Place, TraceError};

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 24;

/// A reader of records.
#[derive(Debug)]
pub(super) struct OracleGeneral<R> {
    source: R,
    records: u64,
}

impl<R: Read> OracleGeneral<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, records: 0 }
    }

    /// The next request; `None` at the end.
    pub(super) fn next_request(&mut self) -> Result<Option<Request>, TraceError> {
        let mut record = [0; RECORD_BYTES];
        let present = fill(&mut self.source, &mut record)?;
        match present {
            RECORD_BYTES => {}
            0 if self.records == 0 => return Err(TraceError::empty()),
            0 => return Ok(None),
            torn => {
                return Err(TraceError::at(
                    Place::Record(self.records + 1),
                    format!("the trace ends after {torn} of the record's {RECORD_BYTES} bytes"),
                ));
            }
        }
        self.records += 1;
        Ok(Some(Request {
            time_ms: u64::from(u32::from_le_bytes(field(&record, 0))) * 1000,
            key: TraceKey::Number(field(&record, 4)),
            size_bytes: u32::from_le_bytes(field(&record, 12)),
            operation: Operation::Get,
            ttl_ms: None,
        }))
    }
}

fn field<const N: usize>(record: &[u8; RECORD_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[at..at + N]);
    bytes
}

/// Reads until the room is full or the source ends; how much there was.
fn fill(source: &mut impl Read, room: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match source.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
