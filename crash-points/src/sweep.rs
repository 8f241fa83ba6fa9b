//! The sweep: one or two operations on a tape, and a death after each of its stores.
//!
//! At each crash point the memory as it was left is copied and recovered, and these hold:
//!
//! - **The guarantee.** What is there is what some order of the operations leaves that contains all that
//!   were answered, and of those that were not any or none, whole; a key may be missing only if the
//!   figures say that something was evicted. So nothing is older than what was acknowledged, nothing
//!   torn, nothing another key's, and nothing missing.
//! - **To the bit.** Recovery keeps what a reader saw at that instant, index word by index word.
//! - **The books.** The cache's own check of itself, the sum of the memory ledger, and the receipt.
//! - **It goes on.** Further operations on the recovered cache do what they mean, with versions that were
//!   never given out, and locks, buckets and memory are there for them.
//! - **More threads come to the same.** Now and then two recover it as well: the memory and the receipt are
//!   those that one leaves, to the bit.
//! - **It can die again.** Now and then the recovery dies after each of its own stores, and all of this
//!   holds for the recovery of what that leaves.
//!
//! A memory that was looked at before is not looked at again.

use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::arena::Arena;
use crate::engine::Receipt;
use crate::engine::recover::Proof;
use crate::fault::Fault;
use crate::ledger;
use crate::model::Model;
use crate::operation::{Answer, Given, Operation};
use crate::reorder::Reorder;
use crate::scene::{Scene, is_like, outcome};
use crate::seen::Contents;
use crate::tape::{Event, Recorder};
use crate::turns::{Part, Turns, Who};

/// What is asked of a recovered cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// All of it.
    Everything,
    /// What callers can notice: what reads give, then and after further operations.
    Answers,
}

/// What a sweep leaves out or does wrong, and how far it goes.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A step that every recovery leaves out.
    pub fault: Option<Fault>,
    /// An order of stores that is not the engine's.
    pub reorder: Option<Reorder>,
    /// What is asked.
    pub asked: Asked,
    /// Of so many recoveries, one dies after each of its stores; 0: none.
    pub dying_recovery_of: u64,
    /// Of so many recoveries, one is done by two threads as well; 0: none.
    pub shared_recovery_of: u64,
    /// How far it goes.
    pub depth: Depth,
}

/// How far a sweep goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Some seconds for each family.
    Usual,
    /// Programs of one operation more; and more of those that look random.
    Deep,
}

impl Settings {
    /// Nothing is wrong, everything is asked.
    pub const SOUND: Self = Self {
        fault: None,
        reorder: None,
        asked: Asked::Everything,
        dying_recovery_of: 8,
        shared_recovery_of: 128,
        depth: Depth::Usual,
    };

    /// The same, as far as can be: every recovery dies, too.
    pub const DEEP: Self = Self {
        dying_recovery_of: 1,
        shared_recovery_of: 32,
        depth: Depth::Deep,
        ..Self::SOUND
    };
}

/// What a sweep has come past.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Programs whose last operations died at each of their stores.
    pub programs: u64,
    /// Deaths: places of tapes.
    pub deaths: u64,
    /// Recoveries: deaths that left another memory than any before.
    pub recoveries: u64,
    /// Of these, those of memories that a recovery left which died.
    pub of_recoveries: u64,
    /// And those that two threads came to as well.
    pub shared: u64,
    /// Most stores of one program's last operations.
    pub stores_max: u64,
    /// The cache's figures, added up over the programs.
    pub figures: BTreeMap<&'static str, u64>,
}

/// Operations that are carried out at once: sessions, and what they do.
pub(crate) type Steps<'a> = &'a [(usize, Operation)];

/// What was recorded, and what may be there at each place of it.
struct Case {
    base: Vec<u64>,
    events: Vec<Event>,
    /// What orders of some of the operations leave: which of them, a bit each, and the model.
    outcomes: Vec<(u32, Model)>,
    /// Whether anything was evicted.
    evicts: bool,
    /// The largest version that was told before, and the version that each operation told.
    newest_before: u64,
    versions: Vec<u64>,
    /// Whether the first of two operations was stopped: it made that many stores.
    has_stopped: bool,
}

/// One crash point.
struct Death<'a> {
    scene: &'a Scene,
    /// Any of these.
    allowed: Vec<&'a Model>,
    evicts: bool,
    /// The largest version that was told.
    newest_version: u64,
    /// What a reader saw in the moment of the first death.
    seen: Option<&'a Contents>,
    is_recovery: bool,
}

