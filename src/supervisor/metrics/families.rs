//! The families of a page, each under its name once, whoever adds to it.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::names::Measure;
use crate::blackbox::Histogram;

/// LIMIT: buckets of durations are powers of two from a microsecond to 17 seconds: finer ones would
/// make the page of a server of many workers too long to fetch every few seconds.
const EXPONENTS: std::ops::RangeInclusive<u32> = 10..=34;

/// A figure as it is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Figure {
    Whole(u64),
    Real(f64),
}

/// Labels of a sample, in the order of the family.
type Labels = Vec<(String, String)>;

#[derive(Debug)]
enum Sample {
    Figure(Figure),
    Durations(Histogram),
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: MetricType,
    samples: Vec<(Labels, Sample)>,
}

/// The families, by name.
#[derive(Debug, Default)]
pub(super) struct Families(BTreeMap<String, Family>);

impl Families {
    pub(super) fn gauge(&mut self, name: &str, help: &str, figure: Figure) {
        self.labelled_gauge(name, help, &[], figure);
    }

    pub(super) fn labelled_gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        figure: Figure,
    ) {
        let sample = Sample::Figure(figure);
        self.add(name, help, MetricType::Gauge, labels, sample);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.labelled_counter(name, help, &[], count);
    }

    pub(super) fn labelled_counter(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        count: u64,
    ) {
        let sample = Sample::Figure(Figure::Whole(count));
        self.add(name, help, MetricType::Counter, labels, sample);
    }

    /// A figure of STATS, of the whole server or of what the labels say.
    pub(super) fn measure(&mut self, measure: &Measure, labels: &[(&str, &str)]) {
        let kind = match measure.is_count {
            true => MetricType::Counter,
            false => MetricType::Gauge,
        };
        let help = format!("The figure {} of `larder stats`", measure.source);
        let sample = Sample::Figure(measure.figure);
        self.add(&measure.name, &help, kind, labels, sample);
    }

    /// How many took how long.
    pub(super) fn durations(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        durations: Histogram,
    ) {
        let sample = Sample::Durations(durations);
        self.add(name, help, MetricType::Histogram, labels, sample);
    }

    fn add(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        labels: &[(&str, &str)],
        sample: Sample,
    ) {
        let family = self.0.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            samples: Vec::new(),
        });
        let labels = labels.iter();
        let labels = labels.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        family.samples.push((labels.collect(), sample));
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, family) in &self.0 {
            let mut of_family = encoder.encode_descriptor(name, &family.help, None, family.kind)?;
            for (labels, sample) in &family.samples {
                match labels.is_empty() {
                    true => sample.encode(&mut of_family, family.kind)?,
                    false => {
                        let mut of_labels = of_family.encode_family(labels)?;
                        sample.encode(&mut of_labels, family.kind)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Sample {
    fn encode(&self, encoder: &mut MetricEncoder<'_>, kind: MetricType) -> fmt::Result {
        let is_count = kind == MetricType::Counter;
        match self {
            Self::Figure(Figure::Whole(count)) if is_count => {
                encoder.encode_counter::<NoLabelSet, _, f64>(count, None)
            }
            Self::Figure(Figure::Real(count)) if is_count => {
                encoder.encode_counter::<NoLabelSet, _, f64>(count, None)
            }
            Self::Figure(Figure::Whole(figure)) => encoder.encode_gauge(figure),
            Self::Figure(Figure::Real(figure)) => encoder.encode_gauge(figure),
            Self::Durations(durations) => {
                let sum_s = durations.sum_ns() as f64 / 1e9;
                let buckets = in_powers_of_two(durations);
                encoder.encode_histogram::<NoLabelSet>(sum_s, durations.count(), &buckets, None)
            }
        }
    }
}

/// The upper bounds of the buckets in seconds, with how many lie in each and in none before.
fn in_powers_of_two(durations: &Histogram) -> Vec<(f64, u64)> {
    let mut finer = durations.buckets().peekable();
    let bounds = EXPONENTS.map(|exponent| 1_u64 << exponent);
    let mut buckets: Vec<(f64, u64)> = bounds
        .map(|bound_ns| {
            let mut count = 0;
            while let Some((_, more)) = finer.next_if(|(longest_ns, _)| *longest_ns <= bound_ns) {
                count += more;
            }
            (bound_ns as f64 / 1e9, count)
        })
        .collect();
    buckets.push((f64::INFINITY, finer.map(|(_, count)| count).sum()));
    buckets
}
