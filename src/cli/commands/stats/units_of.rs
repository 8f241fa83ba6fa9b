//! The unit of a figure, which its name says: `_bytes`, `_ms`, `_us`, `_s`; anything else is a number.

use crate::cli::units;

/// What a figure counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    /// So many nanoseconds each.
    Time(u64),
    Number,
}

/// The unit of the figure of this name.
pub(super) fn of(name: &str) -> Unit {
    let name = name.strip_suffix("_max").unwrap_or(name);
    let mut words = name.split('_');
    match (words.next(), name.rsplit('_').next()) {
        (Some("bytes"), _) | (_, Some("bytes")) => Unit::Bytes,
        (_, Some("us")) => Unit::Time(1_000),
        (_, Some("ms")) => Unit::Time(1_000_000),
        (_, Some("s")) => Unit::Time(1_000_000_000),
        _ => Unit::Number,
    }
}

/// A value in its unit, as people read it.
pub(super) fn shown(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => units::size_about(value),
        Unit::Time(ns) => {
            units::duration_about((u128::from(value) * u128::from(ns) / 1_000_000) as u64)
        }
        Unit::Number => grouped(value),
    }
}

/// A change for each second, as people read it. Of a time it is a share: of a core, say.
pub(super) fn rate_shown(per_second: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => format!("{}/s", units::size_about(per_second.round() as u64)),
        Unit::Time(ns) => format!("{:.1} %", per_second * ns as f64 / 1e7),
        Unit::Number if per_second < 100.0 => format!("{:.1}/s", per_second),
        Unit::Number => format!("{}/s", grouped(per_second.round() as u64)),
    }
}

/// A number with its thousands apart: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_the_unit() {
        for (name, value, expected) in [
            ("rss_bytes", 13_324_288, "12.71 MiB"),
            ("buffer_bytes_max", 32 << 20, "32 MiB"),
            ("bytes_in", 60, "60 B"),
            ("uptime_ms", 90_000, "1m 30s"),
            ("cpu_us", 6_298, "6ms"),
            ("main_age_s", 7_200, "2h"),
            ("items", 1_234_567, "1,234,567"),
            ("get_hits", 17, "17"),
            ("connections_max", 1_000, "1,000"),
        ] {
            assert_eq!(shown(value, of(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_rate_is_for_each_second() {
        for (name, per_second, expected) in [
            ("bytes_in", 2048.0, "2 KiB/s"),
            ("get_hits", 0.5, "0.5/s"),
            ("get_hits", 12_345.6, "12,346/s"),
            // A core that is busy half of the time.
            ("cpu_us", 500_000.0, "50.0 %"),
        ] {
            assert_eq!(rate_shown(per_second, of(name)), expected, "{name}");
        }
    }
}
