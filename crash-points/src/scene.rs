//! A cache of a tiny layout with its sessions, what was acknowledged by it, and what readers see in it.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::arena::Arena;
use crate::engine::cache::Cache;
use crate::engine::config::{AccessTimes, BUCKET_BYTES, Geometry, OVERFLOW_BYTES};
use crate::engine::index::word::KeyHash;
use crate::engine::large::{LargeDraft, LargeValue};
use crate::engine::last_read::LAST_READ_BYTES;
use crate::engine::recover::{Hands, Proof, Receipt};
use crate::engine::session::Session;
use crate::engine::stats::Figure;
use crate::engine::{Config, StoreError};
use crate::model::Model;
use crate::operation::{Answer, Given, Operation};
use crate::seen::{Contents, State};
use crate::turns::{Part, Turns, Who};

const HASH_SEED: u64 = 0;
/// LIMIT: an item with a key of up to three bytes, a value of up to five and nothing else takes 24.
pub(crate) const ITEM_BYTES: u64 = 24;
/// LIMIT: a counter with such a key takes as much: the longest item.
const COUNTER_BYTES: u64 = 48;
/// LIMIT: leaves address space for more buckets, overflow buckets and segments than programs use.
const CHUNKS: u64 = 20;
pub(crate) const SESSIONS: u32 = 2;
const KEY_BYTES_MAX: u32 = 8;
const START_MS: u64 = 1_000;

/// How the cache of a program is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Items of [`ITEM_BYTES`] that a segment holds.
    pub(crate) items_per_segment: u64,
    pub(crate) segments: u32,
    /// Free segments that new items leave for what moves.
    pub(crate) segments_kept: u32,
    /// Free segments below which sessions evict.
    pub(crate) segments_reserved: u32,
    /// Buckets of a chunk, and overflow buckets of one; the index starts with one bucket.
    pub(crate) buckets_per_chunk: u64,
    pub(crate) overflow_per_chunk: u64,
    /// Chunks of each that the index may come to use, each beyond the first paid for.
    pub(crate) bucket_chunks_max: u64,
    pub(crate) overflow_chunks_max: u64,
    pub(crate) ghost_chunks_max: u64,
    /// The share of dead bytes above which segments are cleaned; above 100 none is.
    pub(crate) dead_percent_max: u64,
    /// The longest value that has no extents.
    pub(crate) inline_bytes_max: u64,
    pub(crate) parts_per_segment: u64,
    pub(crate) classes: usize,
    pub(crate) access_times: AccessTimes,
}

impl Layout {
    /// One bucket, and more memory than the program needs.
    pub(crate) const ROOMY: Self = Self {
        items_per_segment: 3,
        segments: 6,
        segments_kept: 1,
        segments_reserved: 1,
        buckets_per_chunk: 1,
        overflow_per_chunk: 3,
        bucket_chunks_max: 1,
        overflow_chunks_max: 1,
        ghost_chunks_max: 0,
        dead_percent_max: 101,
        inline_bytes_max: 1 << 20,
        parts_per_segment: 1,
        classes: 1,
        access_times: AccessTimes::Off,
    };

    pub(crate) fn geometry(self) -> Geometry {
        let segment_bytes = self.items_per_segment * ITEM_BYTES;
        // A chunk is filled to its end, where there is another behind it.
        for (buckets, bytes, chunks_max) in [
            (self.buckets_per_chunk, BUCKET_BYTES, self.bucket_chunks_max),
            (
                self.overflow_per_chunk,
                OVERFLOW_BYTES,
                self.overflow_chunks_max,
            ),
        ] {
            let chunk_bytes = buckets * bytes;
            assert!(
                chunk_bytes == segment_bytes || (chunk_bytes < segment_bytes && chunks_max == 1)
            );
        }
        let last_read_bytes = match self.access_times {
            AccessTimes::Off => 0,
            AccessTimes::Kept => LAST_READ_BYTES,
        };
        assert!(COUNTER_BYTES + last_read_bytes <= segment_bytes);
        Geometry {
            segments: self.segments,
            segments_kept: self.segments_kept,
            segments_reserved: self.segments_reserved,
            segments_maintained: self.segments_reserved * 2,
            buckets_per_chunk: self.buckets_per_chunk,
            overflow_per_chunk: self.overflow_per_chunk,
            bucket_chunks_max: self.bucket_chunks_max,
            overflow_chunks_max: self.overflow_chunks_max,
            ghost_chunks_max: self.ghost_chunks_max,
            classes: self.classes,
            dead_percent_max: self.dead_percent_max,
            dead_percent_searched: self.dead_percent_max,
            inline_bytes_max: self.inline_bytes_max,
            part_bytes: segment_bytes / self.parts_per_segment,
            access_times: self.access_times,
            ..Geometry::new(segment_bytes, CHUNKS, SESSIONS, KEY_BYTES_MAX)
        }
    }
}

