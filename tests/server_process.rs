//! `larder serve` as a process: the ready line, signals, sockets, and settings that are refused.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
mod server_harness;

use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use larder_protocol::Status;
use process::{ServerProcess, end_of, larder};
use server_harness::{Raw, get, set};

fn refused(options: &[&str]) -> String {
    let ended = end_of(&mut larder(&[&["serve"], options].concat()), b"");
    assert_eq!(ended.code, Some(2), "{options:?}: {}", ended.stderr);
    assert!(ended.stdout.is_empty(), "{options:?} said it was ready");
    ended.stderr
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("larder-test-{}-{name}.sock", std::process::id()))
}

#[test]
fn the_ready_line_names_the_port_that_was_picked() {
    let server = ServerProcess::serve(&[
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--memory",
        "64MiB",
    ]);
    let address = server.address();
    assert_ne!(address.port(), 0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        server.ready(),
        format!("larder {version} ready on {address} (1 worker, 64 MiB)\n")
    );
    let mut raw = Raw::connect_to(address);
    raw.greet();
    raw.send(&[set(1, "key", b"value"), get(2, "key")].concat());
    assert_eq!(raw.told().status, Status::OK);
    assert_eq!(raw.told().text, "value");
}

#[test]
fn the_ready_line_names_the_listeners_for_memcached_and_they_take_a_load() {
    let server = ServerProcess::serve(&[
        "--listen",
        "127.0.0.1:0",
        "--memcached",
        "127.0.0.1:0",
        "--workers",
        "2",
        "--memory",
        "64MiB",
    ]);
    let (before, after) = server.ready().split_once(", memcached on ").unwrap();
    assert!(before.ends_with(&server.address().to_string()), "{before}");
    let address = after.split_once(' ').unwrap().0;
    let arguments = [
        "bench",
        "--json",
        "--keys",
        "100",
        "--connections",
        "4",
        "--depth",
        "8",
        "--load",
        "--verify",
        "--ratio",
        "1:1",
        "--requests",
        "2000",
        "--server",
    ];
    let url = format!("memcached://{address}");
    let ended = process::end_of(process::larder(&arguments).arg(&url), b"");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["operations"]), (Some(0), &2000.into()));
    assert_eq!(report["misses"], 0, "{report}");
}

#[test]
fn sigterm_and_sigint_drain_and_end_with_0() {
    for signal in ["-TERM", "-INT"] {
        let server = ServerProcess::serve(&["--listen", "127.0.0.1:0"]);
        let mut raw = Raw::connect_to(server.address());
        raw.greet();
        raw.send(&set(1, "key", b"value"));
        assert_eq!(raw.told().status, Status::OK);
        server.signal(signal);
        assert_eq!(raw.told().opcode, 0xE0);
        assert_eq!(raw.told().status, Status::DRAINED);
        raw.expect_end();
        drop(raw);
        let (code, log) = server.wait();
        assert_eq!(code, Some(0), "{log}");
    }
}

#[test]
fn sigterm_under_load_leaves_no_reply_torn() {
    let server = ServerProcess::serve(&["--listen", "127.0.0.1:0", "--workers", "2"]);
    let address = server.address();
    let (started, has_started) = std::sync::mpsc::channel();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let started = started.clone();
            std::thread::spawn(move || {
                let mut raw = Raw::connect_to(address);
                raw.greet();
                let key = format!("key-{client}");
                for id in 0.. {
                    use std::io::Write;
                    if raw
                        .stream
                        .write_all(&set(id, &key, &id.to_le_bytes()))
                        .is_err()
                    {
                        // The end may have come; it is read below.
                    }
                    loop {
                        match raw.next() {
                            Some(told) if told.opcode == 0xE0 => {}
                            Some(told) if told.opcode == 0xE1 => {
                                assert_eq!(told.status, Status::DRAINED);
                                raw.expect_end();
                                return id;
                            }
                            Some(told) => {
                                assert_eq!((told.id, told.status), (id, Status::OK));
                                break;
                            }
                            None => panic!("the connection ended without a word"),
                        }
                    }
                    if id == 100 {
                        started.send(()).unwrap();
                    }
                }
                unreachable!("ids do not run out")
            })
        })
        .collect();
    for _ in 0..8 {
        has_started.recv().unwrap();
    }
    server.signal("-TERM");
    for client in clients {
        assert!(client.join().unwrap() > 100);
    }
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = ServerProcess::serve(&["--listen", "127.0.0.1:0", "--drain-timeout", "1h"]);
    let mut raw = Raw::connect_to(server.address());
    raw.greet();
    raw.send(&get(1, "key")[..17]);
    server.signal("-TERM");
    assert_eq!(raw.told().opcode, 0xE0);
    server.signal("-TERM");
    let (code, _) = server.wait();
    assert_eq!(code, Some(128 + 15));
}

