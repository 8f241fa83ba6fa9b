//! A hang has an address and a death a cause: what the process outside says of a server that does not go
//! on, or has ended.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
mod server_harness;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use larder_protocol::Status;
use process::{Ended, ServerProcess, end_of, larder};
use server_harness::{PATIENCE, Raw, set};

/// A server with an admin endpoint and a folder for evidence of its own.
struct Watched {
    server: ServerProcess,
    folder: Scratch,
}

/// A folder that goes with the test, after the server that writes there.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Watched {
    fn serve(name: &str, more: &[&str]) -> Self {
        let name = format!("larder-watch-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let admin = format!("unix:{}", folder.join("admin").display());
        let evidence = folder.join("evidence").display().to_string();
        let options = [
            "--memory",
            "64MiB",
            "--workers",
            "2",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            &admin,
            "--evidence",
            &evidence,
        ];
        let server = ServerProcess::serve(&[&options, more].concat());
        Self {
            server,
            folder: Scratch(folder),
        }
    }

    fn store(&self, key: &str) {
        let mut raw = Raw::connect_to(self.server.address());
        raw.greet();
        raw.send(&set(1, key, b"value"));
        assert_eq!(raw.told().status, Status::OK);
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        let admin = format!("unix:{}", self.folder.0.join("admin").display());
        let arguments = [arguments, &["--admin", &admin]].concat();
        end_of(&mut larder(&arguments), b"")
    }

    /// Asks until the answer is the one that is waited for.
    fn ask_until(&self, arguments: &[&str], is_it: impl Fn(&Ended) -> bool) -> Ended {
        let start = Instant::now();
        loop {
            let ended = self.ask(arguments);
            if is_it(&ended) {
                return ended;
            }
            assert!(start.elapsed() < PATIENCE, "{ended:?}");
        }
    }

    /// What the admin endpoint answers, head and all.
    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.0.join("admin")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The bundles that were saved for a reason.
    fn bundles(&self, what_for: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.0.join("evidence"));
        let paths = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_str().unwrap().ends_with(what_for))
            .collect()
    }
}

fn kill(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let mut command = Command::new("kill");
    assert!(command.arg(signal).args(pids).status().unwrap().success());
}

