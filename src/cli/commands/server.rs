//! `larder ping` and `larder stats`.

use std::time::Instant;

use clap::Args;
use larder_client::Client;
use serde_json::{Map, Value};

use super::{ClientCommand, ServerOptions, ledger, tables};
use crate::cli::ending::{Ending, Failure, print};

const PING_EXAMPLE: &str = "\
Example:
  larder ping --server larder://cache.example:5273";

const STATS_EXAMPLE: &str = "\
Examples:
  larder stats
  larder stats memory
  larder stats workers
  larder stats items
  larder stats server --json";

/// The options of `larder ping`.
#[derive(Debug, Args)]
#[command(about = "Ask a server for a sign of life", after_help = PING_EXAMPLE)]
pub(crate) struct PingOptions {
    #[command(flatten)]
    server: ServerOptions,
}

/// The options of `larder stats`.
#[derive(Debug, Args)]
#[command(about = "Print a server's figures", after_help = STATS_EXAMPLE)]
pub(crate) struct StatsOptions {
    /// A group of figures: server; cache; memory, the ledger of the budget; items, by frequency and
    /// size; workers, what each of them counted [default: the first two]
    #[arg(default_value = "", hide_default_value = true)]
    group: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerOptions,
}

impl ClientCommand for PingOptions {
    const NAME: &'static str = "ping";

    fn server(&self) -> &ServerOptions {
        &self.server
    }

    async fn ask(&self, client: &Client) -> Result<Ending, Failure> {
        let name = client.server().await?.name;
        let sent_at = Instant::now();
        client.ping().await?;
        let took_ms = sent_at.elapsed().as_secs_f64() * 1e3;
        print(format!("{name} answered in {took_ms:.2} ms\n").as_bytes())?;
        Ok(Ending::Done)
    }
}

impl ClientCommand for StatsOptions {
    const NAME: &'static str = "stats";

    fn server(&self) -> &ServerOptions {
        &self.server
    }

    async fn ask(&self, client: &Client) -> Result<Ending, Failure> {
        let figures = client.stats(&self.group).await?;
        let table = match self.group.as_str() {
            "memory" => ledger::as_table(&figures),
            "workers" => tables::of_workers(&figures),
            "items" => tables::of_items(&figures),
            _ => None,
        };
        let text = if self.json {
            as_json(&figures)
        } else {
            table.unwrap_or_else(|| as_text(&figures))
        };
        print(text.as_bytes())?;
        Ok(Ending::Done)
    }
}

/// One figure on each line, the values below each other.
fn as_text(figures: &[(String, String)]) -> String {
    let width = figures
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    figures
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

/// One object; figures that are whole numbers are numbers.
fn as_json(figures: &[(String, String)]) -> String {
    let entry = |(name, value): &(String, String)| {
        let value = match value.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(value.as_str()),
        };
        (name.clone(), value)
    };
    Value::Object(figures.iter().map(entry).collect::<Map<_, _>>()).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::{as_json, as_text};

    #[test]
    fn figures_are_a_table_or_an_object() {
        let figures = [("version", "0.1.0"), ("items", "17")];
        let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(as_text(&figures), "version  0.1.0\nitems    17\n");
        assert_eq!(as_json(&figures), "{\"items\":17,\"version\":\"0.1.0\"}\n");
    }
}
