//! The whole of what is known, for `/status.json`: the journal, each thread as its black box has it,
//! the memory as it is seen from outside.

use std::collections::BTreeMap;

use serde::Serialize;

use super::admin::Desk;
use super::journal::Entries;
use super::sight::{Moment, Seen, SeenThread};
use crate::blackbox::{BlackBox, Record};

/// What `/status.json` answers.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    journal: Entries,
    /// Whether the server can be used, as `/readyz` tells, and why not.
    ready: bool,
    why_not_ready: Option<&'static str>,
    /// When this was put together, in milliseconds since the Unix epoch.
    now_ms: u64,
    supervisor: SupervisorStatus,
    /// Where the server listens.
    addresses: Vec<String>,
    memcached_addresses: Vec<String>,
    /// Where the admin endpoint answers.
    admin_addresses: Vec<String>,
    /// The program that serves.
    build: Option<String>,
    /// Since when, in milliseconds.
    uptime_ms: Option<u64>,
    threads: Vec<ThreadStatus>,
    /// What the memory is used for, line by line, in bytes; with their sum, the whole.
    memory: BTreeMap<&'static str, u64>,
    /// The figures of the cache, as they are in its memory.
    cache: BTreeMap<&'static str, u64>,
    /// The figures of STATS, as the worker process wrote them down last.
    figures: Option<Figures>,
}

#[derive(Debug, Serialize)]
struct SupervisorStatus {
    pid: u32,
    build: &'static str,
    uptime_ms: u64,
    drills_allowed: bool,
}

/// A thread of the process that serves, or served last.
#[derive(Debug, Serialize)]
struct ThreadStatus {
    name: String,
    kind: &'static str,
    number: u32,
    /// Its process, and itself, as the system knows them; 0: it has not begun.
    process: u32,
    thread: u32,
    /// Its session with the cache; 0: it has none.
    session: u32,
    /// What it does, and for how long.
    phase: Option<&'static str>,
    for_ms: u64,
    /// Steps that it has taken: whoever makes progress, counts on.
    turns: u64,
    connections: u64,
    /// Connections given to it and not taken over.
    untaken: u64,
    /// Connections that wait for their turn.
    waiting: u64,
    /// Whether new connections go to others.
    is_avoided: bool,
    /// The connection that it serves, or served last.
    connection: Option<ConnectionStatus>,
    /// The operation that it has begun and not ended.
    operation: Option<OperationStatus>,
    /// For how long it has kept what is freed from being used again.
    pinned_ms: Option<u64>,
    /// The lock that it waits for.
    waits_for: Option<WaitStatus>,
    /// What it counts.
    counts: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct ConnectionStatus {
    number: u64,
    peer: String,
}

#[derive(Debug, Serialize)]
struct OperationStatus {
    operation: Option<&'static str>,
    /// In hexadecimal: JSON's numbers are too short for it.
    key_hash: String,
    key_bytes: u32,
    value_bytes: u32,
    for_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct WaitStatus {
    bucket: u64,
    /// The thread that holds it.
    held_by: Option<String>,
}

#[derive(Debug, Serialize)]
struct Figures {
    /// How old they are.
    age_ms: u64,
    by_name: BTreeMap<String, String>,
}

impl Status {
    pub(super) fn of(desk: &Desk, why_not_ready: Option<&'static str>) -> Self {
        let (now, seen) = (Moment::now(), desk.sight.seen());
        let stats = seen.stats(now);
        let whole = stats.map(|stats| ("whole", stats.memory_bytes));
        let ledger = stats.into_iter().flat_map(|stats| stats.ledger());
        let first = seen.worker(0).map(|thread| thread.black_box.snapshot());
        Self {
            journal: desk.journal.read(),
            ready: why_not_ready.is_none(),
            why_not_ready,
            now_ms: now.wall_ms,
            supervisor: SupervisorStatus {
                pid: std::process::id(),
                build: concat!("larder ", env!("CARGO_PKG_VERSION")),
                uptime_ms: super::journal::whole_ms(desk.started.elapsed()),
                drills_allowed: desk.allow_drills,
            },
            addresses: desk.addresses.clone(),
            memcached_addresses: desk.memcached_addresses.clone(),
            admin_addresses: desk.admin_addresses.clone(),
            uptime_ms: (first.as_ref())
                .map(|first| seen.cache_ms(now).saturating_sub(first.started_ms)),
            build: first.map(|first| first.build),
            threads: seen
                .threads
                .iter()
                .map(|thread| ThreadStatus::of(thread, &seen, now))
                .collect(),
            memory: ledger.chain(whole).collect(),
            cache: (stats.into_iter().flat_map(|stats| stats.figures())).collect(),
            figures: seen.board().map(|board| Figures {
                age_ms: now.since_ns(board.time_ns) / 1_000_000,
                by_name: (board.figures())
                    .map(|(name, figure)| (name.to_owned(), figure.to_owned()))
                    .collect(),
            }),
        }
    }
}

impl ThreadStatus {
    fn of(thread: &SeenThread, seen: &Seen, now: Moment) -> Self {
        let snapshot = thread.black_box.snapshot();
        let of_session = seen.lookout.as_ref();
        let of_session = of_session.and_then(|lookout| lookout.session(snapshot.session));
        let waits_for = of_session.and_then(|seen| seen.waits_for);
        Self {
            name: thread.name.clone(),
            kind: thread.kind.name(),
            number: thread.black_box.number(),
            process: snapshot.process,
            thread: snapshot.thread,
            session: snapshot.session,
            phase: snapshot.phase.map(|phase| phase.name()),
            for_ms: now.since_ns(snapshot.since_ns) / 1_000_000,
            turns: snapshot.turns,
            connections: snapshot.connections,
            untaken: snapshot.untaken,
            waiting: snapshot.waiting,
            is_avoided: thread.black_box.is_avoided(),
            connection: snapshot.connection.map(|served| ConnectionStatus {
                number: served.number,
                peer: served.peer.to_string(),
            }),
            operation: (snapshot.operation).map(|operation| OperationStatus::of(&operation, now)),
            pinned_ms: seen.pinned_ms(snapshot.session, now),
            waits_for: waits_for.map(|wait| WaitStatus {
                bucket: wait.bucket,
                held_by: wait
                    .held_by
                    .map(|session| match seen.with_session(session) {
                        Some(thread) => thread.name.clone(),
                        None => format!("session {session}"),
                    }),
            }),
            counts: counts(&thread.black_box),
        }
    }
}

impl OperationStatus {
    fn of(record: &Record, now: Moment) -> Self {
        Self {
            operation: record.operation.map(|operation| operation.name()),
            key_hash: format!("{:016x}", record.key_hash),
            key_bytes: record.key_bytes,
            value_bytes: record.value_bytes,
            for_ms: (record.batch).map(|(start_ns, _)| now.since_ns(start_ns) / 1_000_000),
        }
    }
}

fn counts(black_box: &BlackBox) -> BTreeMap<String, u64> {
    black_box.counts().into_iter().collect()
}
