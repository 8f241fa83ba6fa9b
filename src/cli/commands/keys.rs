//! The keys that a command is for: arguments, or the lines of a file, however many.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::Args;

use super::Site;
use super::answer::readable_key;
use super::files::STANDARD_INPUT;
use crate::cli::ending::Failure;

/// LIMIT: keys that are read ahead; so many travel together.
const KEYS_AT_ONCE: usize = 1000;

/// LIMIT: the longest line of a file of keys; no server takes longer keys.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// LIMIT: keys that were not there and are named.
const ABSENT_NAMED: usize = 10;

/// Which keys.
#[derive(Debug, Clone, Args)]
pub(super) struct KeyOptions {
    /// The keys
    #[arg(value_name = "KEY", required_unless_present = "keys_from")]
    keys: Vec<OsString>,

    /// Read keys from this file, one on each line; - is standard input
    #[arg(long, value_name = "PATH", conflicts_with = "keys")]
    keys_from: Option<PathBuf>,

    /// Keys of the file end with a zero byte, not with a line, as `scan --null` writes them
    #[arg(short = '0', long, requires = "keys_from")]
    null: bool,
}

/// Keys, some at a time.
pub(super) enum Keys<'o> {
    Given(std::slice::Chunks<'o, OsString>),
    Read {
        from: Box<dyn BufRead + Send>,
        name: String,
        end: u8,
    },
}

/// Keys that were not there.
#[derive(Debug, Default)]
pub(super) struct Absent {
    pub(super) count: u64,
    /// The first of them.
    pub(super) named: Vec<Vec<u8>>,
}

impl Absent {
    pub(super) fn push(&mut self, key: &[u8]) {
        self.count += 1;
        if self.named.len() < ABSENT_NAMED {
            self.named.push(key.to_vec());
        }
    }

    /// The sentence that names them, if there are any.
    pub(super) fn complaint(&self) -> Option<String> {
        let named: Vec<_> = self.named.iter().map(|key| readable_key(key)).collect();
        match (&named[..], self.count - named.len() as u64) {
            ([], _) => None,
            ([one], _) => Some(format!("{one} is not there")),
            (_, 0) => Some(format!("{} are not there", named.join(", "))),
            (_, more) => Some(format!(
                "{} and {more} more are not there",
                named.join(", ")
            )),
        }
    }
}

impl KeyOptions {
    /// The same of one other key.
    pub(super) fn of(&self, key: &[u8]) -> Self {
        Self {
            keys: vec![OsString::from_vec(key.to_vec())],
            keys_from: None,
            null: self.null,
        }
    }

    /// The key, if there is one alone.
    pub(super) fn one(&self) -> Option<&OsString> {
        match &self.keys[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    pub(super) fn open(&self, site: Site) -> Result<Keys<'_>, Failure> {
        let Some(path) = &self.keys_from else {
            return Ok(Keys::Given(self.keys.chunks(KEYS_AT_ONCE)));
        };
        let (from, name): (Box<dyn BufRead + Send>, _) = if path.as_os_str() == STANDARD_INPUT {
            super::files::standard_input_for("keys", site)?;
            let input = BufReader::new(io::stdin());
            (Box::new(input), "standard input".to_owned())
        } else {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            (Box::new(BufReader::new(file)), name)
        };
        let end = if self.null { 0 } else { b'\n' };
        Ok(Keys::Read { from, name, end })
    }
}

impl Keys<'_> {
    /// The next keys; none at the end.
    pub(super) fn next(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        let (from, name, end) = match self {
            Self::Given(chunks) => {
                let chunk = chunks.next().unwrap_or_default();
                return Ok(chunk.iter().map(|key| key.as_bytes().to_vec()).collect());
            }
            Self::Read { from, name, end } => (from, name, *end),
        };
        let mut keys = Vec::new();
        while keys.len() < KEYS_AT_ONCE {
            let mut key = Vec::new();
            let mut line = from.take(KEY_BYTES_MAX + 1);
            let read = line.read_until(end, &mut key);
            if read.map_err(|error| unreadable(name, &error))? == 0 {
                break;
            }
            if key.last() == Some(&end) {
                key.pop();
            } else if key.len() as u64 > KEY_BYTES_MAX {
                return Err(Failure::usage(format!(
                    "{name} has a line of more than {KEY_BYTES_MAX} bytes; accepted: one key on each line"
                )));
            }
            if !key.is_empty() {
                keys.push(key);
            }
        }
        Ok(keys)
    }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read the keys from {name}: {error}"))
}
