//! What a server is told before it starts, and which of it cannot work.

use std::time::Duration;

use larder_protocol::{Limits as WireLimits, LimitsError, VALUE_BYTES_CEILING};

use super::address::Address;
use super::clock::whole_ms;
use super::drill::DeadlyKey;
use super::listener::{Entrance, ListenError, Listening};
use super::quarantine::{QUARANTINE_MAX, Quarantined};
use super::ring::Ring;
use super::tongue::Tongue;
use super::tuning::Tuning;
use crate::engine::Limits as CacheLimits;

/// The address listened on where none is given.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:5273";

/// LIMIT: far more threads than any machine has cores only cost memory.
pub const WORKERS_MAX: usize = 1024;

/// LIMIT: what one process can address in files is far above; this bounds the accounting.
pub const CONNECTIONS_MAX: u32 = 1 << 20;

/// LIMIT: room for two of the longest frames that are gathered, or nobody could send one.
const FRAMES_IN_BUFFERS_MIN: u64 = 2;

/// LIMIT: below this a deadline would fire between two packets of an honest client.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// LIMIT: a worker that asks for longer, with nothing to do, has a core for itself in any case.
pub const BUSY_POLL_MAX: Duration = Duration::from_secs(1);

/// Whether workers stay on one core each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pinning {
    /// The system moves them as it likes.
    #[default]
    Free,
    /// Worker n runs on the n-th core that the process may use.
    OneCoreEach,
}

/// How workers read and write. Which connections have something to be read, epoll tells them in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// As [`Io::Uring`], where the system has that for this process, and otherwise as [`Io::Epoll`].
    #[default]
    Auto,
    /// Each connection by calls of its own.
    Epoll,
    /// Where twelve or more connections are ready, all of them by one call each way, of io_uring. It takes Linux 6.1, and
    /// that nothing forbids it: neither `kernel.io_uring_disabled` nor a filter of system calls.
    Uring,
}

impl Io {
    /// Which of the two it comes to.
    pub(super) fn settled(self) -> Self {
        match self {
            Self::Auto => match Ring::probe() {
                Ok(()) => Self::Uring,
                Err(error) => {
                    tracing::info!(%error, "there is no io_uring: connections are served one by one");
                    Self::Epoll
                }
            },
            settled => settled,
        }
    }

    /// What the settings call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}

/// How to run a server. [`Settings::default`] is what `larder serve` does without options.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Vec<Address>,
    /// Addresses to speak memcached's protocol on.
    pub memcached: Vec<Address>,
    /// Event-loop threads.
    pub workers: usize,
    /// Whether workers stay on one core each.
    pub pinning: Pinning,
    /// How long a worker goes on asking for events after the last one, before it sleeps until the
    /// next: it answers sooner, and takes a core meanwhile.
    pub busy_poll: Duration,
    /// How workers read and write.
    pub io: Io,
    /// Connections open at a time; one more is told so and closed.
    pub connections_max: u32,
    /// The longest frame, header included; `None` is what the longest item needs.
    pub frame_bytes_max: Option<u32>,
    /// What all connections together may hold in begun frames and unsent replies, in bytes. Large
    /// values are in the cache's own memory on their way.
    pub buffer_bytes_max: u64,
    /// How long a connection may stay silent; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a frame may take once its first byte is there; a long one, each mebibyte of it. Within as long a
    /// connection must have greeted.
    pub frame_timeout: Duration,
    /// How long a client may take to read the replies that wait for it; of a large value, each
    /// mebibyte.
    pub write_timeout: Duration,
    /// How long a drain may take in all.
    pub drain_timeout: Duration,
    /// Whether threads write down what they do, so that it can be read when they hang or have died.
    pub black_box: bool,
    /// Operations that are not executed for a while, since their like has brought the server down.
    pub quarantine: Vec<Quarantined>,
    /// Whether workers do what a drill asks of them by way of their black boxes: fail, for real.
    pub allow_drills: bool,
    /// A key that workers die of, where drills are allowed.
    pub deadly_key: Option<DeadlyKey>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Address::Tcp(([127, 0, 0, 1], 5273).into())],
            memcached: Vec::new(),
            workers: usable_cores(),
            pinning: Pinning::default(),
            busy_poll: Duration::ZERO,
            io: Io::default(),
            connections_max: 32_768,
            frame_bytes_max: None,
            buffer_bytes_max: 32 << 20,
            idle_timeout: None,
            frame_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
            black_box: true,
            quarantine: Vec::new(),
            allow_drills: false,
            deadly_key: None,
        }
    }
}