/// The keys of a program, with their hashes.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Vec<(Vec<u8>, KeyHash)>);

impl Keys {
    /// So many keys of one letter.
    pub(crate) fn letters(count: usize) -> Self {
        let letters = (b'a'..=b'z').map(|letter| vec![letter]);
        Self::of(letters.take(count))
    }

    /// Keys of one letter that belong to these buckets when there are four.
    pub(crate) fn in_buckets(buckets: &[u64]) -> Self {
        let mut letters: Vec<_> = (b'a'..=b'z').map(|letter| vec![letter]).collect();
        let keys = buckets.iter().map(|&bucket| {
            let belongs = |key: &Vec<u8>| hash(key).bucket(4) == bucket;
            let at = letters.iter().position(belongs);
            letters.remove(at.expect("26 letters have enough of each"))
        });
        Self::of(keys.collect::<Vec<_>>().into_iter())
    }

    pub(crate) fn of(keys: impl Iterator<Item = Vec<u8>>) -> Self {
        Self(keys.map(|key| (key.clone(), hash(&key))).collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn names(self) -> impl Iterator<Item = Vec<u8>> {
        self.0.into_iter().map(|(key, _)| key)
    }
}

/// Two keys with the same tag: the first moves when the first bucket splits, the second stays.
pub(crate) fn keys_of_one_tag() -> (Vec<u8>, Vec<u8>) {
    let mut of_tag = HashMap::new();
    for number in 0_u32.. {
        let key = number.to_le_bytes()[..3].to_vec();
        let hash = hash(&key);
        let bit = hash.0 & 1;
        match of_tag.insert(hash.tag(), (bit, key.clone())) {
            Some((1, moving)) if bit == 0 => return (moving, key),
            Some((0, staying)) if bit == 1 => return (key, staying),
            _ => {}
        }
    }
    unreachable!("65,537 keys have two of one tag")
}

pub(crate) fn hash(key: &[u8]) -> KeyHash {
    KeyHash(xxh3_64_with_seed(key, HASH_SEED))
}

/// A cache, its sessions, and what its callers know.
pub(crate) struct Scene {
    pub(crate) arena: Arena,
    pub(crate) geometry: Geometry,
    keys: Keys,
    cache: Cache,
    sessions: Vec<Option<Session>>,
    held: Vec<LargeValue>,
    drafts: Vec<LargeDraft>,
    pub(crate) model: Model,
    pub(crate) now_ms: u64,
    /// Tells each operation's value from all others.
    number: u64,
    /// Versions up to this one were given out by processes that are gone.
    versions_before: u64,
    /// The largest version that was told.
    pub(crate) newest_version: u64,
}

impl Scene {
    pub(crate) fn new(layout: Layout, keys: &Keys) -> Self {
        let geometry = layout.geometry();
        let arena = Arena::new(geometry.arena_bytes).expect("an arena");
        let cache = Cache::in_arena(arena.again(), geometry, HASH_SEED, 1);
        Self {
            arena,
            geometry,
            keys: keys.clone(),
            sessions: sessions(&cache),
            cache,
            held: Vec::new(),
            drafts: Vec::new(),
            model: Model::of(keys.count()),
            now_ms: START_MS,
            number: 0,
            versions_before: 0,
            newest_version: 0,
        }
    }

    /// Recovers a cache in the memory that is left of this one's.
    pub(crate) fn recovered(
        &self,
        memory: &Arena,
        proof: Proof,
    ) -> Result<(Cache, Receipt), String> {
        self.recovered_by(memory, proof, &|work| work())
    }

    /// The same by two threads, which take turns.
    pub(crate) fn recovered_by_two(
        &self,
        memory: &Arena,
        proof: Proof,
    ) -> Result<(Cache, Receipt), String> {
        self.recovered_by(memory, proof, &|work| {
            let turns = Turns::alternating();
            let work_as = |who| {
                let _part = Part::take(&turns, who);
                work();
            };
            std::thread::scope(|scope| {
                scope.spawn(|| work_as(Who::Second));
                work_as(Who::First);
            });
        })
    }

    fn recovered_by(
        &self,
        memory: &Arena,
        proof: Proof,
        hands: Hands<'_>,
    ) -> Result<(Cache, Receipt), String> {
        let mut config = Config::new(2 << 20);
        config.hash_seed = Some(HASH_SEED);
        config.first_version = Some(1);
        Cache::recover_in(memory.again(), self.geometry, &config, (proof, hands))
            .map_err(|error| format!("it cannot be recovered: {error}"))
    }

    /// Goes on in a recovered cache with what it has kept; nobody holds anything any more. Versions up
    /// to `newest_version` were told, and none of them may come again, nor any that can be read.
    pub(crate) fn after(&self, memory: &Arena, cache: Cache, newest_version: u64) -> Self {
        let mut model = self.model.clone();
        let contents = Contents::of(memory, &self.geometry, &self.keys.0);
        for (key, state) in model.keys.iter_mut().enumerate() {
            *state = contents.live(key, self.now_ms).cloned();
        }
        Self {
            arena: memory.again(),
            geometry: self.geometry,
            keys: self.keys.clone(),
            sessions: sessions(&cache),
            cache,
            held: Vec::new(),
            drafts: Vec::new(),
            model,
            now_ms: self.now_ms,
            number: self.number + 31,
            versions_before: contents.newest_version().max(newest_version),
            newest_version,
        }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn key(&self, key: usize) -> &[u8] {
        &self.keys.0[key].0
    }

    pub(crate) fn session(&mut self, session: usize) -> &mut Session {
        self.sessions[session].as_mut().expect("it is there")
    }

    /// Two different sessions.
    pub(crate) fn two_sessions(
        &mut self,
        one: usize,
        other: usize,
    ) -> (&mut Session, &mut Session) {
        let both = self.sessions.get_disjoint_mut([one, other]);
        let [one, other] = both.expect("two different ones");
        let both = one.as_mut().zip(other.as_mut());
        both.expect("they are there")
    }

    /// What readers see in this memory.
    pub(crate) fn seen_in(&self, memory: &Arena) -> Contents {
        Contents::of(memory, &self.geometry, &self.keys.0)
    }

    /// How many keys left to make space.
    pub(crate) fn evicted(&self) -> u64 {
        let figures = [
            Figure::EvictedSmall,
            Figure::EvictedMain,
            Figure::EvictedBucket,
        ];
        let shared = self.cache.shared();
        figures.iter().map(|&figure| shared.sum(figure)).sum()
    }

    /// What the next operation is given.
    pub(crate) fn given(&mut self, operation: Operation) -> Given {
        if let Operation::Wait(for_ms) = operation {
            self.now_ms += for_ms;
        }
        self.model.come_to(self.now_ms);
        self.number += 1;
        let state = operation
            .key()
            .and_then(|key| self.model.keys[key].as_ref());
        Given {
            now_ms: self.now_ms,
            number: self.number,
            version: state.map_or(0, |state| state.version),
        }
    }

    /// Carries an operation out, and gives its answer, which is not acknowledged yet.
    pub(crate) fn carry_out(
        &mut self,
        session: usize,
        operation: Operation,
        given: &Given,
        answered: impl FnOnce(),
    ) -> Answer {
        let key = operation.key().unwrap_or(0);
        match operation {
            Operation::Wait(_) => {}
            Operation::Renew => {
                self.sessions[session] = None;
                self.sessions[session] = self.cache.session().ok();
            }
            Operation::LetGo => self.held.clear(),
            Operation::Hold(_) => {
                let key = self.keys.0[key].0.clone();
                let guard = self.session(session).pin(given.now_ms);
                let key = guard.key(&key).expect("a key");
                let held = guard.peek(&key).and_then(|seen| guard.hold(&seen.item));
                drop(guard);
                self.held.extend(held);
            }
            Operation::Recover => self.recover_itself(),
            Operation::BeginLong(bytes) => {
                let begun = self.begin_long(session, bytes, given);
                if begun.is_err() {
                    answered();
                    return Answer::NoSpace;
                }
            }
            _ => {
                let key = self.keys.0[key].0.clone();
                let session = self.session(session);
                return operation.carry_out(session, &key, given, answered);
            }
        }
        answered();
        Answer::Done
    }

    /// Goes on in its own memory, and nothing of what this process had is ended.
    fn recover_itself(&mut self) {
        std::mem::take(&mut self.sessions)
            .into_iter()
            .for_each(std::mem::forget);
        std::mem::take(&mut self.held)
            .into_iter()
            .for_each(std::mem::forget);
        std::mem::take(&mut self.drafts)
            .into_iter()
            .for_each(std::mem::forget);
        let memory = self.arena.again();
        let (cache, _) = self.recovered(&memory, Proof::Lengths).expect("recovered");
        std::mem::forget(std::mem::replace(&mut self.cache, cache));
        self.sessions = sessions(&self.cache);
        self.versions_before = self.newest_version;
    }

    fn begin_long(
        &mut self,
        session: usize,
        bytes: usize,
        given: &Given,
    ) -> Result<(), StoreError> {
        let mut guard = self.session(session).pin(given.now_ms);
        let mut draft = guard.begin_large(bytes as u64)?;
        guard.extend_large(&mut draft)?;
        let space = draft.space();
        let half = space.len() / 2;
        space[..half].copy_from_slice(&given.long_value(half));
        draft.advance(half);
        drop(guard);
        self.drafts.push(draft);
        Ok(())
    }

    /// Acknowledges an answer: from here on the model is what must be there.
    ///
    /// `expected` is the model with the operation carried out. What is there and what is not must agree
    /// with it, but for what was evicted: as many keys as the figures say, since they said `evicted`.
    pub(crate) fn acknowledge(
        &mut self,
        mut expected: Model,
        answers: &[(Operation, Answer)],
        evicted: u64,
    ) -> Result<(), String> {
        let seen = self.seen_in(&self.arena);
        let mut lost = 0;
        for (key, place) in expected.keys.iter_mut().enumerate() {
            let live = seen.live(key, self.now_ms);
            match (&place, live) {
                (Some(state), Some(live)) if state.is_like(live) => *place = Some(live.clone()),
                (Some(_), None) => {
                    lost += 1;
                    *place = None;
                }
                (None, None) => {}
                (expected, found) => {
                    return Err(format!(
                        "key {key} is {found:?}, and was answered to be {expected:?}"
                    ));
                }
            }
        }
        if lost > self.evicted() - evicted {
            return Err(format!("{lost} keys are missing that were not evicted"));
        }
        for (operation, answer) in answers {
            self.note_version(&expected, *operation, answer, answers.len() == 1)?;
        }
        self.model = expected;
        Ok(())
    }

    fn note_version(
        &mut self,
        model: &Model,
        operation: Operation,
        answer: &Answer,
        is_alone: bool,
    ) -> Result<(), String> {
        let Some(version) = answer.version() else {
            return Ok(());
        };
        let place = operation.key().and_then(|key| model.keys[key].as_ref());
        if let Some(state) = place.filter(|_| is_alone)
            && state.version != version
        {
            let found = state.version;
            return Err(format!("version {version} was answered, and it is {found}"));
        }
        if version <= self.versions_before {
            return Err(format!("version {version} was given out before"));
        }
        self.newest_version = self.newest_version.max(version);
        Ok(())
    }

    /// Carries an operation out and acknowledges it.
    pub(crate) fn step(&mut self, session: usize, operation: Operation) -> Result<(), String> {
        let evicted = self.evicted();
        let given = self.given(operation);
        let answer = self.carry_out(session, operation, &given, || {});
        let evicts = self.evicted() > evicted;
        let expected = outcome(&self.model, operation, &given, (&answer, evicts));
        let expected = expected.ok_or_else(|| format!("{operation:?} was answered {answer:?}"))?;
        self.acknowledge(expected, &[(operation, answer)], evicted)
            .map_err(|what| format!("after {operation:?}: {what}"))
    }

    /// Reads all keys as a caller does.
    pub(crate) fn read_all(&mut self) -> Vec<Option<Vec<u8>>> {
        let keys: Vec<_> = self.keys.0.iter().map(|(key, _)| key.clone()).collect();
        let now_ms = self.now_ms;
        let guard = self.session(0).pin(now_ms);
        let read = |key: &Vec<u8>| {
            let key = guard.key(key).expect("a key");
            guard.peek(&key).map(|seen| seen.item.value().into_owned())
        };
        keys.iter().map(read).collect()
    }

    /// Everything that a quiet cache promises about itself.
    pub(crate) fn verify(&mut self) -> Result<(), String> {
        self.session(0).verify()
    }
}

/// The model with an operation carried out, if that is how it is answered then; or if it is where the key
/// has just been evicted, as it may have been by the operation itself, where it made room.
pub(crate) fn outcome(
    model: &Model,
    operation: Operation,
    given: &Given,
    (answer, evicts): (&Answer, bool),
) -> Option<Model> {
    if *answer == Answer::NoSpace {
        return Some(model.clone());
    }
    let answered = |mut model: Model| {
        let predicted = model.apply(operation, given);
        (predicted == answer.clone().with_version(0)).then_some(model)
    };
    answered(model.clone()).or_else(|| {
        let mut model = model.clone();
        model.keys[operation.key().filter(|_| evicts)?] = None;
        answered(model)
    })
}

fn sessions(cache: &Cache) -> Vec<Option<Session>> {
    (0..SESSIONS).map(|_| cache.session().ok()).collect()
}

/// Whether what is there is what may be there.
pub(crate) fn is_like(found: Option<&State>, wanted: Option<&State>) -> bool {
    match (found, wanted) {
        (None, None) => true,
        (Some(found), Some(wanted)) => found.is_like(wanted),
        _ => false,
    }
}
