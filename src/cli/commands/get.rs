//! `larder get`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use larder_client::{Client, ExpiryLeft, Item};
use serde_json::{Value, json};

use super::answer::{Answer, bytes_as_json};
use super::{files, not_found};
use crate::cli::ending::Failure;

const EXAMPLE: &str = "\
Examples:
  larder get greeting
  larder get session:17 > session.json
  larder get backup --output backup.tar
  larder get session:17 --json           # with flags, version and expiry

The value is written as it is. On a terminal a line end follows it, and what is no text is spelled out.";

/// The options of `larder get`.
#[derive(Debug, Args)]
#[command(about = "Print the value of a key", after_help = EXAMPLE)]
pub(crate) struct GetOptions {
    /// The key
    pub(super) key: OsString,

    /// Write the value into this file while it arrives; - is standard output
    #[arg(long, value_name = "PATH")]
    pub(super) output: Option<PathBuf>,
}

impl GetOptions {
    pub(super) async fn ask(&self, client: &Client) -> Result<Answer, Failure> {
        let key = self.key.as_bytes();
        if let Some(path) = &self.output {
            let stream = client.get_stream(key).await?;
            let stream = stream.ok_or_else(|| not_found(key))?;
            let bytes = stream.value_bytes();
            files::write(stream, path).await?;
            if path.as_os_str() == files::STANDARD_INPUT {
                return Ok(Answer::printed());
            }
            let json = json!({
                "key": bytes_as_json(key),
                "output": path.display().to_string(),
                "value_bytes": bytes,
            });
            return Ok(Answer::text("", json));
        }
        let item = client.get_with_expiry(key).await?;
        let item = item.ok_or_else(|| not_found(key))?;
        let json = as_json(key, &item);
        Ok(Answer::value(item.value, json))
    }
}

fn as_json(key: &[u8], item: &Item) -> Value {
    json!({
        "key": bytes_as_json(key),
        "value": bytes_as_json(&item.value),
        "flags": item.flags,
        "version": item.version,
        "expires_in_ms": expiry_as_json(item.expiry_left),
    })
}

/// Milliseconds, or null for what never expires.
pub(super) fn expiry_as_json(left: ExpiryLeft) -> Value {
    match left {
        ExpiryLeft::Ms(ms) => Value::from(ms),
        ExpiryLeft::Never | ExpiryLeft::NotAsked => Value::Null,
    }
}