/// A setting that cannot work, why, and what is accepted instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is nothing to listen on.
    #[error("no address to listen on; accepted: at least one HOST:PORT or unix:PATH")]
    NoAddress,
    /// The number of workers is out of range.
    #[error("{0} workers cannot serve; accepted: 1 to {WORKERS_MAX} workers")]
    Workers(usize),
    /// Workers would never sleep.
    #[error("busy polling for {0:?} cannot work; accepted: 0s to {BUSY_POLL_MAX:?}")]
    BusyPoll(Duration),
    /// The system has no io_uring for this process.
    #[error(
        "io_uring cannot work here: {0} (it takes Linux 6.1, kernel.io_uring_disabled = 0 and no filter of system calls that forbids it); accepted: auto or epoll"
    )]
    Uring(String),
    /// The limit of connections is out of range.
    #[error(
        "a server for {0} connections cannot work; accepted: 1 to {CONNECTIONS_MAX} connections"
    )]
    Connections(u32),
    /// The frame limit does not go with the keys and values.
    #[error("the frame limit cannot work: {0}")]
    Frame(#[from] LimitsError),
    /// The cache takes values that no frame carries: whoever asked for one would lose the connection.
    #[error(
        "values of up to {0} bytes cannot work: frames carry {VALUE_BYTES_CEILING}; accepted: up to {VALUE_BYTES_CEILING} bytes"
    )]
    Values(u64),
    /// The connection buffers could not hold a frame.
    #[error(
        "{buffer_bytes_max} bytes of connection buffers cannot work: frames that are gathered there have up to {buffered_bytes_max} bytes; accepted: at least {accepted_min} bytes"
    )]
    Buffers {
        /// What was asked for.
        buffer_bytes_max: u64,
        /// The longest frame that is gathered.
        buffered_bytes_max: u32,
        /// The least that works.
        accepted_min: u64,
    },
    /// Too many operations are not to be executed.
    #[error("{0} quarantined operations cannot work; accepted: up to {QUARANTINE_MAX} of them")]
    Quarantine(usize),
    /// A deadline that would fire at once.
    #[error("with 0s the {name} would close every connection; accepted: at least 1ms")]
    Timeout {
        /// Which deadline.
        name: &'static str,
    },
}

impl Settings {
    /// Checks what can be checked before anything is opened, and derives what clients are told.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub fn check(&self, cache: CacheLimits) -> Result<WireLimits, SettingError> {
        if self.listen.is_empty() {
            return Err(SettingError::NoAddress);
        }
        if !(1..=WORKERS_MAX).contains(&self.workers) {
            return Err(SettingError::Workers(self.workers));
        }
        if self.busy_poll > BUSY_POLL_MAX {
            return Err(SettingError::BusyPoll(self.busy_poll));
        }
        if self.io == Io::Uring {
            Ring::probe().map_err(|error| SettingError::Uring(error.to_string()))?;
        }
        Tuning::of(self).check()?;
        if self.quarantine.len() > QUARANTINE_MAX {
            return Err(SettingError::Quarantine(self.quarantine.len()));
        }
        if self
            .idle_timeout
            .is_some_and(|timeout| timeout < TIMEOUT_MIN)
        {
            let name = "idle timeout";
            return Err(SettingError::Timeout { name });
        }
        let limits = self.wire_limits(cache)?;
        self.check_buffers(limits.buffered_bytes_max)?;
        Ok(limits)
    }

    /// Binds the addresses.
    ///
    /// # Errors
    ///
    /// The first that cannot be bound.
    pub fn bind(&self) -> Result<Vec<Entrance>, ListenError> {
        let of = |addresses: &[Address], tongue| {
            let bind = |address| {
                let socket = Listening::bind(address)?;
                Ok(Entrance { socket, tongue })
            };
            addresses.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let mut entrances = of(&self.listen, Tongue::Larder)?;
        entrances.extend(of(&self.memcached, Tongue::Memcached)?);
        Ok(entrances)
    }

    fn wire_limits(&self, cache: CacheLimits) -> Result<WireLimits, SettingError> {
        let value_bytes_max = u32::try_from(cache.value_bytes_max)
            .ok()
            .filter(|&bytes| bytes <= VALUE_BYTES_CEILING)
            .ok_or(SettingError::Values(cache.value_bytes_max))?;
        let mut limits = WireLimits::for_items(cache.key_bytes_max, value_bytes_max)
            .with_buffered_values(cache.inline_bytes_max);
        if let Some(frame_bytes_max) = self.frame_bytes_max {
            limits.frame_bytes_max = frame_bytes_max;
            limits.buffered_bytes_max = limits.buffered_bytes_max.min(frame_bytes_max);
            limits.skip_bytes_max = frame_bytes_max.saturating_mul(4);
        }
        limits.idle_ms = self.idle_timeout.map_or(0, |timeout| {
            u32::try_from(whole_ms(timeout)).unwrap_or(u32::MAX)
        });
        limits.check()?;
        Ok(limits)
    }

    fn check_buffers(&self, buffered_bytes_max: u32) -> Result<(), SettingError> {
        let accepted_min = FRAMES_IN_BUFFERS_MIN * u64::from(buffered_bytes_max);
        if self.buffer_bytes_max < accepted_min {
            let buffer_bytes_max = self.buffer_bytes_max;
            return Err(SettingError::Buffers {
                buffer_bytes_max,
                buffered_bytes_max,
                accepted_min,
            });
        }
        Ok(())
    }
}

