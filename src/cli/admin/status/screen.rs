//! The one screen of `larder status`.

use std::fmt::Write;

use crate::cli::admin::seen::{Seen, Thread};
use crate::cli::style::{FAINT, HEADING, WRONG, painted};
use crate::cli::units::{counted, duration_about, size_about};

/// LIMIT: of very many workers, these are shown, the longest in what they do first.
const THREADS_MAX: usize = 32;

/// Below this, what a thread does is not worth a word about for how long.
const AT_ONCE_MS: u64 = 1000;

/// What is shown.
pub(super) fn shown(seen: &Seen, colours: bool) -> String {
    let mut text = heading(seen, colours);
    let lines = [
        ("listens on", addresses(seen)),
        ("processes", processes(seen)),
        ("items", items(seen)),
        ("memory", memory(seen)),
        ("connections", connections(seen)),
        ("stalls", stalls(seen)),
        ("recovery", recovery(seen)),
        ("upgrades", upgrades(seen)),
    ];
    for (name, line) in lines {
        if let Some(line) = line {
            let _ = writeln!(
                text,
                "{}  {line}",
                painted(FAINT, &format!("{name:11}"), colours)
            );
        }
    }
    text += &threads(seen, colours);
    text
}

fn heading(seen: &Seen, colours: bool) -> String {
    let build = seen.build.as_deref().unwrap_or("larder");
    if let Some(why_not) = seen.why_not_ready.as_ref().filter(|_| seen.has_begun()) {
        let sentence = format!("{build} does not serve: {why_not}");
        return format!(
            "{} (`larder why` tells of each thread)\n\n",
            painted(WRONG, &sentence, colours)
        );
    }
    let lasts = duration_about(seen.now_ms.saturating_sub(seen.since_ms));
    let phase = match &seen.phase[..] {
        "serving" => "serves",
        "starting" => "starts",
        "ending" => "drains and ends",
        "waiting" => "does not serve; the next worker process is due",
        other => other,
    };
    let style = match seen.is_serving() {
        true => HEADING,
        false => WRONG,
    };
    let sentence = painted(style, &format!("{build} {phase}"), colours);
    format!("{sentence}, for {lasts}\n\n")
}

fn addresses(seen: &Seen) -> Option<String> {
    let memcached = match &seen.memcached_addresses[..] {
        [] => String::new(),
        addresses => format!("; memcached: {}", addresses.join(", ")),
    };
    (!seen.addresses.is_empty()).then(|| format!("{}{memcached}", seen.addresses.join(", ")))
}

fn processes(seen: &Seen) -> Option<String> {
    let worker = seen.pid.map_or("none".to_owned(), |pid| pid.to_string());
    let supervisor = &seen.supervisor;
    let up = duration_about(supervisor.uptime_ms);
    let mut line = format!("worker {worker}, supervisor {} (up {up})", supervisor.pid);
    let _ = match (seen.deaths, seen.last_deaths.last()) {
        (0, _) | (_, None) => write!(line, "; {} started, none died", seen.starts),
        (deaths, Some(last)) => {
            let ago = duration_about(seen.now_ms.saturating_sub(last.at_ms));
            let lived = duration_about(last.lived_ms);
            write!(
                line,
                "; {} started, {deaths} died, the last one ({}) {ago} ago: it {} after {lived}",
                seen.starts, last.pid, last.how
            )
        }
    };
    Some(line)
}

fn items(seen: &Seen) -> Option<String> {
    let figure = |name: &str| seen.cache.get(name).copied().unwrap_or(0);
    let (hits, misses) = (figure("get_hits"), figure("get_misses"));
    let items = seen.cache.get("items")?;
    let ratio = match hits + misses {
        0 => "nothing read yet".to_owned(),
        reads => format!(
            "{:.1} % of {reads} reads hit",
            hits as f64 * 100.0 / reads as f64
        ),
    };
    Some(format!("{items}; {ratio}; {} evicted", figure("evicted")))
}

fn memory(seen: &Seen) -> Option<String> {
    let part = |name: &str| seen.memory.get(name).copied().unwrap_or(0);
    let whole = *seen.memory.get("whole")?;
    let items = part("live") + part("large");
    let mut line = format!(
        "{}: {} of items, {} free",
        size_about(whole),
        size_about(items),
        size_about(part("free")),
    );
    if part("limbo") > 0 {
        let _ = write!(line, ", {} waits for readers", size_about(part("limbo")));
    }
    if let Some(rss) = seen.figure("rss_bytes") {
        let _ = write!(line, "; the process has {}", size_about(rss));
    }
    Some(line)
}

