use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use larder_protocol::{Limits, Request, RequestFrame};
use tokio::time::{Instant, advance};

use super::{Desk, Knock, Knocked, Look, Terms, Time};
use crate::client::ServerInfo;
use crate::ending::Ending;
use crate::error::Cause;
use crate::pending::{Answer, Pending};

const TIME: Duration = Duration::from_millis(100);

const PATIENCE: Duration = Duration::from_secs(5);

fn terms(places: u32) -> Terms {
    let server = ServerInfo {
        name: "test".to_owned(),
        limits: Limits::default(),
    };
    Terms {
        server: Arc::new(server),
        places,
        patience: PATIENCE,
        home: None,
    }
}

fn desk(places: u32) -> Desk {
    Desk::new(terms(places), Pending::new())
}

fn knock(desk: &mut Desk, time: Time, ticket: &mut Option<u64>) -> (Knocked, u32) {
    let mut frame = RequestFrame {
        id: 0,
        quiet: false,
        request: Request::Get {
            key: b"key",
            want_expiry: false,
        },
    };
    let knock = Knock {
        frame: &mut frame,
        time: &mut { time },
        ticket,
        home: &mut None,
    };
    let (knocked, _) = desk.knock(knock, &Context::from_waker(Waker::noop()));
    (knocked, frame.id)
}

fn send(desk: &mut Desk, time: Time) -> u32 {
    let (knocked, id) = knock(desk, time, &mut None);
    assert!(matches!(knocked, Knocked::Sent { .. }), "{knocked:?}");
    id
}