/// The cores this process may use, by its affinity and its control group.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox::{Fingerprint, Operation};
    use crate::engine::{Cache, Config};

    const CACHE: CacheLimits = CacheLimits {
        key_bytes_max: 250,
        value_bytes_max: 100_000,
        inline_bytes_max: 100_000,
    };

    #[test]
    fn the_defaults_work_and_listen_where_the_handbook_says() {
        let settings = Settings::default();
        assert!(settings.check(CACHE).is_ok());
        assert_eq!(settings.listen[0].to_string(), DEFAULT_ADDRESS);
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_is_accepted() {
        let good = Settings::default();
        let zero = Duration::ZERO;
        let quarantined = Quarantined {
            fingerprint: Fingerprint {
                operation: Operation::Get,
                key_hash: 1,
            },
            until_ms: 1,
        };
        let refused = [
            Settings {
                listen: vec![],
                ..good.clone()
            },
            Settings {
                workers: 0,
                ..good.clone()
            },
            Settings {
                workers: WORKERS_MAX + 1,
                ..good.clone()
            },
            Settings {
                busy_poll: BUSY_POLL_MAX * 2,
                ..good.clone()
            },
            Settings {
                connections_max: 0,
                ..good.clone()
            },
            Settings {
                frame_bytes_max: Some(100),
                ..good.clone()
            },
            Settings {
                buffer_bytes_max: 1000,
                ..good.clone()
            },
            Settings {
                idle_timeout: Some(zero),
                ..good.clone()
            },
            Settings {
                frame_timeout: zero,
                ..good.clone()
            },
            Settings {
                write_timeout: zero,
                ..good.clone()
            },
            Settings {
                quarantine: vec![quarantined; QUARANTINE_MAX + 1],
                ..good.clone()
            },
        ];
        for settings in refused {
            let error = settings.check(CACHE).unwrap_err().to_string();
            assert!(error.contains("accepted"), "{error}");
        }
    }

    #[test]
    fn a_cache_whose_values_no_frame_carries_is_refused() {
        let settings = Settings::default();
        let of_values = |value_bytes_max| CacheLimits {
            value_bytes_max,
            ..CACHE
        };
        let longest = u64::from(VALUE_BYTES_CEILING);
        assert!(settings.check(of_values(longest)).is_ok());
        for too_long in [longest + 1, 1 << 32, 1 << 40] {
            let error = settings.check(of_values(too_long)).unwrap_err();
            assert_eq!(error, SettingError::Values(too_long));
            let sentence = error.to_string();
            assert!(sentence.contains("accepted: up to "), "{sentence}");
        }
        // Which is what no cache has unless it is asked for.
        let large = Cache::check(&Config::new(64 << 30)).unwrap();
        assert!(settings.check(large).is_ok());
    }

    #[test]
    fn clients_are_told_the_limits_of_the_cache() {
        let settings = Settings {
            idle_timeout: Some(Duration::from_secs(60)),
            ..Settings::default()
        };
        let limits = settings.check(CACHE).unwrap();
        assert_eq!(
            (limits.key_bytes_max, limits.value_bytes_max),
            (250, 100_000)
        );
        assert_eq!(limits.idle_ms, 60_000);
    }
}
