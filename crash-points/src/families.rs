//! The families of programs: what there is to come to, and the layout that brings it about.

use crate::engine::config::AccessTimes;
use crate::operation::Operation::{
    self, Add, Append, BeginLong, CompareAndSet, CompareAndSetOutdated, Count, Delete, EndLease,
    Flush, FlushIn, Get, GetOrLease, Hold, Invalidate, LetGo, Maintain, Prepend, Recover, Renew,
    Rest, Set, SetFor, SetLong, Touch, Wait,
};
use crate::programs::{Family, Kind};
use crate::scene::{Keys, Layout, keys_of_one_tag};

/// What recovered caches go on with where nothing else is asked for: deletes, overwrites, a counter, and
/// enough new keys to split buckets, to chain them, and to evict.
const AFTERMATH: [Operation; 9] = [
    Delete(0),
    Set(1),
    Count(2),
    Maintain,
    Set(3),
    Set(4),
    Delete(1),
    Set(0),
    Flush,
];

/// The same where a bucket splits that has fewer keys by then.
const SPLITTING_AFTERMATH: [Operation; 8] = [
    Delete(0),
    Delete(1),
    Set(3),
    Set(4),
    Count(2),
    Set(0),
    Set(1),
    Delete(2),
];

/// The same for caches that have large values.
const LARGE_AFTERMATH: [Operation; 9] = [
    SetLong(2, 100),
    Delete(0),
    SetLong(1, 30),
    Append(1),
    Set(3),
    SetLong(4, 60),
    Delete(1),
    SetLong(0, 20),
    Maintain,
];

const THREE_SEGMENTS: Layout = Layout {
    items_per_segment: 2,
    segments: 3,
    overflow_per_chunk: 3,
    ..Layout::ROOMY
};

const GROWING: Layout = Layout {
    items_per_segment: 4,
    segments: 8,
    buckets_per_chunk: 4,
    overflow_per_chunk: 4,
    ..Layout::ROOMY
};

const PAYING: Layout = Layout {
    items_per_segment: 2,
    segments: 8,
    buckets_per_chunk: 2,
    overflow_per_chunk: 3,
    bucket_chunks_max: 3,
    overflow_chunks_max: 3,
    ..Layout::ROOMY
};

const LARGE: Layout = Layout {
    items_per_segment: 4,
    segments: 9,
    inline_bytes_max: 8,
    parts_per_segment: 4,
    ..Layout::ROOMY
};

const CLEANED: Layout = Layout {
    items_per_segment: 3,
    segments: 5,
    dead_percent_max: 18,
    ..Layout::ROOMY
};

impl Family {
    fn new(name: &'static str, layout: Layout, alphabet: &[Operation]) -> Self {
        Self {
            name,
            kind: Kind::Sequences,
            layout,
            keys: Keys::letters(5),
            setup: Vec::new(),
            alphabet: alphabet.to_vec(),
            sessions: 1,
            length: 3,
            aftermath: AFTERMATH.to_vec(),
        }
    }

    fn behind(self, setup: &[Operation]) -> Self {
        let setup = setup.to_vec();
        Self { setup, ..self }
    }

    fn then(self, aftermath: &[Operation]) -> Self {
        let aftermath = aftermath.to_vec();
        Self { aftermath, ..self }
    }

    fn of_length(self, length: usize) -> Self {
        Self { length, ..self }
    }

    fn of_two_sessions(self) -> Self {
        Self {
            sessions: 2,
            ..self
        }
    }

    fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    fn in_pairs(self) -> Self {
        Self {
            kind: Kind::Pairs,
            length: 1,
            ..self
        }
    }
}

/// All families.
pub(crate) fn all() -> Vec<Family> {
    [sequences(), memory(), pairs(), vec![everything()]].concat()
}

