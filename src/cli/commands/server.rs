//! `larder ping` and `larder flush`.

use std::time::{Duration, Instant};

use clap::Args;
use larder_client::Client;
use serde_json::json;

use super::answer::Answer;
use crate::cli::ending::Failure;
use crate::cli::units;

const PING_EXAMPLE: &str = "\
Example:
  larder ping --server larder://cache.example:5273";

const FLUSH_EXAMPLE: &str = "\
Examples:
  larder flush
  larder flush --delay 10m     # what is stored until then goes then

There is no way back.";

/// The options of `larder ping`.
#[derive(Debug, Args)]
#[command(about = "Ask a server for a sign of life", after_help = PING_EXAMPLE)]
pub(crate) struct PingOptions {}

/// The options of `larder flush`.
#[derive(Debug, Args)]
#[command(about = "Empty the cache", after_help = FLUSH_EXAMPLE)]
pub(crate) struct FlushOptions {
    /// Not now, but after so long; a later flush takes the place of this one
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    delay: Option<Duration>,
}

/// A sign of life, and how long it took.
pub(super) async fn ping(client: &Client) -> Result<Answer, Failure> {
    let name = client.server().await?.name;
    let sent_at = Instant::now();
    client.ping().await?;
    let took_ms = sent_at.elapsed().as_secs_f64() * 1e3;
    let json = json!({ "server": name, "took_ms": took_ms });
    Ok(Answer::text(
        format!("{name} answered in {took_ms:.2} ms\n"),
        json,
    ))
}

impl FlushOptions {
    pub(super) async fn ask(&self, client: &Client) -> Result<Answer, Failure> {
        let Some(delay) = self.delay else {
            client.flush().await?;
            return Ok(Answer::text("flushed\n", json!({ "flushed": true })));
        };
        client.flush_in(delay).await?;
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let text = format!("will be flushed in {}\n", units::duration_about(delay_ms));
        Ok(Answer::text(
            text,
            json!({ "flushed": false, "delay_ms": delay_ms }),
        ))
    }
}
