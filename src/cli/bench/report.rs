//! What a load came to, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::generator::{End, Outcome, Work};
use super::latencies::Latencies;
use super::plan::Plan;
use super::process::Cost;
use super::progress::Interval;
use super::site::Site;
use super::source::Operation;
use super::tally::Tally;

/// The whole report. Its JSON form is a contract with those who read it by program: names are not
/// given another meaning.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) server: String,
    pub(super) load: LoadFigures,
    pub(super) prepared: Option<Prepared>,
    /// Whether the load was ended before its time.
    pub(super) interrupted: bool,
    pub(super) seconds: f64,
    /// Operations answered.
    pub(super) operations: u64,
    pub(super) operations_per_second: f64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Hits of all reads; nothing where there were no reads.
    pub(super) hit_ratio: Option<f64>,
    pub(super) stored: u64,
    /// Values that were not what their key determines; nothing where they were not compared.
    pub(super) wrong: Option<u64>,
    /// Operations that the server refused, by what it called them.
    pub(super) refused: BTreeMap<String, u64>,
    /// Operations that were due at the rate asked for, and not sent before the end.
    pub(super) unsent: u64,
    /// Operations that were sent and not answered.
    pub(super) unanswered: u64,
    pub(super) lost_connections: u64,
    pub(super) lost: Vec<String>,
    /// Nothing where nothing was answered; as with all that is told for each operation.
    pub(super) latency: Option<Latency>,
    pub(super) get_latency: Option<Latency>,
    pub(super) set_latency: Option<Latency>,
    /// At a given rate: how much later than meant requests were sent that had nothing to wait for.
    pub(super) delay: Option<Latency>,
    pub(super) slowest: Option<SlowestFigures>,
    pub(super) server_cost: Option<ServerCost>,
    /// Why there are no figures of the server's cost.
    pub(super) server_cost_missing: Option<String>,
    pub(super) generator_cpu_ns_per_operation: Option<f64>,
    /// Second by second.
    pub(super) intervals: Vec<Interval>,
}

#[derive(Debug, Serialize)]
pub(super) struct LoadFigures {
    pub(super) kind: &'static str,
    pub(super) connections: usize,
    pub(super) depth: usize,
    pub(super) multi_get: usize,
    /// Operations per second that were asked for.
    pub(super) rate: Option<u64>,
    pub(super) threads: usize,
    pub(super) keys: u64,
    pub(super) key_bytes: usize,
    /// Where all values have the same.
    pub(super) value_bytes: Option<usize>,
    pub(super) value_sizes: String,
    pub(super) expire_in_seconds: Option<f64>,
    pub(super) seed: u64,
    pub(super) distribution: Option<String>,
    pub(super) ratio: Option<String>,
    pub(super) requests: Option<u64>,
    pub(super) duration_seconds: Option<f64>,
}

/// What writing every key before the load came to.
#[derive(Debug, Serialize)]
pub(super) struct Prepared {
    pub(super) stored: u64,
    pub(super) refused: u64,
    pub(super) seconds: f64,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) p99_99: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct SlowestFigures {
    pub(super) operation: &'static str,
    pub(super) latency_us: f64,
    /// When its reply came, since the start of the load.
    pub(super) at_seconds: f64,
    pub(super) key: u64,
}

/// What the load cost the server's process.
#[derive(Debug, Serialize)]
pub(super) struct ServerCost {
    pub(super) cpu_ns_per_operation: Option<f64>,
    pub(super) user_ns_per_operation: Option<f64>,
    pub(super) system_ns_per_operation: Option<f64>,
    /// Of one core.
    pub(super) cpu_share: f64,
    pub(super) rss_bytes_before: u64,
    pub(super) rss_bytes: u64,
}

