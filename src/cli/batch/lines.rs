//! The lines of a batch, read by a thread of their own, so that answers do not wait for the next line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{FileType, fstat};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cli::ending::Failure;

/// LIMIT: the longest line. Longer values come from files.
const LINE_BYTES_MAX: usize = 4 << 20;

/// LIMIT: what is read at once, and handed on at once where it has come at once: a hand-over takes longer
/// than a line.
const PIECE_BYTES: usize = 64 << 10;

/// LIMIT: such pieces, or longer lines, that are read ahead, for programs that write all of their lines
/// before they read the answers.
const PIECES_AHEAD: usize = 16;

/// A line and its number, from 1.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) text: Vec<u8>,
}

/// Lines in their order.
pub(super) struct Lines {
    pieces: Receiver<Vec<Result<Line, Failure>>>,
    at_hand: std::vec::IntoIter<Result<Line, Failure>>,
    /// The number of the last line that was handed over.
    number: u64,
    /// Whether they come from a file, whose end is known to come.
    of_a_file: bool,
}

impl Lines {
    /// The next line; none at the end, and after an error.
    pub(super) async fn next(&mut self) -> Option<Result<Line, Failure>> {
        loop {
            if let Some(line) = self.at_hand.next() {
                self.number += u64::from(line.is_ok());
                return Some(line);
            }
            self.at_hand = self.pieces.recv().await?.into_iter();
        }
    }

    /// The number of the last of all lines; of those that somebody may still be writing, nothing.
    pub(super) async fn last(&mut self) -> Option<u64> {
        if !self.of_a_file {
            return None;
        }
        while self.next().await.is_some() {}
        Some(self.number)
    }
}

/// Begins to read standard input, or a file.
pub(super) fn read(path: Option<&Path>) -> Result<Lines, Failure> {
    let (from, status): (Box<dyn Read + Send>, _) = match path {
        None => (Box::new(io::stdin()), fstat(io::stdin())),
        Some(path) => {
            let file = File::open(path).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", path.display()))
            })?;
            let status = fstat(&file);
            (Box::new(file), status)
        }
    };
    let of_a_file =
        status.is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile);
    let (sender, pieces) = channel(PIECES_AHEAD);
    std::thread::Builder::new()
        .name("larder-lines".to_owned())
        .spawn(move || hand_on(BufReader::with_capacity(PIECE_BYTES, from), &sender))
        .map_err(|error| Failure::not_done(format!("cannot start a thread: {error}")))?;
    Ok(Lines {
        pieces,
        at_hand: Vec::new().into_iter(),
        number: 0,
        of_a_file,
    })
}

fn hand_on(mut from: BufReader<Box<dyn Read + Send>>, pieces: &Sender<Vec<Result<Line, Failure>>>) {
    let mut piece = Vec::new();
    for number in 1.. {
        let line = next(&mut from, number).transpose();
        let is_last = line.as_ref().is_none_or(Result::is_err);
        piece.extend(line);
        let more_is_there = from.buffer().contains(&b'\n');
        if more_is_there && !is_last {
            continue;
        }
        // Nobody waits for lines any more when the batch has failed.
        let is_wanted =
            piece.is_empty() || pieces.blocking_send(std::mem::take(&mut piece)).is_ok();
        if is_last || !is_wanted {
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
