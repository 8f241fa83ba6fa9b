//! The checker of histories accepts what a cache may do, and rejects what it must not.

#[allow(dead_code, reason = "each test uses its own part of the support")]
mod support;

use larder::{Arithmetic, Freshness, Initial, Invalidation, Lease, Mode, Terms};
use support::linearizability::{Span, check};
use support::meaning::{Answer, Call, Evictions, Marks, Stored};

const NOW_MS: u64 = 1000;

/// A call from `began` to `ended`.
fn span(began: u64, ended: u64, call: Call, answer: Answer) -> Span {
    Span {
        call,
        answer: Some(answer),
        began,
        ended,
    }
}

fn unanswered(began: u64, call: Call) -> Span {
    Span {
        call,
        answer: None,
        began,
        ended: u64::MAX,
    }
}

fn store(mode: Mode, value: &str) -> Call {
    Call::Store {
        mode,
        value: value.into(),
        flags: 0,
        expires_at_ms: None,
        new_version: None,
    }
}

fn set(value: &str) -> Call {
    store(Mode::Set, value)
}

fn stored(version: u64) -> Answer {
    Answer::Stored {
        version: Some(version),
    }
}

fn hit(value: &str, version: u64) -> Answer {
    Answer::Hit(Stored {
        value: value.into(),
        flags: 0,
        expires_at_ms: None,
        version: Some(version),
        marks: Marks::default(),
    })
}

fn add(by: u64) -> Call {
    Call::Count {
        by: Arithmetic::Increment(by),
        initial: None,
        new_version: None,
    }
}

fn counted(value: u64, version: u64) -> Answer {
    Answer::Counted {
        value,
        version: Some(version),
    }
}

const DELETE: Call = Call::Delete { version: None };

#[track_caller]
fn accepts(history: &[Span]) {
    let checked = check(history, NOW_MS, Evictions::Possible);
    assert!(checked.is_ok(), "{checked:#?}");
}

#[track_caller]
fn rejects(history: &[Span]) {
    assert!(check(history, NOW_MS, Evictions::Possible).is_err());
    assert!(check(history, NOW_MS, Evictions::Impossible).is_err());
}

#[test]
fn a_read_finds_what_was_stored_last() {
    accepts(&[
        span(0, 1, Call::Get, Answer::Miss),
        span(2, 3, set("a"), stored(1)),
        span(4, 5, Call::Get, hit("a", 1)),
        span(6, 7, set("b"), stored(2)),
        span(8, 9, Call::Get, hit("b", 2)),
        span(10, 11, DELETE, Answer::Deleted),
        span(12, 13, Call::Get, Answer::Miss),
    ]);
}

#[test]
fn a_read_beside_a_store_may_find_either_value() {
    for answer in [hit("a", 1), hit("b", 2)] {
        accepts(&[
            span(0, 1, set("a"), stored(1)),
            span(2, 9, set("b"), stored(2)),
            span(4, 5, Call::Get, answer),
        ]);
    }
}

#[test]
fn a_stale_read_is_rejected() {
    rejects(&[
        span(0, 1, set("a"), stored(1)),
        span(2, 3, set("b"), stored(2)),
        span(4, 5, Call::Get, hit("a", 1)),
    ]);
}

#[test]
fn two_reads_beside_a_store_cannot_see_it_go_and_come() {
    let beside = |first, second| {
        [
            span(0, 1, set("a"), stored(1)),
            span(2, 9, set("b"), stored(2)),
            span(3, 4, Call::Get, first),
            span(5, 6, Call::Get, second),
        ]
    };
    accepts(&beside(hit("a", 1), hit("b", 2)));
    rejects(&beside(hit("b", 2), hit("a", 1)));
}

#[test]
fn a_value_that_nobody_stored_is_rejected() {
    rejects(&[span(0, 1, Call::Get, hit("a", 1))]);
    rejects(&[
        span(0, 1, set("a"), stored(1)),
        span(2, 3, Call::Get, hit("a", 2)),
    ]);
}

#[test]
fn a_miss_is_an_eviction_where_there_are_any() {
    let history = [
        span(0, 1, set("a"), stored(1)),
        span(2, 3, Call::Get, Answer::Miss),
    ];
    accepts(&history);
    assert!(check(&history, NOW_MS, Evictions::Impossible).is_err());
}

#[test]
fn a_resurrection_is_rejected() {
    rejects(&[
        span(0, 1, set("a"), stored(1)),
        span(2, 3, Call::Get, Answer::Miss),
        span(4, 5, Call::Get, hit("a", 1)),
    ]);
    rejects(&[
        span(0, 1, set("a"), stored(1)),
        span(2, 3, DELETE, Answer::Deleted),
        span(4, 5, Call::Get, hit("a", 1)),
    ]);
    rejects(&[
        span(0, 1, set("a"), stored(1)),
        span(2, 3, Call::Flush, Answer::Flushed),
        span(4, 5, Call::Get, hit("a", 1)),
    ]);
}

#[test]
fn of_two_conditional_stores_only_one_can_win() {
    let cas = |value| store(Mode::CompareAndSet { version: 1 }, value);
    let race = |second| {
        [
            span(0, 1, set("a"), stored(1)),
            span(2, 8, cas("b"), stored(2)),
            span(3, 9, cas("c"), second),
        ]
    };
    accepts(&race(Answer::Exists));
    accepts(&race(Answer::NotFound));
    rejects(&race(stored(3)));
}

