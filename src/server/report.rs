//! The figures behind STATS.

use std::fs;

use super::address::Address;
use super::clock::whole_ms;
use super::counters;
use super::shared::Shared;
use crate::blackbox::{BOX_BYTES, Latency};
use crate::engine::{Census, Guard};
use crate::execute::Report;

/// LIMIT: what the process holds beside the cache's memory and the connections' buffers: its code,
/// stacks, the threads' own buffers, and what it keeps about connections and segments.
const PROCESS_BYTES_MAX: u64 = 32 << 20;

/// LIMIT: buckets that the group `items` samples: some thousand items, a millisecond or two.
const SAMPLED_BUCKETS: u64 = 1024;

impl Report for Shared {
    fn groups(&self) -> &'static str {
        "none, `server`, `cache`, `workers`, `items`, `memory`, `connections`, `settings`, `since_reset`"
    }

    fn figures(&self, group: &[u8], guard: &Guard<'_>) -> Option<Vec<(String, String)>> {
        match group {
            b"" => {
                let mut figures = self.server_figures();
                figures.extend(self.cache_figures());
                Some(figures)
            }
            b"server" => Some(self.server_figures()),
            b"cache" => Some(self.cache_figures()),
            b"since_reset" => Some(self.figures_since_reset()),
            b"settings" => Some(self.setting_figures()),
            b"memory" => Some(self.memory_figures()),
            b"items" => Some(item_figures(&guard.census(SAMPLED_BUCKETS))),
            b"workers" => Some(self.worker_figures()),
            b"connections" => Some(self.connection_figures()),
            _ => None,
        }
    }

    fn reset(&self) {
        let counts = self.counts();
        *self.counts_before.lock() = counts;
    }
}

impl Shared {
    /// All counts, by name.
    fn counts(&self) -> Vec<(String, u64)> {
        let stats = self.cache.stats_at(self.clock.now().wall_ms);
        let of_cache = stats.counts().into_iter();
        let stations = self.stations.iter().map(|station| &station.counters);
        let of_server = counters::sum(stations.chain([&self.acceptor_counters])).into_iter();
        let all = of_cache.chain(of_server);
        all.map(|(name, count)| (name.to_owned(), count)).collect()
    }

    /// The figures of server and cache, counts less what they were when they were last reset.
    fn figures_since_reset(&self) -> Vec<(String, String)> {
        let mut figures = self.server_figures();
        figures.extend(self.cache_figures());
        let now_ms = self.clock.now().wall_ms;
        figures.push(("time_ms".to_owned(), now_ms.to_string()));
        for (name, before) in self.counts_before.lock().iter() {
            let figure = figures.iter_mut().find(|(of, _)| of == name);
            if let Some((_, text)) = figure
                && let Ok(count) = text.parse::<u64>()
            {
                *text = count.saturating_sub(*before).to_string();
            }
        }
        figures
    }

    /// What the server was told, as far as other figures do not say it.
    fn setting_figures(&self) -> Vec<(String, String)> {
        let (settings, limits) = (&self.settings, self.cache.limits());
        let idle_timeout_ms = settings.idle_timeout.map_or(0, whole_ms);
        let memory_bytes = self.cache.stats_at(self.clock.now().wall_ms).memory_bytes;
        let numbers = [
            ("memory_bytes", memory_bytes),
            ("workers", self.stations.len() as u64),
            ("connections_max", self.tuned.connections_max().into()),
            ("key_bytes_max", limits.key_bytes_max.into()),
            ("value_bytes_max", limits.value_bytes_max),
            ("idle_timeout_ms", idle_timeout_ms),
        ];
        let numbers = numbers.into_iter().map(as_text);
        let io = ("io".to_owned(), settings.io.name().to_owned());
        numbers.chain(self.address_figures()).chain([io]).collect()
    }

    /// Where it listens.
    pub(super) fn address_figures(&self) -> Vec<(String, String)> {
        let list = |addresses: &[Address]| {
            let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
            texts.join(" ")
        };
        let texts = [
            ("addresses", list(&self.settings.listen)),
            ("memcached_addresses", list(&self.settings.memcached)),
        ];
        texts.map(|(name, text)| (name.to_owned(), text)).into()
    }

