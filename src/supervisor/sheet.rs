//! The sheet on which a supervisor writes its worker's settings down: a command line, in memory that both
//! have. It is written before a worker is started and before it is sent SIGHUP, and read after.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

/// LIMIT: bytes of a command line that are read.
const BYTES_MAX: u64 = 1 << 20;

/// A command line in shared memory.
#[derive(Debug)]
pub(crate) struct Sheet(File);

impl Sheet {
    /// A sheet with a command line on it.
    pub(super) fn new(arguments: &[OsString]) -> io::Result<Self> {
        let memory = memfd_create("larder-settings", MemfdFlags::CLOEXEC)?;
        let sheet = Self::from(memory);
        sheet.write(arguments)?;
        Ok(sheet)
    }

    pub(super) fn write(&self, arguments: &[OsString]) -> io::Result<()> {
        let texts: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.0.set_len(0)?;
        self.0.write_all_at(&texts.join(&0), 0)
    }

    /// What is on it.
    ///
    /// # Errors
    ///
    /// The system refuses to read it.
    pub(crate) fn read(&self) -> io::Result<Vec<OsString>> {
        let bytes = self.0.metadata()?.len().min(BYTES_MAX);
        let mut text = vec![0; bytes as usize];
        self.0.read_exact_at(&mut text, 0)?;
        let arguments = text.split(|&byte| byte == 0).map(OsStr::from_bytes);
        Ok(arguments.map(OsStr::to_owned).collect())
    }
}

impl From<OwnedFd> for Sheet {
    fn from(memory: OwnedFd) -> Self {
        Self(File::from(memory))
    }
}

impl AsFd for Sheet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_read() {
        let line = |texts: &[&str]| texts.iter().map(OsString::from).collect::<Vec<_>>();
        let long = line(&["larder", "serve", "--memory=1GiB", "", "--pin"]);
        let sheet = Sheet::new(&long).unwrap();
        assert_eq!(sheet.read().unwrap(), long);
        let short = line(&["larder", "serve"]);
        sheet.write(&short).unwrap();
        assert_eq!(sheet.read().unwrap(), short);
    }
}
