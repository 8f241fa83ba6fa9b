//! The admin endpoint: what it tells of a server that works, and of one that does not.
#![cfg(feature = "server")]

#[path = "support/endpoint.rs"]
mod endpoint;
#[path = "support/process.rs"]
mod process;
#[path = "support/scratch.rs"]
mod scratch;
mod server_harness;

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use endpoint::{Answer, Watched};
use process::{Ended, ServerProcess, end_of, larder};
use prometheus_parse::{Sample, Scrape, Value as Figure};
use scratch::Scratch;
use serde_json::Value;
use server_harness::{Raw, get, set};

/// Stores a key and reads it, and another one that is not there.
fn use_it(watched: &Watched) {
    let mut raw = Raw::connect_to(watched.server.address());
    raw.greet();
    for (id, frame) in [set(1, "key", b"value"), get(2, "key"), get(3, "none")]
        .iter()
        .enumerate()
    {
        raw.send(frame);
        assert_eq!(raw.told().id as usize, id + 1);
    }
}

/// The page, as a parser of its own makes it out; nothing of it may be left over.
fn scrape(watched: &Watched) -> Vec<Sample> {
    let answer = watched.ask("GET", "/metrics");
    assert_eq!(answer.code, 200, "{answer:?}");
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    let lines = answer.body.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).unwrap();
    let is_figure = |line: &&str| {
        let of_histogram = line.contains("_bucket{");
        !line.starts_with('#') && !of_histogram
    };
    let lines = answer.body.lines().filter(is_figure).count();
    let is_histogram = |sample: &&Sample| matches!(sample.value, Figure::Histogram(_));
    let figures = scrape
        .samples
        .iter()
        .filter(|one| !is_histogram(one))
        .count();
    assert_eq!(figures, lines, "lines that the parser does not know");
    let typed = scrape.samples.iter().filter(|one| {
        let is_of_histogram = one.metric.ends_with("_sum") || one.metric.ends_with("_count");
        !matches!(one.value, Figure::Untyped(_)) || is_of_histogram
    });
    assert_eq!(
        typed.count(),
        scrape.samples.len(),
        "samples without a type"
    );
    assert!(
        scrape
            .samples
            .iter()
            .all(|one| one.metric.starts_with("larder_"))
    );
    scrape.samples
}

/// The samples of a name with these labels.
fn all<'s>(samples: &'s [Sample], name: &str, labels: &[(&str, &str)]) -> Vec<&'s Sample> {
    let has = |sample: &Sample| {
        labels
            .iter()
            .all(|(of, text)| sample.labels.get(of) == Some(*text))
    };
    let found = samples.iter().filter(|one| one.metric == name && has(one));
    found.collect()
}

fn number(sample: &Sample) -> f64 {
    match sample.value {
        Figure::Counter(number) | Figure::Gauge(number) => number,
        // The parser knows the buckets of a histogram, and not what goes with them.
        Figure::Untyped(number) => number,
        ref other => panic!("{other:?}"),
    }
}

/// The one figure of a name with these labels.
fn figure(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let found = all(samples, name, labels);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    number(found[0])
}

fn sum(samples: &[Sample], name: &str) -> f64 {
    let found = all(samples, name, &[]);
    assert!(!found.is_empty(), "{name}");
    found.iter().map(|one| number(one)).sum()
}

