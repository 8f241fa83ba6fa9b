//! What the buffers of connections come to in the process that serves, as the system counts it.
#![cfg(all(feature = "server", target_env = "gnu"))]

#[path = "support/process.rs"]
mod process;
mod server_harness;

use process::ServerProcess;
use server_harness::{Raw, request};

const WORKERS: usize = 6;

/// What all connections may hold.
const BUDGET_BYTES: u64 = 8 << 20;

/// Connections of a worker that begin a long frame: most of the budget.
const LONG: usize = 120;

/// As many of the long ones for each that begins a short frame behind them, and keeps it.
const LONG_FOR_EACH_SHORT: usize = 8;

/// What the process has in memory of its own, in bytes.
fn own_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("RssAnon:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() << 10
}

/// Sends all of a frame but its last byte.
fn begin(raw: &mut Raw, frame: &[u8]) -> u64 {
    let begun = &frame[..frame.len() - 1];
    raw.send(begun);
    begun.len() as u64
}

#[test]
fn workers_that_hold_the_budget_one_after_the_other_take_its_memory_once() {
    let [workers, budget] = [WORKERS as u64, BUDGET_BYTES].map(|number| number.to_string());
    let server = ServerProcess::serve(
        &[
            &["--listen", "127.0.0.1:0", "--memory", "64MiB"][..],
            &["--workers", &workers, "--frame-timeout", "60s"],
            &["--buffer-memory", &format!("{budget}B")],
        ]
        .concat(),
    );
    let connect = || {
        let mut raw = Raw::connect_to(server.address());
        raw.greet();
        raw
    };
    // Workers are given their connections in turn.
    let mut control = connect();
    let _others: Vec<Raw> = (1..WORKERS).map(|_| connect()).collect();
    let mut of_workers: [Vec<Raw>; WORKERS] = Default::default();
    for _ in 0..LONG + LONG / LONG_FOR_EACH_SHORT {
        of_workers
            .iter_mut()
            .for_each(|of_worker| of_worker.push(connect()));
    }
    let before = own_bytes(server.pid());
    let [long, short] = [60_000, 4000].map(|bytes| request(0x02, 1, 0, &vec![7; bytes]));
    let mut shorts = Vec::new();
    for mut of_worker in of_workers {
        let mut longs = of_worker.split_off(LONG / LONG_FOR_EACH_SHORT);
        for (longs, mut kept) in longs.chunks_mut(LONG_FOR_EACH_SHORT).zip(of_worker) {
            for (raws, frame) in [(longs, &long), (std::slice::from_mut(&mut kept), &short)] {
                let read = control.figure("bytes_in");
                let begun: u64 = raws.iter_mut().map(|raw| begin(raw, frame)).sum();
                control.wait_for_figure("bytes_in", |bytes| bytes >= read + begun);
            }
            shorts.push(kept);
        }
        assert!(control.figure("buffer_bytes") > BUDGET_BYTES * 3 / 4);
        drop(longs);
        let rest_bytes = shorts.len() as u64 * 4096;
        control.wait_for_figure("buffer_bytes", |bytes| bytes <= rest_bytes);
    }
    let taken = own_bytes(server.pid()).saturating_sub(before);
    assert!(taken < 2 * BUDGET_BYTES, "{taken} bytes");
}
