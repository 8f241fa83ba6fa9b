//! The table of a comparison, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::figure::{self, FIGURES};
use super::standing::Standing;
use crate::cli::align::aligned;
use crate::cli::bench::generator::Load;
use crate::cli::bench::plan::{Contest, Plan};
use crate::cli::bench::report::{LoadFigures, json};
use crate::cli::bench::text::grouped;

/// The whole report. Its JSON form is a contract, as that of a single server's is.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    load: LoadFigures,
    rounds: usize,
    /// Whether the medians that decide have come to rest.
    stable: bool,
    /// Whose figures the ratios are told against.
    against: String,
    servers: Vec<Row>,
}

/// One server.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    url: String,
    hits: u64,
    misses: u64,
    stored: u64,
    /// Values that were not what their key determines, if they were compared.
    wrong: u64,
    refused: u64,
    unsent: u64,
    unanswered: u64,
    lost_connections: u64,
    /// Why there are no figures of the server's process.
    server_cost_missing: Option<String>,
    /// Over the rounds: the median, and how far the largest and the smallest lie apart as a share of
    /// it; the median as a share of the other server's.
    median: Named,
    spread: Named,
    ratio: Named,
    rounds: Vec<Named>,
}

/// Figures by name; one that is not known is not there.
type Named = BTreeMap<&'static str, f64>;

impl Comparison {
    pub(super) fn new(plan: &Plan, contest: Contest, load: &Load, standings: &[Standing]) -> Self {
        let against = &standings[contest.against];
        Self {
            load: LoadFigures::new(plan, load.work),
            rounds: standings.iter().map(|s| s.rounds.len()).min().unwrap_or(0),
            stable: standings.iter().all(|server| server.is_stable(load)),
            against: against.name.clone(),
            servers: standings
                .iter()
                .map(|standing| Row::new(standing, against))
                .collect(),
        }
    }

    /// The report as one line of JSON.
    pub(super) fn to_json(&self) -> String {
        json(self)
    }

    /// The lines of the table: a heading, and three for each server.
    fn lines(&self) -> Vec<(String, Vec<String>)> {
        let headings = FIGURES.map(|figure| figure.heading.to_owned());
        let mut lines = vec![("server".to_owned(), headings.to_vec())];
        for row in &self.servers {
            let each = |text: &dyn Fn(usize, &'static str) -> String| -> Vec<String> {
                let named = FIGURES.iter().enumerate();
                named.map(|(at, figure)| text(at, figure.name)).collect()
            };
            lines.push((
                row.name.clone(),
                each(&|at, name| figure::text(at, row.median.get(name).copied())),
            ));
            lines.push((
                "  spread".to_owned(),
                each(&|_, name| percent(row.spread.get(name))),
            ));
            if row.name != self.against {
                lines.push((
                    format!("  / {}", self.against),
                    each(&|_, name| ratio(row.ratio.get(name))),
                ));
            }
        }
        lines
    }
}

impl Row {
    fn new(standing: &Standing, against: &Standing) -> Self {
        let tally = &standing.tally;
        Self {
            name: standing.name.clone(),
            url: standing.url.clone(),
            hits: tally.hits,
            misses: tally.misses,
            stored: tally.stored,
            wrong: tally.wrong,
            refused: tally.refusals(),
            unsent: tally.unsent,
            unanswered: tally.unanswered(),
            lost_connections: tally.lost_connections,
            server_cost_missing: standing.cost_missing.clone(),
            median: named(|at| standing.median(at)),
            spread: named(|at| standing.spread(at)),
            ratio: named(|at| Some(standing.median(at)? / against.median(at)?)),
            rounds: standing
                .rounds
                .iter()
                .map(|round| named(|at| round[at]))
                .collect(),
        }
    }

    /// What went wrong, and what was not found.
    fn remarks(&self) -> Vec<String> {
        let counted = [
            (self.wrong, "values WRONG"),
            (self.misses, "reads found nothing"),
            (self.refused, "operations refused"),
            (self.unsent, "operations due and not sent"),
            (self.unanswered, "operations not answered"),
            (self.lost_connections, "connections lost"),
        ];
        let mut remarks: Vec<String> = counted
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", grouped(count)))
            .collect();
        if let Some(why) = &self.server_cost_missing {
            remarks.push(format!("CPU and RSS not known: {why}"));
        }
        remarks
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds;
        let rest = if self.stable {
            "the last three within 5 %"
        } else {
            "not yet three in a row within 5 %"
        };
        writeln!(
            f,
            "larder bench: {} in turns, {}",
            counted(self.servers.len(), "server"),
            counted(rounds, "round")
        )?;
        writeln!(f, "load           {}", self.load)?;
        writeln!(
            f,
            "figures        medians of the rounds, {rest}; spread: the largest less the smallest, of the median"
        )?;
        let lines = self.lines();
        let lines: Vec<(&str, Vec<String>)> = lines
            .iter()
            .map(|(name, cells)| (&name[..], cells.clone()))
            .collect();
        write!(f, "{}", aligned(&lines))?;
        for row in &self.servers {
            let remarks = row.remarks();
            if !remarks.is_empty() {
                writeln!(f, "{}: {}", row.name, remarks.join(", "))?;
            }
        }
        Ok(())
    }
}

fn named(figure: impl Fn(usize) -> Option<f64>) -> Named {
    let named = FIGURES.iter().enumerate();
    named
        .filter_map(|(at, of)| Some((of.name, figure(at).filter(|figure| figure.is_finite())?)))
        .collect()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn percent(share: Option<&f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn ratio(ratio: Option<&f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}
