//! A black box that is read while its thread writes, and after it has died.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::blackbox::{
    BlackBox, Operation, Outcome, Peer, Pen, Phase, Record, Thread, batches, empty_box, open,
    served,
};
use crate::model::{models, spawn};
use crate::sync::Arc;

models! {
    Some(2) => a_connection_is_read_whole,
    Some(2) => a_board_is_read_whole,
    Some(2) => an_operation_is_read_whole,
    Some(2) => a_renamed_operation_is_read_whole,
    Some(2) => a_batch_is_read_whole,
    Some(2) => a_batch_is_read_whole_by_itself,
    Some(2) => a_batch_that_goes_on_is_read_whole,
    Some(2) => an_operation_is_named_before_it_ends,
    Some(2) => an_operation_of_many_keys_names_the_last,
    Some(1) => a_thread_that_has_died_left_everything_behind,
}

fn peer(number: u64) -> Peer {
    let ip = Ipv4Addr::new(10, 0, 0, number as u8);
    Peer::Tcp((ip, number as u16).into())
}

fn pen(black_box: &Arc<BlackBox>) -> Pen {
    Pen::new(Arc::clone(black_box))
}

/// A batch of one operation in which every number says which it is, from 1 on.
fn execute(pen: &mut Pen, number: u64) {
    pen.tick(number * 100);
    pen.begin_batch(1);
    let mut reads = pen.reads();
    let begun = reads.begin(number, number as usize);
    reads.end(begun, Outcome::Hit, number as usize);
    drop(reads);
    pen.end_batch(number * 100 + number);
}

/// That operation by itself, in a batch that does not end yet.
fn begin_and_end(pen: &mut Pen, number: u64) {
    pen.begin_batch(1);
    pen.begin(Operation::Get, number, number as usize, 0);
    pen.end(Outcome::Hit, number as usize);
}

/// A record of [`execute`], with parts of no other.
fn expect_whole(record: &Record) {
    let number = record.number + 1;
    assert_eq!(record.key_hash, number);
    assert_eq!(u64::from(record.key_bytes), number);
    assert_eq!(record.operation, Some(Operation::Get));
    match record.outcome {
        Some(Outcome::Begun) => assert_eq!(record.value_bytes, 0),
        outcome => {
            assert_eq!(outcome, Some(Outcome::Hit));
            assert_eq!(u64::from(record.value_bytes), number);
        }
    }
}

fn a_connection_is_read_whole() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    pen.begin_turn(1, peer(1).pack());
    let writing = spawn(move || pen.begin_turn(2, peer(2).pack()));
    let (number, read, is_torn) = served(&black_box);
    if !is_torn {
        assert_eq!(read, peer(number), "a connection has another's peer");
    }
    writing.join().expect("writer");
    assert_eq!(served(&black_box), (2, peer(2), false));
}

fn a_board_is_read_whole() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    pen.tick(1);
    pen.write_board("a=1\n");
    let writing = spawn(move || {
        pen.tick(2);
        pen.write_board("a=2222\nb=3333\n");
    });
    let board = black_box.board();
    if !board.is_torn {
        let text = match board.time_ns {
            1 => "a=1\n",
            _ => "a=2222\nb=3333\n",
        };
        assert_eq!(board.text, text);
    }
    writing.join().expect("writer");
    let board = black_box.board();
    assert_eq!((board.time_ns, board.is_torn), (2, false));
    let figures: Vec<_> = board.figures().collect();
    assert_eq!(figures, [("a", "2222"), ("b", "3333")]);
}

/// The ring has two places, so the third operation takes that of the first.
fn an_operation_is_read_whole() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    for number in 1..=2 {
        execute(&mut pen, number);
    }
    let writing = spawn(move || execute(&mut pen, 3));
    let records = black_box.operations();
    records.iter().for_each(expect_whole);
    // Only the third may not have ended yet.
    assert!(records.iter().all(|one| !one.is_open() || one.number == 2));
    writing.join().expect("writer");
    let numbers: Vec<u64> = black_box
        .operations()
        .iter()
        .map(|one| one.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
}

