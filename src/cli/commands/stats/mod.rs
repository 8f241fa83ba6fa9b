//! `larder stats`.

mod ledger;
mod tables;

use clap::Args;
use larder_client::Client;
use serde_json::{Map, Value};

use super::Site;
use super::answer::Answer;
use crate::cli::ending::Failure;

const EXAMPLE: &str = "\
Examples:
  larder stats
  larder stats memory
  larder stats workers
  larder stats items
  larder stats server --json";

/// The options of `larder stats`.
#[derive(Debug, Args)]
#[command(about = "Print a server's figures", after_help = EXAMPLE)]
pub(crate) struct StatsOptions {
    /// A group of figures: server; cache; memory, the ledger of the budget; items, by frequency and
    /// size; workers, what each of them counted [default: the first two]
    #[arg(default_value = "", hide_default_value = true)]
    group: String,
}

impl StatsOptions {
    pub(super) async fn ask(&self, client: &Client, _site: Site) -> Result<Answer, Failure> {
        let figures = client.stats(&self.group).await?;
        let table = match self.group.as_str() {
            "memory" => ledger::as_table(&figures),
            "workers" => tables::of_workers(&figures),
            "items" => tables::of_items(&figures),
            _ => None,
        };
        let text = table.unwrap_or_else(|| as_text(&figures));
        Ok(Answer::text(text, as_json(&figures)))
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
fn as_json(figures: &[(String, String)]) -> Value {
    let entry = |(name, value): &(String, String)| {
        let value = match value.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(value.as_str()),
        };
        (name.clone(), value)
    };
    Value::Object(figures.iter().map(entry).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::{as_json, as_text};

    #[test]
    fn figures_are_a_table_or_an_object() {
        let figures = [("version", "0.1.0"), ("items", "17")];
        let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(as_text(&figures), "version  0.1.0\nitems    17\n");
        let json = as_json(&figures).to_string();
        assert_eq!(json, "{\"items\":17,\"version\":\"0.1.0\"}");
    }
}
