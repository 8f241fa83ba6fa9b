//! Tables as people read them.

/// Names on the left, columns as wide as they must be.
pub(crate) fn aligned(lines: &[(&str, Vec<String>)]) -> String {
    let name_width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let columns = lines.first().map_or(0, |(_, cells)| cells.len());
    let width = |column: usize| lines.iter().map(|(_, cells)| cells[column].len()).max();
    let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
    let mut table = String::new();
    for (name, cells) in lines {
        table += &format!("{name:name_width$}");
        for (cell, width) in cells.iter().zip(&widths) {
            table += &format!("  {cell:>width$}");
        }
        table += "\n";
    }
    table
}
