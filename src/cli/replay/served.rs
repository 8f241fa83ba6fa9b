//! A replay against a server.

use larder_client::Address;

use super::batch::Batch;
use super::in_process::Outcome;
use crate::cli::ending::Failure;

pub(super) fn replay(
    _address: &Address,
    _batches: impl Iterator<Item = Result<Batch, Failure>>,
) -> Result<Outcome, Failure> {
    Err(Failure::usage("not yet"))
}
