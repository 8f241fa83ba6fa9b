//! The mark of whoever owns a memory, which dies with its owner.
//!
//! It is a lock on the memory's file, of the kind that belongs to an open file description: the system
//! lets go of it when the last descriptor of that description is closed, so when its process is gone,
//! however it went. Descriptors that were passed on or inherited share one description, and would share
//! the mark; so the owner opens the file anew, and passes that descriptor to nobody.
//!
//! LIMIT: a process that has no /proc cannot open a memfd anew. Its mark is that of the descriptor it
//! was given: then whoever has a duplicate of that counts as the same owner.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A mark that its process has made.
#[derive(Debug)]
pub(super) struct OwnersMark {
    /// Never used: the mark lasts as long as it.
    _description: OwnedFd,
}

impl OwnersMark {
    /// Marks the memory as this process's; `None` if somebody else's mark is on it, or another one of
    /// this process.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub(super) fn make(memory: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let description = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(description) => description,
            Err(Errno::NOENT) => memory.try_clone_to_owned()?,
            Err(error) => return Err(error.into()),
        };
        let locked = lock(description.as_fd(), libc::F_OFD_SETLK);
        match locked {
            Ok(_) => Ok(Some(Self {
                _description: description,
            })),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN | Errno::ACCESS) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// Whether there is a mark on the memory; leaves none.
///
/// # Errors
///
/// Whatever the system says.
pub(super) fn is_owned(memory: BorrowedFd<'_>) -> io::Result<bool> {
    let found = lock(memory, libc::F_OFD_GETLK)?;
    Ok(found.l_type != libc::F_UNLCK as libc::c_short)
}

/// Asks for, or about, an exclusive lock of the whole file.
fn lock(file: BorrowedFd<'_>, command: libc::c_int) -> io::Result<libc::flock> {
    // SAFETY: a record of numbers, for which 0 is a value.
    let mut wanted: libc::flock = unsafe { std::mem::zeroed() };
    wanted.l_type = libc::F_WRLCK as libc::c_short;
    wanted.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and the record lives across the call.
    let told = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut wanted) };
    match told {
        0 => Ok(wanted),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnersMark, is_owned, lock};
    use rustix::fs::MemfdFlags;
    use std::os::fd::AsFd;

    #[test]
    fn there_is_one_mark_at_a_time_and_it_goes_with_its_maker() {
        let memory = rustix::fs::memfd_create("larder-test", MemfdFlags::CLOEXEC).expect("memory");
        let duplicate = memory.try_clone().expect("a duplicate");
        assert!(!is_owned(memory.as_fd()).expect("an answer"));
        let mark = OwnersMark::make(memory.as_fd()).expect("an answer");
        assert!(mark.is_some());
        for seen in [memory.as_fd(), duplicate.as_fd()] {
            assert!(is_owned(seen).expect("an answer"));
            assert!(OwnersMark::make(seen).expect("an answer").is_none());
        }
        // Nor does it go with a descriptor of the memory.
        drop(memory);
        assert!(is_owned(duplicate.as_fd()).expect("an answer"));
        drop(mark);
        assert!(!is_owned(duplicate.as_fd()).expect("an answer"));
        assert!(
            OwnersMark::make(duplicate.as_fd())
                .expect("an answer")
                .is_some()
        );
    }

    /// As where a file cannot be opened anew: a mark is no news to those who share its description.
    #[test]
    fn who_has_a_duplicate_of_the_marked_descriptor_counts_as_the_owner() {
        let memory = rustix::fs::memfd_create("larder-test", MemfdFlags::CLOEXEC).expect("memory");
        lock(memory.as_fd(), libc::F_OFD_SETLK).expect("nobody else has one");
        let duplicate = memory.try_clone().expect("a duplicate");
        assert!(!is_owned(duplicate.as_fd()).expect("an answer"));
        lock(duplicate.as_fd(), libc::F_OFD_SETLK).expect("it is the same owner");
        // Whoever opens it anew is somebody else.
        let other = OwnersMark::make(duplicate.as_fd()).expect("an answer");
        assert!(other.is_none());
    }
}
