//! Why memory is refused.

use crate::engine::config::ConfigError;
use crate::engine::header::Mismatch;

/// Why memory cannot be recovered from. The caller may start cold, with [`Cache::new`](crate::Cache::new).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The memory cannot be attached to.
    #[error("the memory cannot be attached to: {reason}")]
    Memory {
        /// What the system said, or what the memory lacks.
        reason: std::io::Error,
    },
    /// Somebody uses the memory.
    #[error(
        "the memory is in use: the cache that owns it must have ended, or its process be gone, and nobody else may have recovered it"
    )]
    InUse,
    /// The memory holds no cache.
    #[error("the memory holds no cache: its header is not one of Larder's")]
    NoCache,
    /// Another version of Larder laid the memory out.
    #[error("the memory has layout {found}; accepted: {accepted}")]
    Layout {
        /// The layout version in the header.
        found: u64,
        /// The layout version of this program.
        accepted: u64,
    },
    /// The header is damaged.
    #[error("the header is damaged: its checksum does not hold")]
    Damaged,
    /// The memory was laid out for another configuration.
    #[error(
        "the memory was laid out for another configuration: {what} was {found} there, and is {accepted} here"
    )]
    Differs {
        /// What differs.
        what: &'static str,
        /// In the memory.
        found: u64,
        /// In the configuration.
        accepted: u64,
    },
    /// A count in the header is impossible.
    #[error("the header cannot be believed: {what} is {found}")]
    Impossible {
        /// What is.
        what: &'static str,
        /// The count.
        found: u64,
    },
}

impl From<Mismatch> for RecoverError {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::NoMagic => Self::NoCache,
            Mismatch::Layout { found, accepted } => Self::Layout { found, accepted },
            Mismatch::Damaged => Self::Damaged,
            Mismatch::Identity {
                what,
                found,
                accepted,
            } => Self::Differs {
                what,
                found,
                accepted,
            },
        }
    }
}
