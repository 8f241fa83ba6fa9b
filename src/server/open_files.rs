//! The limit of open files, which connections are counted against.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// LIMIT: files that a server has open beside its connections and what its workers have: listeners, the arena,
/// refused connections, logs.
const FILES_BESIDE: u64 = 192;

/// LIMIT: files that each worker has open: an event queue, what wakes it, two of its black box, an io_uring.
const FILES_OF_A_WORKER: u64 = 5;

/// The system does not allow as many open files as the connections need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{connections_max} connections need more open files than the {files_max} that the system \
     allows this process; accepted: at most {possible} connections, or a higher limit (ulimit -Hn)"
)]
pub struct OpenFilesError {
    /// The connections asked for.
    pub connections_max: u32,
    /// The files that the system allows.
    pub files_max: u64,
    /// The connections that this is enough for.
    pub possible: u32,
}

/// Raises this process's limit of open files as far as it may be without a privilege.
pub(crate) fn use_all_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where that fails, the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, all);
}

/// Raises this process's limit of open files as far as `connections_max` connections and so many workers need.
///
/// # Errors
///
/// The system allows fewer; the limit is then as high as it can be.
pub fn raise_open_files(connections_max: u32, workers: usize) -> Result<(), OpenFilesError> {
    let beside = FILES_BESIDE + workers as u64 * FILES_OF_A_WORKER;
    let wanted = u64::from(connections_max) + beside;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    // Only a privileged process may raise its hard limit; another one stays below it.
    let raised = Rlimit {
        current: Some(wanted),
        maximum: Some(hard.max(wanted)),
    };
    let within = Rlimit {
        current: Some(wanted.min(hard)),
        maximum: limit.maximum,
    };
    if hard < wanted && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    // Where even this fails, the limit read below is the one that counts.
    let _ = setrlimit(Resource::Nofile, within);
    let files_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files_max >= wanted {
        return Ok(());
    }
    let possible = u32::try_from(files_max.saturating_sub(beside)).unwrap_or(u32::MAX);
    Err(OpenFilesError {
        connections_max,
        files_max,
        possible,
    })
}