/// What operations mean, each with the others.
fn sequences() -> Vec<Family> {
    vec![
        Family::new(
            "operations",
            Layout::ROOMY,
            &[
                Set(0),
                Set(1),
                Delete(0),
                CompareAndSet(0),
                CompareAndSetOutdated(0),
                Count(0),
                Append(0),
                Prepend(0),
                Touch(0, 30),
                GetOrLease(0),
                EndLease(0),
                Invalidate(0),
                SetFor(0, 20),
                Wait(25),
                Flush,
                FlushIn(10),
                Get(0),
                Add(0),
                Renew,
            ],
        ),
        Family::new(
            "two sessions",
            Layout::ROOMY,
            &[Set(0), Delete(0), Count(0), Append(0), Set(1), Flush, Renew],
        )
        .of_two_sessions(),
        Family::new(
            "second life",
            Layout {
                inline_bytes_max: 16,
                items_per_segment: 4,
                parts_per_segment: 4,
                ..Layout::ROOMY
            },
            &[
                Set(0),
                Get(0),
                Count(1),
                Delete(2),
                Append(2),
                Maintain,
                Recover,
            ],
        )
        .behind(&[Set(0), Count(1), SetLong(2, 40), Recover]),
        Family::new(
            "last reads",
            Layout {
                access_times: AccessTimes::Kept,
                items_per_segment: 3,
                ..THREE_SEGMENTS
            },
            &[
                Set(0),
                Get(0),
                Touch(0, 30),
                Count(1),
                Wait(2_000),
                Maintain,
            ],
        ),
    ]
}

/// What becomes of the memory: growth, eviction, cleaning, expiry, large values.
fn memory() -> Vec<Family> {
    let writes = [Set(0), Set(1), Set(2), Set(3), Set(4), Delete(0), Delete(2)];
    let large = [
        SetLong(0, 20),
        SetLong(0, 120),
        SetLong(1, 200),
        Set(0),
        Delete(0),
        Append(0),
        Touch(0, 30),
        Hold(0),
        LetGo,
        BeginLong(60),
        Flush,
    ];
    let (one, other) = keys_of_one_tag();
    let one_tag = Keys::of([one, other].into_iter().chain(Keys::letters(3).names()));
    vec![
        Family::new("growth", GROWING, &writes).of_length(4),
        Family::new("growth that is paid for", PAYING, &writes)
            .with_keys(Keys::in_buckets(&[2, 2, 2, 0, 1]))
            .then(&SPLITTING_AFTERMATH)
            .of_length(4),
        Family::new(
            "chains that are paid for",
            Layout {
                bucket_chunks_max: 1,
                ..PAYING
            },
            &[
                Set(0),
                Set(6),
                Set(7),
                Delete(2),
                Delete(6),
                Delete(5),
                Count(1),
            ],
        )
        .with_keys(Keys::in_buckets(&[0, 1, 0, 1, 2, 3, 2, 3]))
        .behind(&[Set(0), Set(1), Set(2), Set(3), Set(4), Set(5)]),
        Family::new("two keys of one tag", GROWING, &writes).with_keys(one_tag),
        Family::new(
            "eviction",
            THREE_SEGMENTS,
            &[
                Set(0),
                Set(1),
                Set(3),
                Get(0),
                Delete(1),
                Count(2),
                Maintain,
            ],
        )
        .behind(&[Set(0), Set(1), Set(2)]),
        Family::new(
            "ghosts",
            Layout {
                segments: 5,
                buckets_per_chunk: 2,
                ghost_chunks_max: 1,
                ..THREE_SEGMENTS
            },
            &[Set(0), Set(1), Set(2), Get(0), Maintain],
        )
        .with_keys(Keys::in_buckets(&[0, 1, 2, 3, 0, 1, 2, 3]))
        .behind(&[
            Set(0),
            Set(1),
            Set(2),
            Set(3),
            Set(4),
            Set(5),
            Set(6),
            Set(7),
        ]),
        Family::new(
            "cleaning",
            CLEANED,
            &[Set(0), Set(1), Delete(0), Count(2), Get(1), Maintain],
        )
        .behind(&[Set(0), Set(1), Count(2), Set(0), Set(3), Set(0)])
        .of_length(4),
        Family::new(
            "expiry",
            Layout {
                segments: 9,
                classes: 4,
                ..Layout::ROOMY
            },
            &[
                SetFor(0, 20),
                SetFor(1, 300),
                SetFor(0, 100_000),
                Set(1),
                Wait(25),
                Wait(600),
                Maintain,
                Rest,
            ],
        )
        .of_length(4),
        Family::new("large values", LARGE, &large).then(&LARGE_AFTERMATH),
        Family::new(
            "large values that are evicted",
            Layout {
                segments: 5,
                ..LARGE
            },
            &[
                SetLong(0, 20),
                SetLong(1, 100),
                SetLong(2, 150),
                Set(3),
                Touch(0, 30),
                Maintain,
            ],
        )
        .then(&LARGE_AFTERMATH),
    ]
}

