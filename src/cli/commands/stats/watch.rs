//! `larder stats --watch`: figures again and again, with what they change by.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use larder_client::Client;
use tokio::time::{Instant, MissedTickBehavior};

use super::sections::{Kind, kind_of};
use super::{Figures, StatsOptions, as_json};
use crate::cli::commands::answer::{Answer, Form};
use crate::cli::ending::{Failure, print_on};
use crate::cli::style::{FAINT, painted};
use crate::cli::units;

/// Moves to the top left corner.
const TO_THE_TOP: &str = "\u{1b}[H";

/// Clears what is right of the cursor.
const CLEAR_LINE: &str = "\u{1b}[K";

/// Clears what is below the cursor.
const CLEAR_BELOW: &str = "\u{1b}[J";

/// LIMIT: lines of a screen whose height is not known.
const USUAL_HEIGHT: usize = 24;

/// What counts changed by, for each second.
#[derive(Debug)]
pub(super) struct Rates(Vec<(String, f64)>);

impl Rates {
    pub(super) fn between(before: &Figures, after: &Figures, time: Duration) -> Self {
        let before: HashMap<&str, u64> = (before.iter())
            .filter_map(|(name, value)| Some((name.as_str(), value.parse().ok()?)))
            .collect();
        let rate = |(name, value): &(String, String)| {
            let of_thread = name.split_once('.').map_or(&name[..], |(_, name)| name);
            // What is not known to be a level is a count where a thread counted it.
            let is_count = kind_of(of_thread).map_or(of_thread != name, |kind| kind == Kind::Count);
            let change = value
                .parse::<u64>()
                .ok()?
                .checked_sub(*before.get(&name[..])?)?;
            is_count.then(|| (name.clone(), change as f64 / time.as_secs_f64()))
        };
        Self(after.iter().filter_map(rate).collect())
    }

    /// What a figure changes by.
    pub(super) fn of(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().find(|(of, _)| of == name);
        found.map(|(_, rate)| *rate)
    }

    /// Rates as figures, in whole numbers.
    pub(super) fn figures(&self) -> Vec<(String, String)> {
        let figure = |(name, rate): &(String, f64)| (name.clone(), format!("{rate:.0}"));
        self.0.iter().map(figure).collect()
    }
}

/// Prints figures until somebody interrupts it, or nobody reads them any more.
pub(super) async fn watch(
    options: &StatsOptions,
    interval: Duration,
    client: &Client,
    form: Form,
) -> Result<Answer, Failure> {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, Vec<(String, String)>)> = None;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            biased;
            _ = &mut interrupted => return Ok(Answer::printed()),
            _ = ticks.tick() => {}
        }
        let figures = client.stats(&options.group).await?;
        let now = Instant::now();
        let rates = before
            .as_ref()
            .map(|(since, before)| Rates::between(before, &figures, now.duration_since(*since)));
        let shown = match form {
            Form::Json => format!("{}\n", as_json(&figures)),
            form => {
                let text = options.as_text(&figures, rates.as_ref(), form);
                framed(&text, interval, form, before.is_none())
            }
        };
        if print_on(shown.as_bytes())? == ControlFlow::Break(()) {
            return Ok(Answer::printed());
        }
        before = Some((now, figures));
    }
}

/// What is printed: on a terminal in place of what was there, elsewhere below it.
fn framed(text: &str, interval: Duration, form: Form, is_first: bool) -> String {
    let Form::Readable { colours } = form else {
        return format!("{}{text}", if is_first { "" } else { "\n" });
    };
    let interval = units::duration_about(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
    let title = format!("every {interval}; Ctrl-C ends");
    let height = rustix::termios::tcgetwinsize(io::stdout())
        .map_or(USUAL_HEIGHT, |size| usize::from(size.ws_row));
    let lines: Vec<&str> = text.lines().collect();
    // A line for the title, and one for the cursor.
    let room = height.saturating_sub(2).max(1);
    let hidden = lines.len().saturating_sub(room);
    let title = match hidden {
        0 => title,
        hidden => format!("{title}; {hidden} more lines in a taller window"),
    };
    let mut screen = format!(
        "{TO_THE_TOP}{}{CLEAR_LINE}\n",
        painted(FAINT, &title, colours)
    );
    for line in lines.iter().take(room) {
        screen += &format!("{line}{CLEAR_LINE}\n");
    }
    screen + CLEAR_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(figures: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        figures.iter().map(owned).collect()
    }

    #[test]
    fn counts_have_rates_and_levels_have_none() {
        let before = figures(&[
            ("requests", "100"),
            ("items", "5"),
            ("version", "0.1.0"),
            ("worker_0.requests", "7"),
            ("worker_0.of_tomorrow", "7"),
            ("panics", "3"),
        ]);
        let after = figures(&[
            ("requests", "300"),
            ("items", "9"),
            ("version", "0.1.0"),
            ("worker_0.requests", "17"),
            ("worker_0.of_tomorrow", "8"),
            // Another server, which began anew.
            ("panics", "0"),
        ]);
        let rates = Rates::between(&before, &after, Duration::from_millis(500));
        assert_eq!(rates.of("requests"), Some(400.0));
        assert_eq!(rates.of("worker_0.requests"), Some(20.0));
        assert_eq!(rates.of("worker_0.of_tomorrow"), Some(2.0));
        for name in ["items", "version", "panics", "nothing"] {
            assert_eq!(rates.of(name), None, "{name}");
        }
        let expected = [
            ("requests", "400"),
            ("worker_0.requests", "20"),
            ("worker_0.of_tomorrow", "2"),
        ];
        assert_eq!(rates.figures(), figures(&expected));
    }

    #[test]
    fn a_pipe_gets_blocks_and_a_terminal_one_screen() {
        let second = Duration::from_secs(1);
        assert_eq!(framed("a\nb\n", second, Form::Bare, true), "a\nb\n");
        assert_eq!(framed("a\nb\n", second, Form::Bare, false), "\na\nb\n");
        let readable = Form::Readable { colours: false };
        let screen = framed("a\nb\n", second, readable, false);
        let expected = "\u{1b}[Hevery 1s; Ctrl-C ends\u{1b}[K\na\u{1b}[K\nb\u{1b}[K\n\u{1b}[J";
        assert_eq!(screen, expected);
    }
}
