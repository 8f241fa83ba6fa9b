//! Traces as lines of named columns. The first line names them, in any order.

use std::io::{Chain, Read};

use csv::{ByteRecord, ErrorKind, ReaderBuilder, Terminator};

use super::request::{Operation, Request, TraceKey, decimal};
use super::trace::{Place, TraceError};

/// LIMIT: far beyond any date, and a time to live on top of it still fits in milliseconds.
const SECONDS_MAX: f64 = 1e12;

/// The columns that a trace may have.
const ACCEPTED: &str = "time, key, size, op, ttl";

/// A reader of lines.
pub(super) struct Columns<R> {
    lines: Lines<R>,
    columns: usize,
    places: Places,
    requests: u64,
}

/// The lines that are not blank, with their numbers.
struct Lines<R> {
    /// INVARIANT: every line ends with a newline, the last one included, so that the line after a
    /// record is one further than its last.
    reader: csv::Reader<Chain<R, &'static [u8]>>,
    fields: ByteRecord,
    number: u64,
}

/// Which column is the how manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    time: Option<usize>,
    key: usize,
    size: usize,
    operation: Option<usize>,
    ttl: Option<usize>,
}

impl<R: Read> Columns<R> {
    /// Reads the line that names the columns.
    pub(super) fn new(source: R) -> Result<Self, TraceError> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(Terminator::Any(b'\n'))
            .buffer_capacity(super::trace::BUFFER_BYTES)
            .from_reader(source.chain(&b"\n"[..]));
        let mut lines = Lines {
            reader,
            fields: ByteRecord::new(),
            number: 0,
        };
        let names = lines.read()?.ok_or_else(TraceError::empty)?;
        let (columns, places) = (names.len(), Places::of(names));
        Ok(Self {
            places: places.map_err(|why| lines.wrong(why))?,
            columns,
            lines,
            requests: 0,
        })
    }

    /// The next request; `None` at the end.
    pub(super) fn next_request(&mut self) -> Result<Option<Request>, TraceError> {
        let Some(fields) = self.lines.read()? else {
            return match self.requests {
                0 => Err(TraceError::empty()),
                _ => Ok(None),
            };
        };
        self.requests += 1;
        let request = match fields.len() {
            fields if fields != self.columns => Err(format!(
                "the line has {fields} fields where the first has {}: it is torn",
                self.columns
            )),
            _ => self.places.request(fields),
        };
        request.map(Some).map_err(|why| self.lines.wrong(why))
    }
}

impl<R: Read> Lines<R> {
    /// The fields of the next line that is not blank; `None` at the end.
    fn read(&mut self) -> Result<Option<&ByteRecord>, TraceError> {
        loop {
            let first = self.reader.position().line();
            let read = self.reader.read_byte_record(&mut self.fields);
            if !read.map_err(unreadable)? {
                return Ok(None);
            }
            if self.fields.as_slice().contains(&b'\n') {
                // The quote may be open to the end of the trace: where it began tells more.
                self.number = first;
                return Err(self.wrong("a quoted field goes on past the end of its line"));
            }
            self.number = self.reader.position().line() - 1;
            // A carriage return before the newline goes with the blanks.
            self.fields.trim();
            if self.fields.len() > 1 || !self.fields.as_slice().is_empty() {
                return Ok(Some(&self.fields));
            }
        }
    }

    fn wrong(&self, why: impl Into<String>) -> TraceError {
        TraceError::at(Place::Line(self.number), why)
    }
}

/// Whether text begins with the name of a column, and goes on as a line of them does.
pub(super) fn names_a_column(first: &[u8]) -> bool {
    let line = first.trim_ascii_start();
    let end = line.iter().position(|byte| matches!(byte, b',' | b'\n'));
    let name = end.map(|end| line[..end].trim_ascii());
    name.is_some_and(|name| {
        let mut columns = ACCEPTED.split(", ").map(str::as_bytes);
        columns.any(|column| column.eq_ignore_ascii_case(name))
    })
}

impl Places {
    fn of(names: &ByteRecord) -> Result<Self, String> {
        let [mut time, mut key, mut size, mut operation, mut ttl] = [None; 5];
        for (at, name) in names.iter().enumerate() {
            let place = match &name.to_ascii_lowercase()[..] {
                b"time" => &mut time,
                b"key" => &mut key,
                b"size" => &mut size,
                b"op" => &mut operation,
                b"ttl" => &mut ttl,
                _ => {
                    return Err(format!(
                        "`{}` is not a column of a trace; accepted: {ACCEPTED}. The first line \
                         must name the columns",
                        shown(name)
                    ));
                }
            };
            if place.replace(at).is_some() {
                return Err(format!("the column `{}` is there twice", shown(name)));
            }
        }
        let missing = |name| format!("there is no column `{name}`: a trace needs key and size");
        if ttl.is_some() && time.is_none() {
            return Err("there is no column `time`: without it, no ttl can run out".to_owned());
        }
        Ok(Self {
            time,
            key: key.ok_or_else(|| missing("key"))?,
            size: size.ok_or_else(|| missing("size"))?,
            operation,
            ttl,
        })
    }

    fn request(&self, line: &ByteRecord) -> Result<Request, String> {
        let field = |place: usize| line.get(place).unwrap_or_default();
        Ok(Request {
            time_ms: match self.time.map(field) {
                Some(text) => milliseconds(text).ok_or_else(|| not_seconds("time", text))?,
                None => 0,
            },
            key: TraceKey::written(field(self.key)).map_err(|problem| problem.to_string())?,
            size_bytes: size(field(self.size))?,
            operation: match self.operation.map(field) {
                Some(name) => Operation::named(name).ok_or_else(|| unknown_operation(name))?,
                None => Operation::Get,
            },
            ttl_ms: match self.ttl.map(field) {
                None | Some(b"") => None,
                Some(text) => match milliseconds(text) {
                    Some(0) => None,
                    Some(ttl_ms) => Some(ttl_ms),
                    None => return Err(not_seconds("ttl", text)),
                },
            },
        })
    }
}

fn size(text: &[u8]) -> Result<u32, String> {
    let bytes = decimal(text).and_then(|bytes| u32::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        format!(
            "the size `{}` is not a whole number of bytes from 0 to {}",
            shown(text),
            u32::MAX
        )
    })
}

/// Seconds, with or without a fraction.
fn milliseconds(text: &[u8]) -> Option<u64> {
    let seconds: f64 = str::from_utf8(text).ok()?.parse().ok()?;
    // Nobody else's "NaN" is in the range either.
    (0.0..=SECONDS_MAX)
        .contains(&seconds)
        .then(|| (seconds * 1e3).round() as u64)
}

fn not_seconds(column: &str, text: &[u8]) -> String {
    format!(
        "the {column} `{}` is not a number of seconds from 0 to {SECONDS_MAX}",
        shown(text)
    )
}

fn unknown_operation(name: &[u8]) -> String {
    let accepted: Vec<&str> = Operation::NAMES.iter().map(|(name, _)| *name).collect();
    format!(
        "`{}` is not an operation; accepted: {}",
        shown(name),
        accepted.join(", ")
    )
}

/// What a trace has where it should not, short enough for a line.
fn shown(text: &[u8]) -> String {
    const CHARS_MAX: usize = 40;
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(CHARS_MAX).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown.escape_debug().to_string()
}

fn unreadable(error: csv::Error) -> TraceError {
    match error.into_kind() {
        ErrorKind::Io(error) => error.into(),
        other => TraceError::at(Place::Trace, format!("the trace cannot be read: {other:?}")),
    }
}
