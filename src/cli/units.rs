//! Sizes and durations as people type them: `64KiB`, `10MB`, `500ms`, `1m`.

use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;
use std::time::Duration;

/// Unit suffixes of sizes with their bytes; the first entry is what a bare number means.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The units that sizes are shown in, the largest first.
const SHOWN: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Unit suffixes of durations with their milliseconds.
const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Unit suffixes of durations that may be short with their microseconds.
const SHORT_DURATIONS: &[(&str, u64)] = &[("us", 1), ("ms", 1_000), ("s", 1_000_000)];

/// Why a size or a duration was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not {what}; accepted: {accepted}")]
pub struct UnitError {
    input: String,
    what: &'static str,
    accepted: &'static str,
}

/// Bytes from `2922722B`, `64KiB`, `10MB`, `1GiB`; a bare number counts bytes.
pub fn size(input: &str) -> Result<u64, UnitError> {
    parse(input, SIZES, Some("B")).ok_or_else(|| UnitError {
        input: input.to_owned(),
        what: "a size",
        accepted: "a whole number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 64MiB",
    })
}

/// A duration from `500ms`, `5s`, `1m`, `2h`, `1d`.
pub fn duration(input: &str) -> Result<Duration, UnitError> {
    parse(input, DURATIONS, None)
        .map(Duration::from_millis)
        .ok_or_else(|| UnitError {
            input: input.to_owned(),
            what: "a duration",
            accepted: "a whole number with ms, s, m, h or d, such as 500ms",
        })
}

/// A duration that may be short, from `50us`, `5ms`, `1s`.
pub fn short_duration(input: &str) -> Result<Duration, UnitError> {
    parse(input, SHORT_DURATIONS, None)
        .map(Duration::from_micros)
        .ok_or_else(|| UnitError {
            input: input.to_owned(),
            what: "a short duration",
            accepted: "a whole number with us, ms or s, such as 100us",
        })
}

/// A whole number.
pub fn number<N: FromStr<Err = ParseIntError>>(input: &str) -> Result<N, UnitError> {
    input.parse().map_err(|error: ParseIntError| {
        let (what, accepted) = match error.kind() {
            IntErrorKind::PosOverflow => ("a number that can be kept here", "a smaller one"),
            IntErrorKind::NegOverflow => ("a number that can be kept here", "a larger one"),
            _ => ("a whole number", "digits alone, such as 10"),
        };
        let input = input.to_owned();
        UnitError {
            input,
            what,
            accepted,
        }
    })
}

/// The largest unit that states `bytes` exactly: `256 MiB`, `1000 B`.
pub fn size_text(bytes: u64) -> String {
    let exact = |&&(_, unit): &&(_, u64)| bytes >= unit && bytes.is_multiple_of(unit);
    let (name, unit) = SHOWN.iter().find(exact).unwrap_or(&("B", 1));
    format!("{} {name}", bytes / unit)
}

/// About so many bytes, in the unit that people would take: `7.37 MiB`, `512 KiB`.
pub fn size_about(bytes: u64) -> String {
    let (name, unit) = SHOWN
        .iter()
        .find(|(_, unit)| bytes >= *unit)
        .unwrap_or(&("B", 1));
    let hundredths = (bytes as f64 / *unit as f64 * 100.0).round() / 100.0;
    format!("{hundredths} {name}")
}

/// About so long, in the two units that people would take: `3d 4h`, `9m 59s`, `1.5s`, `20ms`.
pub fn duration_about(ms: u64) -> String {
    let (s, m, h, d) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    let two = |large: u64, unit: &str, rest: u64, smaller: &str| match rest {
        0 => format!("{large}{unit}"),
        rest => format!("{large}{unit} {rest}{smaller}"),
    };
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{}s", (ms / 100) as f64 / 10.0),
        10_000..60_000 => format!("{s}s"),
        60_000..3_600_000 => two(m, "m", s % 60, "s"),
        3_600_000..86_400_000 => two(h, "h", m % 60, "m"),
        _ => two(d, "d", h % 24, "h"),
    }
}

/// So many of something: `1 item`, `2 items`.
pub fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn parse(input: &str, units: &[(&str, u64)], bare: Option<&str>) -> Option<u64> {
    let digits = input.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = input.split_at(digits);
    let suffix = match (suffix.trim_start(), bare) {
        ("", Some(bare)) => bare,
        (suffix, _) => suffix,
    };
    let (_, unit) = units.iter().find(|(name, _)| *name == suffix)?;
    number.parse::<u64>().ok()?.checked_mul(*unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_or_binary_as_their_suffix_says() {
        for (text, bytes) in [
            ("2922722B", 2_922_722),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("1GiB", 1 << 30),
            ("10KB", 10_000),
            ("3GB", 3_000_000_000),
            ("4TB", 4_000_000_000_000),
            ("2MiB", 2 << 20),
            ("4TiB", 4 << 40),
            ("0", 0),
            ("18446744073709551615B", u64::MAX),
            ("4096", 4096),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_what_is_accepted() {
        for text in [
            "",
            "GiB",
            "-1B",
            "1.5GiB",
            "1gib",
            "1 G",
            "+1B",
            " 1B",
            "1B ",
            "0x10B",
            "18446744073709551616B",
            "99999999999TiB",
            "12 apples",
        ] {
            let error = size(text).unwrap_err().to_string();
            assert!(
                error.contains("accepted: a whole number with B, KB"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn durations_need_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        let error = duration("5").unwrap_err().to_string();
        assert!(
            error.contains("`5` is not a duration; accepted:"),
            "{error}"
        );
        assert_eq!(short_duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(short_duration("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["5", "1m", "99999999999999999999us"] {
            let error = short_duration(wrong).unwrap_err().to_string();
            assert!(
                error.contains("accepted: a whole number with us"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_refused_with_what_is_accepted() {
        assert_eq!(number::<u32>("17"), Ok(17));
        assert_eq!(number::<i128>("-17"), Ok(-17));
        for (text, expected) in [
            (
                "many",
                "`many` is not a whole number; accepted: digits alone, such as 10",
            ),
            ("-1", "`-1` is not a whole number"),
            ("", "`` is not a whole number"),
            (
                "4294967296",
                "is not a number that can be kept here; accepted: a smaller one",
            ),
        ] {
            let error = number::<u32>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_the_largest_exact_unit() {
        assert_eq!(size_text(256 << 20), "256 MiB");
        assert_eq!(size_text(1 << 30), "1 GiB");
        assert_eq!(size_text(2_922_722), "2922722 B");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "item"), "1 item");
        assert_eq!(counted(0, "item"), "0 items");
        assert_eq!(counted(12, "connection"), "12 connections");
    }

    #[test]
    fn a_duration_is_shown_about_in_two_units() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_550, "1.5s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (599_000, "9m 59s"),
            (3_600_000, "1h"),
            (5_400_000, "1h 30m"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(duration_about(ms), text);
        }
    }

    #[test]
    fn a_size_is_shown_about_in_the_unit_that_people_take() {
        assert_eq!(size_about(0), "0 B");
        assert_eq!(size_about(1023), "1023 B");
        assert_eq!(size_about(2_922_722), "2.79 MiB");
        assert_eq!(size_about(256 << 20), "256 MiB");
        assert_eq!(size_about(5 << 39), "2.5 TiB");
    }
}
