//! Threads that share a cache and keep a history of what they did.

use std::collections::HashMap;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use larder::{
    Arithmetic, Cache, Config, Guard, Initial, Invalidation, Mode, NewExpiry, Session, Stats, Terms,
};

use super::execute::{execute, read};
use super::linearizability::{Span, check};
use super::meaning::{Answer, Call, Evictions};

/// The time of every call.
const NOW_MS: u64 = 1000;
/// Calls after which a thread drops its session and takes another one.
const CALLS_PER_SESSION: usize = 5000;

/// What the threads do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) memory_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) calls_per_thread: usize,
    /// Keys that all threads want all the time: half of the calls.
    pub(crate) keys: u64,
    /// Keys for the other half.
    pub(crate) fillers: u64,
    /// Bytes that every value has beside what makes it unique.
    pub(crate) padding_bytes: usize,
    /// One call in this many empties the cache; 0: none.
    pub(crate) calls_per_flush: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) stats: Stats,
    /// By key; `None` is all keys.
    calls: HashMap<Option<u64>, Vec<Span>>,
}

impl History {
    /// Panics with the first key whose calls cannot be explained.
    pub(crate) fn assert_linearizable(&self, evictions: Evictions) {
        let flushes = self.calls.get(&None).map_or(&[][..], Vec::as_slice);
        for (key, calls) in &self.calls {
            let history = [calls, flushes].concat();
            if let (Some(key), Err(violation)) = (key, check(&history, NOW_MS, evictions)) {
                panic!("key {key} of {:#?}: {violation:#?}", self.stats);
            }
        }
    }
}

/// Runs the load; one more session reads everything at the end.
pub(crate) fn run(load: &Load) -> History {
    let mut config = Config::new(load.memory_bytes);
    config.hash_seed = Some(load.fillers);
    config.first_version = Some(1);
    let cache = Cache::new(config).expect("the load's memory is accepted");
    let clock = Instant::now();
    let mut calls: HashMap<_, Vec<_>> = HashMap::new();
    let mut collect = |mut thread: Thread<'_>| {
        for (key, span) in thread.spans.drain(..) {
            calls.entry(key).or_default().push(span);
        }
    };
    std::thread::scope(|scope| {
        let start = |number| {
            let mut thread = Thread::new(load, &cache, clock, number);
            scope.spawn(move || {
                thread.run();
                thread
            })
        };
        let threads: Vec<_> = (1..=load.threads).map(start).collect();
        for thread in threads {
            collect(thread.join().expect("no thread panics"));
        }
    });
    let mut last = Thread::new(load, &cache, clock, 0);
    last.read_everything();
    collect(last);
    let stats = cache.stats();
    History { stats, calls }
}

struct Thread<'c> {
    load: &'c Load,
    cache: &'c Cache,
    clock: Instant,
    number: u64,
    random: u64,
    /// What makes this thread's values its own.
    stores: u64,
    /// The version of each key that this thread saw last.
    versions: HashMap<u64, u64>,
    spans: Vec<(Option<u64>, Span)>,
}

impl<'c> Thread<'c> {
    fn new(load: &'c Load, cache: &'c Cache, clock: Instant, number: u64) -> Self {
        Self {
            load,
            cache,
            clock,
            number,
            random: 0x9e37_79b9_7f4a_7c15 ^ number << 32,
            stores: 0,
            versions: HashMap::new(),
            spans: Vec::new(),
        }
    }

    fn run(&mut self) {
        while self.spans.len() < self.load.calls_per_thread {
            let until = self.spans.len() + CALLS_PER_SESSION;
            let mut session = self.cache.session().expect("a session for each thread");
            while self.spans.len() < until.min(self.load.calls_per_thread) {
                self.batch(&mut session);
            }
        }
    }

    fn read_everything(&mut self) {
        let mut session = self.cache.session().expect("the threads have ended");
        let guard = session.pin(NOW_MS);
        let keys: Vec<_> = (0..self.load.keys + self.load.fillers).collect();
        keys.chunks(64).for_each(|keys| self.get_many(&guard, keys));
    }

