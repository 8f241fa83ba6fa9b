//! What a client can be told.

use std::time::Duration;

use crate::WhenGone;

/// LIMIT: more time than this is as good as for ever, and keeps the sum in range.
const LONGEST: Duration = Duration::from_secs(3600 * 24 * 365);

/// LIMIT: silence that is shorter tells nothing about a server.
const SILENCE_MIN: Duration = Duration::from_millis(10);

/// How a client behaves. Change what you like and take the rest from [`Config::default`].
///
/// ```
/// use std::time::Duration;
///
/// use larder_client::Config;
///
/// let config = Config { request_timeout: Duration::from_millis(50), ..Config::default() };
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a request may take from first to last, waiting for a connection or for room
    /// included; of a stream, how long it may stand still. By default 5 seconds. A part of a program
    /// may have other times: [`Client::within`](crate::Client::within).
    ///
    /// A connection is left on which the server owes an answer that nobody waits for any more, and has
    /// said nothing for so long, nor taken anything of what is still to be sent.
    pub request_timeout: Duration,
    /// How long an attempt to connect may take, the handshake included, and how long a request waits
    /// for a connection while attempts fail. By default 1 second.
    pub connect_timeout: Duration,
    /// The pause after the first failed attempt to connect; it doubles with each further one, and
    /// each pause is drawn from its upper half. By default 5 milliseconds.
    pub backoff_min: Duration,
    /// The longest pause between two attempts to connect. By default 500 milliseconds.
    pub backoff_max: Duration,
    /// How many connections all tasks share. One is enough until a single one is the bottleneck; the
    /// others are made when requests come. From 1 to 64, and what is outside counts as the nearest; by
    /// default 1.
    pub connections: usize,
    /// How many requests may be under way on a connection; the server may ask for fewer. A request of more
    /// than 4 KiB counts once for each 4 KiB. 0 counts as 1. By default 4096.
    pub in_flight_max: u32,
    /// How often a request that is known not to have been executed is sent again. By default 3.
    pub resends_max: u32,
    /// Of a client of [several servers](crate::Client::connect_many): what becomes of the keys of one
    /// that is gone. By default they miss, and it is tried again after 2 seconds.
    pub when_gone: WhenGone,
    /// What the client calls itself in the server's log.
    pub name: String,
}

impl Config {
    /// How long a server may say nothing that owes an answer.
    pub(crate) fn patience(&self) -> Duration {
        bounded(self.request_timeout).max(SILENCE_MIN)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(500),
            connections: 1,
            in_flight_max: 4096,
            resends_max: 3,
            when_gone: WhenGone::Miss {
                retry_after: Duration::from_secs(2),
            },
            name: concat!("larder-client ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A time that can be added to now, whatever was asked for.
pub(crate) fn bounded(time: Duration) -> Duration {
    time.min(LONGEST)
}
