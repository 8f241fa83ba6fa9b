//! The lines of a batch, read by a thread of their own, so that answers do not wait for the next line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cli::ending::Failure;

/// LIMIT: the longest line. Longer values come from files.
const LINE_BYTES_MAX: usize = 4 << 20;

/// LIMIT: lines that are read ahead.
const LINES_AHEAD: usize = 16;

/// A line and its number, from 1.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) text: Vec<u8>,
}

/// Begins to read standard input, or a file. After the first error no more lines come.
pub(super) fn read(path: Option<&Path>) -> Result<Receiver<Result<Line, Failure>>, Failure> {
    let from: Box<dyn BufRead + Send> = match path {
        None => Box::new(BufReader::new(io::stdin())),
        Some(path) => Box::new(BufReader::new(File::open(path).map_err(|error| {
            Failure::usage(format!("cannot read {}: {error}", path.display()))
        })?)),
    };
    let (sender, lines) = channel(LINES_AHEAD);
    std::thread::Builder::new()
        .name("larder-lines".to_owned())
        .spawn(move || hand_on(from, &sender))
        .map_err(|error| Failure::not_done(format!("cannot start a thread: {error}")))?;
    Ok(lines)
}

fn hand_on(mut from: Box<dyn BufRead + Send>, lines: &Sender<Result<Line, Failure>>) {
    for number in 1.. {
        let line = next(&mut *from, number).transpose();
        let Some(line) = line else { return };
        let is_last = line.is_err();
        // Nobody waits for lines any more when the batch has failed.
        if lines.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}

/// The next line, without its end.
fn next(from: &mut dyn BufRead, number: u64) -> Result<Option<Line>, Failure> {
    let mut text = Vec::new();
    let read = from
        .take(LINE_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut text);
    let unreadable = |error| Failure::usage(format!("line {number}: cannot be read: {error}"));
    if read.map_err(unreadable)? == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    } else if text.len() > LINE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "line {number}: it has more than {LINE_BYTES_MAX} bytes; accepted: a larger value from a \
             file, set KEY --file PATH"
        )));
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    Ok(Some(Line { number, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_numbers_and_no_ends() {
        let mut from: &[u8] = b"one\n\r\ntwo\r\nthree";
        let mut lines = Vec::new();
        while let Some(line) = next(&mut from, lines.len() as u64 + 1).unwrap() {
            lines.push(String::from_utf8(line.text).unwrap());
        }
        assert_eq!(lines, ["one", "", "two", "three"]);
    }

    #[test]
    fn a_line_without_end_is_refused_with_its_number() {
        let endless = vec![b'x'; LINE_BYTES_MAX + 10];
        let refused = next(&mut &endless[..], 7).unwrap_err();
        assert!(refused.sentence.starts_with("line 7: it has more than"));
        let longest = vec![b'x'; LINE_BYTES_MAX];
        assert!(next(&mut &longest[..], 1).unwrap().is_some());
    }
}
