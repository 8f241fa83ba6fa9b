//! Building a cache by its settings' names.

use crate::engine::{AccessTimes, Cache, Config, ConfigError};
use crate::pages::{HugePages, Prefault};

/// LIMIT: the memory of a cache that is built with none named.
const MEMORY_BYTES: u64 = 64 << 20;

/// Builds a [`Cache`]; made by [`Cache::builder`].
///
/// ```
/// use larder::Cache;
///
/// let cache = Cache::builder()
///     .memory_bytes(256 << 20)
///     .value_bytes_max(1 << 20)
///     .sessions_max(32)
///     .build()?;
/// # Ok::<_, larder::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder makes no cache before `build`"]
pub struct CacheBuilder {
    config: Config,
}

impl Cache {
    /// Builds a cache. What is not said is as in [`Config`], and its memory 64 MiB.
    pub fn builder() -> CacheBuilder {
        CacheBuilder {
            config: Config::new(MEMORY_BYTES),
        }
    }
}

impl CacheBuilder {
    /// All memory the cache may use, index included: 2 MiB to 4 TiB.
    pub fn memory_bytes(mut self, memory_bytes: u64) -> Self {
        self.config.memory_bytes = memory_bytes;
        self
    }

    /// The longest key that is accepted: 1 to 65,536 bytes.
    pub fn key_bytes_max(mut self, key_bytes_max: u32) -> Self {
        self.config.key_bytes_max = key_bytes_max;
        self
    }

    /// The longest value that is accepted; without this a quarter of the memory, below
    /// 1 GiB.
    pub fn value_bytes_max(mut self, value_bytes_max: u64) -> Self {
        self.config.value_bytes_max = Some(value_bytes_max);
        self
    }

    /// How many sessions may exist at a time.
    pub fn sessions_max(mut self, sessions_max: u32) -> Self {
        self.config.sessions_max = sessions_max;
        self
    }

    /// The seed of the key hash, so that two caches do the same, and begin with version 1; without this
    /// both are drawn at random.
    pub fn hash_seed(mut self, hash_seed: u64) -> Self {
        self.config.hash_seed = Some(hash_seed);
        self.config.first_version = Some(1);
        self
    }

    /// Whether items lie in huge pages.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.config.huge_pages = huge_pages;
        self
    }

    /// When the memory's pages come into being.
    pub fn prefault(mut self, prefault: Prefault) -> Self {
        self.config.prefault = prefault;
        self
    }

    /// Whether the cache knows when each item was last read.
    pub fn access_times(mut self, access_times: AccessTimes) -> Self {
        self.config.access_times = access_times;
        self
    }

    /// Builds the cache.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, or the system refuses the memory.
    pub fn build(self) -> Result<Cache, ConfigError> {
        Cache::new(self.config)
    }
}
