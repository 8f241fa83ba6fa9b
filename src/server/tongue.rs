//! Which dialect a connection speaks. Its listener says so, once: everything that depends on it is
//! compiled for each dialect, and chosen by one comparison where a turn needs it.

use super::connection::Phase;
use super::shared::Shared;
use crate::dialect::Dialect;
use crate::dialect::larder::Larder;
use crate::dialect::memcached::Memcached;

/// What is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    /// Larder's own protocol.
    Larder,
    /// memcached's text protocol.
    Memcached,
}

impl Tongue {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Memcached => "memcached",
        }
    }

    /// Where a connection begins.
    pub(crate) fn first_phase(self) -> Phase {
        match self {
            Self::Larder => Phase::Greeting,
            Self::Memcached => Phase::Open,
        }
    }

    /// LIMIT: the least to read at once behind an unfinished request that is held. A frame says how
    /// long it is; a line does not, and is not to be read byte by byte.
    pub(crate) fn gather_bytes_min(self) -> usize {
        match self {
            Self::Larder => 1,
            Self::Memcached => 16 << 10,
        }
    }
}

/// The dialects, as all threads share them.
#[derive(Debug)]
pub(crate) struct Dialects {
    pub(crate) larder: Larder,
    pub(crate) memcached: Memcached,
}

/// A dialect that a server speaks.
pub(crate) trait Spoken: Dialect {
    fn of(shared: &Shared) -> &Self;
}

impl Spoken for Larder {
    #[inline]
    fn of(shared: &Shared) -> &Self {
        &shared.dialects.larder
    }
}

impl Spoken for Memcached {
    #[inline]
    fn of(shared: &Shared) -> &Self {
        &shared.dialects.memcached
    }
}

/// Does something with the type of the dialect that belongs to a tongue.
macro_rules! in_tongue {
    ($tongue:expr, $dialect:ident => $work:expr) => {
        match $tongue {
            $crate::server::tongue::Tongue::Larder => {
                type $dialect = $crate::dialect::larder::Larder;
                $work
            }
            $crate::server::tongue::Tongue::Memcached => {
                type $dialect = $crate::dialect::memcached::Memcached;
                $work
            }
        }
    };
}
pub(crate) use in_tongue;
