//! The client against a server made of `larder-protocol` and a script.

mod endings;
mod fake;
mod leases;
mod many;
mod operations;
mod reconnecting;
mod sharing;
mod streaming;
