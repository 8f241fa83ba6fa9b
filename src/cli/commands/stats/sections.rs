//! `larder stats`: the figures of server and cache, with what belongs together in one section.

use std::collections::HashMap;

use super::Figures;
use super::units_of;
use super::watch::Rates;
use crate::cli::style::{FAINT, HEADING, painted};

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, and has a rate.
    Count,
    /// It is what it is now.
    Level,
    /// It is told by another one in words that people read.
    Hidden,
}

use Kind::{Count, Hidden, Level};

/// Where each figure is shown.
const SECTIONS: &[(&str, &[(&str, Kind)])] = &[
    (
        "Server",
        &[
            ("version", Level),
            ("pid", Level),
            ("uptime_ms", Level),
            ("time_ms", Hidden),
            ("workers", Level),
            ("addresses", Level),
            ("memcached_addresses", Level),
            ("io", Level),
            ("rss_bytes", Level),
            ("cpu_us", Count),
            ("cpu_user_us", Count),
            ("cpu_system_us", Count),
            ("panics", Count),
        ],
    ),
    (
        "Connections",
        &[
            ("connections", Level),
            ("connections_max", Level),
            ("connections_opened", Count),
            ("connections_closed", Count),
            ("connections_refused", Count),
            ("closed_idle", Count),
            ("closed_slow_reader", Count),
            ("closed_frame_timeout", Count),
            ("closed_protocol_error", Count),
            ("closed_io_error", Count),
            ("idle_timeout_ms", Level),
            ("buffer_bytes", Level),
            ("buffer_bytes_max", Level),
            ("backlogs", Count),
        ],
    ),
    (
        "Requests",
        &[
            ("requests", Count),
            ("batches", Count),
            ("refused_requests", Count),
            ("refused_overloaded", Count),
            ("refused_quarantined", Count),
            ("bytes_in", Count),
            ("bytes_out", Count),
            ("reads", Count),
            ("writes", Count),
            ("large_received", Count),
            ("large_sent", Count),
            ("slices_exhausted", Count),
        ],
    ),
    (
        "Reading",
        &[
            ("get_hits", Count),
            ("get_misses", Count),
            ("get_expired", Count),
            ("get_flushed", Count),
            ("touch_hits", Count),
            ("touch_misses", Count),
            ("leases_won", Count),
            ("stale_served", Count),
        ],
    ),
    (
        "Writing",
        &[
            ("stored", Count),
            ("stored_bytes", Count),
            ("overwritten", Count),
            ("not_stored", Count),
            ("no_space", Count),
            ("too_large", Count),
            ("cas_hits", Count),
            ("cas_mismatches", Count),
            ("store_mismatches", Count),
            ("delete_mismatches", Count),
            ("cas_misses", Count),
            ("counter_hits", Count),
            ("counters_created", Count),
            ("counted_in_place", Count),
            ("counter_misses", Count),
            ("decrement_hits", Count),
            ("decrement_misses", Count),
            ("delete_hits", Count),
            ("delete_misses", Count),
            ("invalidated", Count),
            ("flushes", Count),
        ],
    ),
    (
        "What stays and what goes",
        &[
            ("items", Level),
            ("evicted", Count),
            ("evicted_small", Count),
            ("evicted_main", Count),
            ("evicted_bucket", Count),
            ("evicted_large", Count),
            ("evicted_unfetched", Count),
            ("expired", Count),
            ("expired_unfetched", Count),
            ("flushed", Count),
            ("ghost_hits", Count),
            ("promoted", Count),
            ("reinserted", Count),
            ("evict_moved_bytes", Count),
            ("small_age_s", Level),
            ("main_age_s", Level),
            ("small_since_ms", Hidden),
            ("main_since_ms", Hidden),
        ],
    ),
    (
        "Memory",
        &[
            ("memory_bytes", Level),
            ("live_bytes", Level),
            ("dead_bytes", Level),
            ("expired_bytes", Level),
            ("large_bytes", Level),
            ("large_free_bytes", Level),
            ("open_bytes", Level),
            ("tail_bytes", Level),
            ("free_bytes", Level),
            ("limbo_bytes", Level),
            ("spare_bytes", Level),
            ("index_bytes", Level),
            ("ghost_bytes", Level),
            ("table_bytes", Level),
            ("counter_bytes", Level),
            ("header_bytes", Level),
            ("pages", Level),
            ("huge_page_bytes", Level),
            ("key_bytes_max", Level),
            ("value_bytes_max", Level),
        ],
    ),
    (
        "Segments and index",
        &[
            ("segments", Level),
            ("segment_bytes", Level),
            ("segments_open", Level),
            ("segments_sealed", Level),
            ("segments_small", Level),
            ("segments_main", Level),
            ("segments_unproven", Level),
            ("scrubbed_bytes", Count),
            ("damaged", Count),
            ("segments_evicted", Count),
            ("segments_cleaned", Count),
            ("cleaned", Count),
            ("clean_moved_bytes", Count),
            ("buckets", Level),
            ("buckets_split", Count),
            ("pinned_by", Level),
            ("pinned_ms", Level),
            ("pinned_session", Hidden),
            ("pinned_since_ms", Hidden),
        ],
    ),
];

