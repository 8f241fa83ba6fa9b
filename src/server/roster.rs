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

/// LIMIT: what a reply has beside connections and addresses: its header, and how many are left out.
const OTHER_BYTES_MAX: usize = 128;

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
        let mut figures = self.address_figures();
        let room_bytes = self.dialects.larder.limits.frame_bytes_max as usize;
        let room_bytes = room_bytes.saturating_sub(OTHER_BYTES_MAX + bytes_of(&figures));
        let now_ms = self.clock.now().uptime_ms;
        let (told, without_room) = told_of(all, room_bytes, now_ms);
        left_out += without_room;
        if left_out > 0 {
            figures.push(("connections_left_out".to_owned(), left_out.to_string()));
        }
        figures.extend(told);
        figures
    }
}

/// The figures of those connections that said something last, as far as there is room for them, by the numbers of
/// the connections; and of how many there are none.
fn told_of(
    mut all: Vec<(usize, Entry)>,
    room_bytes: usize,
    now_ms: u64,
) -> (Vec<(String, String)>, usize) {
    all.sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.active_ms));
    let (mut told, mut used_bytes) = (Vec::new(), 0);
    for (worker, entry) in &all {
        let of_one = figures_of(*worker, entry, now_ms);
        used_bytes += bytes_of(&of_one);
        if used_bytes > room_bytes {
            break;
        }
        told.push((entry.number, of_one));
    }
    let left_out = all.len() - told.len();
    told.sort_unstable_by_key(|(number, _)| *number);
    let figures = told.into_iter().flat_map(|(_, of_one)| of_one);
    (figures.collect(), left_out)
}

/// What is told of one connection.
fn figures_of(worker: usize, entry: &Entry, now_ms: u64) -> [(String, String); 7] {
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
    of_one.map(|(of, value)| (format!("connection_{}.{of}", entry.number), value))
}

/// The bytes that figures take in a reply of Larder's own protocol.
fn bytes_of(figures: &[(String, String)]) -> usize {
    let bytes_of_one = |(name, value): &(String, String)| 4 + name.len() + value.len();
    figures.iter().map(bytes_of_one).sum()
}

#[cfg(test)]
mod tests {
    use super::{Entry, State, TOLD_MAX, Tongue, bytes_of, figures_of, keep_latest, told_of};
    use crate::blackbox::Peer;

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

    #[test]
    fn connections_are_told_of_whole_or_not_at_all() {
        let all: Vec<(usize, Entry)> = (1..=9)
            .map(|number| {
                let entry = Entry {
                    number,
                    peer: Peer::Unix,
                    address: "unix:a".into(),
                    tongue: Tongue::Larder,
                    since_ms: 0,
                    // Number 5 was silent for longest.
                    active_ms: number * 2 % 5,
                    state: State::Idle,
                };
                (0, entry)
            })
            .collect();
        let one = bytes_of(&figures_of(0, &all[0].1, 9));
        for room in 0..=9 {
            for spare in [0, one - 1] {
                let (told, left_out) = told_of(all.clone(), room * one + spare, 9);
                assert_eq!((told.len(), left_out), (room * 7, 9 - room));
                assert!(
                    told.is_sorted_by_key(|(name, _)| name.split('.').next().map(str::to_owned))
                );
                let has_silent = told
                    .iter()
                    .any(|(name, _)| name.starts_with("connection_5."));
                assert_eq!(has_silent, room == 9);
            }
        }
    }
}
