//! The last lines of the log, to be saved with other evidence.

use std::collections::VecDeque;
use std::io::{self, Write};

use crate::sync::{Arc, Mutex};

/// LIMIT: bytes of the log that are remembered.
const BYTES_MAX: usize = 64 << 10;

/// The last lines of this process's log: what is written to it, and no more than so much of that.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentLog(Arc<Mutex<VecDeque<u8>>>);

impl RecentLog {
    /// What there is, from the beginning of a line on.
    pub(super) fn read(&self) -> Vec<u8> {
        let kept = self.0.lock();
        let is_cut = kept.len() == BYTES_MAX;
        let first_line = kept.iter().position(|byte| *byte == b'\n');
        let from = match first_line.filter(|_| is_cut) {
            Some(end) => end + 1,
            None => 0,
        };
        kept.range(from..).copied().collect()
    }
}

impl Write for RecentLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock();
        let last = &bytes[bytes.len().saturating_sub(BYTES_MAX)..];
        let surplus = (kept.len() + last.len()).saturating_sub(BYTES_MAX);
        kept.drain(..surplus);
        kept.extend(last);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_forgotten_by_whole_lines() {
        let mut log = RecentLog::default();
        let mut write = |line: &str| log.write_all(line.as_bytes()).unwrap();
        write("first\n");
        write("second\n");
        assert_eq!(log.read(), b"first\nsecond\n");
        let mut write = |line: &str| log.write_all(line.as_bytes()).unwrap();
        for number in 0..BYTES_MAX / 8 {
            write(&format!("{number:08}\n"));
        }
        let kept = String::from_utf8(log.read()).unwrap();
        assert!(kept.len() <= BYTES_MAX && kept.len() > BYTES_MAX - 18);
        assert!(kept.lines().all(|line| line.len() == 8), "{kept}");
        let mut write = |line: &str| log.write_all(line.as_bytes()).unwrap();
        write(&"x".repeat(2 * BYTES_MAX));
        assert_eq!(log.read().len(), BYTES_MAX);
    }
}
