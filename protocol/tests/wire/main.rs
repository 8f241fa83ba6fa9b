//! The wire format from outside: against its contract, there and back, and under any bytes.

mod any_bytes;
mod contract;
mod limits;
mod lines;
mod round_trips;
