//! What each thread does and counts.

use std::collections::BTreeMap;

use super::families::{Families, Figure};
use super::names::of_stats;
use crate::blackbox::{Board, Phase};
use crate::supervisor::sight::{Moment, Seen, SeenThread};

/// Tells of all threads.
pub(super) fn tell(families: &mut Families, seen: &Seen, board: Option<&Board>, now: Moment) {
    for thread in &seen.threads {
        tell_state(families, thread, seen, now);
        tell_counts(families, thread, seen, board);
        for latency in thread.black_box.latencies() {
            families.durations(
                "command_duration_seconds",
                "How long commands took, each as long as the batch that it was executed in",
                &[
                    ("command", latency.operation.name()),
                    ("thread", &thread.name),
                ],
                latency.histogram,
            );
        }
    }
    tell_pinner(families, seen, now);
}

fn tell_state(families: &mut Families, thread: &SeenThread, seen: &Seen, now: Moment) {
    let snapshot = thread.black_box.snapshot();
    for phase in Phase::ALL {
        let is_it = Figure::Whole(u64::from(snapshot.phase == Some(*phase)));
        let labels = [("phase", phase.name()), ("thread", &thread.name)];
        let help = "What the thread does: 1 for that";
        families.labelled_gauge("thread_phase", help, &labels, is_it);
    }
    let label = [("thread", &thread.name[..])];
    let in_phase_s = now.since_ns(snapshot.since_ns) as f64 / 1e9;
    let pinned_ms = seen.pinned_ms(snapshot.session, now).unwrap_or(0);
    let is_avoided = thread.black_box.is_avoided().into();
    for (name, help, figure) in [
        (
            "thread_phase_seconds",
            "For how long it has done that",
            Figure::Real(in_phase_s),
        ),
        (
            "thread_connections",
            "Connections that the thread has",
            Figure::Whole(snapshot.connections),
        ),
        (
            "thread_untaken_connections",
            "Connections that the thread was given and has not taken over",
            Figure::Whole(snapshot.untaken),
        ),
        (
            "thread_waiting_connections",
            "Connections that wait for their turn",
            Figure::Whole(snapshot.waiting),
        ),
        (
            "thread_pinned_seconds",
            "For how long the thread has kept what is freed from being used again; 0: it does not",
            Figure::Real(super::seconds(pinned_ms)),
        ),
        (
            "thread_avoided",
            "Whether new connections go to other workers",
            Figure::Whole(is_avoided),
        ),
    ] {
        families.labelled_gauge(name, help, &label, figure);
    }
    let help = "Steps that the thread has taken";
    families.labelled_counter("thread_turns", help, &label, snapshot.turns);
}

/// What the thread counts for its connections, and its session for the cache.
fn tell_counts(families: &mut Families, thread: &SeenThread, seen: &Seen, board: Option<&Board>) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let session = thread.black_box.snapshot().session;
    match &seen.lookout {
        Some(lookout) => {
            let of_session = lookout.session_figures(session).into_iter();
            counts.extend(of_session.map(|(name, count)| (name.to_owned(), count)));
        }
        // What this program cannot read, the other has written down.
        None => counts.extend(board.into_iter().flat_map(|board| written(board, thread))),
    }
    counts.extend(thread.black_box.counts());
    for (name, count) in counts {
        let mut measure = of_stats(&name, count, true);
        measure.name.insert_str(0, "thread_");
        families.measure(&measure, &[("thread", &thread.name)]);
    }
}

/// What the board says of a thread, its latencies aside.
fn written(board: &Board, thread: &SeenThread) -> Vec<(String, u64)> {
    let own = thread.name.replace('-', "_");
    let figures = board.figures().filter_map(|(name, figure)| {
        let (of, name) = name.split_once('.')?;
        let is_latency = name.ends_with("_ns") || name.ends_with("_count");
        let is_own = of == own && !is_latency;
        Some((name.to_owned(), figure.parse().ok().filter(|_| is_own)?))
    });
    figures.collect()
}

/// Who keeps what is freed from being used again for longest.
fn tell_pinner(families: &mut Families, seen: &Seen, now: Moment) {
    let pinned = seen.threads.iter().filter_map(|thread| {
        let session = thread.black_box.snapshot().session;
        Some((seen.pinned_ms(session, now)?, thread))
    });
    if let Some((ms, thread)) = pinned.max_by_key(|(ms, _)| *ms) {
        let help = "For how long the thread that is pinned for longest has been so";
        let label = [("thread", &thread.name[..])];
        let figure = Figure::Real(super::seconds(ms));
        families.labelled_gauge("epoch_pinner_seconds", help, &label, figure);
    }
}
