//! Readers of boxes that are damaged, of another version, torn, or no boxes at all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use proptest::prelude::*;

use super::layout::{
    BATCHES_AT, BOARD_AT, BYTES, COUNTERS_AT, IDENTITY_AT, MAGIC_AT, NAMES_AT, OPERATIONS_AT,
    SERVED_AT, VERSION_AT,
};
use super::sequence::Sequence;
use super::*;
use crate::shape::{BOARD_BYTES, BOX_OPERATIONS};
use crate::sync::Arc;

const NAMES: &[&str] = &["requests", "batches"];

/// A box with something in each part.
fn used() -> Arc<BlackBox> {
    let black_box = BlackBox::create(Kind::Worker, 3, NAMES).unwrap();
    let black_box = Arc::new(black_box);
    let mut pen = Pen::new(Arc::clone(&black_box));
    pen.tick(1_000_000);
    pen.introduce(&Thread {
        process: 1,
        thread: 2,
        session: 3,
        started: Duration::from_secs(4),
        build: "a build",
    });
    for number in 1..=10_000 {
        pen.tick(number * 1000);
        pen.begin_turn(number, Peer::Tcp("127.0.0.1:80".parse().unwrap()).pack());
        pen.begin_batch(2);
        pen.begin(Operation::Get, number, 3, 0);
        pen.end(Outcome::Hit, 100);
        pen.begin(Operation::Set, number, 3, 200);
        pen.end(Outcome::Stored, 0);
        pen.end_batch(number * 1000 + 500);
    }
    pen.begin_batch(16);
    pen.begin(Operation::Delete, 77, 3, 0);
    pen.write_board("requests=1\nbatches=2\n");
    black_box
}

/// Reads everything that can be read.
fn read_all(black_box: &BlackBox) {
    let snapshot = black_box.snapshot();
    let _ = format!("{snapshot:?} {:?} {}", black_box.kind(), black_box.number());
    for record in black_box.operations() {
        let _ = (record.is_open(), record.fingerprint());
    }
    for latency in black_box.latencies() {
        let _ = latency.histogram.percentile_ns(0.99);
        let _ = (latency.histogram.sum_ns(), latency.histogram.count());
    }
    let _ = black_box.board().figures().count();
    let _ = (
        black_box.counts(),
        black_box.is_avoided(),
        black_box.ordered_drill(),
    );
    assert_eq!(black_box.to_bytes().len() as u64 % 8, 0);
}

#[test]
fn a_batch_that_goes_on_is_one_until_it_ends() {
    let black_box = Arc::new(BlackBox::create(Kind::Worker, 3, NAMES).unwrap());
    let mut pen = Pen::new(Arc::clone(&black_box));
    let execute = |pen: &mut Pen, operations: u64| {
        pen.begin_batch(operations as usize);
        for number in 1..=operations {
            pen.begin(Operation::Get, number, 3, 0);
            pen.end(Outcome::Hit, 100);
        }
    };
    pen.tick(1000);
    for _ in 0..3 {
        execute(&mut pen, 16);
        assert!(pen.is_within_batch() && !pen.is_batch_full());
    }
    execute(&mut pen, 16);
    assert!(pen.is_batch_full());
    pen.end_batch(1700);
    assert!(!pen.is_within_batch() && !pen.is_batch_full());
    execute(&mut pen, 1);
    pen.end_batch(1800);
    let batches: Vec<_> = black_box.operations().iter().map(|one| one.batch).collect();
    assert_eq!(batches[..64], [Some((1000, 700)); 64]);
    assert_eq!(batches[64..], [Some((1700, 100))]);
    let latencies = black_box.latencies();
    let counts: Vec<u64> = latencies.iter().map(|one| one.histogram.count()).collect();
    assert_eq!(counts, [65]);
}

#[test]
fn a_box_is_the_same_in_a_file_and_through_a_descriptor() {
    let black_box = used();
    let copy = BlackBox::from_bytes(&black_box.to_bytes()).unwrap();
    let memory = black_box.memory().try_clone_to_owned().unwrap();
    let attached = BlackBox::attach(memory).unwrap();
    for other in [&copy, &attached] {
        assert_eq!(other.snapshot(), black_box.snapshot());
        assert_eq!(other.operations(), black_box.operations());
        assert_eq!(other.latencies(), black_box.latencies());
        assert_eq!(other.board(), black_box.board());
        assert_eq!(other.counts(), black_box.counts());
    }
    let open = black_box.snapshot().operation.unwrap();
    assert_eq!(open.operation, Some(Operation::Delete));
    assert_eq!((open.number, open.key_hash), (20_000, 77));
    // A batch of 16 was announced, one of which has begun.
    let records = black_box.operations();
    assert_eq!(records.len() as u64, BOX_OPERATIONS - 15);
    assert!(records.iter().all(|record| record.batch.is_some()));
}

#[test]
fn what_is_no_box_or_another_version_is_refused_with_the_reason() {
    let bytes = used().to_bytes();
    let changed = |at: u64, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at as usize] = byte;
        BlackBox::from_bytes(&bytes).unwrap_err().to_string()
    };
    assert!(changed(MAGIC_AT, 0).contains("no black box"));
    let version = changed(VERSION_AT, 9);
    assert!(
        version.contains("layout 9; accepted: layout 1"),
        "{version}"
    );
    let short = BlackBox::from_bytes(&bytes[..8192])
        .unwrap_err()
        .to_string();
    assert!(short.contains("8192 bytes; accepted: at least"), "{short}");
    assert!(BlackBox::from_bytes(b"").is_err());
    let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = BlackBox::attach(socket.into()).unwrap_err().to_string();
    assert!(error.contains("cannot be mapped"), "{error}");
}

