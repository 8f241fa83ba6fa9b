//! `larder get`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use larder_client::{Client, ExpiryLeft, Item};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::answer::{Answer, Form, bytes_as_json, failure_as_json};
use super::keys::Absent;
use super::{Site, files, not_found};
use crate::cli::ending::{Failure, print_on};

const EXAMPLE: &str = "\
Examples:
  larder get greeting
  larder get session:17 > session.json
  larder get backup --output backup.tar
  larder get session:17 --json           # with flags, version and expiry
  larder get session:17 session:18       # one value on each line

The value is written as it is. On a terminal a line end follows it, and what is no text is spelled out. \
Of several keys each value is followed by a line end; those that are not there are named on standard \
error, and with --json where their value would stand.";

/// LIMIT: values that are asked for at once.
const VALUES_AT_ONCE: usize = 64;

/// The options of `larder get`.
#[derive(Debug, Clone, Args)]
#[command(about = "Print the value of a key, or of several", after_help = EXAMPLE)]
pub(crate) struct GetOptions {
    /// The keys
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,

    /// Write the value, of one key, into this file while it arrives; - is standard output
    #[arg(long, value_name = "PATH")]
    pub(super) output: Option<PathBuf>,
}

impl GetOptions {
    /// The same of another key.
    pub(super) fn of(&self, key: &[u8]) -> Self {
        Self {
            keys: vec![OsString::from_vec(key.to_vec())],
            output: self.output.clone(),
        }
    }

    /// The key, if there is one alone.
    pub(super) fn one(&self) -> Option<&OsString> {
        match &self.keys[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    pub(super) async fn ask(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        match (self.one(), &self.output) {
            (Some(key), None) => ask_one(client, key.as_bytes(), site).await,
            (Some(_), Some(path)) if is_output(path) && site.form == Form::Json => {
                Err(Failure::usage(
                    "--output - writes the value itself, and --json an object; accepted: one of them",
                ))
            }
            (Some(key), Some(path)) => write_one(client, key.as_bytes(), path).await,
            (None, None) => self.ask_many(client, site).await,
            (None, Some(_)) => Err(Failure::usage(format!(
                "--output takes the value of one key, and {} keys were given",
                self.keys.len()
            ))),
        }
    }

    async fn ask_many(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        let mut absent = Absent::default();
        for keys in self.keys.chunks(VALUES_AT_ONCE) {
            let mut lines = Vec::new();
            for (key, item) in keys.iter().zip(items(client, keys).await?) {
                let key = key.as_bytes();
                match item {
                    Some(item) => lines.extend_from_slice(&line(key, item, site)),
                    None if site.form == Form::Json => {
                        absent.push(key);
                        let mut object = failure_as_json(&not_found(key));
                        object["key"] = bytes_as_json(key);
                        lines.extend_from_slice(&site.object(object));
                    }
                    None => absent.push(key),
                }
            }
            if print_on(&lines)?.is_break() {
                break;
            }
        }
        Ok(match absent.complaint() {
            None => Answer::printed(),
            Some(complaint) => Answer::printed().but(complaint),
        })
    }
}

async fn ask_one(client: &Client, key: &[u8], site: Site) -> Result<Answer, Failure> {
    let item = client.get_with_expiry(key).await?;
    let item = item.ok_or_else(|| not_found(key))?;
    let json = site.json(|| as_json(key, &item));
    Ok(Answer::value(item.value, json))
}

async fn write_one(client: &Client, key: &[u8], path: &Path) -> Result<Answer, Failure> {
    let stream = client.get_stream(key).await?;
    let stream = stream.ok_or_else(|| not_found(key))?;
    let bytes = stream.value_bytes();
    files::write(stream, path).await?;
    if is_output(path) {
        return Ok(Answer::printed());
    }
    let json = json!({
        "key": bytes_as_json(key),
        "output": path.display().to_string(),
        "value_bytes": bytes,
    });
    Ok(Answer::text("", json))
}

/// Whether a path stands for standard output.
fn is_output(path: &Path) -> bool {
    path.as_os_str() == files::STANDARD_INPUT
}

/// Asks for several items at once, each with the time that it has left.
async fn items(client: &Client, keys: &[OsString]) -> Result<Vec<Option<Item>>, Failure> {
    let mut requests = JoinSet::new();
    for (place, key) in keys.iter().cloned().enumerate() {
        let client = client.clone();
        requests.spawn(async move { (place, client.get_with_expiry(key.as_bytes()).await) });
    }
    let mut items = vec![None; keys.len()];
    while let Some(ended) = requests.join_next().await {
        let (place, item) = ended.expect("a request neither panics nor is cancelled");
        items[place] = item?;
    }
    Ok(items)
}

/// One value of several.
fn line(key: &[u8], item: Item, site: Site) -> Vec<u8> {
    let json = site.json(|| as_json(key, &item));
    match site.form {
        Form::Json => site.object(json),
        Form::Bare => Answer::value(item.value, json)
            .shown(Form::Lines)
            .into_owned(),
        form => Answer::value(item.value, json).shown(form).into_owned(),
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
