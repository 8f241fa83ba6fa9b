//! `larder scan`.

use std::ops::ControlFlow;

use clap::Args;
use larder_client::{Client, ExpiryLeft, ScanKey};
use serde_json::json;

use super::Site;
use super::answer::{Answer, Form, bytes_as_json, readable_key};
use super::get::expiry_as_json;
use super::pattern::Pattern;
use crate::cli::ending::{Failure, print_on};
use crate::cli::units;

const EXAMPLE: &str = "\
Examples:
  larder scan
  larder scan 'session:*' --limit 100
  larder scan --long
  larder scan 'page:*' --null | larder delete --keys-from - --null

A pattern is a glob: * stands for any characters, ? for one, [ab] for one of those, {ab,cd} for \
either word. Characters are those of UTF-8; a key that is none is matched byte by byte. Keys come in \
no order; one may come twice where the index grows meanwhile. All keys travel to the client, which prints \
those that match.";

/// The options of `larder scan`.
#[derive(Debug, Args)]
#[command(about = "List keys", after_help = EXAMPLE)]
pub(crate) struct ScanOptions {
    /// List only keys that match
    #[arg(value_parser = Pattern::new)]
    pattern: Option<Pattern>,

    /// Stop after so many keys
    #[arg(long, value_name = "N", value_parser = units::number::<u64>)]
    limit: Option<u64>,

    /// Print the size of each value and the time that it has left before its key
    #[arg(short, long)]
    long: bool,

    /// End each key with a zero byte, not with a line
    #[arg(short = '0', long, conflicts_with = "long")]
    null: bool,
}

impl ScanOptions {
    pub(super) async fn ask(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut scan = client.scan();
        while left > 0
            && let Some(keys) = scan.next_page().await?
        {
            let mut page = Vec::new();
            for key in keys {
                if left > 0 && self.is_wanted(&key) {
                    self.push(&mut page, &key, site);
                    left -= 1;
                }
            }
            if !page.is_empty() && print_on(&page)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(Answer::printed())
    }

    fn is_wanted(&self, key: &ScanKey) -> bool {
        let pattern = self.pattern.as_ref();
        pattern.is_none_or(|pattern| pattern.is_match(&key.key))
    }

    fn push(&self, page: &mut Vec<u8>, key: &ScanKey, site: Site) {
        if site.form == Form::Json {
            let object = json!({
                "key": bytes_as_json(&key.key),
                "value_bytes": key.value_bytes,
                "version": key.version,
                "expires_in_ms": expiry_as_json(key.expiry_left),
            });
            page.extend_from_slice(&site.object(object));
            return;
        }
        if self.long {
            let size = units::size_about(key.value_bytes.into());
            let left = match key.expiry_left {
                ExpiryLeft::Ms(ms) => units::duration_about(ms),
                ExpiryLeft::Never | ExpiryLeft::NotAsked => "for ever".to_owned(),
            };
            page.extend_from_slice(format!("{size:>11}  {left:>9}  ").as_bytes());
        }
        match site.form {
            Form::Readable { .. } if !self.null => {
                page.extend_from_slice(readable_key(&key.key).as_bytes());
            }
            _ => page.extend_from_slice(&key.key),
        }
        page.push(if self.null { 0 } else { b'\n' });
    }
}
