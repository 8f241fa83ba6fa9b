//! Values in files: sent while they are read, written while they arrive.

use std::io::{self, Read};
use std::path::Path;

use larder_client::{Client, Status, ValueStream};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Site;
use crate::cli::ending::{Failure, print_on};

/// What stands for standard input, or standard output, where a file is expected.
pub(crate) const STANDARD_INPUT: &str = "-";

/// LIMIT: what of a value is in memory on its way into a file.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where a value comes from.
pub(super) enum Source {
    /// It is in memory.
    Whole(Vec<u8>),
    /// It is a file of so many bytes.
    File { bytes: u64, file: File },
}

/// Opens a file for its value. What has no length of its own, such as a pipe, is read to its end.
pub(super) async fn open(path: &Path, client: &Client) -> Result<Source, Failure> {
    let unreadable = |error| {
        Failure::usage(format!(
            "cannot read the value from {}: {error}",
            path.display()
        ))
    };
    let file = File::open(path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    let bytes = metadata.len();
    // Files that the system makes while they are read, as those of /proc, say that they have none.
    if metadata.is_file() && bytes > 0 {
        return Ok(Source::File { bytes, file });
    }
    let bytes_max = value_bytes_max(client).await?;
    let mut value = Vec::new();
    let read = file.take(bytes_max + 1).read_to_end(&mut value).await;
    read.map_err(unreadable)?;
    whole(value, bytes_max)
}

/// The longest value that the server takes. What has no length of its own may have no end either, and is
/// not read further.
async fn value_bytes_max(client: &Client) -> Result<u64, Failure> {
    Ok(client.server().await?.limits.value_bytes_max.into())
}

/// What was read, if that was all of it.
fn whole(value: Vec<u8>, bytes_max: u64) -> Result<Source, Failure> {
    match value.len() as u64 > bytes_max {
        true => Err(Failure::not_done(format!(
            "the value has more than {bytes_max} bytes, and this server accepts no more ({})",
            Status::TOO_LARGE
        ))),
        false => Ok(Source::Whole(value)),
    }
}

/// Takes standard input for a value or for keys, where it is free for them.
pub(super) fn standard_input_for(what: &str, site: Site) -> Result<(), Failure> {
    match site.place.input_is() {
        None => Ok(()),
        Some(taken_by) => Err(Failure::usage(format!(
            "{what} cannot come from standard input, which is {taken_by}; accepted: a file"
        ))),
    }
}

/// Reads a value from standard input.
pub(super) async fn read_standard_input(site: Site, client: &Client) -> Result<Source, Failure> {
    standard_input_for("a value", site)?;
    let bytes_max = value_bytes_max(client).await?;
    let mut value = Vec::new();
    let read = (io::stdin().lock().take(bytes_max + 1)).read_to_end(&mut value);
    read.map_err(|error| {
        Failure::usage(format!(
            "cannot read the value from standard input: {error}"
        ))
    })?;
    whole(value, bytes_max)
}

/// Writes a value into a file, or to standard output. A file that could not be written whole is
/// removed again; a device, or a link to one, stays.
pub(super) async fn write(mut value: ValueStream, path: &Path) -> Result<(), Failure> {
    if path.as_os_str() == STANDARD_INPUT {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match value.read(&mut chunk).await.map_err(torn)? {
                0 => return Ok(()),
                count if print_on(&chunk[..count])?.is_break() => return Ok(()),
                _ => {}
            }
        }
    }
    let unwritable = |error: io::Error| {
        let path = path.display();
        Failure::not_done(format!("cannot write the value into {path}: {error}"))
    };
    let mut file = File::create(path).await.map_err(unwritable)?;
    let copied = copy(&mut value, &mut file, unwritable).await;
    let is_file = |found: std::fs::Metadata| found.is_file();
    if copied.is_err() && tokio::fs::symlink_metadata(path).await.is_ok_and(is_file) {
        drop(file);
        // Whoever asked is told that it failed in any case.
        let _ = tokio::fs::remove_file(path).await;
    }
    copied
}

async fn copy(
    value: &mut ValueStream,
    file: &mut File,
    unwritable: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match value.read(&mut chunk).await.map_err(torn)? {
            0 => return file.flush().await.map_err(unwritable),
            count => file.write_all(&chunk[..count]).await.map_err(&unwritable)?,
        }
    }
}

/// The value did not come whole.
fn torn(error: io::Error) -> Failure {
    Failure::unreachable(format!("the value did not come whole: {error}"))
}
