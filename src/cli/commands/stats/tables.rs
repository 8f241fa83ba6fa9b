//! `larder stats workers`, `larder stats items` and `larder stats connections` as tables.

use std::collections::HashMap;

use super::units_of::{self, Unit};
use crate::cli::align::aligned;
use crate::cli::units;

/// LIMIT: characters of the longest bar.
const BAR: usize = 40;

/// The group `workers`: a line for each figure, a column for each worker, and their sum (of times,
/// the longest); `None` where the figures are no such group.
pub(crate) fn of_workers(figures: &[(String, String)]) -> Option<String> {
    let (mut workers, mut names) = (Vec::new(), Vec::new());
    let mut values: HashMap<(&str, &str), u64> = HashMap::new();
    for (figure, value) in figures {
        let (worker, name) = figure.split_once('.')?;
        if workers.last() != Some(&worker) {
            workers.push(worker);
        }
        if values.insert((worker, name), value.parse().ok()?).is_none() && !names.contains(&name) {
            names.push(name);
        }
    }
    let row = |name: &str| -> Vec<u64> {
        let value = |worker: &&str| values.get(&(*worker, name)).copied().unwrap_or(0);
        let row: Vec<u64> = workers.iter().map(value).collect();
        let sum = match name.ends_with("_ns") {
            true => row.iter().copied().max().unwrap_or(0),
            false => row
                .iter()
                .fold(0, |sum: u64, value| sum.wrapping_add(*value)),
        };
        row.into_iter().chain([sum]).collect()
    };
    let mut lines = vec![(
        "",
        workers.iter().map(ToString::to_string).collect::<Vec<_>>(),
    )];
    lines[0].1.push("sum".to_owned());
    lines.extend(names.iter().map(|&name| {
        let row = row(name).into_iter();
        (name, row.map(|value| value.to_string()).collect())
    }));
    Some(aligned(&lines))
}

/// The group `items`: the two histograms with bars, and what they were estimated from; `None` where
/// the figures are no such group.
pub(crate) fn of_items(figures: &[(String, String)]) -> Option<String> {
    let figures: Vec<(&str, u64)> = figures
        .iter()
        .map(|(name, value)| Some((name.as_str(), value.parse().ok()?)))
        .collect::<Option<_>>()?;
    let figure = |wanted: &str| {
        let named = figures.iter().find(|(name, _)| *name == wanted);
        named.map(|(_, value)| *value)
    };
    let items = figure("items")?;
    let (buckets, sampled) = (figure("buckets")?, figure("sampled_buckets")?);
    let about = if sampled < buckets { "about " } else { "" };
    let seen = figure("sampled_items")?;
    let mut table = format!(
        "{about}{}, from {seen} in {sampled} of {buckets} buckets\n\nread of late\n",
        units::counted(items, "item")
    );
    for (name, count) in &figures {
        if let Some(reads) = name.strip_prefix("frequency_") {
            let reads = if reads == "3" { "3 or more" } else { reads };
            table += &bar(reads, *count, items);
        }
    }
    table += "\nvalue, up to\n";
    for (name, count) in &figures {
        if let Some(bytes) = name.strip_prefix("value_bytes_to_") {
            table += &bar(&units::size_about(bytes.parse().ok()?), *count, items);
        }
    }
    Some(table)
}