/// Two operations at once.
fn pairs() -> Vec<Family> {
    vec![
        Family::new(
            "pairs of operations",
            Layout::ROOMY,
            &[
                Set(0),
                Delete(0),
                CompareAndSet(0),
                Count(0),
                Append(0),
                Touch(0, 30),
                GetOrLease(0),
                Invalidate(0),
                Flush,
                Set(1),
            ],
        )
        .behind(&[Set(0)])
        .in_pairs(),
        Family::new(
            "pairs that grow",
            PAYING,
            &[Set(2), Set(3), Delete(0), Set(1), Flush],
        )
        .behind(&[Set(0), Set(1)])
        .in_pairs(),
        Family::new(
            "pairs that evict",
            THREE_SEGMENTS,
            &[Set(0), Set(3), Count(1), Delete(2), Maintain],
        )
        .behind(&[Set(0), Count(1), Set(2)])
        .in_pairs(),
        Family::new(
            "pairs that clean",
            CLEANED,
            &[Set(1), Count(2), Delete(0), Touch(1, 30), Maintain],
        )
        .behind(&[Set(0), Set(1), Count(2), Set(0), Set(3), Set(0)])
        .in_pairs(),
        Family::new(
            "pairs of large values",
            LARGE,
            &[
                SetLong(0, 20),
                SetLong(1, 120),
                Delete(0),
                Touch(0, 30),
                Append(0),
            ],
        )
        .behind(&[SetLong(0, 30)])
        .then(&LARGE_AFTERMATH)
        .in_pairs(),
    ]
}

/// Everything in one cache, at length.
fn everything() -> Family {
    let layout = Layout {
        items_per_segment: 4,
        segments: 9,
        buckets_per_chunk: 4,
        overflow_per_chunk: 6,
        bucket_chunks_max: 2,
        overflow_chunks_max: 2,
        ghost_chunks_max: 1,
        dead_percent_max: 18,
        inline_bytes_max: 8,
        parts_per_segment: 4,
        ..Layout::ROOMY
    };
    let alphabet = [
        Set(0),
        Set(1),
        Set(2),
        Set(3),
        Set(4),
        Set(5),
        SetFor(6, 50),
        SetLong(0, 20),
        SetLong(1, 120),
        SetLong(5, 40),
        Append(0),
        Append(2),
        Count(3),
        Count(4),
        Delete(0),
        Delete(3),
        Get(1),
        Get(2),
        Get(5),
        GetOrLease(6),
        Invalidate(1),
        Touch(5, 90),
        Wait(30),
        Flush,
        Maintain,
        Renew,
    ];
    Family {
        kind: Kind::Scattered(24),
        ..Family::new("everything", layout, &alphabet)
    }
    .with_keys(Keys::letters(7))
    .of_two_sessions()
    .of_length(80)
    .then(&LARGE_AFTERMATH)
}
