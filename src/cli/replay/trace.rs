//! Traces: requests out of bytes, one after the other, whatever their format and compression.
//!
//! Both are told by their first bytes. A zstd frame begins with a magic number; a line that names
//! columns does so; a record of libCacheSim's binary has in its first 24 bytes always one that no line
//! of text has, since the last 8 of them are either a number below 2^56 or one of its two words for
//! "never again".

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

use clap::ValueEnum;

use super::columns::{Columns, names_a_column};
use super::compressed::{self, Frames};
use super::foreign;
use super::oracle::{self, OracleGeneral};
use super::request::Request;

/// LIMIT: enough that a system call per refill does not show.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Whichever its first bytes look like.
    Auto,
    /// Lines of named columns.
    Csv,
    /// libCacheSim's binary records of 24 bytes.
    OracleGeneral,
}

/// The requests of a trace, in order.
pub(super) enum Trace<'r> {
    Columns(Box<Columns<Box<dyn Read + 'r>>>),
    OracleGeneral(OracleGeneral<Box<dyn Read + 'r>>),
}

/// Where in a trace something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Trace,
    /// Counted from 1, the header included.
    Line(u64),
    /// Counted from 1.
    Record(u64),
}

/// Why a trace cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TraceError {
    pub(super) place: Place,
    pub(super) sentence: String,
}

impl TraceError {
    pub(super) fn at(place: Place, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { place, sentence }
    }

    /// There is nothing in it.
    pub(super) fn empty() -> Self {
        Self::at(Place::Trace, "the trace is empty: it has no request")
    }
}

impl From<io::Error> for TraceError {
    fn from(error: io::Error) -> Self {
        Self::at(Place::Trace, format!("the trace cannot be read: {error}"))
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Trace => {}
            Place::Line(line) => write!(f, "line {line}: ")?,
            Place::Record(record) => write!(f, "record {record}: ")?,
        }
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for TraceError {}

/// The bytes of a trace, decompressed if they are compressed.
pub(super) fn decompressed<'r>(source: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let (first, source) = peek(source, compressed::MAGIC_BYTES)?;
    Ok(match compressed::is_zstd(&first) {
        true => Box::new(Frames::new(BufReader::with_capacity(BUFFER_BYTES, source))),
        false => Box::new(source),
    })
}

impl<'r> Trace<'r> {
    /// Begins to read a trace out of bytes that are not compressed.
    pub(super) fn new(source: impl Read + 'r, format: Format) -> Result<Self, TraceError> {
        let (first, source) = peek(source, oracle::RECORD_BYTES)?;
        if first.is_empty() {
            return Err(TraceError::empty());
        }
        if let Some(complaint) = foreign::complaint(&first) {
            return Err(TraceError::at(Place::Trace, complaint));
        }
        // Keys may have any bytes: those behind the first line say nothing.
        let is_text = names_a_column(&first) || !first.iter().any(|byte| matches!(byte, 0 | 0xff));
        let source: Box<dyn Read + 'r> = Box::new(source);
        Ok(match (format, is_text) {
            (Format::Csv, _) | (Format::Auto, true) => {
                Self::Columns(Box::new(Columns::new(source)?))
            }
            (Format::OracleGeneral, _) | (Format::Auto, false) => {
                let source: Box<dyn Read + 'r> =
                    Box::new(BufReader::with_capacity(BUFFER_BYTES, source));
                Self::OracleGeneral(OracleGeneral::new(source))
            }
        })
    }
}

impl Iterator for Trace<'_> {
    type Item = Result<Request, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Columns(lines) => lines.next_request().transpose(),
            Self::OracleGeneral(records) => records.next_request().transpose(),
        }
    }
}

/// A source whose first bytes were looked at, and are still in it.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// The first bytes of a source, fewer only where it ends.
fn peek<R: Read>(mut source: R, bytes: usize) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut first = Vec::with_capacity(bytes);
    source.by_ref().take(bytes as u64).read_to_end(&mut first)?;
    Ok((first.clone(), Cursor::new(first).chain(source)))
}
