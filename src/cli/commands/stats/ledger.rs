//! `larder stats memory`: where the budget is, a line each, with their sum and the process beside it.

use crate::cli::units;

/// The figure that the lines of the ledger sum to, and that follows them.
const BUDGET: &str = "memory_bytes";

/// What the figures after the ledger are to the reader.
const BESIDE: &[(&str, &str)] = &[
    (BUDGET, "the budget"),
    ("rss_bytes", "measured: the whole process in memory"),
    ("rss_bytes_max", "its bound: budget, buffers, and the rest"),
    (
        "system_bytes",
        "what the machine and the control group have for it",
    ),
];

/// The group `memory` as a table; `None` where the figures are no ledger.
pub(crate) fn as_table(figures: &[(String, String)]) -> Option<String> {
    let figures: Vec<(&str, u64)> = figures
        .iter()
        .map(|(name, value)| Some((name.as_str(), value.parse().ok()?)))
        .collect::<Option<_>>()?;
    let end = figures.iter().position(|(name, _)| *name == BUDGET)?;
    let (lines, beside) = figures.split_at(end);
    let sum: u64 = lines.iter().map(|(_, bytes)| bytes).sum();
    let budget = beside.first()?.1;
    let mut table = String::new();
    for (name, bytes) in lines.iter().copied().chain([("sum", sum)]) {
        let share = 100.0 * bytes as f64 / budget.max(1) as f64;
        table += &line(name, bytes, &format!("{share:5.1} %"));
    }
    table += "\n";
    for &(name, bytes) in beside {
        let note = BESIDE.iter().find(|(of, _)| *of == name);
        table += &line(name, bytes, note.map_or("", |(_, note)| note));
    }
    Some(table)
}

fn line(name: &str, bytes: u64, note: &str) -> String {
    let line = format!(
        "{name:13}  {bytes:>15}  {:>10}  {note}",
        units::size_about(bytes)
    );
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::as_table;

    fn figures(figures: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        figures.iter().map(owned).collect()
    }

    #[test]
    fn the_sum_stands_below_the_lines_and_the_process_beside_it() {
        let table = as_table(&figures(&[
            ("index", "524288"),
            ("free", "1572864"),
            ("memory_bytes", "2097152"),
            ("rss_bytes", "7725056"),
        ]));
        let expected = "\
index                   524288     512 KiB   25.0 %
free                   1572864     1.5 MiB   75.0 %
sum                    2097152       2 MiB  100.0 %

memory_bytes           2097152       2 MiB  the budget
rss_bytes              7725056    7.37 MiB  measured: the whole process in memory
";
        assert_eq!(table.as_deref(), Some(expected));
    }

    #[test]
    fn figures_that_are_no_ledger_are_left_to_others() {
        assert_eq!(as_table(&figures(&[("items", "17")])), None);
        assert_eq!(as_table(&figures(&[("version", "0.1.0")])), None);
    }
}