/// A sweep under way.
pub(crate) struct Sweep<'a> {
    settings: Settings,
    /// What is done in recovered caches.
    aftermath: &'a [Operation],
    known: HashSet<u128>,
    pub(crate) counts: Counts,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(settings: Settings, aftermath: &'a [Operation]) -> Self {
        Self {
            settings,
            aftermath,
            known: HashSet::new(),
            counts: Counts::default(),
        }
    }

    /// Carries one operation out, or two at once, of which the first one stops after so many stores
    /// until the second is done; dies at each store. Gives whether the first one made so many.
    pub(crate) fn run(
        &mut self,
        scene: &mut Scene,
        steps: Steps<'_>,
        stop_after: u64,
    ) -> Result<bool, String> {
        let before = Model::clone(&scene.model);
        let case = caught(|| record(scene, steps, stop_after, &before))?;
        let events = match self.settings.reorder {
            None => case.events.clone(),
            Some(reorder) => match reorder.apply(&case.events, &scene.geometry) {
                Some(events) => events,
                None => return Ok(case.has_stopped),
            },
        };
        let stores = events.iter().filter(is_store).count() as u64;
        self.counts.stores_max = self.counts.stores_max.max(stores);
        self.replay(scene, &case, &events)?;
        self.counts.programs += 1;
        for (name, figure) in scene.cache().stats().counts() {
            *self.counts.figures.entry(name).or_default() += figure;
        }
        Ok(case.has_stopped)
    }

    fn replay(&mut self, scene: &Scene, case: &Case, events: &[Event]) -> Result<(), String> {
        let memory = Arena::holding(&case.base);
        let (mut begun, mut answered) = (0_u32, 0_u32);
        for (place, event) in events.iter().enumerate() {
            match *event {
                Event::Begun(step) => begun |= 1 << step,
                Event::Answered(step) => answered |= 1 << step,
                Event::Store { at, value } => {
                    self.counts.deaths += 1;
                    memory.poke(at, value);
                }
            }
            let may_be = |mask: u32| mask & answered == answered && mask & !begun == 0;
            let outcomes = case.outcomes.iter();
            let allowed = outcomes.filter(|(mask, _)| may_be(*mask));
            let death = Death {
                scene,
                allowed: allowed.map(|(_, model)| model).collect(),
                evicts: case.evicts,
                newest_version: case.newest_version(answered),
                seen: None,
                is_recovery: false,
            };
            self.die(&death, &memory).map_err(|what| {
                let tape = describe(events, place);
                format!("{what}\nwhere the process died: {tape}")
            })?;
        }
        Ok(())
    }

    /// Recovers from a memory as it was left, if it is another one than any before.
    fn die(&mut self, death: &Death<'_>, memory: &Arena) -> Result<(), String> {
        let image = memory.image();
        if !self.known.insert(fingerprint(&image, death)) {
            return Ok(());
        }
        self.counts.recoveries += 1;
        self.counts.of_recoveries += u64::from(death.is_recovery);
        caught(|| self.recover(death, memory, &image))
    }

    fn recover(&mut self, death: &Death<'_>, left: &Arena, image: &[u64]) -> Result<(), String> {
        let (scene, everything) = (death.scene, self.settings.asked == Asked::Everything);
        let seen = everything.then(|| scene.seen_in(left));
        if let (Some(now), Some(before)) = (&seen, death.seen)
            && self.settings.reorder.is_none()
            && now != before
        {
            return Err(format!(
                "recovery changed what readers see, from {before:#?} to {now:#?}"
            ));
        }
        for proof in [Proof::Contents, Proof::Lengths] {
            let memory = Arena::holding(image);
            let recorder = Recorder::of(&memory);
            let is_traced = proof == Proof::Lengths && self.may_die_again(death);
            let (cache, receipt) = {
                let _listening = is_traced.then(|| recorder.listen());
                let fault = self.settings.fault;
                let _fault = fault.map(|fault| fault.begin(&memory, &scene.geometry));
                scene.recovered(&memory, proof)?
            };
            self.share(death, (image, proof), (&memory, &receipt))?;
            if is_traced {
                let events = recorder.take();
                self.die_again(death, image, &events, seen.as_ref())?;
            }
            let found = scene.seen_in(&memory);
            death.judge(&found)?;
            let mut after = ManuallyDrop::new(scene.after(&memory, cache, death.newest_version));
            if let Some(seen) = &seen {
                self.judge_books(left, &mut after, (seen, &found), &receipt)?;
            }
            if proof == Proof::Lengths {
                self.go_on(&mut after)?;
            }
            drop(ManuallyDrop::into_inner(after));
        }
        Ok(())
    }

    /// Has two threads recover from the same image, now and then, and compares with what one has left.
    fn share(
        &mut self,
        death: &Death<'_>,
        (image, proof): (&[u64], Proof),
        (alone, receipt): (&Arena, &Receipt),
    ) -> Result<(), String> {
        let of = self.settings.shared_recovery_of;
        if of == 0 || self.settings.fault.is_some() || !self.counts.recoveries.is_multiple_of(of) {
            return Ok(());
        }
        self.counts.shared += 1;
        let memory = Arena::holding(image);
        let (cache, shared) = death.scene.recovered_by_two(&memory, proof)?;
        let is_same = memory.image() == alone.image() && shared == *receipt;
        // The memory says from here on that its owner has ended.
        drop(cache);
        match is_same {
            true => Ok(()),
            false => Err(format!(
                "two threads came to {shared:#?}, and one to {receipt:#?}, or to other words"
            )),
        }
    }

    fn may_die_again(&self, death: &Death<'_>) -> bool {
        let of = self.settings.dying_recovery_of;
        !death.is_recovery && of > 0 && self.counts.recoveries.is_multiple_of(of)
    }

    /// Has the recovery die after each of its stores.
    fn die_again(
        &mut self,
        death: &Death<'_>,
        image: &[u64],
        events: &[Event],
        seen: Option<&Contents>,
    ) -> Result<(), String> {
        let memory = Arena::holding(image);
        for (place, event) in events.iter().enumerate() {
            let Event::Store { at, value } = *event else {
                continue;
            };
            memory.poke(at, value);
            let again = Death {
                scene: death.scene,
                allowed: death.allowed.clone(),
                evicts: death.evicts,
                newest_version: death.newest_version,
                seen,
                is_recovery: true,
            };
            self.counts.deaths += 1;
            self.die(&again, &memory).map_err(|what| {
                let tape = describe(events, place);
                format!("{what}\nwhere the recovery died: {tape}\n(which had begun after)")
            })?;
        }
        Ok(())
    }

    fn judge_books(
        &self,
        left: &Arena,
        after: &mut Scene,
        (seen, found): (&Contents, &Contents),
        receipt: &Receipt,
    ) -> Result<(), String> {
        if self.settings.reorder.is_none() && seen != found {
            return Err(format!(
                "readers saw {seen:#?}, and recovery came to {found:#?}"
            ));
        }
        ledger::judge_receipt(left, &after.geometry, found, receipt)
            .map_err(|what| format!("the receipt is wrong: {what}: {receipt:#?}"))?;
        ledger::judge_stats(after.cache())?;
        after
            .verify()
            .map_err(|what| format!("the cache does not agree with itself: {what}"))
    }

    /// Further operations on a recovered cache.
    fn go_on(&self, after: &mut Scene) -> Result<(), String> {
        let read = after.read_all();
        for (key, value) in read.iter().enumerate() {
            let state = after.model.keys[key].as_ref();
            let shown = state.filter(|state| !state.is_placeholder);
            if shown.map(|state| &state.value) != value.as_ref() {
                return Err(format!("key {key} is {state:?}, and reads as {value:?}"));
            }
        }
        for (at, &operation) in self.aftermath.iter().enumerate() {
            after
                .step(at % 2, operation)
                .map_err(|what| format!("in the recovered cache, {what}"))?;
        }
        match self.settings.asked {
            Asked::Answers => Ok(()),
            Asked::Everything => after
                .verify()
                .map_err(|what| format!("having gone on, the cache does not agree: {what}")),
        }
    }
}

