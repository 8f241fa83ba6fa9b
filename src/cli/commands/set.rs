//! `larder set`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use larder_client::Client;
use serde_json::json;

use super::Site;
use super::answer::{Answer, bytes_as_json, readable_key};
use super::files::{self, STANDARD_INPUT, Source};
use crate::cli::ending::Failure;
use crate::cli::units;

const EXAMPLE: &str = "\
Examples:
  larder set greeting hello --expire-in 10m
  larder set page:1 - < page.html
  larder set backup --file backup.tar
  larder set lock:17 me --add --expire-in 30s

A file is sent while it is read, however large it is.";

/// The options of `larder set`.
#[derive(Debug, Clone, Args)]
#[command(about = "Store a value under a key", after_help = EXAMPLE)]
// clap would name the value before the key.
#[command(
    override_usage = "larder set [OPTIONS] <KEY> <VALUE>\n       larder set [OPTIONS] <KEY> --file <PATH>"
)]
#[command(group = ArgGroup::new("condition").args(["add", "replace"]))]
#[command(group = ArgGroup::new("source").args(["value", "file"]).required(true))]
pub(crate) struct SetOptions {
    /// The key
    pub(super) key: OsString,

    /// The value; - reads it from standard input
    value: Option<OsString>,

    /// Read the value from this file; - is standard input
    #[arg(long, value_name = "PATH")]
    pub(super) file: Option<PathBuf>,

    /// How long the item lives [default: for ever]
    #[arg(long, alias = "ttl", value_name = "DURATION", value_parser = units::duration)]
    expire_in: Option<Duration>,

    /// 32 bits that are kept with the item
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = units::number::<u32>)]
    flags: u32,

    /// Store only if there is no such item
    #[arg(long)]
    add: bool,

    /// Store only if there is such an item
    #[arg(long)]
    replace: bool,
}

impl SetOptions {
    /// The same of another key and value.
    pub(super) fn of(&self, key: &[u8], value: &[u8]) -> Self {
        Self {
            key: OsString::from_vec(key.to_vec()),
            value: Some(OsString::from_vec(value.to_vec())),
            file: None,
            ..*self
        }
    }

    pub(super) async fn ask(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        let key = self.key.as_bytes();
        macro_rules! send {
            ($store:expr) => {{
                let store = $store.flags(self.flags);
                match self.expire_in {
                    Some(expire_in) => store.expire_in(expire_in).await?,
                    None => store.await?,
                }
            }};
        }
        macro_rules! store {
            ($whole:ident, $streamed:ident) => {
                match self.source(client, site).await? {
                    Source::Whole(value) => send!(client.$whole(key, value)),
                    Source::File { bytes, file } => send!(client.$streamed(key, bytes, file)),
                }
            };
        }
        let version = if self.add {
            store!(add, add_from).ok_or_else(|| self.not_stored("it is already there"))?
        } else if self.replace {
            store!(replace, replace_from).ok_or_else(|| self.not_stored("there is no such item"))?
        } else {
            store!(set, set_from)
        };
        let json =
            site.json(|| json!({ "key": bytes_as_json(key), "stored": true, "version": version }));
        Ok(Answer::text("stored\n", json))
    }

    async fn source(&self, client: &Client, site: Site) -> Result<Source, Failure> {
        match (&self.value, &self.file) {
            (Some(value), _) if value != STANDARD_INPUT => {
                Ok(Source::Whole(value.as_bytes().to_vec()))
            }
            (None, Some(path)) if path.as_os_str() != STANDARD_INPUT => {
                files::open(path, client).await
            }
            _ => files::read_standard_input(site, client).await,
        }
    }

    fn not_stored(&self, why: &str) -> Failure {
        let key = readable_key(self.key.as_bytes());
        Failure::not_done(format!("{key} was not stored: {why}"))
    }
}