/// As the one before, and the third comes to a second key.
fn a_renamed_operation_is_read_whole() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    for number in 1..=2 {
        execute(&mut pen, number);
    }
    let writing = spawn(move || {
        pen.begin_batch(1);
        pen.begin(Operation::MultiGet, 3, 3, 0);
        pen.at_key(33);
    });
    for record in black_box.operations() {
        match record.number {
            2 => assert!([3, 33].contains(&record.key_hash)),
            _ => expect_whole(&record),
        }
    }
    writing.join().expect("writer");
    assert_eq!(open(&black_box).map(|record| record.key_hash), Some(33));
}

fn a_batch_is_read_whole_by_itself() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    for number in 1..=2 {
        pen.begin_turn(number, Peer::Unknown.pack());
        execute(&mut pen, number);
    }
    pen.begin_turn(3, Peer::Unknown.pack());
    let writing = spawn(move || execute(&mut pen, 3));
    for [number, start_ns, duration_ns, first, connection] in batches(&black_box) {
        let expected = number + 1;
        assert_eq!((start_ns, first), (expected * 100, number));
        assert_eq!(connection, expected);
        // Only the third may not have ended yet.
        assert!(duration_ns == expected || (duration_ns, number) == (0, 2));
    }
    writing.join().expect("writer");
    assert_eq!(batches(&black_box), [[1, 200, 2, 1, 2], [2, 300, 3, 2, 3]]);
}

fn a_batch_is_read_whole() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    for number in 1..=2 {
        pen.begin_turn(number, Peer::Unknown.pack());
        execute(&mut pen, number);
    }
    pen.begin_turn(3, Peer::Unknown.pack());
    let writing = spawn(move || execute(&mut pen, 3));
    let expect = |record: &Record| {
        let number = record.number + 1;
        let Some((start_ns, duration_ns)) = record.batch else {
            return;
        };
        assert_eq!(start_ns, number * 100);
        assert!([0, number].contains(&duration_ns), "{duration_ns}");
        assert_eq!(record.connection, Some(number));
    };
    black_box.operations().iter().for_each(expect);
    writing.join().expect("writer");
    let records = black_box.operations();
    records.iter().for_each(expect);
    assert!(
        records
            .iter()
            .all(|one| one.batch.is_some_and(|(_, duration_ns)| duration_ns > 0))
    );
}

/// A batch goes on with an operation whose place in the ring is being read.
fn a_batch_that_goes_on_is_read_whole() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    pen.tick(100);
    for number in 1..=2 {
        begin_and_end(&mut pen, number);
    }
    let writing = spawn(move || {
        begin_and_end(&mut pen, 3);
        pen.end_batch(107);
    });
    for record in black_box.operations() {
        expect_whole(&record);
        assert!([None, Some((100, 0)), Some((100, 7))].contains(&record.batch));
    }
    writing.join().expect("writer");
    let records = black_box.operations();
    let batches: Vec<_> = (records.iter().map(|one| (one.number, one.batch))).collect();
    assert_eq!(batches, [(1, Some((100, 7))), (2, Some((100, 7)))]);
}

fn an_operation_is_named_before_it_ends() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    execute(&mut pen, 1);
    let writing = spawn(move || {
        pen.tick(200);
        pen.begin_batch(2);
        pen.begin(Operation::Get, 2, 2, 0);
    });
    if let Some(record) = open(&black_box) {
        expect_whole(&record);
    }
    writing.join().expect("writer");
    let record = open(&black_box).expect("it has begun");
    expect_whole(&record);
    assert_eq!((record.number, record.is_open()), (1, true));
    assert_eq!(record.batch, Some((200, 0)));
}

