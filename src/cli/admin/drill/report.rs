//! The graded report of a drill.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::DrillOptions;
use super::probe::Probed;
use super::watch::Watched;
use crate::cli::style::{HEADING, WRONG, painted};
use crate::cli::units::duration_about;
use crate::server::Drill;

/// What share of the items has to be there afterwards, in thousandths: the cache may evict.
const KEPT_PER_MILLE_MIN: usize = 999;

/// What came of a drill. Times are in milliseconds, from its beginning on.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    drill: &'static str,
    worker: u32,
    is_good: bool,
    noticed: Line,
    named_correctly: Line,
    contained: Line,
    recovered: Line,
    items_kept: Line,
    noticed_after_ms: Option<u64>,
    named: Option<String>,
    deaths: u64,
    recovered_after_ms: Option<u64>,
    items: usize,
    items_found: usize,
    probe_connections: usize,
    /// Those that were served all the time.
    probe_connections_undisturbed: usize,
    probe_answers: u64,
    wrong_answers: u64,
    /// What the probe's clients met, by kind.
    client_errors: BTreeMap<String, u64>,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    is_good: bool,
    says: String,
}

impl Report {
    pub(super) fn of(
        options: &DrillOptions,
        workers: usize,
        watched: &Watched,
        probed: Probed,
    ) -> Self {
        let undisturbed = undisturbed(options, &probed);
        let lines = [
            noticed(options, watched),
            named(watched),
            contained(options, workers, watched, &probed, undisturbed),
            recovered(options, watched),
            kept(&probed),
        ];
        let is_good = lines.iter().all(|line| line.is_good);
        let [noticed, named_correctly, contained, recovered, items_kept] = lines;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            drill: options.drill.name(),
            worker: options.worker,
            is_good,
            noticed,
            named_correctly,
            contained,
            recovered,
            items_kept,
            noticed_after_ms: watched.noticed_after.map(ms),
            named: watched.named.clone(),
            deaths: watched.deaths,
            recovered_after_ms: watched.recovered_after.map(ms),
            items: probed.items,
            items_found: probed.items_kept,
            probe_connections: probed.connections,
            probe_connections_undisturbed: undisturbed,
            probe_answers: probed.answers,
            wrong_answers: probed.wrong_answers,
            client_errors: probed.errors,
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.is_good
    }

    pub(super) fn as_json(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{json}\n")
    }

    /// For people.
    pub(super) fn shown(&self, colours: bool) -> String {
        let mut text = format!("Drill {} of worker {}\n\n", self.drill, self.worker);
        for (name, line) in [
            ("noticed", &self.noticed),
            ("named", &self.named_correctly),
            ("contained", &self.contained),
            ("recovered", &self.recovered),
            ("items kept", &self.items_kept),
        ] {
            text += &format!(
                "{}  {name:10}  {}\n",
                grade(line.is_good, colours),
                line.says
            );
        }
        let kinds = self.client_errors.iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let errors = match kinds.is_empty() {
            true => "none".to_owned(),
            false => kinds.join("; "),
        };
        text += &format!(
            "      errors      {errors} (and {} answers, on {} connections)\n\n{}\n",
            self.probe_answers,
            self.probe_connections,
            match self.is_good {
                true => painted(HEADING, "All is good.", colours),
                false => painted(WRONG, "Not all is good.", colours),
            }
        );
        text
    }
}

fn grade(is_good: bool, colours: bool) -> String {
    match is_good {
        true => "good".to_owned(),
        false => painted(WRONG, "BAD ", colours),
    }
}

fn about(duration: Duration) -> String {
    duration_about(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn noticed(options: &DrillOptions, watched: &Watched) -> Line {
    let within = options.noticed_within;
    Line {
        is_good: watched.noticed_after.is_some_and(|after| after <= within),
        says: match watched.noticed_after {
            Some(after) => format!("after {} (good: within {})", about(after), about(within)),
            None => "not at all".to_owned(),
        },
    }
}

fn named(watched: &Watched) -> Line {
    Line {
        is_good: watched.is_named_correctly,
        says: watched
            .named
            .clone()
            .unwrap_or_else(|| "not at all".to_owned()),
    }
}

/// Connections that went on while one worker did not.
fn undisturbed(options: &DrillOptions, probed: &Probed) -> usize {
    let gaps = probed.longest_gaps.iter();
    gaps.filter(|gap| **gap < options.lasts / 2).count()
}

/// A worker that stands still is to hold up its own connections, and a death is to be one.
fn contained(
    options: &DrillOptions,
    workers: usize,
    watched: &Watched,
    probed: &Probed,
    undisturbed: usize,
) -> Line {
    let connections = probed.connections;
    let deaths = match watched.deaths {
        0 => "no process died".to_owned(),
        1 => "one process died".to_owned(),
        deaths => format!("{deaths} processes died"),
    };
    let wrong = match probed.wrong_answers {
        0 => String::new(),
        wrong => format!(", {wrong} WRONG ANSWERS"),
    };
    let is_right = probed.wrong_answers == 0;
    if options.drill.is_lethal() {
        return Line {
            is_good: is_right && watched.deaths == 1,
            says: format!("{deaths}, the supervisor did not{wrong}"),
        };
    }
    // A watchdog that kills may have ended it.
    let went_on = undisturbed > 0 || workers < 2 || watched.deaths == 1;
    let is_survived = match options.drill {
        Drill::Hang | Drill::Spin | Drill::SlowIo => watched.deaths <= 1,
        _ => watched.deaths == 0,
    };
    Line {
        is_good: is_right && went_on && is_survived,
        says: format!("{undisturbed} of {connections} connections went on, {deaths}{wrong}"),
    }
}

fn recovered(options: &DrillOptions, watched: &Watched) -> Line {
    let within = options.recovered_within;
    let after_end = watched.recovered_after_end;
    Line {
        is_good: after_end.is_some_and(|after| after <= within),
        says: match (watched.recovered_after, after_end) {
            (Some(after), Some(after_end)) => format!(
                "all connections after {}, {} after its end",
                about(after),
                about(after_end)
            ),
            _ => "not all connections are served again".to_owned(),
        },
    }
}

fn kept(probed: &Probed) -> Line {
    let (items, kept) = (probed.items, probed.items_kept);
    Line {
        is_good: kept * 1000 >= items * KEPT_PER_MILLE_MIN,
        says: format!("{kept} of {items}"),
    }
}
