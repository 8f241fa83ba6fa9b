//! What outlives a worker process, and how it comes to the next one: the systemd protocol.
//!
//! Whoever starts a worker, Larder's own supervisor or systemd, passes descriptors from number 3 on,
//! their count in `LISTEN_FDS`, their names in `LISTEN_FDNAMES`, and whom they are for in
//! `LISTEN_PID`. What a worker makes itself and wants kept, it sends back over the socket that
//! `NOTIFY_SOCKET` names ([`notify`](super::notify)).
//!
//! | name | descriptor |
//! |---|---|
//! | `memory` | the cache's memory, a sealed memfd |
//! | `settings` | the worker's command line, as it is now ([`Sheet`]); Larder's own supervisor has one |
//! | `black-box-...` | what a thread of the last worker process did, see the black box |
//! | `memcached`, or a name that begins so | a socket where memcached's protocol is spoken |
//! | any other | a socket where Larder's own protocol is spoken |
//!
//! Larder's own supervisor also gives the seed by which keys are hashed, in a variable: a command line everybody
//! may read, and whoever knows the seed can choose keys that have one hash.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::sheet::Sheet;
use crate::server::{Entrance, Listening, Tongue};

/// The name of the cache's memory.
pub(crate) const MEMORY: &str = "memory";

/// How the names of black boxes begin.
pub(crate) const BLACK_BOX: &str = "black-box-";

/// The name of the settings.
pub(super) const SETTINGS: &str = "settings";

/// The variable of the seed of the key hash, in hexadecimal. All workers of a supervisor have the same, so that
/// a fingerprint is that of the same key after a cold start, too.
pub(super) const HASH_SEED_VARIABLE: &str = "LARDER_WORKER_HASH_SEED";

/// The name of a socket for Larder's own protocol.
pub(crate) const LARDER: &str = "larder";

/// How the names of sockets for memcached's protocol begin.
pub(crate) const MEMCACHED: &str = "memcached";

/// What was handed to this process.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// Sockets that listen.
    pub(crate) entrances: Vec<Entrance>,
    /// The memory of a cache, if one was kept.
    pub(crate) memory: Option<OwnedFd>,
    /// The settings, where somebody writes them down.
    pub(crate) settings: Option<Sheet>,
    /// The seed of the key hash.
    pub(crate) hash_seed: Option<u64>,
}

/// What was handed to this process cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandedError {
    /// The variables of the environment do not add up.
    #[error("LISTEN_FDS, LISTEN_FDNAMES and the descriptors do not agree: {0}")]
    Protocol(io::Error),
    /// A descriptor is not what its name says.
    #[error("the descriptor named `{name}` cannot be used: {reason}")]
    Descriptor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: io::Error,
    },
}

impl Handed {
    /// Takes what was handed to this process; nothing, where nobody hands over. To be called once,
    /// before the process opens anything.
    ///
    /// # Errors
    ///
    /// What was handed over cannot be used.
    pub(crate) fn take() -> Result<Self, HandedError> {
        let listed = sd_notify::listen_fds_with_names().map_err(HandedError::Protocol)?;
        // All of them first, so that each is owned whatever comes of the others.
        let listed: Vec<_> = listed
            .map(|(fd, name)| {
                // SAFETY: whoever started this process left the descriptor to it, and this is the
                // only place that takes it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                (name, fd)
            })
            .collect();
        let hash_seed = std::env::var(HASH_SEED_VARIABLE).ok();
        let mut handed = Self {
            hash_seed: hash_seed.and_then(|seed| u64::from_str_radix(&seed, 16).ok()),
            ..Self::default()
        };
        for (name, fd) in listed {
            if name == MEMORY {
                handed.memory = Some(fd);
            } else if name == SETTINGS {
                handed.settings = Some(Sheet::from(fd));
            } else if !name.starts_with(BLACK_BOX) {
                handed.entrances.push(adopt(name, fd)?);
            }
        }
        Ok(handed)
    }
}

fn adopt(name: String, fd: OwnedFd) -> Result<Entrance, HandedError> {
    let tongue = match name.starts_with(MEMCACHED) {
        true => Tongue::Memcached,
        false => Tongue::Larder,
    };
    match Listening::adopt(fd) {
        Ok(socket) => Ok(Entrance { socket, tongue }),
        Err(reason) => Err(HandedError::Descriptor { name, reason }),
    }
}

/// The name by which a socket is handed over.
pub(super) fn name_of(entrance: &Entrance) -> &'static str {
    match entrance.tongue {
        Tongue::Larder => LARDER,
        Tongue::Memcached => MEMCACHED,
    }
}
