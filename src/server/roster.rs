//! Who is connected, for others than the worker that serves them.
//!
//! A worker writes a connection down when it takes it over, strikes it out when it closes it, and notes at
//! each sweep how its connections are. A turn does nothing for it: what is told was so at the last sweep, a
//! second ago at most.

use super::connection::{Connection, NEVER_MS, Phase};
use super::listener::Accepted;
use super::shared::Shared;
use super::tongue::Tongue;
use crate::blackbox::Peer;
use crate::sync::{Arc, Mutex};

/// LIMIT: connections that are told of, so that a reply is no longer than others are. Of more, those that
/// said something last.
const TOLD_MAX: usize = 1000;

/// The connections of a worker, at the places that they have there.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<Vec<Option<Entry>>>);

/// What is known of a connection.
#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    peer: Peer,
    /// Where it came to.
    address: Arc<str>,
    tongue: Tongue,
    since_ms: u64,
    /// When bytes last came.
    active_ms: u64,
    state: State,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A request.
    Idle,
    /// The rest of one.
    Receiving,
    /// That its client reads what it was answered.
    Sending,
    /// Its end.
    Closing,
}

impl State {
    fn of(connection: &Connection) -> Self {
        match connection.phase {
            Phase::Finishing | Phase::Lingering => Self::Closing,
            Phase::Greeting | Phase::Open if connection.waits_for_reader() => Self::Sending,
            Phase::Greeting | Phase::Open if connection.begun_ms != NEVER_MS => Self::Receiving,
            Phase::Greeting | Phase::Open => Self::Idle,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Receiving => "receiving",
            Self::Sending => "sending",
            Self::Closing => "closing",
        }
    }
}

impl Roster {
    /// Writes the connection down that is taken over, at its place.
    pub(crate) fn add(&self, place: usize, accepted: &Accepted, now_ms: u64) {
        let mut entries = self.0.lock();
        if place >= entries.len() {
            entries.resize(place + 1, None);
        }
        entries[place] = Some(Entry {
            number: accepted.number,
            peer: accepted.peer,
            address: Arc::clone(&accepted.address),
            tongue: accepted.tongue,
            since_ms: now_ms,
            active_ms: now_ms,
            state: State::Idle,
        });
    }

    /// Strikes the connection out that has this place; where none has any, all memory goes back.
    pub(crate) fn remove(&self, place: usize) {
        let mut entries = self.0.lock();
        entries[place] = None;
        while let Some(None) = entries.last() {
            entries.pop();
        }
        if entries.is_empty() {
            entries.shrink_to_fit();
        }
    }

    /// Notes how the worker's connections are.
    pub(crate) fn note<'c>(&self, connections: impl Iterator<Item = (usize, &'c Connection)>) {
        let mut entries = self.0.lock();
        for (place, connection) in connections {
            if let Some(Some(entry)) = entries.get_mut(place) {
                entry.active_ms = connection.active_ms;
                entry.state = State::of(connection);
            }
        }
    }
}

/// Leaves those that are to be told of, in any order; says how many others there are.
fn keep_latest<T>(entries: &mut Vec<T>, active_ms: impl Fn(&T) -> u64) -> usize {
    let left_out = entries.len().saturating_sub(TOLD_MAX);
    if left_out > 0 {
        entries.select_nth_unstable_by_key(TOLD_MAX, |entry| std::cmp::Reverse(active_ms(entry)));
        entries.truncate(TOLD_MAX);
    }
    left_out
}

impl Shared {
    /// The connections, by their numbers.
    pub(super) fn connection_figures(&self) -> Vec<(String, String)> {
        let (mut all, mut left_out): (Vec<(usize, Entry)>, _) = (Vec::new(), 0);
        for (worker, station) in self.stations.iter().enumerate() {
            let entries = station.roster.0.lock();
            let mut told: Vec<&Entry> = entries.iter().flatten().collect();
            // The worker may wait for this: no more is copied than may be told.
            left_out += keep_latest(&mut told, |entry| entry.active_ms);
            all.extend(told.into_iter().map(|entry| (worker, entry.clone())));
        }
        left_out += keep_latest(&mut all, |(_, entry)| entry.active_ms);
        all.sort_unstable_by_key(|(_, entry)| entry.number);
        let now_ms = self.clock.now().uptime_ms;
        let mut figures = self.address_figures();
        for (worker, entry) in all {
            let since = |ms: u64| now_ms.saturating_sub(ms).to_string();
            let of_one = [
                ("peer", entry.peer.to_string()),
                ("address", entry.address.to_string()),
                ("protocol", entry.tongue.name().to_owned()),
                ("worker", worker.to_string()),
                ("state", entry.state.name().to_owned()),
                ("age_ms", since(entry.since_ms)),
                ("idle_ms", since(entry.active_ms)),
            ];
            let named = |(of, value)| (format!("connection_{}.{of}", entry.number), value);
            figures.extend(of_one.map(named));
        }
        if left_out > 0 {
            figures.push(("connections_left_out".to_owned(), left_out.to_string()));
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::{TOLD_MAX, keep_latest};

    #[test]
    fn of_many_the_latest_are_told_of() {
        let mut few = vec![3, 1, 2];
        assert_eq!(keep_latest(&mut few, |ms| *ms), 0);
        assert_eq!(few, [3, 1, 2]);
        let mut many: Vec<u64> = (0..2 * TOLD_MAX as u64).map(|n| n * 7 % 2000).collect();
        assert_eq!(keep_latest(&mut many, |ms| *ms), TOLD_MAX);
        many.sort_unstable();
        assert!(many.into_iter().eq(TOLD_MAX as u64..2 * TOLD_MAX as u64));
    }
}
