//! What several tests share: what the operations mean, how to ask the engine, a checker of
//! histories, and threads that make histories.

pub(crate) mod execute;
pub(crate) mod leasing;
pub(crate) mod linearizability;
pub(crate) mod meaning;
pub(crate) mod memory;
pub(crate) mod threads;
pub(crate) mod twins;