    fn cache_figures(&self) -> Vec<(String, String)> {
        let pages = self.cache.pages();
        let now_ms = self.clock.now().wall_ms;
        let stats = self.cache.stats_at(now_ms);
        let mut figures: Vec<_> = stats.figures().into_iter().map(as_text).collect();
        // An age is 0 where there is nothing that could be old.
        let age_ms = |since_ms: u64| match since_ms {
            0 => 0,
            _ => now_ms.saturating_sub(since_ms),
        };
        figures.extend(
            [
                ("small_age_s", age_ms(stats.small_since_ms) / 1000),
                ("main_age_s", age_ms(stats.main_since_ms) / 1000),
                ("pinned_ms", age_ms(stats.pinned_since_ms)),
                ("huge_page_bytes", pages.huge_bytes()),
            ]
            .map(as_text),
        );
        let pinned_by = self.name_of_session(stats.pinned_session);
        figures.push(("pinned_by".to_owned(), pinned_by));
        figures.push(("pages".to_owned(), pages.name().to_owned()));
        figures
    }

    /// Who has a session; `nobody` has number 0.
    fn name_of_session(&self, number: u64) -> String {
        let mut names = self.sessions().into_iter();
        let named = names.find(|(_, session)| u64::from(*session) == number);
        match (named, number) {
            (Some((name, _)), _) => name,
            (None, 0) => "nobody".to_owned(),
            // Of whoever else shares the cache in this process.
            (None, _) => format!("session_{number}"),
        }
    }

    /// The sessions of the server's threads, with their names.
    fn sessions(&self) -> Vec<(String, u32)> {
        let workers = self.stations.iter().enumerate();
        workers
            .map(|(index, station)| (format!("worker_{index}"), station.session))
            .chain(
                self.upkeep_session
                    .map(|session| ("upkeep".to_owned(), session)),
            )
            .collect()
    }

    /// What each thread has counted: for the cache, and for its connections.
    fn worker_figures(&self) -> Vec<(String, String)> {
        let mut figures = Vec::new();
        for (index, (name, session)) in self.sessions().into_iter().enumerate() {
            let of_cache = self.cache.session_figures(session).into_iter();
            let station = self.stations.get(index);
            let of_server = station.into_iter().flat_map(|s| s.counters.figures());
            let all = of_cache.chain(of_server);
            figures.extend(all.map(|(of, value)| (format!("{name}.{of}"), value.to_string())));
            let latencies = station.map(|station| station.black_box.latencies());
            for latency in latencies.into_iter().flatten() {
                figures.extend(latency_figures(&latency).map(|(of, value)| {
                    let operation = latency.operation;
                    (format!("{name}.{operation}_{of}"), value.to_string())
                }));
            }
        }
        figures
    }

    /// The ledger of the memory, its lines first and their sum, the whole budget, after them; then
    /// what the process has in memory, and what it may come to have.
    fn memory_figures(&self) -> Vec<(String, String)> {
        let stats = self.cache.stats_at(self.clock.now().wall_ms);
        let process = [
            ("memory_bytes", stats.memory_bytes),
            ("rss_bytes", ProcessFigures::read().rss_bytes),
            ("rss_bytes_max", self.rss_bytes_max()),
        ];
        // Nothing is said where the system says nothing.
        let system = (self.cache.system_bytes()).map(|bytes| ("system_bytes", bytes));
        let ledger = stats.ledger().into_iter();
        ledger.chain(process).chain(system).map(as_text).collect()
    }

    /// What the process may come to have in memory.
    fn rss_bytes_max(&self) -> u64 {
        let memory_bytes = self.cache.stats_at(self.clock.now().wall_ms).memory_bytes;
        let boxes_bytes = (self.stations.len() as u64 + 2) * BOX_BYTES;
        memory_bytes + self.settings.buffer_bytes_max + boxes_bytes + PROCESS_BYTES_MAX
    }

    /// Warns where the system would end the process before it has what it may come to have.
    pub(super) fn warn_if_memory_is_short(&self) {
        let rss_bytes_max = self.rss_bytes_max();
        if let Some(system_bytes) = self.cache.system_bytes()
            && system_bytes < rss_bytes_max
        {
            tracing::warn!(
                rss_bytes_max,
                system_bytes,
                "the process may come to need more memory than the machine and the control group have for it"
            );
        }
    }