fn connections(seen: &Seen) -> Option<String> {
    let open: u64 = seen.workers().map(|worker| worker.connections).sum();
    let requests = seen.count("requests");
    let mut line = format!("{open}");
    if let Some(most) = seen.figure("connections_max") {
        let _ = write!(line, " of {most}");
    }
    let _ = write!(line, "; {requests} requests");
    for (count, what) in [
        (seen.count("panics"), "ended by a panic"),
        (seen.count("connections_refused"), "refused"),
    ] {
        if count > 0 {
            let _ = write!(line, "; {count} {what}");
        }
    }
    (!seen.threads.is_empty()).then_some(line)
}

/// Threads that did not go on, and what was done about the last one.
fn stalls(seen: &Seen) -> Option<String> {
    let last = seen.steps.last()?;
    let ago = duration_about(seen.now_ms.saturating_sub(last.at_ms));
    let killed = match seen.stall_kills {
        0 => String::new(),
        kills => format!(", {kills} ended by a kill"),
    };
    let sentence = &last.sentence;
    Some(format!("{}{killed}; {ago} ago: {sentence}", seen.stalls))
}

fn recovery(seen: &Seen) -> Option<String> {
    if seen.receipt.is_empty() {
        return None;
    }
    let shown = seen.receipt.iter().filter(|(_, figure)| figure != "0");
    let figures: Vec<String> = shown
        .map(|(name, figure)| figure_in_words(name, figure))
        .collect();
    let outage = seen.outage_ms.map(duration_about);
    let outage = outage.map_or(String::new(), |outage| {
        format!("; nobody served for {outage}")
    });
    Some(format!("{}{outage}", figures.join(", ")))
}

/// `items_kept` of 5 as `5 items kept`.
fn figure_in_words(name: &str, figure: &str) -> String {
    let number: Option<u64> = figure.parse().ok();
    let words = |name: &str| name.replace('_', " ");
    match (number, name.strip_suffix("_us"), name.contains("bytes")) {
        (Some(us), Some(name), _) => format!("{} {}", words(name), duration_about(us / 1000)),
        (Some(bytes), _, true) => format!("{} {}", words(name), size_about(bytes)),
        _ => format!("{} {figure}", words(name)),
    }
}

fn upgrades(seen: &Seen) -> Option<String> {
    let last = seen.last_upgrade.as_ref()?;
    let (done, failed) = (seen.upgrades, seen.upgrades_failed);
    Some(format!(
        "{done} done, {failed} failed; the last one: {last}"
    ))
}

fn threads(seen: &Seen, colours: bool) -> String {
    if seen.threads.is_empty() {
        return String::new();
    }
    let mut threads: Vec<&Thread> = seen.threads.iter().collect();
    let left_out = threads.len().saturating_sub(THREADS_MAX);
    if left_out > 0 {
        threads.sort_by_key(|thread| std::cmp::Reverse(thread.for_ms));
        threads.truncate(THREADS_MAX);
    }
    let width = threads
        .iter()
        .map(|thread| thread.name.len())
        .max()
        .unwrap_or(0);
    let was = match seen.has_begun() {
        true => "Threads",
        false => "Threads, as they were last",
    };
    let mut text = format!("\n{}\n", painted(HEADING, was, colours));
    for thread in threads {
        let _ = writeln!(text, "  {:width$}  {}", thread.name, doing(thread));
    }
    if left_out > 0 {
        let _ = writeln!(
            text,
            "  and {left_out} more, which do what they do for less long"
        );
    }
    text
}

