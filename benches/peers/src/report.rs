//! What was measured, as markdown tables or as JSON.

use serde::Serialize;

use crate::contenders::{Hashing, Kind, LARDER, LARDER_BATCHES, Room};
use crate::load::Draw;

/// What all contenders were asked to do for one figure of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) room: Room,
    pub(crate) draw: Draw,
    pub(crate) gets_percent: u32,
    pub(crate) threads: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) contender: &'static str,
    pub(crate) kind: Kind,
    #[serde(flatten)]
    pub(crate) case: Case,
    /// For each operation and thread.
    pub(crate) cpu_ns: f64,
    pub(crate) hit_ratio: f64,
    /// Held when the case was over.
    pub(crate) entries: u64,
    /// Sets that found no space, of all rounds.
    pub(crate) refusals: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Weight {
    pub(crate) contender: &'static str,
    pub(crate) bytes_per_entry: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) hashing: Hashing,
    pub(crate) items: usize,
    pub(crate) operations: usize,
    pub(crate) rounds: usize,
    pub(crate) cores: usize,
    pub(crate) weights: Vec<Weight>,
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("only numbers and names")
    }

    pub(crate) fn to_markdown(&self) -> String {
        let Self {
            hashing,
            items,
            operations,
            rounds,
            cores,
            ..
        } = self;
        let hashing = match hashing {
            Hashing::Own => "its own hash",
            Hashing::Foldhash => "foldhash",
        };
        let mut lines = vec![
            format!("{items} keys of 16-24 bytes, values of 32 bytes, {cores} cores."),
            format!("Each peer hashes with {hashing}."),
            format!("CPU ns per operation and thread: median of {rounds} rounds of {operations}."),
        ];
        for room in [Room::Everything, Room::Quarter] {
            for draw in [Draw::Zipf, Draw::Uniform] {
                self.add_table(&mut lines, room, draw);
            }
        }
        lines.join("\n")
    }

    fn add_table(&self, lines: &mut Vec<String>, room: Room, draw: Draw) {
        let is_here = |case: &Case| case.room == room && case.draw == draw;
        let figures = self.figures.iter();
        let figures: Vec<_> = figures.filter(|figure| is_here(&figure.case)).collect();
        let cases = distinct(figures.iter().map(|figure| figure.case));
        if cases.is_empty() {
            return;
        }
        lines.extend([String::new(), title(room, draw), String::new()]);
        let head = cases.iter().map(|case| {
            let sets_percent = 100 - case.gets_percent;
            format!("{}:{sets_percent}, {}", case.gets_percent, case.threads)
        });
        let last = match room {
            Room::Everything => "bytes per entry",
            Room::Quarter => "entries held",
        };
        lines.push(row("get:set, threads", head, last));
        lines.push(row("---", cases.iter().map(|_| "---:".to_owned()), "---:"));
        for name in distinct(figures.iter().map(|figure| figure.contender)) {
            let own = figures.iter().filter(|figure| figure.contender == name);
            let last = match room {
                Room::Everything => self.bytes_per_entry(name),
                Room::Quarter => own.clone().map(|figure| figure.entries).next_back(),
            };
            let last = last.map_or("-".to_owned(), |number| number.to_string());
            lines.push(row(name, own.map(|figure| cell(figure)), &last));
        }
        lines.extend(self.ratios(&cases, LARDER_BATCHES, "bounded peer", |kind| {
            kind == Kind::Bounded
        }));
        lines.extend(self.ratios(&cases, LARDER, "peer", |kind| kind != Kind::Larder));
        lines.extend(refusals(&figures));
    }

    fn bytes_per_entry(&self, name: &str) -> Option<u64> {
        let mut weights = self.weights.iter();
        let weight = weights.find(|weight| weight.contender == name)?;
        Some(weight.bytes_per_entry.round() as u64)
    }

    /// A row of the times of `name`, as shares of the quickest of those it is compared with.
    fn ratios(
        &self,
        cases: &[Case],
        name: &str,
        others: &str,
        is_other: impl Fn(Kind) -> bool,
    ) -> Option<String> {
        let ratio = |case: &Case| {
            let here = self.figures.iter().filter(|figure| figure.case == *case);
            let peers = here.clone().filter(|figure| is_other(figure.kind));
            let quickest = peers.map(|figure| figure.cpu_ns).min_by(f64::total_cmp)?;
            let own = here.clone().find(|figure| figure.contender == name)?;
            Some(format!("{:.2}", own.cpu_ns / quickest))
        };
        let ratios: Option<Vec<_>> = cases.iter().map(ratio).collect();
        let title = format!("*{name} / the quickest {others}*");
        Some(row(&title, ratios?.into_iter(), ""))
    }
}

fn title(room: Room, draw: Draw) -> String {
    let room = match room {
        Room::Everything => "Everything fits",
        Room::Quarter => "A quarter fits, a miss is set (hit ratio in brackets)",
    };
    let draw = match draw {
        Draw::Uniform => "uniform",
        Draw::Zipf => "Zipf 0.99",
    };
    format!("### {room}: {draw}")
}

fn row(first: &str, cells: impl Iterator<Item = String>, last: &str) -> String {
    let cells: Vec<_> = cells.collect();
    format!("| {first} | {} | {last} |", cells.join(" | "))
}

/// Nanoseconds, and the hit ratio where it is not 1.
fn cell(figure: &Figure) -> String {
    let ns = figure.cpu_ns;
    match figure.hit_ratio {
        1.0 => format!("{ns:.0}"),
        ratio => format!("{ns:.0} ({ratio:.3})"),
    }
}

/// Says for how many sets there was no space, if there were any.
fn refusals(figures: &[&Figure]) -> Option<String> {
    let refused = figures.iter().filter(|figure| figure.refusals > 0);
    let counts = refused.map(
        |Figure {
             contender,
             case,
             refusals,
             ..
         }| {
            let Case {
                gets_percent,
                threads,
                ..
            } = case;
            let sets_percent = 100 - gets_percent;
            format!("{contender} at {gets_percent}:{sets_percent}, {threads}: {refusals}")
        },
    );
    let counts: Vec<_> = counts.collect();
    let are_any = !counts.is_empty();
    are_any.then(|| format!("\nSets that found no space: {}.", counts.join("; ")))
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}
