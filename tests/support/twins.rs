//! The engine and a model of it, which must answer alike.
//!
//! The model is a map and [`meaning`](super::meaning). Where the engine finds a key empty that the
//! model has, it must have evicted it: there may be no more such keys than the engine says that it
//! evicted, and what is gone stays gone.
//!
//! The clock may be set back. Then what had expired may be alive again, or the engine has removed it
//! meanwhile: so the model keeps what has expired, and what the engine says that it removed as such
//! accounts for the rest.

use std::collections::HashMap;

use larder::{
    AccessTimes, Cache, Config, Guard, Mode, NewExpiry, Proof, Session, StoreError, Terms,
};

use super::execute::{read, try_execute};
use super::meaning::{Answer, Call, Evictions, State, Stored, answer, successors};
use super::memory::as_it_is;

/// Sessions that take turns.
const SESSIONS: usize = 3;

/// One step of a program. Keys and sessions are numbers of any size; times are from now.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Call {
        session: usize,
        key: u64,
        call: Call,
    },
    /// A store, or without a value a delete, on the condition that the key has its version, or has
    /// another one.
    Conditional {
        key: u64,
        is_current: bool,
        value: Option<Vec<u8>>,
    },
    /// A store that may come out stale, naming the version that the key has, or an earlier one.
    StoreStale {
        key: u64,
        is_current: bool,
        value: Vec<u8>,
        expires_at_ms: Option<u64>,
    },
    /// Ends the lease of a key, naming the version that it has, or another one.
    EndLease {
        key: u64,
        is_current: bool,
    },
    /// Stores many keys, so that memory fills and the index grows.
    Burst {
        session: usize,
        first: u64,
        keys: u64,
        value_bytes: usize,
    },
    GetMany {
        session: usize,
        first: u64,
        keys: u64,
    },
    Scan {
        items: usize,
    },
    Pass {
        ms: u64,
    },
    /// The clock is set to another time.
    Jump {
        to_ms: u64,
    },
    FlushIn {
        ms: u64,
    },
    /// A session does some upkeep for its own sake.
    Maintain {
        session: usize,
    },
    /// A session ends, and another one begins.
    Renew {
        session: usize,
    },
    /// The cache is left as it is, nothing ended, and another one recovers its memory.
    Die,
}

/// The engine, the model, and what passed between them.
pub(crate) struct Twins {
    config: Config,
    cache: Cache,
    sessions: Vec<Session>,
    model: HashMap<Vec<u8>, Stored>,
    /// Keys that programs name are taken modulo this.
    keys: u64,
    now_ms: u64,
    flush_due_ms: Option<u64>,
    /// Keys that the engine lost.
    lost: u64,
    /// Whether the clock was set back.
    went_back: bool,
    /// Whether nothing was made to expire, and nothing flushed.
    is_timeless: bool,
}

