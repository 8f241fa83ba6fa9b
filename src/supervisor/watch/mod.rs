//! Watching the worker process from outside, through what its threads write down.

mod boxes;
mod fingerprint;

pub(super) use boxes::Boxes;
pub(super) use fingerprint::fingerprint;