#[test]
fn metrics_tell_what_was_done_in_the_units_of_prometheus() {
    let watched = Watched::serve("metrics", &[]);
    use_it(&watched);
    let samples = scrape(&watched);
    assert_eq!(figure(&samples, "larder_up", &[]), 1.0);
    assert_eq!(figure(&samples, "larder_get_hits_total", &[]), 1.0);
    assert_eq!(sum(&samples, "larder_thread_get_misses_total"), 1.0);
    assert_eq!(sum(&samples, "larder_thread_requests_total"), 3.0);
    assert_eq!(
        sum(&samples, "larder_memory_used_bytes"),
        f64::from(64 << 20)
    );
    assert_eq!(
        figure(&samples, "larder_memory_bytes", &[]),
        f64::from(64 << 20)
    );
    assert_eq!(
        figure(&samples, "larder_worker_process_starts_total", &[]),
        1.0
    );
    assert_eq!(
        figure(&samples, "larder_worker_process_restarts_total", &[]),
        0.0
    );
    assert_eq!(sum(&samples, "larder_upgrades_total"), 0.0);
    for thread in ["worker-0", "worker-1", "upkeep", "acceptor"] {
        let phases = all(&samples, "larder_thread_phase", &[("thread", thread)]);
        assert_eq!(
            phases.iter().map(|one| number(one)).sum::<f64>(),
            1.0,
            "{thread}"
        );
    }
    let durations = all(
        &samples,
        "larder_command_duration_seconds",
        &[("command", "get")],
    );
    let Figure::Histogram(buckets) = &durations[0].value else {
        panic!("{durations:?}")
    };
    assert!(buckets.windows(2).all(|two| two[0].count <= two[1].count));
    assert!(
        buckets
            .windows(2)
            .all(|two| two[0].less_than < two[1].less_than)
    );
    let last = buckets.last().unwrap();
    assert_eq!((last.less_than, last.count), (f64::INFINITY, 2.0));
    assert_eq!(
        sum(&samples, "larder_command_duration_seconds_count"),
        3.0,
        "a set and two gets"
    );
}

#[test]
fn all_figures_of_stats_are_metrics_once_the_server_has_written_them_down() {
    let watched = Watched::serve("stats", &[]);
    let written = watched.wait_for(|status| status["figures"]["by_name"].as_object().cloned());
    let samples = scrape(&watched);
    assert!(figure(&samples, "larder_board_age_seconds", &[]) >= 0.0);
    assert!(written.len() > 100, "{written:?}");
    for (name, measure) in [
        ("rss_bytes", "larder_rss_bytes"),
        ("cpu_us", "larder_cpu_seconds_total"),
        ("bytes_in", "larder_received_bytes_total"),
        ("buffer_bytes_max", "larder_buffer_max_bytes"),
        ("pinned_ms", "larder_pinned_seconds"),
        ("limbo_bytes", "larder_limbo_bytes"),
        ("connections", "larder_connections"),
    ] {
        assert!(written.contains_key(name), "{name}");
        figure(&samples, measure, &[]);
    }
    let version = all(&samples, "larder_version_info", &[]);
    assert_eq!(
        version[0].labels.get("text"),
        Some(env!("CARGO_PKG_VERSION"))
    );
    // As many as there are: a figure that is told twice, or not, would be another number.
    let of_whole = written.keys().filter(|name| !name.contains('.')).count();
    let is_of_stats = |one: &&Sample| {
        let ours = [
            "thread_",
            "recovery_",
            "worker_process_",
            "supervisor_",
            "memory_used_",
        ];
        let others = [
            "up",
            "upgrades_total",
            "stalls_total",
            "stall_kills_total",
            "evidence_bundles_total",
            "board_age_seconds",
            "epoch_pinner_seconds",
        ];
        let name = one.metric.trim_start_matches("larder_");
        !ours.iter().any(|prefix| name.starts_with(prefix))
            && !others.contains(&name)
            && !name.starts_with("command_")
    };
    assert_eq!(samples.iter().filter(is_of_stats).count(), of_whole);
}

