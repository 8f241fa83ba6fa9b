//! Latencies by percentile as a picture: how long it took, for all but the slowest tenth, hundredth and
//! so on, a curve for each server.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use plotters::prelude::{
    BindKeyPoints, ChartBuilder, Color, IntoDrawingArea, IntoLogRange, LineSeries, PathElement,
    SVGBackend, SeriesLabelPosition, WHITE,
};

use super::latencies::Latencies;
use super::tally::Tally;
use super::text::short_time;
use crate::cli::ending::Failure;
use crate::cli::picture::{self, COLOURS, FONT, sample};

/// LIMIT: a curve ends at 99.9999 %; no run is long enough to say more.
const DECADES_MAX: u32 = 6;

/// Points of a curve for each further nine.
const POINTS_PER_DECADE: u32 = 40;

/// The latencies of one server.
#[derive(Debug)]
pub(super) struct Curve {
    label: String,
    latencies: Latencies,
}

impl Curve {
    pub(super) fn new(label: String, tally: &Tally) -> Self {
        Self {
            label,
            latencies: tally.latencies(),
        }
    }

    /// How many nines there are operations enough for.
    fn decades(&self) -> u32 {
        let decades = self.latencies.len().checked_ilog10().unwrap_or(0);
        decades.clamp(1, DECADES_MAX)
    }

    /// One over the share that was slower, and the latency in nanoseconds, which is never 0.
    fn points(&self) -> Vec<(f64, f64)> {
        let steps = 0..=self.decades() * POINTS_PER_DECADE;
        steps
            .map(|step| {
                let rarity = 10f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE));
                let latency = self.latencies.at(1.0 - 1.0 / rarity);
                (rarity, latency.as_nanos().max(1) as f64)
            })
            .collect()
    }
}

/// Draws the curves into an SVG file.
pub(super) fn draw(path: &Path, curves: &[Curve]) -> Result<(), Failure> {
    picture::write(path, drawn(curves))
}

fn drawn(curves: &[Curve]) -> Result<String, Box<dyn Error>> {
    let answered = curves.iter().filter(|curve| !curve.latencies.is_empty());
    let lines: Vec<_> = answered
        .map(|curve| (&curve.label, curve.points()))
        .collect();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let rarest = points().map(|point| point.0).fold(10.0, f64::max);
    let latencies = || points().map(|point| point.1);
    let (fastest, slowest) = (
        latencies().fold(f64::MAX, f64::min),
        latencies().fold(0.0, f64::max),
    );
    if lines.is_empty() {
        return Err("nothing was answered".into());
    }
    let mut picture = String::new();
    let area = SVGBackend::with_string(&mut picture, picture::SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let decades = rarest.log10().round() as i32;
    let nines: Vec<f64> = (0..=decades).map(|nines| 10f64.powi(nines)).collect();
    let rarities = (1.0..rarest * 1.05).log_scale().with_key_points(nines);
    let mut chart = ChartBuilder::on(&area)
        .caption("Latency by percentile", (FONT, 20))
        .margin(16)
        .margin_right(48)
        .x_label_area_size(56)
        .y_label_area_size(84)
        .build_cartesian_2d(rarities, (fastest * 0.9..slowest * 1.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("share of the operations that were as fast, or faster")
        .y_desc("latency")
        .x_label_formatter(&|rarity| percentile(*rarity))
        .y_label_formatter(&|time_ns| short_time(Duration::from_nanos(*time_ns as u64)))
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for ((label, points), colour) in lines.into_iter().zip(COLOURS.iter().cycle()) {
        let line = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, line))?
            .label(label)
            .legend(move |at| PathElement::new(sample(at), line));
    }
    picture::draw_legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(picture)
}

/// The percentile beyond which one operation in so many lies: 0 %, 90 %, 99 %, 99.9 %.
fn percentile(rarity: f64) -> String {
    let digits = (rarity.log10().round() as usize).saturating_sub(2);
    format!("{:.digits$} %", 100.0 - 100.0 / rarity)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Curve, drawn, percentile};
    use crate::cli::bench::source::Operation;
    use crate::cli::bench::tally::Tally;
    use crate::cli::bench::wire::Reply;

    fn curve(label: &str, latencies_us: impl Iterator<Item = u64>) -> Curve {
        let started = Instant::now();
        let mut tally = Tally::new(started);
        for latency_us in latencies_us {
            let latency = Duration::from_micros(latency_us);
            tally.count(Operation::Get(0), Reply::Miss, latency, started);
        }
        Curve::new(label.to_owned(), &tally)
    }

    #[test]
    fn labels_name_the_percentile() {
        let labels = [1.0, 10.0, 100.0, 1e3, 1e4, 1e6].map(percentile);
        assert_eq!(
            labels,
            ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.9999 %"]
        );
    }

    #[test]
    fn a_curve_goes_as_far_as_there_are_operations() {
        let points = curve("a", 1..=1000).points();
        assert_eq!(points.len(), 121, "three nines");
        let (rarity, latency_ns) = points[80];
        assert!((rarity - 100.0).abs() < 0.01);
        assert!((latency_ns / 990_000.0 - 1.0).abs() < 0.005, "{latency_ns}");
    }

    #[test]
    fn a_picture_names_its_servers_and_needs_an_answer() {
        let curves = [
            curve("one", 1..=1000),
            curve("two", 5..=50),
            curve("silent", 0..0),
        ];
        let picture = drawn(&curves).unwrap();
        for text in ["one", "two", "99.9 %", "Latency by percentile"] {
            assert!(picture.contains(text), "{text}");
        }
        assert!(!picture.contains("silent"));
        assert!(drawn(&curves[2..]).is_err());
    }
}