    /// All figures, a line of `name=value` each.
    pub(crate) fn board(&self) -> String {
        let mut text = String::new();
        let stats = self.cache.stats_at(self.clock.now().wall_ms);
        let ledger = stats.ledger().into_iter().map(as_text);
        let ledger = ledger.map(|(name, value)| (format!("ledger.{name}"), value));
        let of_all = self
            .server_figures()
            .into_iter()
            .chain(self.cache_figures());
        for (name, value) in of_all.chain(ledger).chain(self.worker_figures()) {
            // Nothing that the server says of itself has lines.
            text.extend([&name, "=", &value, "\n"]);
        }
        text
    }

    fn server_figures(&self) -> Vec<(String, String)> {
        let process = ProcessFigures::read();
        let stations = self.stations.iter().map(|station| &station.counters);
        let sums = counters::sum(stations.chain([&self.acceptor_counters]));
        let figure = |name| {
            sums.iter()
                .find(|(of, _)| *of == name)
                .map_or(0, |(_, value)| *value)
        };
        let connections = figure("connections_opened").saturating_sub(figure("connections_closed"));
        let figures = [
            ("pid", u64::from(std::process::id())),
            ("uptime_ms", self.clock.now().uptime_ms),
            ("workers", self.stations.len() as u64),
            ("rss_bytes", process.rss_bytes),
            ("cpu_us", process.cpu_us),
            ("cpu_user_us", process.cpu_user_us),
            ("cpu_system_us", process.cpu_system_us),
            ("connections", connections),
            ("connections_max", self.tuned.connections_max().into()),
            ("buffer_bytes", self.budget.held_bytes()),
            ("buffer_bytes_max", self.settings.buffer_bytes_max),
        ];
        let version = ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let figures = figures.into_iter().chain(sums).map(as_text);
        std::iter::once(version).chain(figures).collect()
    }
}

/// How many there were, and in how much time they were answered.
fn latency_figures(latency: &Latency) -> impl Iterator<Item = (&'static str, u64)> {
    let histogram = &latency.histogram;
    let within = |share| histogram.percentile_ns(share).unwrap_or(0);
    [
        ("count", histogram.count()),
        ("p50_ns", within(0.5)),
        ("p99_ns", within(0.99)),
        ("p999_ns", within(0.999)),
    ]
    .into_iter()
}

fn as_text((name, value): (&'static str, u64)) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn item_figures(census: &Census) -> Vec<(String, String)> {
    let mut figures = vec![
        ("items".to_owned(), census.items()),
        ("sampled_items".to_owned(), census.sampled_items),
        ("sampled_buckets".to_owned(), census.sampled_buckets),
        ("buckets".to_owned(), census.buckets),
    ];
    let frequencies = census.by_frequency().into_iter().enumerate();
    figures.extend(frequencies.map(|(reads, items)| (format!("frequency_{reads}"), items)));
    let sizes = census.by_value_bytes().into_iter();
    figures.extend(sizes.map(|(bytes, items)| (format!("value_bytes_to_{bytes}"), items)));
    let as_text = |(name, value): (String, u64)| (name, value.to_string());
    figures.into_iter().map(as_text).collect()
}

/// What the system says about this process. What it does not say is 0.
#[derive(Debug, Default)]
struct ProcessFigures {
    rss_bytes: u64,
    /// User and system together, to the microsecond.
    cpu_us: u64,
    /// To the tick of the system's accounting, as is the next.
    cpu_user_us: u64,
    cpu_system_us: u64,
}

impl ProcessFigures {
    fn read() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let mut figures = Self {
            cpu_us: cpu.tv_sec as u64 * 1_000_000 + cpu.tv_nsec as u64 / 1000,
            ..Self::default()
        };
        if let Some(pages) =
            second_number(&fs::read_to_string("/proc/self/statm").unwrap_or_default())
        {
            figures.rss_bytes = pages * rustix::param::page_size() as u64;
        }
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some((user, system)) = cpu_ticks(&stat) {
            let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
            (figures.cpu_user_us, figures.cpu_system_us) = (user * tick_us, system * tick_us);
        }
        figures
    }
}

fn second_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The 14th and 15th field; the second is a name in parentheses that may hold anything.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 111 222 0 0";
        assert_eq!(cpu_ticks(stat), Some((111, 222)));
    }

    #[test]
    fn this_process_has_memory_and_has_used_the_processor() {
        let figures = ProcessFigures::read();
        assert!(figures.rss_bytes > 0 && figures.cpu_us > 0);
    }
}