impl Case {
    /// The largest version that was told when these operations were answered, a bit each.
    fn newest_version(&self, answered: u32) -> u64 {
        let versions = (0..).zip(&self.versions);
        let told = versions.filter(|(step, _)| answered >> step & 1 == 1);
        told.fold(self.newest_before, |newest, (_, &version)| {
            newest.max(version)
        })
    }
}

impl Death<'_> {
    /// Whether what is there may be.
    fn judge(&self, found: &Contents) -> Result<(), String> {
        let now_ms = self.scene.now_ms;
        let may_be = |model: &&Model| {
            model.keys.iter().enumerate().all(|(key, wanted)| {
                let live = found.live(key, now_ms);
                is_like(live, wanted.as_ref()) || (self.evicts && live.is_none())
            })
        };
        match self.allowed.iter().any(may_be) {
            true => Ok(()),
            false => {
                let live: Vec<_> = (0..found.keys.len())
                    .map(|key| found.live(key, now_ms))
                    .collect();
                let allowed: Vec<_> = self.allowed.iter().map(|model| &model.keys).collect();
                Err(format!("there is {live:#?}; allowed: {allowed:#?}"))
            }
        }
    }
}

fn is_store(event: &&Event) -> bool {
    matches!(event, Event::Store { .. })
}

