//! From a name of STATS to a name as Prometheus' users expect it: in seconds and bytes, the unit last.

use std::borrow::Cow;

use super::families::Figure;

/// A figure with its name and its unit.
#[derive(Debug, PartialEq)]
pub(super) struct Measure {
    /// Without what all names begin with, and without the `_total` of counters.
    pub(super) name: String,
    /// The name in STATS.
    pub(super) source: String,
    pub(super) figure: Figure,
    /// Whether it only grows.
    pub(super) is_count: bool,
}

/// Names whose unit would stand in the middle.
const OTHERWISE: &[(&str, &str)] = &[
    ("bytes_in", "received_bytes"),
    ("bytes_out", "sent_bytes"),
    ("small_since_ms", "small_since_timestamp_ms"),
    ("main_since_ms", "main_since_timestamp_ms"),
    ("pinned_since_ms", "pinned_since_timestamp_ms"),
];

/// Endings of names with the part of a second that they stand for.
const TIMES: &[(&str, f64)] = &[("_ns", 1e9), ("_us", 1e6), ("_ms", 1e3), ("_s", 1.0)];

/// The measure of a figure of STATS.
pub(super) fn of_stats(source: &str, figure: u64, is_count: bool) -> Measure {
    let otherwise = OTHERWISE.iter().find(|(name, _)| *name == source);
    let name = match (otherwise, source.strip_suffix("_bytes_max")) {
        (Some((_, name)), _) => Cow::Borrowed(*name),
        (None, Some(what)) => Cow::Owned(format!("{what}_max_bytes")),
        (None, None) => Cow::Borrowed(source),
    };
    let in_time = TIMES.iter().find_map(|(ending, parts)| {
        let what = name.strip_suffix(ending)?;
        let figure = Figure::Real(figure as f64 / parts);
        Some((format!("{what}_seconds"), figure))
    });
    let (name, figure) = in_time.unwrap_or((name.into_owned(), Figure::Whole(figure)));
    let source = source.to_owned();
    Measure {
        name,
        source,
        figure,
        is_count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_seconds_and_bytes_and_stand_last() {
        for (source, name, figure) in [
            ("cpu_us", "cpu_seconds", Figure::Real(0.0015)),
            ("uptime_ms", "uptime_seconds", Figure::Real(1.5)),
            ("small_age_s", "small_age_seconds", Figure::Real(1500.0)),
            ("limbo_bytes", "limbo_bytes", Figure::Whole(1500)),
            ("buffer_bytes_max", "buffer_max_bytes", Figure::Whole(1500)),
            ("bytes_in", "received_bytes", Figure::Whole(1500)),
            ("get_hits", "get_hits", Figure::Whole(1500)),
            (
                "main_since_ms",
                "main_since_timestamp_seconds",
                Figure::Real(1.5),
            ),
        ] {
            let measure = of_stats(source, 1500, false);
            assert_eq!((&measure.name[..], measure.figure), (name, figure));
        }
    }
}
