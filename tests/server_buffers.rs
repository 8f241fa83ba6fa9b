//! Memory that clients can claim: begun frames and unread replies, all within one budget.
#![cfg(feature = "server")]

mod server_harness;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use larder::server::{Running, Server, Settings, Tuning};
use larder::{Cache, Config};
use larder_protocol::Status;
use server_harness::{PATIENCE, Raw, get, ping, request, set, settings, start};

/// A server whose values may have about 256 KiB.
fn start_for_large_values(settings: Settings) -> Running {
    let mut config = Config::new(256 << 20);
    config.sessions_max = settings.workers as u32 + 1;
    Server::start(settings, Cache::new(config).unwrap()).unwrap()
}

#[test]
fn large_values_come_back_as_they_were_sent() {
    let running = start_for_large_values(settings(1));
    let mut raw = Raw::greeted(&running);
    for value_bytes in [65_000, 65_536, 70_000, 131_072, 250_000] {
        let value: Vec<u8> = (0..value_bytes).map(|at| b'a' + (at % 23) as u8).collect();
        let frames = [ping(1), set(2, "large", &value), get(3, "large"), ping(4)].concat();
        for chunk in frames.chunks(50_001) {
            raw.send(chunk);
        }
        assert_eq!(raw.told().id, 1);
        assert_eq!(raw.told().status, Status::OK);
        let told = raw.told();
        assert!(
            told.text.as_bytes() == value,
            "{value_bytes} bytes came back changed"
        );
        assert_eq!(raw.told().id, 4);
    }
    assert_eq!(raw.figure("buffer_bytes"), 0);
}

#[test]
fn slow_senders_together_stay_within_the_budget() {
    const BUDGET: u64 = 1 << 20;
    let running = start(Settings {
        buffer_bytes_max: BUDGET,
        ..settings(2)
    });
    let mut control = Raw::greeted(&running);
    let frame = request(0x02, 5, 0, &[7; 60_000]);
    let half = frame.len() / 2;
    let mut slow: Vec<Raw> = (0..100).map(|_| Raw::greeted(&running)).collect();
    let read = control.figure("bytes_in");
    for raw in &mut slow {
        raw.send(&frame[..half]);
    }
    let all = read + 100 * half as u64;
    control.wait_for_figure("bytes_in", |bytes| bytes >= all);
    let held = control.figure("buffer_bytes");
    assert!(
        (BUDGET / 2..=BUDGET).contains(&held),
        "{held} bytes are held"
    );

    // Each is served when its frame is whole, or told at once that there was no room for it; either
    // way its connection goes on.
    let mut overloaded = 0;
    for raw in &mut slow {
        raw.send(&frame[half..]);
        raw.send(&ping(6));
        let told = raw.told();
        assert_eq!(told.id, 5);
        match told.status {
            Status::OK => {}
            Status::OVERLOADED => overloaded += 1,
            other => panic!("told {other}"),
        }
        assert_eq!(raw.told().id, 6);
    }
    assert!(overloaded >= 60, "only {overloaded} had no room");
    assert_eq!(control.figure("refused_overloaded"), overloaded);
    assert_eq!(control.figure("buffer_bytes"), 0);
}