#[test]
fn the_endpoint_answers_while_no_worker_does() {
    let watched = Watched::serve("stopped", &["--stall-warn", "100ms"]);
    use_it(&watched);
    let pid = watched.server.pid().to_string();
    let signal = |name: &str| {
        let mut command = std::process::Command::new("kill");
        assert!(command.args([name, &pid[..]]).status().unwrap().success());
    };
    signal("-STOP");
    assert_eq!(watched.ask("GET", "/healthz").code, 200);
    let samples = scrape(&watched);
    assert_eq!(figure(&samples, "larder_get_hits_total", &[]), 1.0);
    assert_eq!(watched.status()["threads"][0]["name"], "worker-0");
    // Once it is seen that nobody goes on, all that tell of it say the same.
    let is_ready = |status: &Value| status["ready"].as_bool().unwrap();
    let why_not = watched.wait_for(|status| {
        (!is_ready(status)).then(|| status["why_not_ready"].as_str().unwrap().to_owned())
    });
    assert_eq!(why_not, "no worker goes on");
    let ready = watched.ask("GET", "/readyz");
    assert_eq!((ready.code, ready.body.trim_end()), (503, &why_not[..]));
    assert_eq!(figure(&scrape(&watched), "larder_up", &[]), 0.0);
    let ended = watched.run(&["status"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let expected = " does not serve: no worker goes on (`larder why` tells";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    assert_eq!(watched.run(&["status", "--json"]).code, Some(1));
    signal("-CONT");
    watched.wait_for(|status| is_ready(status).then_some(()));
    assert_eq!(watched.run(&["status"]).code, Some(0));
}

#[test]
fn what_a_dead_worker_process_did_is_told_and_what_the_next_one_kept() {
    let watched = Watched::serve("dead", &[]);
    use_it(&watched);
    let pid = watched.server.pid();
    watched.server.signal("-USR2");
    watched.wait_for(|status| (status["upgrades"] == 1).then_some(()));
    let status = watched.status();
    assert_ne!(status["pid"], pid);
    assert_eq!(status["starts"], 2);
    let receipt = status["receipt"].as_array().unwrap();
    assert!(
        receipt.contains(&serde_json::json!(["kept_items", "1"])),
        "{receipt:?}"
    );
    let samples = scrape(&watched);
    assert_eq!(figure(&samples, "larder_recovery_kept_items", &[]), 1.0);
    assert!(figure(&samples, "larder_recovery_duration_seconds", &[]) > 0.0);
    assert!(figure(&samples, "larder_last_outage_seconds", &[]) >= 0.0);
    assert_eq!(
        figure(&samples, "larder_upgrades_total", &[("outcome", "done")]),
        1.0
    );
    assert_eq!(
        figure(&samples, "larder_worker_process_restarts_total", &[]),
        1.0
    );
}

#[test]
fn status_json_has_the_journal_the_threads_and_the_memory() {
    let watched = Watched::serve("status", &[]);
    use_it(&watched);
    let status = watched.status();
    assert_eq!(status["phase"], "serving");
    assert_eq!(status["pid"], watched.server.pid());
    assert_eq!(status["supervisor"]["pid"], watched.server.supervisor_pid());
    assert_eq!(status["supervisor"]["drills_allowed"], false);
    assert_eq!(
        status["build"],
        concat!("larder ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(status["addresses"][0], watched.server.address().to_string());
    assert_eq!(status["cache"]["items"], 1);
    let memory = status["memory"].as_object().unwrap();
    let parts = memory.iter().filter(|(name, _)| *name != "whole");
    let parts: u64 = parts.map(|(_, bytes)| bytes.as_u64().unwrap()).sum();
    assert_eq!(memory["whole"], parts);
    let threads = status["threads"].as_array().unwrap();
    let names: Vec<&Value> = threads.iter().map(|thread| &thread["name"]).collect();
    assert_eq!(names, ["worker-0", "worker-1", "upkeep", "acceptor"]);
    for thread in threads {
        assert!(
            thread["phase"].is_string() && thread["for_ms"].is_u64(),
            "{thread}"
        );
        assert!(thread["counts"]["requests"].is_u64(), "{thread}");
    }
}

#[test]
fn larder_status_is_one_screen_and_says_by_its_code_whether_the_server_serves() {
    let watched = Watched::serve("screen", &[]);
    use_it(&watched);
    let ended = watched.run(&["status"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        " serves, for ",
        "items        1; 50.0 % of 2 reads hit",
        "\nThreads\n  worker-0  ",
    ] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
    assert!(!ended.stdout.contains('\u{1b}'), "no colours in a pipe");
    assert!(ended.stdout.lines().count() < 24, "{}", ended.stdout);
    let json = watched.run(&["status", "--json"]);
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(told["phase"], "serving");

    // A connection that stays has the drain wait.
    let mut raw = Raw::connect_to(watched.server.address());
    raw.greet();
    watched.server.signal("-TERM");
    raw.next().expect("the notice of the drain");
    assert_eq!(watched.ask("GET", "/readyz").code, 503);
    let ended = watched.run(&["status"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("drains and ends"), "{}", ended.stdout);
}

#[test]
fn status_without_a_supervisor_to_ask_says_where_it_looked() {
    let nowhere = "unix:/nowhere/larder.admin";
    let ended = end_of(&mut larder(&["status", "--admin", nowhere]), b"");
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains(nowhere), "{ended:?}");
}

/// A folder for what runs, with the sockets that servers leave there.
struct Folder(PathBuf);

impl Folder {
    fn named(name: &str) -> Self {
        let name = format!("larder-test-{}-{name}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        std::fs::create_dir(&folder.0).unwrap();
        folder
    }

    /// Starts a server of two workers whose usual endpoint is here.
    fn serve(&self, more: &[&str]) -> ServerProcess {
        let options = ["--memory", "64MiB", "--workers", "2"];
        ServerProcess::serve_in(&self.0, &[&options[..], more].concat())
    }

    /// Runs a command that looks for endpoints here.
    fn run(&self, server: Option<&str>, arguments: &[&str]) -> Ended {
        let mut command = larder(arguments);
        command.env_remove("LARDER_ADMIN");
        command.env("XDG_RUNTIME_DIR", &self.0);
        if let Some(server) = server {
            command.env("LARDER_SERVER", server);
        }
        end_of(&mut command, b"")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn status_at(socket: &Path) -> Value {
    let answer = endpoint::ask(socket, "GET", "/status.json");
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn what_changes_something_is_taken_on_a_unix_socket_alone() {
    let folder = Folder::named("tcp");
    let server = folder.serve(&[
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--allow-drills",
    ]);
    let usual = format!("larder-{}.admin", server.address().port());
    let usual = folder.0.join(usual);
    let status = status_at(&usual);
    let addresses = status["admin_addresses"].as_array().unwrap();
    let addresses: Vec<&str> = addresses.iter().map(|one| one.as_str().unwrap()).collect();
    let [tcp, unix] = addresses[..] else {
        panic!("{addresses:?}")
    };
    assert_eq!(unix, format!("unix:{}", usual.display()));
    let ask = |method: &str, path: &str| -> Answer {
        endpoint::ask_over(TcpStream::connect(tcp).unwrap(), method, path)
    };
    let before = server.pid();
    // What somebody else would have run, who leaves a trace there.
    let trace = Scratch::named("tcp-trace");
    let script = format!("touch {}", trace.text());
    let program = Scratch::program("tcp-program", &script);
    let upgrade = format!("/upgrade?binary={}", program.text());
    for (method, path) in [
        ("POST", &upgrade[..]),
        ("POST", "/drill?drill=abort&worker=0&for_ms=1"),
        ("POST", "/deadly-key?drill=abort&key=a"),
        ("DELETE", "/deadly-key"),
        ("PUT", "/upgrade"),
        ("OPTIONS", "/upgrade"),
        ("POST", "/healthz"),
    ] {
        let answer = ask(method, path);
        assert_eq!(answer.code, 403, "{method} {path}: {answer:?}");
        assert!(answer.body.contains(unix), "{method} {path}: {answer:?}");
    }
    assert!(!trace.0.exists());
    for (method, path) in [
        ("GET", "/healthz"),
        ("HEAD", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/status.json"),
        ("GET", "/why"),
    ] {
        assert_eq!(ask(method, path).code, 200, "{method} {path}");
    }
    // A page in a browser here has led its name to this machine.
    for (name, code) in [("cache.example.net", 403), ("localhost", 200), (tcp, 200)] {
        let stream = TcpStream::connect(tcp).unwrap();
        let answer = endpoint::ask_by_name(stream, name, "GET", "/status.json");
        assert_eq!(answer.code, code, "{name}: {answer:?}");
    }
    let url = server.url();
    let told = folder.run(None, &["status", "--admin", tcp]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for command in [
        &["upgrade"][..],
        &["drill", "abort"],
        &["drill", "abort", "--key", "a"],
    ] {
        let refused = folder.run(Some(&url), &[command, &["--admin", tcp]].concat());
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let expected = format!("--admin {unix}");
        assert!(refused.stderr.contains(&expected), "{refused:?}");
    }
    assert_eq!(server.pid(), before);
    let status = status_at(&usual);
    assert_eq!(
        (&status["upgrades_failed"], &status["deaths"]),
        (&0.into(), &0.into())
    );
    // The Unix socket is there as well, and takes it.
    let done = folder.run(Some(&url), &["upgrade"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_ne!(server.pid(), before);
}

#[test]
fn commands_ask_about_the_server_that_is_named() {
    let folder = Folder::named("named");
    let socket = folder.0.join("l.sock");
    let at = format!("unix:{}", socket.display());
    let one = folder.serve(&["--listen", "127.0.0.1:0", "--listen", &at]);
    let other = folder.serve(&["--listen", "127.0.0.1:0"]);
    let by_path = format!("larder+unix://{}", socket.display());
    let by_name = format!("larder://localhost:{}", one.address().port());
    let pid = |ended: &Ended| -> u64 {
        let told: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        told["pid"].as_u64().unwrap()
    };
    for (url, expected) in [
        (&one.url(), &one),
        (&by_path, &one),
        (&by_name, &one),
        (&other.url(), &other),
    ] {
        for command in ["status", "why"] {
            let by_variable = folder.run(Some(url), &[command, "--json"]);
            assert_eq!(pid(&by_variable), u64::from(expected.pid()), "{url}");
            let by_flag = folder.run(None, &[command, "--json", "--server", url]);
            assert_eq!(pid(&by_flag), u64::from(expected.pid()), "{url}");
        }
    }
    assert!(folder.0.join("l.sock.admin").exists());
    let before = (one.pid(), other.pid());
    let done = folder.run(Some(&by_path), &["upgrade"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_ne!(one.pid(), before.0);
    assert_eq!(other.pid(), before.1);
    // Of a network that is for examples.
    for command in [
        &["status"][..],
        &["why"],
        &["postmortem"],
        &["upgrade"],
        &["drill", "abort"],
    ] {
        let refused = folder.run(Some("larder://192.0.2.1:5273"), command);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let expected = "larder://192.0.2.1:5273 is on another machine";
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
}

#[test]
fn of_two_servers_at_one_port_each_is_asked_about_itself() {
    let folder = Folder::named("one-port");
    let one = folder.serve(&["--listen", "127.0.0.1:0"]);
    let port = one.address().port();
    let other = folder.serve(&["--listen", &format!("127.0.0.2:{port}")]);
    let pid = |server: &ServerProcess| {
        let told = folder.run(Some(&server.url()), &["status", "--json"]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
        told["pid"].as_u64().unwrap()
    };
    assert_eq!(pid(&one), u64::from(one.pid()));
    assert_eq!(pid(&other), u64::from(other.pid()));
    let before = (one.pid(), other.pid());
    let done = folder.run(Some(&other.url()), &["upgrade"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(one.pid(), before.0);
    assert_ne!(other.pid(), before.1);
    // Whose server is gone is not told of another.
    let gone = one.url();
    one.signal("-TERM");
    assert_eq!(one.end(), Some(0));
    let told = folder.run(Some(&gone), &["status"]);
    assert_eq!(told.code, Some(3), "{told:?}");
    assert_eq!(pid(&other), u64::from(other.pid()));
}

/// The open files of a process.
fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

#[test]
fn connections_that_ask_nothing_keep_nobody_out_and_take_few_open_files() {
    let folder = Folder::named("idle");
    let server = folder.serve(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let usual = format!("larder-{}.admin", server.address().port());
    let usual = folder.0.join(usual);
    let before = open_files(server.supervisor_pid());
    let status = status_at(&usual);
    let tcp = status["admin_addresses"][0].as_str().unwrap();
    let idle: Vec<TcpStream> = (0..180).map(|_| TcpStream::connect(tcp).unwrap()).collect();
    // A worker process that dies now has a successor.
    let pid = server.pid().to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args(["-KILL", &pid]).status().unwrap().success());
    while status_at(&usual)["starts"] != 2 {
        std::thread::yield_now();
    }
    let more = open_files(server.supervisor_pid()).saturating_sub(before);
    assert!((1..120).contains(&more), "{more} more open files");
    drop(idle);
}

#[test]
fn the_supervisor_uses_all_open_files_that_it_may() {
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_larder");
    let script = format!(
        "ulimit -Sn 300; ulimit -Hn 900; \
         exec {program} serve --memory 64MiB --workers 1 --listen 127.0.0.1:0 --admin none --evidence none"
    );
    command.args(["-c", &script]);
    let server = ServerProcess::run_by(&mut command, std::process::Stdio::piped());
    let limits = format!("/proc/{}/limits", server.supervisor_pid());
    let limits = std::fs::read_to_string(limits).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let files: Vec<&str> = files.unwrap().split_whitespace().collect();
    assert_eq!(files, ["Max", "open", "files", "900", "900", "files"]);
}