fn take(desk: &mut Desk, id: u32) -> Option<Answer> {
    let context = Context::from_waker(Waker::noop());
    match desk.poll_take(id, &context, &mut Vec::new()) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// How many are given up at a moment.
fn overdue(desk: &mut Desk, at: Instant) -> usize {
    let mut wake = Vec::new();
    desk.look(at, &mut wake);
    wake.len()
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_late_costs_no_request_its_time() {
    let mut desk = desk(10);
    let begin = Instant::now();
    send(&mut desk, Time::For(TIME));
    advance(Duration::from_millis(60)).await;
    // It is written with the first, whose clock it has.
    send(&mut desk, Time::For(TIME));
    send(&mut desk, Time::Deadline(begin + TIME));
    assert!(desk.take_outgoing(&mut Vec::new()).is_none());
    assert_eq!(overdue(&mut desk, begin + Duration::from_millis(159)), 1);
    assert_eq!(overdue(&mut desk, begin + Duration::from_millis(160)), 2);
}

#[tokio::test]
async fn a_server_is_idle_once_it_has_answered_all_that_was_written() {
    let mut desk = desk(10);
    let first = send(&mut desk, Time::For(TIME));
    assert!(desk.is_server_idle() && desk.has_share(1) && !desk.has_share(2));
    let mut batch = Vec::new();
    desk.take_outgoing(&mut batch);
    assert!(!desk.is_server_idle(), "a write is under way");
    desk.take_outgoing(&mut batch);
    assert!(!desk.is_server_idle(), "it has not answered");
    send(&mut desk, Time::For(TIME));
    assert!(!desk.has_share(1));
    desk.answer(first, Answer::Frame(Bytes::new()))
        .expect("is under way");
    assert!(desk.has_share(1));
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_write_has_a_clock_of_its_own() {
    let mut desk = desk(10);
    send(&mut desk, Time::For(TIME));
    desk.take_outgoing(&mut Vec::new());
    let begin = Instant::now();
    for _ in 0..3 {
        send(&mut desk, Time::For(TIME));
        advance(Duration::from_millis(10)).await;
    }
    let gone = [100, 110, 120].map(|ms| overdue(&mut desk, begin + Duration::from_millis(ms)));
    assert_eq!(gone, [2, 1, 1]);
}

/// Whether the server is silent for too long at a moment.
fn is_silent(desk: &mut Desk, at: Instant) -> bool {
    matches!(desk.look(at, &mut Vec::new()), Look::Silent)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_owes_what_nobody_waits_for_has_as_much_time_as_is_configured() {
    let mut desk = desk(10);
    let begin = Instant::now();
    let overdue = send(&mut desk, Time::For(TIME));
    let cancelled = send(&mut desk, Time::For(PATIENCE));
    desk.take_outgoing(&mut Vec::new());
    desk.give_up(cancelled, &mut Vec::new());
    let next = desk.look(begin + TIME, &mut Vec::new());
    assert!(matches!(next, Look::Next(Some(at)) if at == begin + PATIENCE));
    assert!(matches!(take(&mut desk, overdue), Some(Answer::Overdue)));
    assert!(is_silent(&mut desk, begin + PATIENCE));

    // Whatever it says is a sign of life.
    let heard_at = begin + PATIENCE;
    desk.note_heard(heard_at);
    let next = desk.look(heard_at, &mut Vec::new());
    assert!(matches!(next, Look::Next(Some(at)) if at == heard_at + PATIENCE));
    assert!(is_silent(&mut desk, heard_at + PATIENCE));
    for id in [overdue, cancelled] {
        desk.answer(id, Answer::Frame(Bytes::new()))
            .expect("is owed");
    }
    let next = desk.look(heard_at + PATIENCE, &mut Vec::new());
    assert!(matches!(next, Look::Next(None)), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_more_time_is_waited_for() {
    let mut desk = desk(10);
    let begin = Instant::now();
    let patient = send(&mut desk, Time::For(3 * PATIENCE));
    desk.take_outgoing(&mut Vec::new());
    desk.look(begin, &mut Vec::new());
    assert!(!is_silent(&mut desk, begin + 2 * PATIENCE));
    assert!(
        desk.give_up(patient, &mut Vec::new()),
        "it is looked at anew"
    );
    assert!(is_silent(&mut desk, begin + 2 * PATIENCE));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_late_does_not_make_the_server_silent() {
    let mut desk = desk(10);
    let begin = Instant::now();
    let cancelled = send(&mut desk, Time::For(TIME));
    desk.give_up(cancelled, &mut Vec::new());
    let late = begin + PATIENCE;
    assert!(!is_silent(&mut desk, late), "it was asked nothing before");
    assert!(is_silent(&mut desk, late + PATIENCE));
}

#[tokio::test]
async fn where_all_ids_are_taken_requests_wait_until_an_answer_is_taken() {
    let mut desk = Desk::new(terms(10), Pending::with_slots(1));
    let first = send(&mut desk, Time::For(TIME));
    desk.answer(first, Answer::Frame(Bytes::new()))
        .expect("is under way");
    desk.give_back(1, &mut Vec::new());
    let mut ticket = None;
    let (knocked, _) = knock(&mut desk, Time::For(TIME), &mut ticket);
    assert!(matches!(knocked, Knocked::Queued));
    assert!(take(&mut desk, first).is_some());
    let (knocked, id) = knock(&mut desk, Time::For(TIME), &mut ticket);
    assert!(matches!(knocked, Knocked::Sent { .. }));
    assert_ne!(id, first);
}

#[tokio::test]
async fn the_end_is_told_by_what_was_written_and_the_next_connection_begins_anew() {
    let mut desk = desk(10);
    let (written, waits) = (
        send(&mut desk, Time::For(TIME)),
        send(&mut desk, Time::For(TIME)),
    );
    assert!(!desk.reopen(&terms(10)), "it goes on");
    let mut batch = Vec::new();
    desk.take_outgoing(&mut batch);
    desk.note_written(batch.len() - 1);
    let mut wake = Vec::new();
    desk.end(Ending::Lost("gone".to_owned()), &mut wake);
    assert_eq!(wake.len(), 2);
    let (knocked, _) = knock(&mut desk, Time::For(TIME), &mut None);
    assert!(matches!(knocked, Knocked::Closed));

    assert!(desk.reopen(&terms(10)));
    assert!(desk.serves(1) && !desk.serves(0));
    let next = send(&mut desk, Time::For(TIME));
    assert!(matches!(take(&mut desk, written), Some(Answer::Unknown(_))));
    match take(&mut desk, waits) {
        Some(Answer::NotExecuted(cause)) => {
            assert_eq!(*cause, Cause::ConnectionLost("gone".to_owned()));
        }
        other => panic!("{other:?}"),
    }
    assert!(take(&mut desk, next).is_none());
}