/// Where figures are shown that no section knows: those of a newer server.
const OTHERS: &str = "More";

/// The kind of a figure, if a section has it.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    let mut all = SECTIONS.iter().flat_map(|(_, figures)| *figures);
    all.find(|(of, _)| *of == name).map(|(_, kind)| *kind)
}

/// A line: a name, a value, and what it changes by.
type Line = [String; 3];

/// All sections that have something to show.
pub(super) fn as_text(
    figures: &Figures,
    rates: Option<&Rates>,
    all: bool,
    colours: bool,
) -> String {
    let values: HashMap<&str, &str> = (figures.iter())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut sections: Vec<(&str, Vec<Line>)> = Vec::new();
    for (title, names) in SECTIONS {
        let shown = names.iter().filter(|(_, kind)| *kind != Hidden);
        let mut lines: Vec<Line> = shown
            .filter_map(|(name, _)| Some((*name, *values.get(name)?)))
            .filter(|(_, value)| all || !is_nothing(value))
            .map(|(name, value)| line(name, value, rates))
            .collect();
        lines.extend(derived(title, &values, rates));
        sections.push((title, lines));
    }
    let unknown = figures.iter().filter(|(name, _)| kind_of(name).is_none());
    let unknown = unknown
        .filter(|(_, value)| all || !is_nothing(value))
        .map(|(name, value)| line(name, value, None));
    sections.push((OTHERS, unknown.collect()));
    sections.retain(|(_, lines)| !lines.is_empty());
    laid_out(&sections, colours)
}

fn is_nothing(value: &str) -> bool {
    matches!(value, "0" | "")
}

fn line(name: &str, value: &str, rates: Option<&Rates>) -> Line {
    let unit = units_of::of(name);
    let shown = match value.parse::<u64>() {
        // A process's number is a name.
        Ok(number) if name != "pid" => units_of::shown(number, unit),
        _ => value.to_owned(),
    };
    let rate = rates
        .and_then(|rates| rates.of(name))
        .filter(|rate| *rate > 0.0);
    let rate = rate.map_or_else(String::new, |rate| units_of::rate_shown(rate, unit));
    [name.to_owned(), shown, rate]
}