/// What a thread does, in a line.
fn doing(thread: &Thread) -> String {
    let phase = thread.phase.as_deref().unwrap_or("unknown");
    let mut line = phase.to_owned();
    if let Some(operation) = &thread.operation {
        let name = operation.operation.as_deref().unwrap_or("an operation");
        let _ = write!(line, " {name} of key {}", operation.key_hash);
    }
    if thread.for_ms >= AT_ONCE_MS || phase != "sleeping" {
        let _ = write!(line, ", for {}", duration_about(thread.for_ms));
    }
    if let Some(served) = thread.connection.as_ref().filter(|_| phase != "sleeping") {
        let _ = write!(line, ", connection {} of {}", served.number, served.peer);
    }
    if let Some(wait) = &thread.waits_for {
        let holder = wait.held_by.as_deref().unwrap_or("nobody now");
        let _ = write!(
            line,
            ", waits for the lock of bucket {} ({holder})",
            wait.bucket
        );
    }
    if let Some(ms) = thread.pinned_ms.filter(|ms| *ms >= AT_ONCE_MS) {
        let _ = write!(line, ", pinned for {}", duration_about(ms));
    }
    if thread.connections > 0 {
        let _ = write!(line, "; {}", counted(thread.connections, "connection"));
    }
    // One that sleeps has served what it last knew of.
    let waiting = match phase {
        "sleeping" => 0,
        _ => thread.waiting,
    };
    for (count, what) in [(waiting, "waiting"), (thread.untaken, "not taken over")] {
        if count > 0 {
            let _ = write!(line, ", {count} {what}");
        }
    }
    if thread.is_avoided {
        line += "; gets no new ones";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::admin::ask::Told;

    fn seen(json: &str) -> Seen {
        let told = Told {
            is_done: true,
            is_missing: false,
            text: json.to_owned(),
        };
        Seen::of(&told).unwrap()
    }

    #[test]
    fn a_server_that_serves_is_on_one_screen() {
        let seen = seen(
            r#"{"phase":"serving","pid":8,"since_ms":1000,"now_ms":61000,"starts":2,"deaths":1,
            "last_deaths":[{"pid":7,"at_ms":1000,"lived_ms":500,"how":"was killed by SIGKILL"}],
            "stalls":1,"steps":[{"at_ms":59000,"sentence":"worker-0 spins"}],
            "receipt":[["items","5"],["lost_bytes","0"],["duration_us","2000"]],"outage_ms":12,
            "supervisor":{"pid":6,"uptime_ms":60500},"addresses":["127.0.0.1:5273"],"build":"larder 1",
            "threads":[{"name":"worker-0","kind":"worker","phase":"executing","for_ms":5000,"connections":2,"waiting":3,
            "operation":{"operation":"get","key_hash":"ab"},"is_avoided":true,"counts":{"requests":9}}],
            "memory":{"whole":1048576,"live":1024,"free":2048},"cache":{"items":5,"get_hits":3,"get_misses":1},
            "something_new":1}"#,
        );
        let expected = "\
larder 1 serves, for 1m

listens on   127.0.0.1:5273
processes    worker 8, supervisor 6 (up 1m); 2 started, 1 died, the last one (7) 1m ago: it was killed by SIGKILL after 500ms
items        5; 75.0 % of 4 reads hit; 0 evicted
memory       1 MiB: 1 KiB of items, 2 KiB free
connections  2; 9 requests
stalls       1; 2s ago: worker-0 spins
recovery     items 5, duration 2ms; nobody served for 12ms

Threads
  worker-0  executing get of key ab, for 5s; 2 connections, 3 waiting; gets no new ones
";
        assert_eq!(shown(&seen, false), expected);
        assert!(shown(&seen, true).contains('\u{1b}'));
    }

    #[test]
    fn a_server_that_hangs_does_not_serve() {
        let seen = seen(
            r#"{"phase":"serving","ready":false,"why_not_ready":"no worker goes on","build":"larder 1",
            "threads":[{"name":"worker-0","phase":"executing","for_ms":5000}]}"#,
        );
        assert!(!seen.is_serving());
        let shown = shown(&seen, false);
        let expected =
            "larder 1 does not serve: no worker goes on (`larder why` tells of each thread)\n";
        assert!(shown.starts_with(expected), "{shown}");
        assert!(
            shown.contains("\nThreads\n  worker-0  executing"),
            "{shown}"
        );
    }

    #[test]
    fn a_server_that_does_not_is_told_as_it_was() {
        let seen = seen(
            r#"{"phase":"waiting","now_ms":5,"threads":[{"name":"upkeep","phase":"sleeping"}]}"#,
        );
        let shown = shown(&seen, false);
        assert!(shown.contains("does not serve"), "{shown}");
        assert!(
            shown.contains("as they were last\n  upkeep  sleeping\n"),
            "{shown}"
        );
    }
}
