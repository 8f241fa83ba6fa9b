//! memcached's text protocol, as tables of bytes sent and bytes expected.
//!
//! Every script runs step by step, byte by byte, and at once, on one worker and on many, and with
//! each step split at every byte.
#![cfg(feature = "server")]

mod classic;
mod dump;
mod errors;
mod limits;
mod listening;
mod meta;
mod script;
#[path = "../server_harness/mod.rs"]
mod server_harness;
mod statistics;