/// What follows from several figures of a section.
fn derived(title: &str, values: &HashMap<&str, &str>, rates: Option<&Rates>) -> Vec<Line> {
    let total =
        |name: &str| -> Option<f64> { values.get(name)?.parse::<u64>().ok().map(|n| n as f64) };
    let recent = |name: &str| rates?.of(name);
    let share = |of: &dyn Fn(&str) -> Option<f64>, part: &str, rest: &str| {
        let (part, rest) = (of(part)?, of(rest)?);
        (part + rest > 0.0).then(|| format!("{:.1} %", 100.0 * part / (part + rest)))
    };
    let ratio = |of: &dyn Fn(&str) -> Option<f64>, many: &str, few: &str| {
        let (many, few) = (of(many)?, of(few)?);
        (few > 0.0).then(|| format!("{:.1}", many / few))
    };
    let (name, ever, now) = match title {
        "Reading" => (
            "hits of gets",
            share(&total, "get_hits", "get_misses"),
            share(&recent, "get_hits", "get_misses"),
        ),
        "Requests" => (
            "requests a batch",
            ratio(&total, "requests", "batches"),
            ratio(&recent, "requests", "batches"),
        ),
        _ => return Vec::new(),
    };
    let line = ever.map(|ever| [name.to_owned(), ever, now.unwrap_or_default()]);
    line.into_iter().collect()
}

/// Sections below each other, their columns in one place.
fn laid_out(sections: &[(&str, Vec<Line>)], colours: bool) -> String {
    let lines = || sections.iter().flat_map(|(_, lines)| lines);
    // What is longer than most, such as an address, may stand out.
    let width = |column: usize, most: usize| {
        let widths = lines().map(|line| line[column].chars().count());
        widths.filter(|width| *width <= most).max().unwrap_or(0)
    };
    let (name_width, value_width, rate_width) = (width(0, 40), width(1, 16), width(2, 16));
    let mut text = String::new();
    for (title, lines) in sections {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &painted(HEADING, title, colours);
        text.push('\n');
        for [name, value, rate] in lines {
            let mut line = format!("  {name:name_width$}  {value:>value_width$}");
            if !rate.is_empty() {
                line += "  ";
                line += &painted(FAINT, &format!("{rate:>rate_width$}"), colours);
            }
            text += line.trim_end();
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn figures(figures: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        figures.iter().map(owned).collect()
    }

    #[test]
    fn a_figure_is_in_one_section() {
        let all = SECTIONS.iter().flat_map(|(_, figures)| *figures);
        let names: Vec<&str> = all.map(|(name, _)| *name).collect();
        let different: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(names.len(), different.len());
    }

    #[test]
    fn what_belongs_together_is_shown_together_and_nothing_is_lost() {
        let figures = figures(&[
            ("get_hits", "3"),
            ("version", "0.1.0"),
            ("get_misses", "1"),
            ("panics", "0"),
            ("rss_bytes", "1048576"),
            ("of_tomorrow", "7"),
            ("pinned_since_ms", "1795907238596"),
        ]);
        let expected = "\
Server
  version       0.1.0
  rss_bytes     1 MiB

Reading
  get_hits          3
  get_misses        1
  hits of gets 75.0 %

More
  of_tomorrow       7
";
        let words = |text: &str| -> Vec<Vec<String>> {
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
            text.lines().map(words).collect()
        };
        assert_eq!(
            words(&as_text(&figures, None, false, false)),
            words(expected)
        );
        let all = as_text(&figures, None, true, false);
        assert!(all.contains("panics"), "{all}");
        let coloured = as_text(&figures, None, false, true);
        assert!(
            coloured.starts_with("\u{1b}[1mServer\u{1b}[0m\n"),
            "{coloured:?}"
        );
    }

    #[test]
    fn counts_that_changed_have_their_rate() {
        let before = figures(&[("get_hits", "10"), ("get_misses", "0"), ("items", "1")]);
        let after = figures(&[("get_hits", "40"), ("get_misses", "10"), ("items", "5")]);
        let rates = Rates::between(&before, &after, Duration::from_secs(2));
        let text = as_text(&after, Some(&rates), false, false);
        let line = |name: &str| -> Vec<&str> {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(name));
            line.unwrap().split_whitespace().collect()
        };
        assert_eq!(line("get_hits"), ["get_hits", "40", "15.0/s"]);
        assert_eq!(line("hits of gets")[3..], ["80.0", "%", "75.0", "%"]);
        assert_eq!(line("items"), ["items", "5"]);
    }
}