impl Twins {
    pub(crate) fn new(memory_bytes: u64, keys: u64, access_times: AccessTimes) -> Self {
        let mut config = Config::new(memory_bytes);
        // As many as are used: one that is renewed must have given its number back.
        config.sessions_max = SESSIONS as u32;
        config.hash_seed = Some(7);
        config.first_version = Some(1);
        config.access_times = access_times;
        let cache = Cache::new(config.clone()).expect("the memory is accepted");
        Self {
            config,
            sessions: begun(&cache),
            cache,
            model: HashMap::new(),
            keys,
            now_ms: 1_000_000,
            flush_due_ms: None,
            lost: 0,
            went_back: false,
            is_timeless: true,
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Call { session, key, call } => {
                let call = self.at_a_time(call);
                self.call(session, key, &call);
            }
            Step::Conditional {
                key,
                is_current,
                value,
            } => self.conditional(key, is_current, value),
            Step::StoreStale {
                key,
                is_current,
                value,
                expires_at_ms,
            } => {
                let version = self.version(key).filter(|_| is_current).unwrap_or(1);
                let call = self.at_a_time(Call::Store {
                    mode: Mode::CompareAndSetStale { version },
                    value,
                    flags: 0,
                    expires_at_ms,
                    new_version: None,
                });
                self.call(1, key, &call);
            }
            Step::EndLease { key, is_current } => {
                let version = self.version(key).unwrap_or(1) + u64::from(!is_current);
                self.call(2, key, &Call::EndLease { version });
            }
            Step::Burst {
                session,
                first,
                keys,
                value_bytes,
            } => (0..keys).for_each(|at| {
                let call = Call::Store {
                    mode: Mode::Set,
                    value: vec![at as u8; value_bytes],
                    flags: 0,
                    expires_at_ms: None,
                    new_version: None,
                };
                self.call(session, first.wrapping_add(at), &call);
            }),
            Step::GetMany {
                session,
                first,
                keys,
            } => self.get_many(session, first, keys),
            Step::Scan { items } => self.scan(items),
            Step::Pass { ms } => self.set_clock(self.now_ms + ms),
            Step::Jump { to_ms } => self.set_clock(to_ms),
            Step::Maintain { session } => {
                self.sessions[session % SESSIONS].maintain(self.now_ms);
            }
            Step::FlushIn { ms } => self.flush(ms),
            Step::Renew { session } => {
                let at = session % SESSIONS;
                drop(self.sessions.remove(at));
                let session = self.cache.session().expect("one has just ended");
                self.sessions.insert(at, session);
            }
            Step::Die => self.die(),
        }
    }

    fn die(&mut self) {
        let stats = self.cache.stats();
        let memory = as_it_is(&self.cache, &self.config);
        let recovered = Cache::recover(memory, &self.config, Proof::Contents);
        let (cache, receipt) = recovered.expect("the memory is whole");
        assert_eq!(cache.stats().counts(), stats.counts());
        assert_eq!(receipt.dropped.total(), 0, "{receipt:#?}");
        assert_eq!(receipt.items, stats.items);
        assert_eq!(receipt.torn_segments, 0);
        self.sessions = begun(&cache);
        self.cache = cache;
        let verified = self.sessions[0].verify();
        assert_eq!(verified, Ok(()), "{receipt:#?}");
    }

    fn set_clock(&mut self, now_ms: u64) {
        self.went_back |= now_ms < self.now_ms;
        self.now_ms = now_ms;
        // Whoever comes first carries out a flush that is due.
        drop(self.guard(0));
        if self.flush_due_ms.is_some_and(|due| due <= now_ms) {
            self.flush_due_ms = None;
            self.model.clear();
        }
    }

    /// Makes the times of a call, which are from now, into times of the clock.
    fn at_a_time(&mut self, mut call: Call) -> Call {
        let of_new = |expiry| match expiry {
            &mut NewExpiry::At(ref mut at_ms) => at_ms.as_mut(),
            NewExpiry::Kept => None,
        };
        let times = match &mut call {
            Call::Store { expires_at_ms, .. }
            | Call::Touch { expires_at_ms }
            | Call::GetAndTouch { expires_at_ms } => [expires_at_ms.as_mut(), None],
            Call::Count { initial, .. } => [
                initial.as_mut().and_then(|i| i.expires_at_ms.as_mut()),
                None,
            ],
            Call::GetOrLease { terms } => {
                let until_ms = terms.placeholder_until_ms.as_mut();
                [
                    until_ms.filter(|until_ms| **until_ms != u64::MAX),
                    of_new(&mut terms.expiry),
                ]
            }
            Call::Invalidate { how } => [of_new(&mut how.expiry), None],
            _ => [None, None],
        };
        for ms in times.into_iter().flatten() {
            *ms += self.now_ms;
            self.is_timeless = false;
        }
        call
    }

    fn version(&self, key: u64) -> Option<u64> {
        self.model.get(&self.name(key))?.version
    }

