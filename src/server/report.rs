//! The figures behind STATS.

use std::fs;

use super::counters;
use super::shared::Shared;
use crate::execute::Report;

/// LIMIT: what the process holds beside the cache's memory and the connections' buffers: its code,
/// stacks, the threads' own buffers, and what it keeps about connections and segments.
const PROCESS_BYTES_MAX: u64 = 32 << 20;

impl Report for Shared {
    fn figures(&self, group: &[u8]) -> Option<Vec<(&'static str, String)>> {
        match group {
            b"" => {
                let mut figures = self.server_figures();
                figures.extend(self.cache_figures());
                Some(figures)
            }
            b"server" => Some(self.server_figures()),
            b"cache" => Some(self.cache_figures()),
            b"memory" => Some(self.memory_figures()),
            _ => None,
        }
    }
}

impl Shared {
    fn cache_figures(&self) -> Vec<(&'static str, String)> {
        let pages = self.cache.pages();
        let stats = self.cache.stats_at(self.clock.now().wall_ms);
        let figures = stats.figures().into_iter();
        let mut figures: Vec<_> = figures.map(as_text).collect();
        figures.push(("pages", pages.name().to_owned()));
        figures.push(("huge_page_bytes", pages.huge_bytes().to_string()));
        figures
    }

    /// The ledger of the memory, its lines first and their sum, the whole budget, after them; then
    /// what the process has in memory, and what it may come to have.
    fn memory_figures(&self) -> Vec<(&'static str, String)> {
        let stats = self.cache.stats_at(self.clock.now().wall_ms);
        let rss_bytes_max = stats.memory_bytes + self.settings.buffer_bytes_max + PROCESS_BYTES_MAX;
        let process = [
            ("memory_bytes", stats.memory_bytes),
            ("rss_bytes", ProcessFigures::read().rss_bytes),
            ("rss_bytes_max", rss_bytes_max),
        ];
        stats
            .ledger()
            .into_iter()
            .chain(process)
            .map(as_text)
            .collect()
    }

    fn server_figures(&self) -> Vec<(&'static str, String)> {
        let process = ProcessFigures::read();
        let stations = self.stations.iter().map(|station| &station.counters);
        let sums = counters::sum(stations.chain([&self.acceptor_counters]));
        let figure = |name| {
            sums.iter()
                .find(|(of, _)| *of == name)
                .map_or(0, |(_, value)| *value)
        };
        let connections = figure("connections_opened").saturating_sub(figure("connections_closed"));
        let mut figures = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("pid", std::process::id().to_string()),
            ("uptime_ms", self.clock.now().uptime_ms.to_string()),
            ("workers", self.stations.len().to_string()),
            ("rss_bytes", process.rss_bytes.to_string()),
            ("cpu_us", process.cpu_us.to_string()),
            ("cpu_user_us", process.cpu_user_us.to_string()),
            ("cpu_system_us", process.cpu_system_us.to_string()),
            ("connections", connections.to_string()),
            ("connections_max", self.settings.connections_max.to_string()),
            ("buffer_bytes", self.budget.held_bytes().to_string()),
            (
                "buffer_bytes_max",
                self.settings.buffer_bytes_max.to_string(),
            ),
        ];
        figures.extend(sums.into_iter().map(as_text));
        figures
    }
}

fn as_text((name, value): (&'static str, u64)) -> (&'static str, String) {
    (name, value.to_string())
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
