//! What all pictures have in common: their size, their colours, their legend, and the file they go to.
//!
//! Text is left to whoever shows the picture, so drawing needs no fonts.

use std::error::Error;
use std::path::Path;

use plotters::chart::ChartContext;
use plotters::coord::CoordTranslate;
use plotters::prelude::{Color, RGBColor, SVGBackend, SeriesLabelPosition, WHITE};

use super::ending::Failure;

/// Pixels.
pub(crate) const SIZE: (u32, u32) = (960, 600);

pub(crate) const FONT: &str = "sans-serif";

/// One for each curve.
pub(crate) const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 95, 14),
    RGBColor(44, 130, 60),
    RGBColor(148, 60, 160),
    RGBColor(120, 85, 70),
    RGBColor(90, 90, 90),
];

/// Whether a picture can go there: better known before the work than after it.
pub(crate) fn check_place(path: &Path) -> Result<(), Failure> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => Err(Failure::usage(format!(
            "--plot {}: there is no folder {}",
            path.display(),
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// Writes a picture that was drawn, or says why there is none.
pub(crate) fn write(path: &Path, picture: Result<String, Box<dyn Error>>) -> Result<(), Failure> {
    let written = picture.and_then(|picture| Ok(std::fs::write(path, picture)?));
    written.map_err(|why| Failure::usage(format!("cannot draw {}: {why}", path.display())))
}

/// Draws which curve is which.
pub(crate) fn draw_legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    position: SeriesLabelPosition,
) -> Result<(), Box<dyn Error>> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(COLOURS[5])
        .label_font((FONT, 16))
        .margin(14)
        .legend_area_size(40)
        .draw()?;
    Ok(())
}

/// Where a piece of a line goes in the legend.
pub(crate) fn sample((x, y): (i32, i32)) -> [(i32, i32); 2] {
    [(x, y), (x + 36, y)]
}