#[test]
fn a_lost_update_is_rejected() {
    let race = |one, two| {
        [
            span(0, 1, set("5"), stored(1)),
            span(2, 8, add(1), counted(one, 2)),
            span(3, 9, add(1), counted(two, 3)),
        ]
    };
    accepts(&race(6, 7));
    accepts(&race(7, 6));
    rejects(&race(6, 6));

    let append = |value| store(Mode::Append, value);
    let race = |value| {
        [
            span(0, 1, set("a"), stored(1)),
            span(2, 8, append("b"), stored(2)),
            span(3, 9, append("c"), stored(3)),
            span(10, 11, Call::Get, hit(value, 3)),
        ]
    };
    accepts(&race("abc"));
    rejects(&race("ac"));
}

#[test]
fn what_finds_nothing_may_have_removed_a_placeholder() {
    let until_ms = Some(NOW_MS + 1);
    let terms = Terms {
        placeholder_until_ms: until_ms,
        ..Terms::default()
    };
    let placeholder = Stored {
        value: Vec::new(),
        flags: 0,
        expires_at_ms: until_ms,
        version: Some(1),
        marks: Marks {
            is_placeholder: true,
            ..Marks::default()
        },
    };
    let won = Answer::Leased {
        found: placeholder,
        lease: Lease::Won,
        freshness: Freshness::Fresh,
    };
    let invalidation = Call::Invalidate {
        how: Invalidation::default(),
    };
    for call in [DELETE, invalidation] {
        let history = |ended| {
            [
                span(2, 5, Call::GetOrLease { terms }, won.clone()),
                span(0, ended, call.clone(), Answer::NotFound),
                span(
                    8,
                    9,
                    store(Mode::CompareAndSet { version: 1 }, "a"),
                    Answer::NotFound,
                ),
            ]
        };
        let checked = check(&history(4), NOW_MS, Evictions::Impossible);
        assert!(checked.is_ok(), "{checked:#?}");
        assert!(check(&history(1), NOW_MS, Evictions::Impossible).is_err());
    }
}

#[test]
fn an_absent_key_cannot_be_appended_to_nor_added_twice() {
    rejects(&[span(0, 1, store(Mode::Append, "b"), stored(1))]);
    let twice = |evictions| {
        let history = [
            span(0, 1, store(Mode::Add, "a"), stored(1)),
            span(2, 3, store(Mode::Add, "b"), stored(2)),
        ];
        check(&history, NOW_MS, evictions).is_ok()
    };
    assert!(twice(Evictions::Possible));
    assert!(!twice(Evictions::Impossible));
}

#[test]
fn a_counter_starts_again_only_if_it_was_gone() {
    let count = |initial| Call::Count {
        by: Arithmetic::Increment(1),
        initial: Some(Initial {
            value: initial,
            expires_at_ms: None,
        }),
        new_version: None,
    };
    let begin = span(0, 1, count(7), counted(7, 1));
    accepts(&[begin.clone(), span(2, 3, count(7), counted(8, 2))]);
    accepts(&[begin.clone(), span(2, 3, count(7), counted(7, 2))]);
    rejects(&[begin, span(2, 3, count(7), counted(9, 2))]);
}

#[test]
fn a_call_without_an_answer_may_have_happened_or_not() {
    let begin = [span(0, 1, set("a"), stored(1)), unanswered(2, set("b"))];
    for answers in [
        vec![hit("a", 1), hit("a", 1)],
        vec![hit("b", 2), hit("b", 2)],
        vec![hit("a", 1), hit("b", 2)],
    ] {
        let mut history = begin.to_vec();
        for (at, answer) in (3_u64..).zip(answers) {
            history.push(span(2 * at, 2 * at + 1, Call::Get, answer));
        }
        accepts(&history);
    }
    let mut back = begin.to_vec();
    back.push(span(6, 7, Call::Get, hit("b", 2)));
    back.push(span(8, 9, Call::Get, hit("a", 1)));
    rejects(&back);
}

#[test]
fn a_call_that_was_given_up_has_happened_by_then_or_never() {
    let given_up = Span {
        ended: 3,
        ..unanswered(2, set("b"))
    };
    let read = |at, value, version| span(at, at + 1, Call::Get, hit(value, version));
    let begin = [span(0, 1, set("a"), stored(1)), given_up];
    let then = |reads: [Span; 2]| [&begin[..], &reads].concat();
    accepts(&then([read(4, "a", 1), read(6, "a", 1)]));
    accepts(&then([read(4, "b", 2), read(6, "b", 2)]));
    rejects(&then([read(4, "a", 1), read(6, "b", 2)]));
}

#[test]
fn a_call_without_an_answer_has_one_version() {
    rejects(&[
        unanswered(0, set("b")),
        span(2, 3, Call::Get, hit("b", 2)),
        span(4, 5, Call::Get, hit("b", 3)),
    ]);
    accepts(&[
        unanswered(0, set("b")),
        span(
            2,
            3,
            store(Mode::CompareAndSet { version: 2 }, "c"),
            stored(5),
        ),
        span(4, 5, Call::Get, hit("c", 5)),
    ]);
}

#[test]
fn a_call_without_an_answer_cannot_have_happened_before_it_began() {
    rejects(&[span(0, 1, Call::Get, hit("b", 2)), unanswered(2, set("b"))]);
}

#[test]
fn a_long_history_under_contention_is_checked_at_once() {
    // 64 calls at any time, in pairs of a store and a read that finds it.
    let mut history = Vec::new();
    for at in 0..5000_u64 {
        let value = at.to_string();
        history.push(span(at * 10, at * 10 + 320, set(&value), stored(at)));
        history.push(span(at * 10 + 1, at * 10 + 319, Call::Get, hit(&value, at)));
    }
    accepts(&history);
}