#[test]
fn a_unix_socket_serves_beside_tcp_and_goes_with_the_server() {
    let path = socket_path("beside");
    let unix = format!("unix:{}", path.display());
    let server = ServerProcess::serve(&["--listen", "127.0.0.1:0", "--listen", &unix]);
    assert!(server.ready().contains(&unix), "{}", server.ready());
    let mut local = Raw::over(UnixStream::connect(&path).unwrap());
    local.greet();
    local.send(&set(1, "key", b"value"));
    assert_eq!(local.told().status, Status::OK);
    let mut remote = Raw::connect_to(server.address());
    remote.greet();
    remote.send(&get(1, "key"));
    assert_eq!(remote.told().text, "value");
    drop((local, remote));
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn the_socket_of_a_server_that_is_gone_is_taken_over() {
    let path = socket_path("stale");
    drop(UnixListener::bind(&path).unwrap());
    let unix = format!("unix:{}", path.display());
    let server = ServerProcess::serve(&["--listen", &unix]);
    let mut local = Raw::over(UnixStream::connect(&path).unwrap());
    local.greet();
    let error = refused(&["--listen", &unix]);
    assert!(
        error.contains("a live server answers there; accepted:"),
        "{error}"
    );
    drop(server);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn an_address_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = refused(&["--listen", &address]);
    assert!(
        error.contains(&format!("cannot listen on {address}")),
        "{error}"
    );
    assert!(error.contains("accepted:"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused_with_what_is_accepted() {
    let long = format!("unix:/tmp/{}", "x".repeat(200));
    let free = ["--listen", "127.0.0.1:0"];
    for (arguments, expected) in [
        (
            &["--workers", "0"][..],
            "0 workers cannot serve; accepted: 1 to 1024",
        ),
        (
            &["--workers", "5000"],
            "5000 workers cannot serve; accepted: 1 to 1024",
        ),
        (&["--memory", "1KiB"], "a memory of 1024 bytes cannot work"),
        (
            &["--memory", "2097151B"],
            "it must be between 2097152 (2 MiB) and",
        ),
        (&["--memory", "5TiB"], "(4 TiB)"),
        (
            &["--memory", "4TiB"],
            "bytes for this process, swap included; accepted: less memory",
        ),
        (
            &["--memory", "4TiB", "--prefault"],
            "bytes cannot be touched ahead",
        ),
        (
            &[
                "--memory",
                "2MiB",
                "--workers",
                "1",
                "--huge-pages",
                "always",
            ],
            "huge pages cannot be had: the segments hold no whole one",
        ),
        (
            &["--huge-pages", "often"],
            "possible values: auto, always, never",
        ),
        (
            &["--memory", "plenty"],
            "`plenty` is not a size; accepted: a whole number with B",
        ),
        (&["--memory", "1.5GiB"], "`1.5GiB` is not a size"),
        (
            &["--listen", "nowhere"],
            "`nowhere` is not an address to listen on",
        ),
        (&["--listen", "127.0.0.1:70000"], "accepted: HOST:PORT"),
        (&["--listen", &long], "a Unix socket takes at most 107"),
        (
            &["--workers", "64", "--memory", "2MiB"],
            "2 MiB of memory have no room for 64 workers; accepted: 1 to",
        ),
        (
            &["--key-bytes-max", "0"],
            "keys of up to 0 bytes cannot work",
        ),
        (
            &["--key-bytes-max", "1MiB"],
            "keys of up to 1048576 bytes cannot work",
        ),
        (&["--busy-poll", "2s"], "accepted: 0s to 1s"),
        (&["--connections-max", "0"], "accepted: 1 to"),
        (&["--connections-max", "99999999"], "accepted: "),
        (&["--frame-bytes-max", "100"], "the frame limit cannot work"),
        (
            &["--buffer-memory", "1KiB"],
            "1024 bytes of connection buffers cannot work",
        ),
        (
            &["--idle-timeout", "soon"],
            "`soon` is not a duration; accepted:",
        ),
        (
            &["--value-bytes-max", "2GiB"],
            "the limit must be between 1 and 67108864",
        ),
        (
            &["--memory", "16GiB", "--value-bytes-max", "2GiB"],
            "frames carry 1073676208; accepted: up to 1073676208 bytes",
        ),
        (&["--idle-timeout", "0s"], "accepted: at least 1ms"),
        (&["--frame-timeout", "0ms"], "accepted: at least 1ms"),
        (&["--log", "verse"], "possible values: human, json"),
    ] {
        let error = refused(&[&free[..], arguments].concat());
        assert!(
            error.contains(expected),
            "{arguments:?} was refused with: {error}"
        );
    }
}

#[test]
fn sizes_are_accepted_in_every_unit_of_the_handbook() {
    for (memory, shown) in [
        ("2MiB", "2 MiB"),
        ("2922722B", "2922722 B"),
        ("4096KiB", "4 MiB"),
        ("10MB", "10000000 B"),
        ("1GiB", "1 GiB"),
    ] {
        let server = ServerProcess::serve(&[
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "1",
            "--memory",
            memory,
        ]);
        assert!(server.ready().contains(shown), "{}", server.ready());
    }
}

#[test]
fn a_json_log_is_one_object_on_each_line() {
    let server = ServerProcess::serve(&["--listen", "127.0.0.1:0", "--log", "json", "--pin"]);
    server.signal("-TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0));
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
}

/// What the system says of a process's parts of the cache's memory: their figures, added up.
fn said_of_the_arena(pid: u32, name: &str) -> (Vec<String>, u64) {
    let all = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut flags, mut kibibytes, mut inside) = (Vec::new(), 0, false);
    for line in all.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap() {
            range if !range.ends_with(':') => inside = line.contains("memfd:larder-arena"),
            "VmFlags:" if inside => flags.push(words.collect::<Vec<_>>().join(" ")),
            of if inside && of.trim_end_matches(':') == name => {
                kibibytes += words.next().unwrap().parse::<u64>().unwrap();
            }
            _ => {}
        }
    }
    assert!(!flags.is_empty(), "no arena");
    (flags, kibibytes << 10)
}

#[test]
fn memory_comes_with_use_or_ahead_and_never_into_a_core_dump() {
    let serve = |more: &[&str]| {
        let free = ["--listen", "127.0.0.1:0", "--workers", "1"];
        ServerProcess::serve(&[&free[..], &["--memory", "16MiB"], more].concat())
    };
    let (flags, held_bytes) = said_of_the_arena(serve(&[]).pid(), "Rss");
    assert!(flags.iter().all(|flags| flags.contains(" dd")), "{flags:?}");
    assert!(held_bytes < 4 << 20, "{held_bytes}");
    let ahead = serve(&["--prefault", "--huge-pages", "never", "--access-times"]);
    let (flags, held_bytes) = said_of_the_arena(ahead.pid(), "Rss");
    assert!(flags.iter().all(|flags| flags.contains(" dd")), "{flags:?}");
    // All but what is too little for one more segment.
    assert!((15 << 20..=16 << 20).contains(&held_bytes), "{held_bytes}");
}

#[test]
fn huge_pages_are_in_place_and_within_the_memory_or_refused() {
    let options = ["--memory", "16MiB", "--huge-pages", "always"];
    let listen = ["--listen", "127.0.0.1:0", "--workers", "1"];
    let server = ServerProcess::serve(&[&listen[..], &options].concat());
    if server.ready().is_empty() {
        // This machine has none; then the server says so, and what to do.
        let (code, log) = server.wait();
        assert_eq!(code, Some(2), "{log}");
        assert!(log.contains("huge pages cannot be had"), "{log}");
        return;
    }
    assert!(has_huge_pages(&server));
    let (_, held_bytes) = said_of_the_arena(server.pid(), "Rss");
    assert!((12 << 20..=16 << 20).contains(&held_bytes), "{held_bytes}");
    server.signal("-TERM");
    let (_, log) = server.wait();
    assert!(log.contains("huge pages, 1"), "{log}");
    // Those that nobody insists on come when something is stored.
    let server = ServerProcess::serve(&[&listen[..], &["--memory", "16MiB"]].concat());
    assert!(!has_huge_pages(&server));
    assert_eq!(server.run(&["set", "key", "value"]).code, Some(0));
    while !has_huge_pages(&server) {}
    let (_, held_bytes) = said_of_the_arena(server.pid(), "Rss");
    assert!((2 << 20..8 << 20).contains(&held_bytes), "{held_bytes}");
}

/// Whether the server's statistics say that it has some.
fn has_huge_pages(server: &ServerProcess) -> bool {
    let told = server.run(&["stats", "cache"]).stdout;
    let mut lines = told.lines().map(str::trim_start);
    let pages = lines.find(|line| line.starts_with("pages "));
    pages.expect("the pages").ends_with(" huge")
}

#[test]
fn where_no_endpoint_can_be_the_log_says_how_to_have_one() {
    let folder = PathBuf::from("/").join("too-long".repeat(13));
    let server = ServerProcess::serve_in(&folder, &["--listen", "127.0.0.1:0", "--memory", "8MiB"]);
    server.signal("-TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("there is no admin endpoint; --admin says where one is to be"),
        "{log}"
    );
}