    /// Keys of all lengths that are accepted, each its own.
    fn name(&self, key: u64) -> Vec<u8> {
        let key = key % self.keys;
        let mut name = key.to_string().into_bytes();
        let bytes = name.len() + (key % 13 * key % 241) as usize;
        name.resize(bytes.min(250), b'.');
        name
    }

    fn guard(&mut self, session: usize) -> Guard<'_> {
        let now_ms = self.now_ms;
        self.sessions[session % SESSIONS].pin(now_ms)
    }

    fn call(&mut self, session: usize, key: u64, call: &Call) {
        let name = self.name(key);
        let answered = {
            let guard = &mut self.guard(session);
            let hashed = guard.key(&name).expect("a key within the limits");
            try_execute(guard, &hashed, call)
        };
        match answered {
            Ok(observed) => self.compare(name, call, &observed),
            Err(StoreError::TooLarge {
                value_bytes,
                value_bytes_max,
            }) => {
                assert!(value_bytes > value_bytes_max);
                self.compare_refusal(name, call, value_bytes);
            }
            Err(refused) => panic!("nobody else is pinned: {refused}"),
        }
    }

    fn compare(&mut self, name: Vec<u8>, call: &Call, observed: &Answer) {
        let state: State = self.model.get(&name).cloned();
        let now_ms = self.now_ms;
        let successors = |evictions| successors(&state, call, Some(observed), now_ms, evictions);
        let mut next = successors(Evictions::Impossible);
        let either = successors(Evictions::Possible);
        if next.is_empty() {
            next = either;
            self.lost += 1;
        } else if either.len() > next.len() {
            // A count that began anew may come to the same number: what is stored there tells.
            let held = self.look(&name);
            let shows = |state: &&State| state.as_ref().map(Stored::shown) == held;
            let found = either.iter().find(shows).filter(|_| held.is_some());
            if let (Some(found), None) = (found, next.iter().find(shows)) {
                next = vec![found.clone()];
                self.lost += 1;
            }
        }
        let Some(next) = next.pop() else {
            let name = String::from_utf8_lossy(&name);
            panic!("{call:?} of {name} was answered {observed:?}; the model has {state:?}");
        };
        // What has expired may be alive again, should the clock be set back; a delete takes it too.
        let expired = state.filter(|stored| !stored.lives_at(self.now_ms));
        let expired = expired.filter(|_| !matches!(call, Call::Delete { .. }));
        match next.or(expired) {
            Some(stored) => self.model.insert(name, stored),
            None => self.model.remove(&name),
        };
    }

    /// What the engine holds for a key.
    fn look(&mut self, name: &[u8]) -> State {
        let guard = self.guard(0);
        let key = guard.key(name).expect("a key within the limits");
        match read(guard.get(&key).as_ref()) {
            Answer::Hit(stored) => Some(stored),
            _ => None,
        }
    }

    /// A store that was refused: an item of so many bytes would have been stored, unless the value
    /// is too large by itself, whatever the key holds.
    fn compare_refusal(&mut self, name: Vec<u8>, call: &Call, value_bytes: u64) {
        if let Call::Store { value, .. } = call
            && value.len() as u64 == value_bytes
        {
            return;
        }
        let live = self.model.get(&name).filter(|s| s.lives_at(self.now_ms));
        let would_be = |live| answer(live, call, None, self.now_ms).1;
        let is_as_large =
            |stored: State| stored.is_some_and(|s| s.value.len() as u64 == value_bytes);
        if !is_as_large(would_be(live)) {
            assert!(is_as_large(would_be(None)), "{value_bytes}: {call:?}");
            self.model.remove(&name);
            self.lost += 1;
        }
    }

    fn conditional(&mut self, key: u64, is_current: bool, value: Option<Vec<u8>>) {
        let version = self.version(key).unwrap_or(1) + u64::from(!is_current);
        let call = match value {
            Some(value) => Call::Store {
                mode: Mode::CompareAndSet { version },
                value,
                flags: 0,
                expires_at_ms: None,
                new_version: None,
            },
            None => Call::Delete {
                version: Some(version),
            },
        };
        self.call(0, key, &call);
    }

    fn get_many(&mut self, session: usize, first: u64, keys: u64) {
        let names: Vec<_> = (0..keys)
            .map(|at| self.name(first.wrapping_add(at)))
            .collect();
        let guard = self.guard(session);
        let keys = names.iter().map(|name| guard.key(name).expect("a key"));
        let keys: Vec<_> = keys.collect();
        let mut found = Vec::new();
        guard.get_many(&keys, |at, item| found.push((at, read(item.as_ref()))));
        drop(guard);
        assert!(found.iter().map(|(at, _)| *at).eq(0..names.len()));
        for (name, (_, observed)) in names.into_iter().zip(found) {
            self.compare(name, &Call::Get, &observed);
        }
    }

    /// A scan from beginning to end: what it does not visit is not there.
    fn scan(&mut self, items: usize) {
        let mut visited = HashMap::new();
        let mut cursor = Some(0);
        let guard = self.guard(1);
        while let Some(at) = cursor {
            cursor = guard.scan(at, items, |item| {
                visited.insert(item.key().to_vec(), read(Some(&item)));
            });
        }
        drop(guard);
        let names: Vec<_> = self.model.keys().cloned().collect();
        for name in names {
            let observed = visited.remove(&name).unwrap_or(Answer::Miss);
            self.compare(name, &Call::Get, &observed);
        }
        assert!(visited.is_empty(), "the model lacks {visited:?}");
    }

    /// A plain read does not tell whether a placeholder is there.
    fn look_for_placeholders(&mut self) {
        let placeholders = self.model.iter().filter(|(_, s)| s.marks.is_placeholder);
        let names: Vec<_> = placeholders.map(|(name, _)| name.clone()).collect();
        let look = Call::GetOrLease {
            terms: Terms::default(),
        };
        for name in names {
            let observed = {
                let guard = &mut self.guard(0);
                let key = guard.key(&name).expect("a key within the limits");
                try_execute(guard, &key, &look).expect("nothing is stored")
            };
            self.compare(name, &look, &observed);
        }
    }

    fn flush(&mut self, ms: u64) {
        self.is_timeless = false;
        let at_ms = self.now_ms + ms;
        self.guard(2).flush(Some(at_ms));
        // Either takes the place of one that is still to come.
        self.flush_due_ms = (ms > 0).then_some(at_ms);
        if ms == 0 {
            self.model.clear();
        }
    }

    /// Compares all that is left, and gives the figures.
    pub(crate) fn finish(mut self) -> larder::Stats {
        // Sessions that end finish what they were evicting.
        (0..SESSIONS).for_each(|session| self.step(Step::Renew { session }));
        self.get_many(0, 0, self.keys.min(64));
        self.scan(7);
        self.look_for_placeholders();
        let verified = self.sessions[0].verify();
        assert_eq!(verified, Ok(()), "{:#?}", self.cache.stats());
        self.sessions.clear();
        let stats = self.cache.stats();
        let expired = u64::from(self.went_back) * stats.expired;
        let lost_most = stats.evicted + expired;
        assert!(self.lost <= lost_most, "lost {}: {stats:#?}", self.lost);
        let live = (self.model.values()).filter(|stored| stored.lives_at(self.now_ms));
        let live = live.count() as u64;
        assert!(live <= stats.items, "{live} of {stats:#?}");
        if self.is_timeless {
            assert_eq!(live, stats.items, "{stats:#?}");
        }
        stats
    }
}

fn begun(cache: &Cache) -> Vec<Session> {
    let session = |_| cache.session().expect("there is one more");
    (0..SESSIONS).map(session).collect()
}
