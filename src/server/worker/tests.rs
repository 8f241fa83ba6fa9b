use std::time::Instant;

use super::*;
use crate::server::ahead::tests::{connection, start};
use crate::server::{Running, Settings};

/// A worker beside that of a server.
fn worker(settings: Settings) -> (Running, Worker) {
    let (running, session) = start(settings);
    let (shared, station) = (&running.shared, &running.shared.stations[0]);
    let (shared, station) = (Arc::clone(shared), Arc::clone(station));
    let poll = Poll::new().unwrap();
    let worker = Worker::new(poll, shared, station, session);
    (running, worker)
}

#[test]
fn a_connection_that_was_told_to_go_is_waited_for_and_not_for_ever() {
    let (_running, worker) = worker(Settings::default());
    let (mut going, _peer) = connection(1, b"");
    going.phase = Phase::Lingering;
    going.waiting_ms = 5_000;
    assert_eq!(worker.verdict(&going, 5_000), Verdict::Stay);
    assert_eq!(worker.verdict(&going, 5_500), Verdict::Stay);
    let closed = Verdict::Close(Cause::Finished);
    assert_eq!(worker.verdict(&going, 6_500), closed);
}

#[test]
fn a_drain_waits_for_requests_that_are_on_their_way() {
    let (_running, mut worker) = worker(Settings::default());
    let (mut silent, _peer) = connection(1, b"");
    silent.readable = false;
    silent.active_ms = 5_000;
    assert_eq!(worker.verdict(&silent, 6_000), Verdict::Stay);
    worker.draining = true;
    assert_eq!(worker.verdict(&silent, 5_000), Verdict::Stay);
    assert_eq!(worker.verdict(&silent, 5_010), Verdict::Stay);
    let ended = Verdict::End(Ending::Drained);
    assert_eq!(worker.verdict(&silent, 5_100), ended);
    silent.readable = true;
    assert_eq!(worker.verdict(&silent, 5_100), Verdict::Stay);
}

#[test]
fn deadlines_are_looked_at_often_for_the_shortest_of_them_and_for_a_drain() {
    let ms = Duration::from_millis;
    let usual = Settings::default();
    let of_idle = Settings {
        idle_timeout: Some(ms(400)),
        ..usual.clone()
    };
    let of_frame = Settings {
        frame_timeout: ms(800),
        ..usual.clone()
    };
    let of_write = Settings {
        write_timeout: ms(1600),
        ..usual.clone()
    };
    for (settings, every_ms) in [
        (usual, 1000),
        (of_idle, 50),
        (of_frame, 100),
        (of_write, 200),
    ] {
        let (_running, mut worker) = worker(settings);
        assert_eq!(worker.sweep_every_ms(), every_ms);
        worker.draining = true;
        assert!(worker.sweep_every_ms() <= 10);
    }
}

#[test]
fn a_worker_that_is_to_poll_busily_does_not_sleep_after_a_request() {
    let (running, _session) = start(Settings {
        busy_poll: Duration::from_secs(1),
        ..Settings::default()
    });
    let station = &running.shared.stations[0];
    let begun = Instant::now();
    let ran_ns = || {
        let thread = station.black_box.snapshot().thread;
        let told = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
        let told = told.unwrap_or_default();
        told.split(' ')
            .next()
            .unwrap_or_default()
            .parse::<u64>()
            .unwrap_or(0)
    };
    // Until it has begun, it has no number.
    while ran_ns() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    let before_ns = ran_ns();
    station.waker.wake().unwrap();
    // One that sleeps would need for this some thousand events.
    while ran_ns() < before_ns + 20_000_000 {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(20), "it sleeps");
        std::thread::yield_now();
    }
}