#[test]
fn a_change_that_never_ends_is_told_as_torn_and_the_next_one_heals_it() {
    let black_box = used();
    let mut pen = Pen::new(Arc::clone(&black_box));
    for at in [IDENTITY_AT, SERVED_AT, BOARD_AT] {
        // The thread dies when it has written one word.
        let words = (0..2).map(|number| match number {
            0 => 1,
            _ => panic!("dies here"),
        });
        let dying = || Sequence { at }.write(&black_box.arena, words);
        assert!(catch_unwind(AssertUnwindSafe(dying)).is_err());
    }
    assert!(black_box.snapshot().is_torn);
    assert!(black_box.board().is_torn);
    read_all(&black_box);
    pen.begin_turn(5, Peer::Unix.pack());
    pen.introduce(&Thread {
        process: 1,
        thread: 2,
        session: 3,
        started: Duration::ZERO,
        build: &"long".repeat(50),
    });
    pen.write_board("fine=1\n");
    let snapshot = black_box.snapshot();
    assert!(!snapshot.is_torn && !black_box.board().is_torn);
    assert_eq!(snapshot.build.len(), 64);
    assert_eq!(snapshot.connection.unwrap().peer, Peer::Unix);
}

#[test]
fn a_board_that_is_too_long_ends_with_a_whole_line() {
    let black_box = used();
    let mut pen = Pen::new(Arc::clone(&black_box));
    pen.write_board(&"name=12345\n".repeat(10_000));
    let board = black_box.board();
    assert!(board.text.len() as u64 <= BOARD_BYTES && board.text.len() > 65_000);
    assert!(board.text.lines().all(|line| line == "name=12345"));
    // A shorter one leaves nothing of it.
    pen.write_board("a=1\n");
    assert_eq!(black_box.board().text, "a=1\n");
}

#[test]
fn numbers_go_on_beyond_every_size() {
    let black_box = used();
    for at in [OPERATIONS_AT, BATCHES_AT] {
        black_box.set_figure(at, u64::MAX - 1);
    }
    let mut pen = Pen::new(Arc::clone(&black_box));
    for number in 0..5 {
        pen.begin_batch(1);
        pen.begin(Operation::Set, number, usize::MAX, usize::MAX);
        pen.end(Outcome::Stored, 0);
        pen.end_batch(number);
    }
    read_all(&black_box);
}

#[test]
fn a_panic_within_a_run_of_reads_ends_the_one_that_was_begun() {
    let black_box = Arc::new(BlackBox::create(Kind::Worker, 0, &[]).unwrap());
    let mut pen = Pen::new(Arc::clone(&black_box));
    pen.begin_batch(3);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut reads = pen.reads();
        let begun = reads.begin(1, 3);
        reads.end(begun, Outcome::Hit, 5);
        let _ = reads.begin(2, 3);
        panic!("a test");
    }));
    assert!(panicked.is_err());
    pen.end_by_panic(10);
    let told = |record: &Record| (record.key_hash, record.outcome);
    let records: Vec<_> = black_box.operations().iter().map(told).collect();
    let expected = [(1, Outcome::Hit), (2, Outcome::Panicked)];
    assert_eq!(records, expected.map(|(key, outcome)| (key, Some(outcome))));
}

#[test]
fn a_panic_ends_what_was_begun() {
    let black_box = Arc::new(BlackBox::create(Kind::Worker, 3, NAMES).unwrap());
    let mut pen = Pen::new(Arc::clone(&black_box));
    pen.begin_batch(4);
    pen.begin(Operation::Set, 1, 2, 3);
    pen.end_by_panic(10);
    pen.end_by_panic(20);
    let records = black_box.operations();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].outcome, Some(Outcome::Panicked));
    assert_eq!(records[0].batch, Some((0, 10)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_reader_fail(
        changes in prop::collection::vec(
            (prop_oneof![
                3 => 16_u64..COUNTERS_AT,
                1 => Just(NAMES_AT),
                1 => NAMES_AT..4096,
                1 => BOARD_AT..BOARD_AT + 64,
                1 => 16_u64..BYTES,
            ], prop_oneof![any::<u64>(), 0_u64..16, Just(u64::MAX)]),
            1..40,
        ),
        from_nothing: bool,
    ) {
        let mut bytes = match from_nothing {
            true => BlackBox::create(Kind::Upkeep, 0, &[]).unwrap().to_bytes(),
            false => used().to_bytes(),
        };
        for (at, word) in changes {
            let at = (at as usize & !7).min(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        read_all(&BlackBox::from_bytes(&bytes).unwrap());
    }

    #[test]
    fn no_memory_at_all_makes_a_reader_fail(mut bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = BlackBox::from_bytes(&bytes);
        // All of it noise, but for what says that it is a box.
        bytes.resize_with(BYTES as usize, {
            let mut state = bytes.iter().fold(1_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
            move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            }
        });
        bytes[..16].copy_from_slice(&used().to_bytes()[..16]);
        read_all(&BlackBox::from_bytes(&bytes).unwrap());
    }
}

#[test]
fn a_fingerprint_is_read_as_it_is_written() {
    for operation in Operation::ALL.iter().copied() {
        let key_hash = 0x0123_4567_89ab_cdef;
        let fingerprint = Fingerprint {
            operation,
            key_hash,
        };
        assert_eq!(fingerprint.to_word().parse(), Ok(fingerprint));
    }
    for wrong in ["", "get", "get:", "get:xyz", "eat:1"] {
        let error = wrong.parse::<Fingerprint>().unwrap_err();
        assert!(error.contains("accepted"), "{error}");
    }
}
