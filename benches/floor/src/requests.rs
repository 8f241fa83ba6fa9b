//! What was asked, as far as a fixed reply has to know it.

use memchr::memchr;

/// LIMIT: a line that goes on for longer is no request.
const LINE_BYTES_MAX: usize = 4096;

/// LIMIT: reads in one write whose replies are laid out in advance.
const READS_MAX: usize = 4096;

const STORED: &[u8] = b"STORED\r\n";
const LIST_END: &[u8] = b"END\r\n";
const WRONG: &[u8] = b"ERROR\r\n";

/// The replies, laid out in advance.
#[derive(Debug)]
pub(crate) struct Replies {
    /// As many replies to a read, one after the other, as any write takes.
    reads: Vec<u8>,
    read_bytes: usize,
}

/// How far into a request a connection is when its bytes end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Bytes of a value that are still to be skipped, its line end included.
    skip_bytes: usize,
    /// The beginning of a line.
    line: Vec<u8>,
}

/// What the bytes of a read come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Reads that were asked for at first; nothing else was before them.
    reads: usize,
    /// The replies to everything after.
    other: Vec<u8>,
}

/// A line too long, or a length that is none: the end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Nonsense;

impl Replies {
    pub(crate) fn new(key_bytes: usize, value_bytes: usize) -> Self {
        let (key, value) = ("0".repeat(key_bytes), "v".repeat(value_bytes));
        let read = format!("VALUE {key} 0 {value_bytes}\r\n{value}\r\nEND\r\n");
        Self {
            reads: read
                .repeat(READS_MAX.min((1 << 22) / read.len() + 1))
                .into_bytes(),
            read_bytes: read.len(),
        }
    }

    fn read(&self) -> &[u8] {
        &self.reads[..self.read_bytes]
    }

    /// The replies, where nothing was asked for but reads that are laid out.
    pub(crate) fn laid_out(&self, answer: &Answer) -> Option<&[u8]> {
        match answer.other.is_empty() {
            true => self.reads.get(..answer.reads * self.read_bytes),
            false => None,
        }
    }

    /// All replies, one after the other.
    pub(crate) fn joined(&self, answer: &Answer) -> Vec<u8> {
        let mut all = self.read().repeat(answer.reads);
        all.extend_from_slice(&answer.other);
        all
    }
}

/// Counts the requests in what a connection has received.
pub(crate) fn count(
    mut received: &[u8],
    rest: &mut Rest,
    replies: &Replies,
) -> Result<Answer, Nonsense> {
    let mut answer = Answer::default();
    loop {
        let skipped = rest.skip_bytes.min(received.len());
        rest.skip_bytes -= skipped;
        received = &received[skipped..];
        let Some(end) = memchr(b'\n', received) else {
            rest.line.extend_from_slice(received);
            return match rest.line.len() > LINE_BYTES_MAX {
                true => Err(Nonsense),
                false => Ok(answer),
            };
        };
        let (line, behind) = received.split_at(end + 1);
        received = behind;
        if rest.line.is_empty() {
            rest.skip_bytes = answer.add(line, replies)?;
        } else {
            rest.line.extend_from_slice(line);
            rest.skip_bytes = answer.add(&rest.line, replies)?;
            rest.line.clear();
        }
    }
}

impl Answer {
    /// Answers a line; gives the length of the data behind it.
    #[inline]
    fn add(&mut self, line: &[u8], replies: &Replies) -> Result<usize, Nonsense> {
        match line {
            [b'g', b'e', b't', b' ', ..] if self.other.is_empty() => self.reads += 1,
            [b'g', b'e', b't', b' ', ..] => self.other.extend_from_slice(replies.read()),
            [b's', b'e', b't', b' ', ..] => {
                self.other.extend_from_slice(STORED);
                return data_bytes(line).ok_or(Nonsense);
            }
            [b's', b't', b'a', b't', b's', ..] => self.other.extend_from_slice(LIST_END),
            _ => self.other.extend_from_slice(WRONG),
        }
        Ok(0)
    }
}

/// The length at the end of the line of a set, with that of the line end behind the data.
fn data_bytes(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r\n")?;
    let at = line.iter().rposition(|&byte| byte == b' ')? + 1;
    let digits = std::str::from_utf8(&line[at..]).ok()?;
    // LIMIT: a longer number would be no value that anybody sends.
    let length: u32 = digits.parse().ok()?;
    Some(length as usize + 2)
}

#[cfg(test)]
mod tests {
    use super::{Nonsense, Replies, Rest, count};

    fn answered(replies: &Replies, parts: &[&[u8]]) -> Vec<u8> {
        let mut rest = Rest::default();
        let mut all = Vec::new();
        for part in parts {
            let answer = count(part, &mut rest, replies).unwrap();
            all.extend(replies.joined(&answer));
            if let Some(laid_out) = replies.laid_out(&answer) {
                assert_eq!(laid_out, replies.joined(&answer));
            }
        }
        all
    }

    #[test]
    fn every_line_is_answered_wherever_it_is_split() {
        let replies = Replies::new(3, 4);
        let asked = b"get abc\r\nget d\r\nset abc 0 0 6\r\nget\r\nx\r\nget e\r\nstats\r\nfoo\r\n";
        let read = "VALUE 000 0 4\r\nvvvv\r\nEND\r\n";
        let expected = format!("{read}{read}STORED\r\n{read}END\r\nERROR\r\n");
        for at in 0..=asked.len() {
            let parts = asked.split_at(at);
            let answered = answered(&replies, &[parts.0, parts.1]);
            assert_eq!(
                String::from_utf8(answered).unwrap(),
                expected,
                "split at {at}"
            );
        }
    }

    #[test]
    fn what_is_no_request_ends_the_connection() {
        let replies = Replies::new(3, 4);
        for line in [&b"set a 0 0 x\r\n"[..], b"set a 0 0 -1\r\n", &[b'g'; 5000]] {
            let counted = count(line, &mut Rest::default(), &replies);
            assert_eq!(counted, Err(Nonsense));
        }
    }
}