fn read(bundle: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(bundle.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_server_that_is_stopped_is_named_not_ready_and_goes_on_as_if_nothing_had_been() {
    let watched = Watched::serve(
        "stopped",
        &["--stall-warn", "200ms", "--stall-kill", "200ms"],
    );
    watched.store("key");
    let healthy = watched.ask(&["why"]);
    assert!(healthy.stdout.contains("worker-1 is "), "{healthy:?}");
    assert!(watched.get("/readyz").contains(" 200 "));
    let worker = watched.server.pid();
    kill("-STOP", &[worker]);
    let is_named = |ended: &Ended| {
        let named = ["worker-0", "worker-1", "upkeep"].map(|name| {
            let of =
                |line: &&str| line.starts_with(name) && line.contains("is stopped by a signal");
            ended.stdout.lines().any(|line| of(&line))
        });
        named == [true; 3]
    };
    let told = watched.ask_until(&["why"], is_named);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stdout.contains("    state "), "{told:?}");
    let one = watched.ask(&["why", "1", "--json"]);
    assert_eq!(one.code, Some(1), "{one:?}");
    assert!(one.stdout.contains(r#""verdict":"stopped""#), "{one:?}");
    assert!(!one.stdout.contains("worker-0"), "{one:?}");

    // Before the probe is answered, what it is about is saved.
    let probe = watched.get("/readyz");
    assert!(
        probe.contains(" 503 ") && probe.contains("no worker goes on"),
        "{probe}"
    );
    let bundles = watched.bundles("-not-ready");
    let [bundle] = &bundles[..] else {
        panic!("{bundles:?}")
    };
    assert!(read(bundle, "report.txt").contains("is stopped by a signal"));
    assert!(read(bundle, "threads.txt").contains("\nState:\tT (stopped)\n"));
    assert!(read(bundle, "figures.txt").contains("items="));
    assert!(read(bundle, "log.txt").contains("worker-0 has not gone on"));
    assert!(read(bundle, "settings.txt").contains("--stall-warn"));
    assert!(bundle.join("worker-1.box").exists());

    kill("-CONT", &[worker]);
    let told = watched.ask_until(&["why"], |ended| ended.code == Some(0));
    assert_eq!(
        watched.server.pid(),
        worker,
        "it was no hang, and not killed: {told:?}"
    );
    assert!(watched.get("/readyz").contains(" 200 "));
    let start = Instant::now();
    loop {
        let status = watched.get("/status.json");
        if status.contains(r#""step":"recovered""#) {
            assert!(status.contains(r#""step":"steered""#), "{status}");
            assert!(!status.contains(r#""step":"killed""#), "{status}");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{status}");
    }
    watched.store("key");
}

#[test]
fn there_is_no_such_worker() {
    let watched = Watched::serve("none", &[]);
    let ended = watched.ask(&["why", "7"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("there is no such worker"),
        "{ended:?}"
    );
    let ended = watched.ask(&["postmortem"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("no worker process has died"),
        "{ended:?}"
    );
}

#[test]
fn both_processes_stopped_and_continued_is_no_alarm() {
    let watched = Watched::serve("both", &[]);
    let mut raw = Raw::connect_to(watched.server.address());
    raw.greet();
    let (worker, supervisor) = (watched.server.pid(), watched.server.supervisor_pid());
    kill("-STOP", &[worker, supervisor]);
    // Longer than what is tolerated: it is the passing of time that is tried here.
    std::thread::sleep(Duration::from_millis(1500));
    kill("-CONT", &[supervisor, worker]);
    let told = watched.ask(&["why"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    // A turn of the worker, and so a look at it.
    raw.send(&set(1, "key", b"value"));
    assert_eq!(raw.told().status, Status::OK);
    let status = watched.get("/status.json");
    assert!(!status.contains("is stopped"), "{status}");
    assert!(status.contains(r#""stall_kills":0"#), "{status}");
}

#[test]
fn a_death_leaves_a_post_mortem_of_what_was_done_and_what_was_kept() {
    let watched = Watched::serve("death", &[]);
    watched.store("key");
    let before = watched.server.pid();
    kill("-KILL", &[before]);
    let is_complete = |ended: &Ended| ended.stdout.contains("The next process");
    let told = watched.ask_until(&["postmortem"], is_complete);
    assert_eq!(told.code, Some(0), "{told:?}");
    let said = &told.stdout;
    assert!(
        said.starts_with("The worker process was killed by SIGKILL, after "),
        "{said}"
    );
    assert!(
        said.contains(&format!("process {before}, larder ")),
        "{said}"
    );
    assert!(said.contains("was sleeping"), "{said}");
    assert!(said.contains(" set of key "), "{said}");
    assert!(
        said.contains("(3 bytes of key, 5 of value): stored"),
        "{said}"
    );
    assert!(said.contains("with what recovery kept"), "{said}");
    assert!(
        !said.contains("It was in the midst of"),
        "nobody was: {said}"
    );
    let bundles = watched.bundles("-death");
    let [bundle] = &bundles[..] else {
        panic!("{bundles:?}")
    };
    let path = bundle.to_str().unwrap();
    let saved = watched.ask(&["postmortem", "--bundle", path]);
    let (told, saved) = (told.stdout.lines(), saved.stdout);
    // The report in the bundle does not say where it is.
    let told: Vec<_> = told
        .filter(|line| !line.starts_with("The evidence is in"))
        .collect();
    assert_eq!(
        saved.trim_end().lines().collect::<Vec<_>>(),
        told[..told.len() - 1]
    );
    assert!(saved.contains("items"), "{saved}");
    let of_workers = ["worker-0.txt", "worker-1.txt"].map(|name| bundle.join(name).exists());
    assert_ne!(of_workers, [false; 2], "one of them has executed something");
    let nothing = watched.ask(&["postmortem", "--bundle", "/nowhere"]);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
}

#[test]
fn what_cannot_work_is_refused() {
    for (options, why) in [
        (["--stall-warn", "1ms"], "--stall-warn"),
        (["--stall-kill", "10ms"], "--stall-kill"),
    ] {
        let arguments = [
            &["serve", "--listen", "127.0.0.1:0", "--admin", "none"][..],
            &options,
        ];
        let ended = end_of(&mut larder(&arguments.concat()), b"");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
    }
}

#[test]
fn the_last_word_of_a_supervisor_says_where_the_evidence_is() {
    let watched = Watched::serve(
        "last",
        &["--cold-after-deaths", "1", "--end-after-deaths", "1"],
    );
    watched.store("key");
    let Watched { server, folder } = watched;
    kill("-KILL", &[server.pid()]);
    let (code, log) = server.wait();
    assert_eq!(code, Some(4), "{log}");
    let last = log.lines().last().unwrap_or_default();
    let command = "larder postmortem --bundle ";
    let (_, bundle) = last.split_once(command).unwrap_or_else(|| panic!("{log}"));
    let bundle = bundle.split('`').next().unwrap();
    assert!(bundle.starts_with(folder.0.to_str().unwrap()), "{log}");
    let told = end_of(&mut larder(&["postmortem", "--bundle", bundle]), b"");
    assert!(told.stdout.contains(" set of key "), "{told:?}");
}

#[test]
fn a_worker_that_hangs_is_killed_where_that_was_asked_for_and_the_contents_are_kept() {
    let limits = ["--stall-warn", "200ms", "--stall-kill", "400ms"];
    let watched = Watched::serve("hangs", &[&["--allow-drills"], &limits[..]].concat());
    watched.store("key");
    let before = watched.server.pid();
    let drill = watched.ask(&["drill", "hang", "--worker", "0"]);
    let is_complete = |ended: &Ended| ended.stdout.contains("The next process");
    let told = watched.ask_until(&["postmortem"], is_complete).stdout;
    assert_ne!(watched.server.pid(), before, "{drill:?}");
    let killed = "was killed by SIGKILL, by its supervisor, since worker-0 hung";
    assert!(told.contains(killed), "{told}");
    assert!(told.contains("worker-0 has not gone on for"), "{told}");
    assert!(
        told.contains("is blocked in the system call clock_nanosleep"),
        "{told}"
    );
    assert!(told.contains(" killed: worker-0"), "{told}");
    assert!(told.contains("with what recovery kept"), "{told}");
    assert_eq!(watched.bundles("-stall").len(), 1);
}