fn an_operation_of_many_keys_names_the_last() {
    let black_box = empty_box();
    let mut pen = pen(&black_box);
    let writing = spawn(move || {
        pen.begin_batch(1);
        pen.begin(Operation::MultiGet, 0, 0, 0);
        pen.at_key(1);
        pen.at_key(2);
    });
    if let Some(record) = open(&black_box) {
        assert_eq!(record.operation, Some(Operation::MultiGet));
        assert!(record.key_hash <= 2);
    }
    writing.join().expect("writer");
    assert_eq!(open(&black_box).map(|record| record.key_hash), Some(2));
}

/// Whatever its thread has written, another finds, without a word from it.
fn a_thread_that_has_died_left_everything_behind() {
    let black_box = empty_box();
    let mut writer = pen(&black_box);
    let writing = spawn(move || {
        writer.tick(5);
        writer.introduce(&Thread {
            process: 11,
            thread: 12,
            session: 13,
            started: Duration::from_millis(14),
            build: "a build",
        });
        writer.set_waiting(3);
        writer.set_connections(2, 4);
        writer.begin_turn(9, peer(9).pack());
        execute(&mut writer, 1);
        writer.begin_batch(2);
        writer.begin(Operation::Set, 8, 7, 6);
        writer.end(Outcome::Stored, 0);
        writer.begin(Operation::Get, 3, 3, 0);
        writer.enter(Phase::Writing);
    });
    writing.join().expect("writer");
    black_box.set_given(6);
    black_box.set_avoided(true);
    let snapshot = black_box.snapshot();
    assert_eq!(
        (snapshot.process, snapshot.thread, snapshot.session),
        (11, 12, 13)
    );
    assert_eq!((snapshot.started_ns, snapshot.started_ms), (5, 14));
    assert_eq!(snapshot.build, "a build");
    assert_eq!(snapshot.phase, Some(Phase::Writing));
    assert_eq!((snapshot.since_ns, snapshot.turns), (101, 1));
    assert_eq!(
        (snapshot.waiting, snapshot.connections, snapshot.untaken),
        (3, 2, 2)
    );
    assert_eq!(
        snapshot.connection.map(|one| (one.number, one.peer)),
        Some((9, peer(9)))
    );
    assert_eq!(snapshot.operation.map(|one| one.key_hash), Some(3));
    assert!(!snapshot.is_torn && !snapshot.is_moving);
    assert_eq!((black_box.number(), black_box.is_avoided()), (7, true));
    let names: Vec<String> = black_box
        .counts()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["first", "second"]);
    let latencies = black_box.latencies();
    let counts: Vec<_> = (latencies.iter())
        .map(|one| (one.operation, one.histogram.count()))
        .collect();
    assert_eq!(counts, [(Operation::Get, 1)]);
    // All that were executed are there, and no more are announced than have begun.
    let outcomes = |black_box: &BlackBox| -> Vec<_> {
        let records = black_box.operations().into_iter();
        records.map(|one| (one.number, one.outcome)).collect()
    };
    let (stored, begun) = (Some(Outcome::Stored), Some(Outcome::Begun));
    assert_eq!(outcomes(&black_box), [(1, stored), (2, begun)]);
    // The pen of a process that goes on in the same box goes on behind what is there.
    let mut next = pen(&black_box);
    next.begin_batch(1);
    next.begin(Operation::Delete, 1, 1, 0);
    next.end(Outcome::Done, 0);
    next.end_batch(200);
    let last = black_box.operations().pop().expect("an operation");
    assert_eq!(last.operation, Some(Operation::Delete));
    // A batch that ends early takes the places of no others.
    next.begin_batch(2);
    next.begin(Operation::Delete, 2, 1, 0);
    next.end(Outcome::Done, 0);
    next.end_batch(300);
    let done = Some(Outcome::Done);
    assert_eq!(outcomes(&black_box).len(), 2);
    assert!(outcomes(&black_box).iter().all(|(_, one)| *one == done));
}