impl Report {
    pub(super) fn new(
        site: &Site,
        plan: &Plan,
        work: Work,
        prepared: Option<&Outcome>,
        outcome: &Outcome,
        interrupted: bool,
    ) -> Self {
        let Outcome { tally, elapsed, .. } = outcome;
        let reads = tally.hits + tally.misses;
        let verified = plan.values == super::connection::Values::Verify;
        Self {
            server: site.target.to_string(),
            load: LoadFigures::new(plan, work),
            prepared: prepared.map(|outcome| Prepared {
                stored: outcome.tally.stored,
                refused: outcome.tally.refusals(),
                seconds: outcome.elapsed.as_secs_f64(),
            }),
            interrupted,
            seconds: elapsed.as_secs_f64(),
            operations: tally.answered,
            operations_per_second: tally.answered as f64 / elapsed.as_secs_f64(),
            hits: tally.hits,
            misses: tally.misses,
            hit_ratio: (reads > 0).then(|| tally.hits as f64 / reads as f64),
            stored: tally.stored,
            wrong: verified.then_some(tally.wrong),
            refused: tally.refused.clone(),
            unsent: tally.unsent,
            unanswered: tally.unanswered(),
            lost_connections: tally.lost_connections,
            lost: tally.lost_sentences.clone(),
            latency: Latency::of(&tally.latencies()),
            get_latency: Latency::of(&tally.gets),
            set_latency: Latency::of(&tally.sets),
            delay: Latency::of(&tally.delays),
            slowest: slowest(tally),
            server_cost: outcome
                .server
                .as_ref()
                .ok()
                .map(|cost| ServerCost::new(cost, outcome)),
            server_cost_missing: outcome.server.as_ref().err().cloned(),
            generator_cpu_ns_per_operation: per_operation(outcome.generator_cpu, tally.answered),
            intervals: outcome.intervals.clone(),
        }
    }

    /// The report as one line of JSON.
    pub(super) fn to_json(&self) -> String {
        json(self)
    }
}

fn slowest(tally: &Tally) -> Option<SlowestFigures> {
    let slowest = tally.slowest?;
    let (operation, key) = match slowest.operation {
        Operation::Get(key) | Operation::GetNext(key) => ("GET", key),
        Operation::Set(key) => ("SET", key),
    };
    Some(SlowestFigures {
        operation,
        latency_us: slowest.latency.as_secs_f64() * 1e6,
        at_seconds: slowest.at.as_secs_f64(),
        key,
    })
}

impl LoadFigures {
    pub(super) fn new(plan: &Plan, work: Work) -> Self {
        let mut figures = Self {
            kind: match work {
                Work::Mixed { .. } => "mixed",
                Work::WriteAll => "load-only",
                Work::ReadAll => "verify-all",
            },
            connections: plan.connections,
            depth: plan.depth,
            multi_get: plan.keys_per_get,
            rate: plan.rate,
            threads: plan.threads,
            keys: plan.keyspace.keys,
            key_bytes: plan.keyspace.key_bytes,
            value_bytes: plan.keyspace.sizes.only(),
            value_sizes: plan.keyspace.sizes.to_string(),
            expire_in_seconds: plan.keyspace.expire_in.map(|time| time.as_secs_f64()),
            seed: plan.keyspace.seed,
            distribution: None,
            ratio: None,
            requests: None,
            duration_seconds: None,
        };
        if let Work::Mixed {
            distribution,
            ratio,
            end,
        } = work
        {
            figures.distribution = Some(distribution.to_string());
            figures.ratio = Some(ratio.to_string());
            match end {
                End::After(duration) => figures.duration_seconds = Some(duration.as_secs_f64()),
                End::Requests(requests) => figures.requests = Some(requests),
            }
        }
        figures
    }
}

impl Latency {
    /// Nothing where there are none.
    fn of(latencies: &Latencies) -> Option<Self> {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let at = |quantile| us(latencies.at(quantile));
        (!latencies.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(latencies.max()),
            mean: us(latencies.mean()),
        })
    }
}

impl ServerCost {
    fn new(cost: &Cost, outcome: &Outcome) -> Self {
        let operations = outcome.tally.answered;
        Self {
            cpu_ns_per_operation: per_operation(cost.cpu, operations),
            user_ns_per_operation: per_operation(cost.user, operations),
            system_ns_per_operation: per_operation(cost.system, operations),
            cpu_share: cost.cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
            rss_bytes_before: cost.rss_bytes_before,
            rss_bytes: cost.rss_bytes,
        }
    }
}

/// A value as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    // Plain structs of numbers and strings are always representable.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Nothing where nothing was answered.
fn per_operation(cpu: Duration, operations: u64) -> Option<f64> {
    (operations > 0).then(|| cpu.as_nanos() as f64 / operations as f64)
}