    /// xorshift64: below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % bound
    }

    fn key(&mut self) -> u64 {
        let (keys, fillers) = (self.load.keys, self.load.fillers);
        match self.below(2) {
            0 if fillers > 0 => keys + self.below(fillers),
            _ => self.below(keys),
        }
    }

    /// A few calls under one pin.
    fn batch(&mut self, session: &mut Session) {
        let mut guard = session.pin(NOW_MS);
        let calls = 1 + self.below(8);
        match self.below(40) {
            0..4 => {
                let keys: Vec<_> = (0..calls).map(|_| self.key()).collect();
                self.get_many(&guard, &keys);
            }
            4 => self.scan(&guard),
            _ => (0..calls).for_each(|_| self.call(&mut guard)),
        }
    }

    fn call(&mut self, guard: &mut Guard<'_>) {
        let flushes = self.load.calls_per_flush;
        if flushes > 0 && self.below(flushes) == 0 {
            let began = self.now();
            guard.flush(None);
            self.record(None, Call::Flush, Answer::Flushed, began);
            return;
        }
        let key = self.key();
        let call = self.choose(key);
        let name = name(key);
        let began = self.now();
        let answer = execute(guard, &name, &call);
        let found = match &answer {
            Answer::Hit(found) | Answer::Leased { found, .. } => found.version,
            Answer::Stored { version }
            | Answer::Counted { version, .. }
            | Answer::Marked { version } => *version,
            _ => None,
        };
        if let Some(version) = found {
            self.versions.insert(key, version);
        }
        self.record(Some(key), call, answer, began);
    }

    fn choose(&mut self, key: u64) -> Call {
        let version = self.versions.get(&key).copied();
        let expires_at_ms = [None, None, Some(NOW_MS + 1), Some(NOW_MS)][self.below(4) as usize];
        let mode = match self.below(100) {
            0..25 => return Call::Get,
            25..35 => return self.about_leases(version),
            35..38 => return Call::GetAndTouch { expires_at_ms },
            38..41 => return Call::Touch { expires_at_ms },
            41..44 => return Call::Delete { version: None },
            44..47 => return Call::Delete { version },
            47..55 => return self.count(),
            55..61 => Mode::Add,
            61..66 => Mode::Replace,
            66..71 => Mode::Append,
            71..74 => Mode::Prepend,
            74..84 => Mode::CompareAndSet {
                version: version.unwrap_or(0),
            },
            _ => Mode::Set,
        };
        self.stores += 1;
        let value = match (mode, self.below(3)) {
            (Mode::Append | Mode::Prepend, _) | (_, 0) => self.stores.to_string(),
            _ => {
                let padding = self.load.padding_bytes;
                format!("{}/{}{:padding$}", self.number, self.stores, "")
            }
        };
        Call::Store {
            mode,
            value: value.into_bytes(),
            flags: (self.stores % 3) as u32,
            expires_at_ms: expires_at_ms.filter(|&at_ms| at_ms > NOW_MS),
            new_version: self.new_version(),
        }
    }

    /// Now and then one that nobody chooses again, and the cache does not come to.
    fn new_version(&mut self) -> Option<u64> {
        self.stores += 1;
        let chosen = 1 << 63 | self.number << 32 | self.stores;
        (self.below(8) == 0).then_some(chosen)
    }

    fn about_leases(&mut self, version: Option<u64>) -> Call {
        let terms = |placeholder_until_ms, expiry| Call::GetOrLease {
            terms: Terms {
                placeholder_until_ms,
                refresh_below_ms: Some(2),
                expiry,
                ..Terms::default()
            },
        };
        match self.below(8) {
            0..3 => terms(Some(NOW_MS + 5), NewExpiry::Kept),
            3 => terms(None, NewExpiry::Kept),
            4 => terms(None, NewExpiry::At(None)),
            5 => Call::EndLease {
                version: version.unwrap_or(0),
            },
            unconditional => Call::Invalidate {
                how: Invalidation {
                    version: version.filter(|_| unconditional == 6),
                    new_version: self.new_version(),
                    ..Invalidation::default()
                },
            },
        }
    }

    fn count(&mut self) -> Call {
        let by = match self.below(2) {
            0 => Arithmetic::Increment(self.below(1000)),
            _ => Arithmetic::Decrement(self.below(1000)),
        };
        let initial = (self.below(2) == 0).then(|| Initial {
            value: self.below(1000),
            expires_at_ms: None,
        });
        Call::Count {
            by,
            initial,
            new_version: self.new_version(),
        }
    }

    fn get_many(&mut self, guard: &Guard<'_>, keys: &[u64]) {
        let names: Vec<_> = keys.iter().map(|&key| name(key)).collect();
        let hashed = names.iter().map(|name| guard.key(name).expect("a key"));
        let hashed: Vec<_> = hashed.collect();
        let mut answers = Vec::new();
        let began = self.now();
        guard.get_many(&hashed, |_, item| answers.push(read(item.as_ref())));
        let ended = self.now();
        for (&key, answer) in keys.iter().zip(answers) {
            self.record_until(Some(key), Call::Get, answer, [began, ended]);
        }
    }

    /// A step of a scan from anywhere: a read of whatever it visits.
    fn scan(&mut self, guard: &Guard<'_>) {
        let cursor = self.below(512);
        let mut visited = Vec::new();
        let began = self.now();
        guard.scan(cursor, 8, |item| {
            visited.push((item.key().to_vec(), read(Some(&item))))
        });
        let ended = self.now();
        for (name, answer) in visited {
            let key = String::from_utf8(name).expect("keys are digits");
            let key = key.parse().expect("keys are digits");
            self.record_until(Some(key), Call::Get, answer, [began, ended]);
        }
    }

    /// Nanoseconds on the shared clock. What this thread stored can be seen by all before it, and
    /// what it will read was not read yet: else the processor could carry a call past its span.
    fn now(&self) -> u64 {
        fence(Ordering::SeqCst);
        let elapsed = self.clock.elapsed();
        fence(Ordering::SeqCst);
        elapsed.as_nanos() as u64
    }

    fn record(&mut self, key: Option<u64>, call: Call, answer: Answer, began: u64) {
        let ended = self.now();
        self.record_until(key, call, answer, [began, ended]);
    }

    fn record_until(&mut self, key: Option<u64>, call: Call, answer: Answer, at: [u64; 2]) {
        let [began, ended] = at;
        let answer = Some(answer);
        let span = Span {
            call,
            answer,
            began,
            ended,
        };
        self.spans.push((key, span));
    }
}

fn name(key: u64) -> Vec<u8> {
    key.to_string().into_bytes()
}
