//! Reports as people read them.

use std::fmt;
use std::time::Duration;

use super::report::{Latency, LoadFigures, Prepared, Report, SlowestFigures};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "larder bench: {}{}",
            self.server,
            if self.interrupted {
                " (ended early)"
            } else {
                ""
            }
        )?;
        writeln!(f, "load           {}", self.load)?;
        if let Some(prepared) = &self.prepared {
            writeln!(f, "prepared       {prepared}")?;
        }
        let rate = grouped(self.operations_per_second as u64);
        let operations = grouped(self.operations);
        writeln!(
            f,
            "throughput     {rate} operations/s: {operations} in {:.2} s",
            self.seconds
        )?;
        if let Some(ratio) = self.hit_ratio {
            let (hits, misses) = (grouped(self.hits), grouped(self.misses));
            writeln!(
                f,
                "reads          {:.3} % hits: {hits} found, {misses} missing",
                ratio * 100.0
            )?;
        }
        if let Some(wrong) = self.wrong {
            writeln!(f, "verified       {} values wrong", grouped(wrong))?;
        }
        self.write_errors(f)?;
        match &self.latency {
            Some(latency) => writeln!(f, "latency        {latency}")?,
            None => writeln!(f, "latency        -")?,
        }
        if let (Some(gets), Some(sets)) = (&self.get_latency, &self.set_latency) {
            writeln!(f, "  of GET       {gets}")?;
            writeln!(f, "  of SET       {sets}")?;
        }
        if let Some(delay) = &self.delay {
            writeln!(f, "sent late      {delay}")?;
        }
        if let Some(SlowestFigures {
            operation,
            latency_us,
            at_seconds,
            key,
        }) = &self.slowest
        {
            let latency = microseconds(*latency_us);
            writeln!(
                f,
                "slowest        {latency}: a {operation} of key {key}, {at_seconds:.3} s after the start"
            )?;
        }
        self.write_cost(f)
    }
}

impl Report {
    fn write_errors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors: Vec<String> = self
            .refused
            .iter()
            .map(|(why, count)| format!("{} {why}", grouped(*count)))
            .collect();
        if self.unsent > 0 {
            errors.push(format!("{} due and not sent", grouped(self.unsent)));
        }
        if self.unanswered > 0 {
            errors.push(format!("{} not answered", grouped(self.unanswered)));
        }
        if self.lost_connections > 0 {
            let why = self.lost.join("; ");
            errors.push(format!(
                "{} connections lost ({why})",
                grouped(self.lost_connections)
            ));
        }
        let errors = if errors.is_empty() {
            "none".to_owned()
        } else {
            errors.join(", ")
        };
        writeln!(f, "errors         {errors}")
    }

    fn write_cost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.server_cost, &self.server_cost_missing) {
            (Some(cost), _) => {
                writeln!(
                    f,
                    "server CPU     {} ns per operation (user {}, system {}), {:.2} cores",
                    per_operation(cost.cpu_ns_per_operation),
                    per_operation(cost.user_ns_per_operation),
                    per_operation(cost.system_ns_per_operation),
                    cost.cpu_share,
                )?;
                let (after, before) = (mebibytes(cost.rss_bytes), mebibytes(cost.rss_bytes_before));
                writeln!(f, "server RSS     {after}, {before} before")?;
            }
            (None, why) => writeln!(
                f,
                "server CPU     not known: {}",
                why.as_deref().unwrap_or_default()
            )?,
        }
        let generator = per_operation(self.generator_cpu_ns_per_operation);
        writeln!(f, "generator CPU  {generator} ns per operation")
    }
}

impl fmt::Display for LoadFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            connections,
            depth,
            multi_get,
            rate,
            threads,
            key_bytes,
            value_sizes,
            expire_in_seconds,
            ..
        } = self;
        let threads_word = if *threads == 1 { "thread" } else { "threads" };
        write!(
            f,
            "{kind}, {connections} connections, depth {depth}, {threads} {threads_word}; "
        )?;
        if let Some(rate) = rate {
            write!(f, "{} operations/s asked for; ", grouped(*rate))?;
        }
        if *multi_get > 1 {
            write!(f, "{multi_get} keys for each get; ")?;
        }
        let keys = grouped(self.keys);
        write!(
            f,
            "{keys} keys of {key_bytes} bytes, values of {value_sizes} bytes"
        )?;
        if let Some(seconds) = expire_in_seconds {
            write!(f, " that expire after {seconds} s")?;
        }
        if let (Some(distribution), Some(ratio)) = (&self.distribution, &self.ratio) {
            write!(f, ", {distribution}, get:set {ratio}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stored,
            refused,
            seconds,
        } = *self;
        let rate = grouped((stored as f64 / seconds) as u64);
        write!(
            f,
            "{} keys written in {seconds:.2} s, {rate}/s",
            grouped(stored)
        )?;
        match refused {
            0 => Ok(()),
            refused => write!(f, ", {} refused", grouped(refused)),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p99_9),
            ("p99.99", self.p99_99),
            ("max", self.max),
        ];
        let parts =
            figures.map(|(name, latency_us)| format!("{name} {}", microseconds(latency_us)));
        f.write_str(&parts.join("   "))
    }
}

/// A figure that there is none of where nothing was answered.
fn per_operation(time_ns: Option<f64>) -> String {
    time_ns.map_or_else(|| "-".to_owned(), |time_ns| grouped(time_ns as u64))
}

/// A number with its thousands apart: 1,234,567.
pub(in crate::cli) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A short time in the unit that suits it.
pub(super) fn short_time(time: Duration) -> String {
    microseconds(time.as_secs_f64() * 1e6)
}

fn microseconds(time_us: f64) -> String {
    match time_us {
        under_ms if under_ms < 1e3 => format!("{under_ms:.1} us"),
        under_s if under_s < 1e6 => format!("{:.2} ms", under_s / 1e3),
        more => format!("{:.2} s", more / 1e6),
    }
}

/// Bytes in MiB.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{grouped, mebibytes, short_time};

    #[test]
    fn figures_are_readable() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        let times = [400, 1_500_000, 2_000_000_000].map(|ns| short_time(Duration::from_nanos(ns)));
        assert_eq!(times, ["0.4 us", "1.50 ms", "2.00 s"]);
        assert_eq!(mebibytes(3 << 19), "1.5 MiB");
    }
}
