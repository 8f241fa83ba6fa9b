//! The miss-ratio curve as a picture: the share of the reads that missed, by number and by bytes,
//! over the memory.
//!
//! Text is left to whoever shows the picture, so drawing needs no fonts.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use plotters::chart::ChartContext;
use plotters::coord::combinators::{LogCoord, WithKeyPoints};
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::{
    BindKeyPoints, Cartesian2d, ChartBuilder, Circle, Color, DashedLineSeries, IntoDrawingArea,
    IntoLogRange, LineSeries, PathElement, SVGBackend, SeriesLabelPosition, WHITE,
};

use super::report::{Report, RunReport};
use crate::cli::ending::Failure;
use crate::cli::picture::{self, COLOURS, FONT, sample};

/// LIMIT: labels below the axis, so that they do not run into each other.
const LABELS_MAX: f64 = 10.0;

/// Pixels of a dash, and between two of them.
const DASH: u32 = 8;
const GAP: u32 = 6;

/// What is measured along a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Objects,
    Bytes,
}

/// One run on its way to the picture.
#[derive(Debug, Clone, Copy)]
struct Point {
    memory_bytes: u64,
    miss_ratio: f64,
    byte_miss_ratio: f64,
}

/// Ratios over memories on a logarithmic axis.
type Chart<'a, 'p> =
    ChartContext<'a, SVGBackend<'p>, Cartesian2d<WithKeyPoints<LogCoord<f64>>, RangedCoordf64>>;

/// Draws the curves of a sweep into an SVG file.
pub(super) fn draw(path: &Path, report: &Report) -> Result<(), Failure> {
    picture::write(path, picture(report))
}

fn picture(report: &Report) -> Result<String, Box<dyn Error>> {
    let curves = curves(&report.runs);
    let (smallest, largest, highest) = extent(&curves).ok_or("the trace has no reads")?;
    let mut picture = String::new();
    let area = SVGBackend::with_string(&mut picture, picture::SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let memories = (smallest * 0.93..largest * 1.07).log_scale();
    let labelled = labelled_memories(&curves, largest / smallest);
    let mut chart = ChartBuilder::on(&area)
        .caption(
            format!("Miss ratio over memory: {}", file_name(&report.trace)),
            (FONT, 20),
        )
        .margin(16)
        .x_label_area_size(56)
        .y_label_area_size(72)
        .build_cartesian_2d(memories.with_key_points(labelled), 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("memory")
        .y_desc("share of reads that missed")
        .x_label_formatter(&|bytes| short_size(*bytes))
        .y_label_formatter(&|ratio| format!("{ratio:.2}"))
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    draw_curves(&mut chart, &curves)?;
    picture::draw_legend(&mut chart, SeriesLabelPosition::UpperRight)?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(picture)
}

fn draw_curves(
    chart: &mut Chart<'_, '_>,
    curves: &BTreeMap<u32, Vec<Point>>,
) -> Result<(), Box<dyn Error>> {
    for ((threads, points), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        for measure in [Measure::Objects, Measure::Bytes] {
            let line = colour.stroke_width(2);
            let places: Vec<_> = points.iter().map(|point| measure.of(point)).collect();
            let label = measure.label(*threads, curves.len());
            let dots = places.clone().into_iter();
            match measure {
                Measure::Objects => chart
                    .draw_series(LineSeries::new(places, line))?
                    .label(label)
                    .legend(move |at| PathElement::new(sample(at), line)),
                Measure::Bytes => chart
                    .draw_series(DashedLineSeries::new(places, DASH, GAP, line))?
                    .label(label)
                    .legend(move |at| DashedPathElement::new(sample(at), DASH, GAP, line)),
            };
            chart.draw_series(dots.map(|place| Circle::new(place, 3, colour.filled())))?;
        }
    }
    Ok(())
}

fn file_name(trace: &str) -> &str {
    trace.rsplit('/').next().unwrap_or(trace)
}

/// The points of each number of threads, by memory; runs without reads have none.
fn curves(runs: &[RunReport]) -> BTreeMap<u32, Vec<Point>> {
    let mut curves: BTreeMap<u32, Vec<Point>> = BTreeMap::new();
    for run in runs {
        if let (Some(memory_bytes), Some(miss_ratio), Some(byte_miss_ratio)) =
            (run.memory_bytes, run.miss_ratio, run.byte_miss_ratio)
        {
            let curve = curves.entry(run.threads.unwrap_or(1)).or_default();
            curve.push(Point {
                memory_bytes,
                miss_ratio,
                byte_miss_ratio,
            });
        }
    }
    for curve in curves.values_mut() {
        curve.sort_by_key(|point| point.memory_bytes);
    }
    curves
}

/// The smallest and the largest memory, and the highest ratio.
fn extent(curves: &BTreeMap<u32, Vec<Point>>) -> Option<(f64, f64, f64)> {
    let points = || curves.values().flatten();
    let smallest = points().map(|point| point.memory_bytes).min()? as f64;
    let largest = points().map(|point| point.memory_bytes).max()? as f64;
    let ratios = points().flat_map(|point| [point.miss_ratio, point.byte_miss_ratio]);
    // A trace whose every read hits still has an axis.
    Some((smallest, largest, ratios.fold(0.01, f64::max)))
}

/// The memories of the sweep that get a label: all, unless they are too close together.
fn labelled_memories(curves: &BTreeMap<u32, Vec<Point>>, range: f64) -> Vec<f64> {
    let apart = range.powf(1.0 / LABELS_MAX);
    let mut labelled: Vec<f64> = Vec::new();
    for point in curves.values().next().into_iter().flatten() {
        let memory_bytes = point.memory_bytes as f64;
        if labelled
            .last()
            .is_none_or(|last| memory_bytes >= last * apart)
        {
            labelled.push(memory_bytes);
        }
    }
    labelled
}

impl Measure {
    fn of(self, point: &Point) -> (f64, f64) {
        let ratio = match self {
            Self::Objects => point.miss_ratio,
            Self::Bytes => point.byte_miss_ratio,
        };
        (point.memory_bytes as f64, ratio)
    }

    fn label(self, threads: u32, curves: usize) -> String {
        let of = match self {
            Self::Objects => "of the reads",
            Self::Bytes => "of the bytes read",
        };
        match (curves, threads) {
            (1, _) => of.to_owned(),
            (_, 1) => format!("{of}, 1 session"),
            (_, threads) => format!("{of}, {threads} sessions"),
        }
    }
}

/// A size to three digits, for a label.
fn short_size(bytes: f64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = units
        .into_iter()
        .find(|&(_, unit)| bytes >= f64::from(unit));
    let (name, unit) = fitting.unwrap_or(("B", 1));
    let number = bytes / f64::from(unit);
    match number {
        whole if (whole - whole.round()).abs() < 0.005 => format!("{whole:.0} {name}"),
        small if small < 10.0 => format!("{small:.2} {name}"),
        middle if middle < 100.0 => format!("{middle:.1} {name}"),
        large => format!("{large:.0} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::short_size;

    #[test]
    fn a_label_has_three_digits_at_most() {
        let sizes = [2_922_722, 4 << 20, 7_306_805, 150 << 20, 1 << 30, 3 << 29];
        assert_eq!(
            sizes.map(|bytes| short_size(f64::from(bytes))),
            [
                "2.79 MiB", "4 MiB", "6.97 MiB", "150 MiB", "1 GiB", "1.50 GiB"
            ]
        );
    }
}
