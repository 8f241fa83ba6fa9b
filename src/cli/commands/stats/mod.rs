//! `larder stats`: a server's figures, once or again and again.

mod ledger;
mod sections;
mod tables;
mod units_of;
mod watch;

use std::time::Duration;

use clap::Args;
use larder_client::Client;
use serde_json::{Map, Value};

use self::watch::Rates;
use super::answer::{Answer, Form};
use super::{Place, Site};
use crate::cli::ending::Failure;
use crate::cli::units;

const EXAMPLE: &str = "\
Examples:
  larder stats
  larder stats --all             # what is 0 as well
  larder stats memory            # where each byte of --memory is
  larder stats workers           # what each thread did, and the sum
  larder stats items             # how often items were read, how large they are
  larder stats connections       # who is connected, and since when it has been silent
  larder stats --watch           # every second, with rates, until Ctrl-C
  larder stats workers --watch 5s
  larder stats server --json     # for programs: every figure, in whole numbers
  larder stats --json --watch    # an object on each line";

/// LIMIT: figures cost the server about as much as a few hundred requests.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// A server's figures, as names and values.
type Figures = [(String, String)];

/// The options of `larder stats`.
#[derive(Debug, Args)]
#[command(about = "Print a server's figures", after_help = EXAMPLE)]
pub(crate) struct StatsOptions {
    /// A group of figures: server; cache; settings; memory, the ledger of the budget; items, by
    /// frequency and size; workers, what each of them counted; connections, who they are and what they
    /// wait for; since_reset, the first two counted from the last `stats reset` of a client of memcached's
    /// [default: the first two]
    #[arg(default_value = "", hide_default_value = true)]
    group: String,

    /// Print what is 0 as well
    #[arg(short, long)]
    all: bool,

    /// Print again after each interval, with rates per second, until interrupted
    #[arg(
        short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s",
        value_parser = interval
    )]
    watch: Option<Duration>,
}

fn interval(text: &str) -> Result<Duration, String> {
    match units::duration(text) {
        Ok(interval) if interval < INTERVAL_MIN => {
            Err("that is too often; accepted: at least 10ms".to_owned())
        }
        parsed => {
            parsed.map_err(|error| format!("{error}; a group of figures stands before --watch"))
        }
    }
}

impl StatsOptions {
    pub(super) async fn ask(&self, client: &Client, site: Site) -> Result<Answer, Failure> {
        if let Some(interval) = self.watch {
            if matches!(site.place, Place::Batch { .. }) {
                return Err(Failure::usage(
                    "--watch has no end in a batch; accepted: stats without it",
                ));
            }
            return watch::watch(self, interval, client, site.form).await;
        }
        let figures = client.stats(&self.group).await?;
        let text = self.as_text(&figures, None, site.form);
        Ok(Answer::text(text, as_json(&figures)))
    }

    /// The figures as people read them, with what they changed by where they are watched.
    fn as_text(&self, figures: &Figures, rates: Option<&Rates>, form: Form) -> String {
        let table = match self.group.as_str() {
            "memory" => ledger::as_table(figures),
            "workers" => match rates {
                None => tables::of_workers(figures),
                Some(rates) => {
                    tables::of_workers(&rates.figures()).map(|table| format!("per second\n{table}"))
                }
            },
            "items" => tables::of_items(figures),
            "connections" => tables::of_connections(figures),
            _ => None,
        };
        let colours = matches!(form, Form::Readable { colours: true });
        table.unwrap_or_else(|| sections::as_text(figures, rates, self.all, colours))
    }
}

/// One object; figures that are whole numbers are numbers.
fn as_json(figures: &Figures) -> Value {
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
    use super::{as_json, interval};

    #[test]
    fn figures_are_an_object_to_programs() {
        let figures = [("version", "0.1.0"), ("items", "17")];
        let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let json = as_json(&figures).to_string();
        assert_eq!(json, "{\"items\":17,\"version\":\"0.1.0\"}");
    }

    #[test]
    fn an_interval_that_cannot_work_is_refused_with_what_can() {
        assert!(interval("10ms").is_ok());
        assert!(interval("9ms").unwrap_err().contains("at least 10ms"));
        assert!(interval("memory").unwrap_err().contains("before --watch"));
    }
}