/// The group `connections`: a line for each; `None` where the figures are no such group.
pub(crate) fn of_connections(figures: &[(String, String)]) -> Option<String> {
    let (mut lines, mut left_out) = (Vec::<(&str, Vec<String>)>::new(), "");
    let mut names = Vec::new();
    for (figure, value) in figures {
        let Some((number, name)) =
            (figure.strip_prefix("connection_")).and_then(|of| of.split_once('.'))
        else {
            match figure.as_str() {
                "connections_left_out" => left_out = value,
                "addresses" | "memcached_addresses" => {}
                _ => return None,
            }
            continue;
        };
        if lines.last().is_none_or(|(last, _)| *last != number) {
            lines.push((number, Vec::new()));
        }
        if lines.len() == 1 {
            names.push(name.trim_end_matches("_ms").to_owned());
        }
        let value = match (units_of::of(name), value.parse()) {
            (unit @ Unit::Time(_), Ok(number)) => units_of::shown(number, unit),
            _ => value.clone(),
        };
        lines.last_mut()?.1.push(value);
    }
    let connections = lines.len();
    lines.insert(0, ("", names));
    let is_even = lines
        .iter()
        .all(|(_, cells)| cells.len() == lines[0].1.len());
    let rest = match left_out {
        "" => String::new(),
        left_out => format!("and {left_out} that said something longer ago\n"),
    };
    match connections {
        0 => Some("none\n".to_owned()),
        _ => is_even.then(|| aligned(&lines) + &rest),
    }
}

fn bar(name: &str, count: u64, items: u64) -> String {
    let share = count as f64 / items.max(1) as f64;
    let bar = "#".repeat((share * BAR as f64).round() as usize);
    let line = format!("{name:>11}  {count:>12}  {:5.1} %  {bar}", 100.0 * share);
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::{of_connections, of_items, of_workers};

    fn figures(figures: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        figures.iter().map(owned).collect()
    }

    #[test]
    fn each_worker_is_a_column_beside_the_sum() {
        let table = of_workers(&figures(&[
            ("worker_0.get_hits", "12"),
            ("worker_0.requests", "1000000000"),
            ("worker_0.get_p99_ns", "700"),
            ("worker_1.get_hits", "3"),
            ("worker_1.get_p99_ns", "900"),
        ]));
        let expected = "
              worker_0  worker_1         sum
get_hits            12         3          15
requests    1000000000         0  1000000000
get_p99_ns         700       900         900
";
        let lines = |text: &str| -> Vec<Vec<String>> {
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
            text.trim().lines().map(words).collect()
        };
        let table = table.unwrap();
        assert_eq!(lines(&table), lines(expected));
        let width = table.lines().next().unwrap().len();
        assert!(table.lines().all(|line| line.len() == width), "{table}");
        assert_eq!(of_workers(&figures(&[("items", "17")])), None);
    }

    #[test]
    fn each_connection_is_a_line() {
        let mut all = vec![
            ("addresses", "127.0.0.1:5273"),
            ("connection_2.peer", "127.0.0.1:9"),
            ("connection_2.worker", "0"),
            ("connection_2.idle_ms", "90000"),
            ("connection_17.peer", "unix"),
            ("connection_17.worker", "1"),
            ("connection_17.idle_ms", "0"),
        ];
        let expected = "
           peer  worker    idle
2   127.0.0.1:9       0  1m 30s
17         unix       1     0ms
";
        assert_eq!(of_connections(&figures(&all)).unwrap(), expected[1..]);
        all.push(("connections_left_out", "5"));
        let table = of_connections(&figures(&all)).unwrap();
        assert!(
            table.ends_with("and 5 that said something longer ago\n"),
            "{table}"
        );
        assert_eq!(of_connections(&figures(&all[..1])).unwrap(), "none\n");
        assert_eq!(of_connections(&figures(&[("items", "17")])), None);
    }

    #[test]
    fn items_are_two_histograms() {
        let table = of_items(&figures(&[
            ("items", "200"),
            ("sampled_items", "100"),
            ("sampled_buckets", "16"),
            ("buckets", "32"),
            ("frequency_0", "150"),
            ("frequency_3", "50"),
            ("value_bytes_to_1024", "200"),
        ]));
        let expected = "\
about 200 items, from 100 in 16 of 32 buckets

read of late
          0           150   75.0 %  ##############################
  3 or more            50   25.0 %  ##########

value, up to
      1 KiB           200  100.0 %  ########################################
";
        assert_eq!(table.as_deref(), Some(expected));
        assert_eq!(of_items(&figures(&[("version", "0.1.0")])), None);
    }
}
