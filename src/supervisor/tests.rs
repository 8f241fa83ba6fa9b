use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use rustix::process::kill_process;

use super::*;

/// Has a supervisor, whose command line this is.
fn supervise(arguments: &'static [&str], work: impl FnOnce(Supervisor)) {
    let terms = || Terms {
        arguments: arguments.iter().map(OsString::from).collect(),
        config: Config::new(4 << 20),
        start_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(10),
        deaths: DeathLimits {
            cold_from: 3,
            end_from: 7,
            delay_max: Duration::ZERO,
        },
        refuse_for: Duration::from_secs(60),
        upgrade_timeout: Duration::from_secs(60),
        stalls: StallLimits {
            warn: Duration::from_secs(1),
            kill: None,
        },
    };
    let plan = Plan {
        terms: terms(),
        reread: Reread(Box::new(move || Ok(terms()))),
        entrances: Vec::new(),
        admin: Vec::new(),
        evidence: None,
        recent_log: RecentLog::default(),
        allow_drills: false,
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async { work(Supervisor::new(plan).unwrap()) });
}

/// Has it that this process was started, which any signal ends, also where this one was told to ignore SIGHUP.
fn start(supervisor: &mut Supervisor) -> (Child, Pid) {
    let mut command = Command::new("cat");
    let hear_hangup = || {
        // SAFETY: it is a call of the system, and does nothing else.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: what is done between fork and exec takes no memory and no lock.
    unsafe { command.pre_exec(hear_hangup) };
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let started = Instant::now();
    supervisor.worker = Worker::Running(Running {
        pid,
        started,
        is_ready: false,
        killed_at: Some(started + supervisor.plan.terms.start_timeout),
        is_ending: false,
        is_behind: false,
        config: supervisor.plan.terms.config.clone(),
    });
    (child, pid)
}

fn say_ready(supervisor: &mut Supervisor, pid: Pid) {
    let note = Note {
        ready: true,
        ..Note::default()
    };
    supervisor.hear(Some(pid), note);
}

fn killed_at(supervisor: &Supervisor) -> Option<Instant> {
    match &supervisor.worker {
        Worker::Running(running) => running.killed_at,
        Worker::None { .. } => panic!("there is a process"),
    }
}

/// Ends a process; says by which signal it has ended: of several, the one with the lowest number.
fn end(mut child: Child, pid: Pid) -> Option<Signal> {
    kill_process(pid, Signal::TERM).unwrap();
    let signal = child.wait().unwrap().signal();
    signal.and_then(Signal::from_named_raw)
}

#[test]
fn a_process_that_is_not_ready_is_told_of_new_settings_when_it_is() {
    supervise(&["larder"], |mut supervisor| {
        let (child, pid) = start(&mut supervisor);
        supervisor.reload();
        assert_eq!(end(child, pid), Some(Signal::TERM), "it is not told yet");
        let (child, pid) = start(&mut supervisor);
        supervisor.reload();
        say_ready(&mut supervisor, pid);
        assert_eq!(end(child, pid), Some(Signal::HUP));
        let (child, pid) = start(&mut supervisor);
        say_ready(&mut supervisor, pid);
        assert_eq!(end(child, pid), Some(Signal::TERM), "there is nothing new");
    });
}

#[test]
fn a_process_that_becomes_ready_while_it_is_to_end_still_has_to_end_in_time() {
    supervise(&["larder"], |mut supervisor| {
        let (child, pid) = start(&mut supervisor);
        supervisor.tell_to_end(Signal::TERM);
        let latest = killed_at(&supervisor);
        assert!(latest.is_some());
        say_ready(&mut supervisor, pid);
        assert_eq!(killed_at(&supervisor), latest);
        end(child, pid);
        let (child, pid) = start(&mut supervisor);
        say_ready(&mut supervisor, pid);
        assert_eq!(killed_at(&supervisor), None, "it was to be ready, and is");
        end(child, pid);
    });
}

#[test]
fn a_start_that_the_system_refuses_is_tried_again_soon_and_not_at_once() {
    // No program can be given such an argument.
    supervise(&["larder", "\0"], |mut supervisor| {
        supervisor.has_served = true;
        let before = Instant::now();
        supervisor.start().unwrap();
        let after = Instant::now();
        let Worker::None { start_at } = supervisor.worker else {
            panic!("{:?}", supervisor.worker)
        };
        assert!(start_at >= before + Duration::from_millis(100));
        assert!(start_at <= after + Duration::from_secs(10));
        assert_eq!(supervisor.due(), Some(start_at));
    });
}