/// Runs the operations, and acknowledges them.
fn record(
    scene: &mut Scene,
    steps: Steps<'_>,
    stop_after: u64,
    before: &Model,
) -> Result<Case, String> {
    let base = scene.arena.image();
    let (evicted, newest_before) = (scene.evicted(), scene.newest_version);
    let given: Vec<Given> = steps.iter().map(|&(_, op)| scene.given(op)).collect();
    // The time that has come may have taken something away already.
    let start = scene.model.clone();
    let recorder = Recorder::of(&scene.arena);
    let turns = Turns::stopping_after(stop_after);
    let answers = match steps {
        [(session, operation)] => {
            let _listening = recorder.listen();
            recorder.mark(Event::Begun(0));
            let answered = || recorder.mark(Event::Answered(0));
            vec![scene.carry_out(*session, *operation, &given[0], answered)]
        }
        _ => both(scene, steps, &given, (&recorder, &turns)),
    };
    let events = recorder.take();
    let evicts = scene.evicted() > evicted;
    let outcomes = outcomes(&start, steps, &given, (&answers, evicts));
    let all = (1 << steps.len()) - 1;
    let last = outcomes.iter().filter(|(mask, _)| *mask == all);
    let versions = answers.iter().map(|answer| answer.version().unwrap_or(0));
    let versions = versions.collect();
    let told: Vec<_> = steps.iter().map(|&(_, op)| op).zip(answers).collect();
    let acknowledged = last
        .map(|(_, model)| scene.acknowledge(model.clone(), &told, evicted))
        .reduce(Result::or);
    acknowledged.unwrap_or_else(|| Err(format!("{told:?} was answered, with {before:?}")))?;
    Ok(Case {
        base,
        events,
        outcomes,
        evicts,
        newest_before,
        versions,
        has_stopped: turns.has_stopped(),
    })
}

/// What is there after some of the operations, in the orders that explain all answers.
fn outcomes(
    start: &Model,
    steps: Steps<'_>,
    given: &[Given],
    (answers, evicts): (&[Answer], bool),
) -> Vec<(u32, Model)> {
    let after = |model: &Model, step: usize| {
        let told = (&answers[step], evicts);
        outcome(model, steps[step].1, &given[step], told)
    };
    let mut outcomes = vec![(0, start.clone())];
    // A flush beside which somebody takes versions may come twice: what was stored in between by who saw
    // the first one goes with the second.
    let is_flush = |step: &usize| steps[*step].1 == Operation::Flush;
    let orders: Vec<Vec<usize>> = match steps.len() {
        1 => vec![vec![0]],
        _ => {
            let twice = [0, 1].into_iter().filter(is_flush);
            let twice = twice.map(|step| vec![step, 1 - step, step]);
            [vec![0, 1], vec![1, 0]].into_iter().chain(twice).collect()
        }
    };
    for order in &orders {
        let mut models = vec![(0, start.clone())];
        for &step in order {
            let (mask, model) = models.last().expect("it begins with one");
            match after(model, step) {
                Some(next) => models.push((mask | 1 << step, next)),
                None => break,
            }
        }
        if models.len() == order.len() + 1 {
            outcomes.extend(models);
        }
    }
    outcomes
}

/// Two operations of two sessions: the first stops after so many stores until the second is done.
fn both(
    scene: &mut Scene,
    steps: Steps<'_>,
    given: &[Given],
    (recorder, turns): (&Arc<Recorder>, &Arc<Turns>),
) -> Vec<Answer> {
    let keys = [0, 1].map(|step| scene.key(steps[step].1.key().unwrap_or(0)).to_vec());
    let (first, second) = scene.two_sessions(steps[0].0, steps[1].0);
    let carry_out = |who: Who, session| {
        let step = who as usize;
        let _part = Part::take(turns, who);
        let _listening = recorder.listen();
        recorder.mark(Event::Begun(step));
        let answered = || recorder.mark(Event::Answered(step));
        let operation = steps[step].1;
        operation.carry_out(session, &keys[step], &given[step], answered)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| carry_out(Who::Second, second));
        let answer = carry_out(Who::First, first);
        match other.join() {
            Ok(other) => vec![answer, other],
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn fingerprint(image: &[u64], death: &Death<'_>) -> u128 {
    let mut hasher = Xxh3::new();
    // SAFETY: words are bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts(image.as_ptr().cast::<u8>(), std::mem::size_of_val(image))
    };
    hasher.update(bytes);
    death.scene.now_ms.hash(&mut hasher);
    (death.evicts, death.is_recovery, death.newest_version).hash(&mut hasher);
    death.allowed.hash(&mut hasher);
    hasher.write_u8(0);
    hasher.digest128()
}

/// Takes a panic for a finding.
fn caught<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("of no words")))
    })
}

/// The end of a tape up to a place of it.
fn describe(events: &[Event], place: usize) -> String {
    /// LIMIT: events that a finding shows.
    const SHOWN: usize = 8;
    let first = (place + 1).saturating_sub(SHOWN);
    format!(
        "after event {} of {}: ... {:x?}",
        place + 1,
        events.len(),
        &events[first..=place]
    )
}
