//! `larder stats workers` and `larder stats items` as tables.

use std::collections::HashMap;

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
        "{about}{items} items, from {seen} in {sampled} of {buckets} buckets\n\nread of late\n"
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

fn bar(name: &str, count: u64, items: u64) -> String {
    let share = count as f64 / items.max(1) as f64;
    let bar = "#".repeat((share * BAR as f64).round() as usize);
    let line = format!("{name:>11}  {count:>12}  {:5.1} %  {bar}", 100.0 * share);
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::{of_items, of_workers};

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