#[test]
fn frames_larger_than_a_workers_buffer_are_refused_in_the_middle_where_room_runs_out() {
    let running = start_for_large_values(Settings {
        buffer_bytes_max: 600_000,
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    let frame = request(0x02, 5, 0, &[7; 250_000]);
    let mut slow: Vec<Raw> = (0..5).map(|_| Raw::greeted(&running)).collect();
    for raw in &mut slow {
        raw.send(&frame[..200_000]);
    }
    control.wait_for_figure("bytes_in", |bytes| bytes >= 1_000_000);
    assert!(control.figure("buffer_bytes") <= 600_000);
    let mut outcomes = Vec::new();
    for raw in &mut slow {
        raw.send(&[&frame[200_000..], &ping(6)].concat());
        outcomes.push(raw.told().status);
        assert_eq!(raw.told().id, 6);
    }
    assert!(
        outcomes.contains(&Status::OK) && outcomes.contains(&Status::OVERLOADED),
        "{outcomes:?}"
    );
    assert_eq!(control.figure("buffer_bytes"), 0);
}

/// Sends requests until the server reads no more of them.
fn send_until_it_stops(raw: &mut Raw, control: &mut Raw, frame: &[u8]) {
    let frames = frame.repeat(1000);
    raw.stream.set_nonblocking(true).unwrap();
    let (mut at, mut backlogs) = (0, 0);
    loop {
        match raw.stream.write(&frames[at..]) {
            Ok(count) => at = (at + count) % frames.len(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Full on this side; it stays so once the server has replies it cannot send.
                if backlogs > 0 {
                    break;
                }
                backlogs = control.figure("backlogs");
            }
            Err(error) => panic!("{error}"),
        }
    }
    raw.stream.set_nonblocking(false).unwrap();
}

#[test]
fn a_reader_that_never_reads_is_held_back_then_closed() {
    let settings = Settings {
        write_timeout: PATIENCE,
        ..settings(1)
    };
    let running = start(settings.clone());
    let mut control = Raw::greeted(&running);
    control.send(&set(1, "key", &[b'v'; 30_000]));
    assert_eq!(control.told().status, Status::OK);
    let mut stuck = Raw::greeted(&running);
    send_until_it_stops(&mut stuck, &mut control, &get(2, "key"));
    let held = control.figure("buffer_bytes");
    assert!(held < 400_000, "{held} bytes wait for one reader");
    control.send(&get(3, "key"));
    assert_eq!(control.told().body_bytes, 30_008);
    // Its time runs out once all that was looked at, however long that took.
    let tuning = Tuning {
        write_timeout: Duration::from_millis(1),
        ..Tuning::of(&settings)
    };
    running.drainer().tune(&tuning).unwrap();
    control.wait_for_figure("closed_slow_reader", |closed| closed == 1);
    control.wait_for_figure("connections", |open| open == 1);
    assert_eq!(control.figure("buffer_bytes"), 0);
}

#[test]
fn a_reader_that_catches_up_gets_every_reply_in_order() {
    let running = start(Settings {
        write_timeout: PATIENCE,
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    control.send(&set(1, "key", &[b'v'; 20_000]));
    assert_eq!(control.told().status, Status::OK);
    let mut late = Raw::greeted(&running);
    let mut writer = late.stream.try_clone().unwrap();
    const REQUESTS: u32 = 3000;
    let sender = std::thread::spawn(move || {
        let frames: Vec<u8> = (0..REQUESTS).flat_map(|id| get(id, "key")).collect();
        writer.write_all(&frames).unwrap();
    });
    control.wait_for_figure("backlogs", |backlogs| backlogs > 0);
    for id in 0..REQUESTS {
        let told = late.told();
        assert_eq!((told.id, told.body_bytes), (id, 20_008));
    }
    sender.join().unwrap();
    assert_eq!(control.figure("buffer_bytes"), 0);
}

#[test]
fn one_busy_connection_leaves_turns_for_the_others() {
    let running = start(settings(1));
    let mut control = Raw::greeted(&running);
    control.send(&set(1, "key", &[b'v'; 60_000]));
    assert_eq!(control.told().status, Status::OK);
    let mut busy = Raw::greeted(&running);
    const REQUESTS: u32 = 2000;
    let mut writer = busy.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let frames: Vec<u8> = (0..REQUESTS).flat_map(|id| get(id, "key")).collect();
        writer.write_all(&frames).unwrap();
    });
    let reader = std::thread::spawn(move || {
        for id in 0..REQUESTS {
            assert_eq!(busy.told().id, id);
        }
    });
    control.wait_for_figure("slices_exhausted", |slices| slices > 0);
    reader.join().unwrap();
    sender.join().unwrap();
}
