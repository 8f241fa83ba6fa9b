//! A hang has an address and a death a cause: what the process outside says of a server that does not go
//! on, or has ended.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
mod server_harness;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use larder_protocol::Status;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
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
        Self::serve_logging_to(name, more, Stdio::piped())
    }

    fn serve_logging_to(name: &str, more: &[&str], log: Stdio) -> Self {
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
        let server = ServerProcess::serve_logging_to(&[&options, more].concat(), log);
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
        self.request("GET", path)
    }

    fn request(&self, method: &str, path: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.0.join("admin")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n\r\n");
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

/// Traces all threads of a process, which stops none of them, so that nobody else may: whoever tries is
/// refused, whatever rights it has. They are free again when this goes.
struct Tracer {
    ends: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Tracer {
    fn of(process: u32) -> Self {
        let (ends, end) = mpsc::channel::<()>();
        let (seized, is_seized) = mpsc::channel();
        let thread = thread::spawn(move || {
            for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
                let task = task.unwrap().file_name().into_string().unwrap();
                let task = Pid::from_raw(task.parse().unwrap());
                ptrace::seize(task, ptrace::Options::empty()).unwrap();
            }
            seized.send(()).unwrap();
            // A thread's tracees are free when it ends.
            let _ = end.recv();
        });
        is_seized.recv().expect("every thread can be traced");
        Self {
            ends: Some(ends),
            thread: Some(thread),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.ends = None;
        // Its panic has been said.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Has a thread of a process stand still, as one does that waits for a disk that hangs, until the process ends.
fn have_stand_still(process: u32, thread: &str) {
    let name = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let task = tasks.find(|task| name(task).trim_end() == thread).unwrap();
    let task = task.file_name().unwrap().to_str().unwrap();
    let task = Pid::from_raw(task.parse().unwrap());
    let (stands, does_stand) = mpsc::channel();
    thread::spawn(move || {
        ptrace::seize(task, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(task).unwrap();
        waitpid(task, Some(WaitPidFlag::__WALL)).unwrap();
        stands.send(()).unwrap();
        // Its end is told here, and the end of its process to nobody before.
        let _ = waitpid(task, Some(WaitPidFlag::__WALL));
    });
    does_stand.recv().expect("it can be traced");
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
    for (number, expected) in [
        ("7", "there is no worker 7; accepted: 0 to 1"),
        ("x", "`x` is not a whole number; accepted: digits"),
    ] {
        let ended = watched.ask(&["why", number]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
    }
    let ended = watched.ask(&["postmortem"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("no worker process has died"),
        "{ended:?}"
    );
}

/// Standard error is a pipe that nobody reads, and that is full from the beginning.
#[test]
fn whoever_does_not_read_the_log_holds_nothing_up() {
    let (reader, writer) = std::io::pipe().unwrap();
    let status = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, status | rustix::fs::OFlags::NONBLOCK).unwrap();
    while (&writer).write(&[0; 4096]).is_ok() {}
    while (&writer).write(&[0]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, status).unwrap();
    let watched = Watched::serve_logging_to("unread", &["--allow-drills"], writer.into());
    watched.store("key");
    // A process that is out of memory says so itself.
    for death in ["kill", "oom"] {
        let before = watched.server.pid();
        match death {
            "kill" => kill("-KILL", &[before]),
            drill => {
                let drilled = watched.ask(&["drill", drill, "--worker", "0"]);
                assert_eq!(drilled.code, Some(0), "{drilled:?}");
            }
        }
        let is_complete = |ended: &Ended| ended.stdout.contains("The next process");
        watched.ask_until(&["postmortem"], is_complete);
        watched.server.signal("-HUP");
    }
    assert!(watched.get("/readyz").contains(" 200 "));
    // Whoever asks for the evidence has the lines that nobody read.
    let bundles = watched.bundles("-death");
    let logs = bundles.iter().map(|bundle| bundle.join("log.txt"));
    // Before the first death there may have been nothing to say.
    let logs: String = logs.flat_map(std::fs::read_to_string).collect();
    assert!(logs.contains("was killed by SIGKILL"), "{logs}");
    watched.server.signal("-TERM");
    let Watched { server, folder } = watched;
    assert_eq!(server.end(), Some(0));
    drop((reader, folder));
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
fn a_disk_that_hangs_keeps_nobody_from_being_told_nor_the_server_from_its_end() {
    let watched = Watched::serve("disk", &["--stall-warn", "200ms"]);
    watched.store("key");
    let before = watched.server.pid();
    have_stand_still(watched.server.supervisor_pid(), "larder-evidence");
    kill("-KILL", &[before]);
    let is_complete = |ended: &Ended| ended.stdout.contains("The next process");
    let said = watched.ask_until(&["postmortem"], is_complete).stdout;
    let killed = "The worker process was killed by SIGKILL, after ";
    assert!(said.starts_with(killed), "{said}");
    assert!(
        said.contains(&format!("process {before}, larder ")),
        "{said}"
    );
    assert!(said.contains(" set of key "), "{said}");
    let next = [watched.server.pid()];
    kill("-STOP", &next);
    let not_ready = "HTTP/1.1 503";
    let start = Instant::now();
    while !watched.get("/readyz").starts_with(not_ready) {
        assert!(start.elapsed() < PATIENCE);
    }
    kill("-CONT", &next);
    watched.server.signal("-TERM");
    assert_eq!(watched.server.end(), Some(0));
}

#[test]
fn a_drain_is_answered_at_once_and_leaves_no_evidence() {
    let watched = Watched::serve("drain", &[]);
    // A connection that stays has the drain wait.
    let mut raw = Raw::connect_to(watched.server.address());
    raw.greet();
    watched.server.signal("-TERM");
    raw.next().expect("the notice of the drain");
    let told = watched.get("/readyz");
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(told.ends_with("draining\n"), "{told}");
    let Watched { server, folder } = watched;
    assert_eq!(server.end(), Some(0));
    assert!(!folder.0.join("evidence").exists());
}

#[test]
fn the_evidence_has_the_settings_that_the_process_had() {
    let name = format!("larder-watch-{}-settings-file", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&scratch.0).unwrap();
    let file = scratch.0.join("larder.toml");
    std::fs::write(&file, "connections-max = 100\n").unwrap();
    let watched = Watched::serve("settings", &["--config", file.to_str().unwrap()]);
    let settings_of_next_death = |deaths: usize| {
        kill("-KILL", &[watched.server.pid()]);
        let is_saved = |_: &Ended| watched.bundles("-death").len() == deaths;
        watched.ask_until(&["postmortem"], is_saved);
        let settings = read(
            watched.bundles("-death").iter().max().unwrap(),
            "settings.txt",
        );
        let lines = settings.lines().map(str::to_owned);
        lines.take(2).collect::<Vec<_>>()
    };
    let [first, second] = ["--connections-max=100", "--connections-max=50"];
    let settings = settings_of_next_death(1);
    assert!(settings[0].contains(first), "{settings:?}");
    std::fs::write(&file, "connections-max = 50\n").unwrap();
    // The process that serves is told after the supervisor.
    watched.ask_until(&["status"], |ended| ended.code == Some(0));
    watched.server.signal("-HUP");
    let counts = |_: &Ended| {
        let stats = watched.server.run(&["stats", "settings", "--json"]).stdout;
        stats.replace(' ', "").contains("\"connections_max\":50")
    };
    watched.ask_until(&["status"], counts);
    let settings = settings_of_next_death(2);
    assert!(settings[0].contains(first), "{settings:?}");
    assert!(settings[1].starts_with("read anew since: "), "{settings:?}");
    assert!(settings[1].contains(second), "{settings:?}");
    watched.ask_until(&["status"], |ended| ended.code == Some(0));
    let settings = settings_of_next_death(3);
    assert!(settings[0].contains(second), "{settings:?}");
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
    assert!(told.contains("larder::server::drill::"), "{told}");
    assert!(told.contains("with what recovery kept"), "{told}");
    assert_eq!(watched.bundles("-stall").len(), 1);
}

#[test]
fn a_worker_that_spins_is_found_in_its_function_and_nobody_is_harmed() {
    let watched = Watched::serve("spins", &["--allow-drills", "--stall-warn", "100ms"]);
    watched.store("key");
    let before = watched.server.pid();
    let begun = watched.request("POST", "/drill?drill=spin&worker=0&for_ms=600000");
    assert!(begun.contains(" 200 "), "{begun}");
    let has_stack = |ended: &Ended| ended.stdout.contains("    stack ");
    let told = watched.ask_until(&["why", "0"], has_stack).stdout;
    assert!(told.contains("larder::server::drill::spin"), "{told}");
    // The others go on, and take what is new.
    watched.store("other");
    assert_eq!(watched.server.pid(), before);
    let is_saved = |_: &Ended| !watched.bundles("-stall").is_empty();
    watched.ask_until(&["why", "0"], is_saved);
    let bundles = watched.bundles("-stall");
    let stacks = read(&bundles[0], "stacks.txt");
    for expected in [
        "== worker-0",
        "== upkeep",
        "larder::server::drill::spin",
        "larder::server::upkeep::",
    ] {
        assert!(stacks.contains(expected), "{expected}: {stacks}");
    }
    let report = read(&bundles[0], "report.txt");
    assert!(report.contains("larder::server::drill::spin"), "{report}");
}

#[test]
fn where_ptrace_is_refused_the_evidence_says_so_and_has_everything_else() {
    let watched = Watched::serve("refused", &["--allow-drills", "--stall-warn", "100ms"]);
    watched.store("key");
    let _tracer = Tracer::of(watched.server.pid());
    let begun = watched.request("POST", "/drill?drill=hang&worker=0&for_ms=600000");
    assert!(begun.contains(" 200 "), "{begun}");
    let refused = "the system refuses ptrace: Operation not permitted";
    let has_stack = |ended: &Ended| ended.stdout.contains("    stack ");
    let told = watched.ask_until(&["why", "0"], has_stack).stdout;
    assert!(told.contains(refused), "{told}");
    assert!(
        told.contains("is blocked in the system call clock_nanosleep"),
        "{told}"
    );
    // It goes on meanwhile, as far as it does.
    watched.store("other");
    let is_saved = |_: &Ended| !watched.bundles("-stall").is_empty();
    watched.ask_until(&["why", "0"], is_saved);
    let bundle = &watched.bundles("-stall")[0];
    let threads = ["worker-0", "worker-1", "upkeep", "acceptor"];
    let stacks = read(bundle, "stacks.txt");
    let all_refused = threads.map(|thread| format!("== {thread}\n({refused})\n"));
    assert_eq!(stacks, all_refused.concat());
    let report = read(bundle, "report.txt");
    for expected in [
        refused,
        "worker-0",
        "is blocked in the system call clock_nanosleep",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
    assert!(read(bundle, "report.json").contains(refused));
    assert!(read(bundle, "settings.txt").contains("--stall-warn"));
    assert!(read(bundle, "log.txt").contains("worker-0"));
    assert!(read(bundle, "figures.txt").contains("items="));
    // Whoever has executed nothing has no file of it.
    let lists = ["worker-0.txt", "worker-1.txt"].map(|name| bundle.join(name));
    let operations = lists.map(|list| std::fs::read_to_string(list).unwrap_or_default());
    assert!(operations.concat().contains("set "), "{operations:?}");
    let of_system = read(bundle, "threads.txt");
    for thread in threads {
        assert!(of_system.contains(&format!("== {thread}")), "{of_system}");
        let bytes = std::fs::read(bundle.join(format!("{thread}.box"))).unwrap();
        assert!(larder::blackbox::BlackBox::from_bytes(&bytes).is_ok());
    }
}
