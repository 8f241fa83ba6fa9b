//! Values larger than a buffer: every byte comes back, whoever stops in the middle holds nothing
//! after its deadline, and nobody else waits.
#![cfg(feature = "server")]

mod order;
#[path = "../server_harness/mod.rs"]
mod server_harness;
mod slow;

use std::time::Instant;

use larder::server::Running;
use larder_protocol::Status;
use server_harness::{PATIENCE, Raw, get, set};

/// What the cap of a server of 64 MiB is, the memory of [`start`].
const CAP: usize = 16 << 20;
/// What a segment of it has.
const SEGMENT: usize = 64 << 10;

/// A frame of an answer.
struct Answer {
    opcode: u8,
    id: u32,
    status: Status,
    body: Vec<u8>,
}

impl Answer {
    /// The value of a GET.
    fn value(&self) -> &[u8] {
        assert_eq!(self.status, Status::OK, "{}", self.sentence());
        &self.body[8..]
    }

    fn sentence(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn answer(raw: &mut Raw) -> Answer {
    let head = raw.read_exactly(16);
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
    Answer {
        opcode: head[0],
        id: number(4),
        status: Status(u16::from_le_bytes([head[2], head[3]])),
        body: raw.read_exactly(number(12) as usize),
    }
}

/// Bytes that no other place and no other seed has.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut made = Vec::with_capacity(count + 8);
    while made.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend_from_slice(&state.to_le_bytes());
    }
    made.truncate(count);
    made
}

fn store(raw: &mut Raw, key: &str, value: &[u8]) {
    raw.send(&set(1, key, value));
    let told = answer(raw);
    assert_eq!(
        (told.id, told.status),
        (1, Status::OK),
        "{}",
        told.sentence()
    );
}

fn fetch(raw: &mut Raw, key: &str) -> Answer {
    raw.send(&get(2, key));
    answer(raw)
}

/// Memory that no item has, be it free or about to be.
fn spare_bytes(raw: &mut Raw) -> u64 {
    raw.figure("free_bytes") + raw.figure("limbo_bytes")
}

fn wait_for_spare(raw: &mut Raw, wanted: u64) {
    let start = Instant::now();
    // Less what sessions may have opened since for ordinary items.
    while spare_bytes(raw) + 4 * (SEGMENT as u64) < wanted {
        assert!(start.elapsed() < PATIENCE, "memory does not come back");
    }
}

/// Sends a GET of a value so long that it cannot be sent unread, and waits until it is stuck.
fn stuck_reader(running: &Running, control: &mut Raw, key: &str) -> Raw {
    let mut stuck = Raw::greeted(running);
    let before = control.figure("backlogs");
    stuck.send(&get(2, key));
    control.wait_for_figure("backlogs", |backlogs| backlogs > before);
    stuck
}
