//! The client against a server made of `larder-protocol` and a script.

#[cfg(feature = "blocking")]
mod blocking;
mod endings;
mod fake;
mod filling;
mod leases;
mod many;
mod operations;
mod pool;
mod reconnecting;
mod runtimes;
mod several;
mod sharing;
mod streaming;
