//! The miss-ratio curve as a picture.

use std::path::Path;

use super::report::Report;
use crate::cli::ending::Failure;

pub(super) fn draw(_path: &Path, _report: &Report) -> Result<(), Failure> {
    Ok(())
}
