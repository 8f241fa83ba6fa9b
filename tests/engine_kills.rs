//! Processes that are killed while they write, and what is left in their memory.
//!
//! The test runs itself as a child: two threads, a session each, write to a memory that the parent
//! holds, and acknowledge every operation through a pipe once it is done. The parent kills the child
//! at a moment of no one's choice, reads what was acknowledged, recovers the memory and looks: of each
//! key the last acknowledged operation must show, or the one that was under way. Then the next child
//! goes on where the last one was, in the same memory.
//!
//! A key may be missing if it was evicted: no more may be than the figures say, which survive. `LARDER_TEST_KILLS` sets how many processes are killed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use larder::{
    Arithmetic, Cache, Config, Counter, Entry, Guard, Initial, LastOwner, Mode, Outcome, Proof,
    RecoverError,
};

const NAME: &str = "a_killed_process_loses_nothing_that_it_acknowledged";
/// What tells a child that it is one: the memory, its size, the seed, and where each thread goes on.
const CHILD: &str = "LARDER_TEST_CHILD";
const KILLS: u64 = 20;
/// Processes that die in one memory, one after the other.
const LIVES: u64 = 4;
const THREADS: u64 = 2;
const KEYS: u64 = 2500;
const NOW_MS: u64 = 1_000_000;

/// What a thread does at one step of its program, which follows from the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Set { value_bytes: usize },
    Delete,
    Increment,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    thread: u64,
    number: u64,
    key: u64,
    act: Act,
}

/// What a key is known to hold: the step that stored it, or the number that a counter came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Stored(Step),
    Number(u64),
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        (self.thread, self.number) == (other.thread, other.number)
    }
}

impl Eq for Step {}

fn mixed(seed: u64, thread: u64, number: u64) -> u64 {
    let mut bits = seed ^ thread << 56 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        bits ^= bits >> 31;
        bits = bits.wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    bits ^ bits >> 29
}

impl Step {
    fn of(seed: u64, thread: u64, number: u64) -> Self {
        let bits = mixed(seed, thread, number);
        // Each key is one thread's, so the order of what is done to it is known.
        let key = bits % KEYS * THREADS + thread;
        let act = match (key / THREADS % 40, bits >> 32 & 63) {
            (0, _) => Act::Increment,
            (_, 0..8) => Act::Delete,
            (1, 8..20) => Act::Set {
                value_bytes: 9000 + (bits >> 40) as usize % 40_000,
            },
            _ => Act::Set {
                value_bytes: (bits >> 40) as usize % 400,
            },
        };
        Self {
            thread,
            number,
            key,
            act,
        }
    }

    fn name(&self) -> String {
        format!("key {}", self.key)
    }

    /// A value that tells which step stored it, to its last byte.
    fn value(&self, value_bytes: usize) -> Vec<u8> {
        let mut value = format!("{} {} {} ", self.key, self.thread, self.number).into_bytes();
        let length = value.len().max(value_bytes);
        let fill = mixed(7, self.thread, self.number).to_le_bytes();
        value.extend(fill.into_iter().cycle().take(length - value.len()));
        value
    }

    /// What a counter begins with that this step finds absent.
    fn initial(&self) -> u64 {
        self.number * 1_000_000
    }

    /// Does it; what is to be acknowledged, or `None` if it was refused.
    fn carry_out(&self, guard: &mut Guard<'_>) -> Option<u64> {
        let name = self.name();
        let key = guard.key(name.as_bytes()).expect("a key");
        match self.act {
            Act::Set { value_bytes } => {
                let value = self.value(value_bytes);
                let stored = guard.store(&key, Mode::Set, &Entry::of(&value));
                matches!(stored, Ok(Outcome::Stored { .. })).then_some(0)
            }
            Act::Delete => {
                let _ = guard.delete(&key, None);
                Some(0)
            }
            Act::Increment => {
                let initial = Initial {
                    value: self.initial(),
                    expires_at_ms: None,
                };
                match guard.arithmetic(&key, Arithmetic::Increment(1), Some(initial)) {
                    Ok(Counter::Value { value, .. }) => Some(value),
                    _ => None,
                }
            }
        }
    }
}

fn config(memory_bytes: u64) -> Config {
    let mut config = Config::new(memory_bytes);
    config.sessions_max = THREADS as u32 + 1;
    config
}

/// The child: recovers the memory, and writes until it is killed.
fn child(told: &str) {
    let (path, numbers) = told.split_once(' ').expect("a path and numbers");
    let numbers: Vec<u64> = (numbers.split(' ').map(str::parse))
        .collect::<Result<_, _>>()
        .expect("numbers");
    let [memory_bytes, seed, first @ ..] = &numbers[..] else {
        panic!("{told}");
    };
    let file = std::fs::File::options().read(true).write(true).open(path);
    let memory = file.expect("the parent has it open").into();
    let recovered = Cache::recover(memory, &config(*memory_bytes), Proof::Contents);
    let (cache, _) = recovered.expect("the memory is whole");
    // Behind what the test's own frame has printed.
    println!();
    std::thread::scope(|scope| {
        for (thread, &first) in (0..).zip(first) {
            let mut session = cache.session().expect("one for each thread");
            scope.spawn(move || {
                for number in first.. {
                    let step = Step::of(*seed, thread, number);
                    let done = step.carry_out(&mut session.pin(NOW_MS));
                    let line = match done {
                        Some(value) => format!("@{thread} {number} {value}\n"),
                        None => format!("@{thread} {number}\n"),
                    };
                    // One call: it is written as a whole or not at all.
                    let mut out = std::io::stdout().lock();
                    if out.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn memory_of(cache: &Cache) -> OwnedFd {
    cache.memory().try_clone_to_owned().expect("a descriptor")
}

/// The memory, and what is known of its contents.
struct Scene {
    /// Whoever is to use it recovers it.
    memory: OwnedFd,
    memory_bytes: u64,
    seed: u64,
    known: HashMap<u64, Known>,
    /// The next step of each thread.
    next: [u64; THREADS as usize],
    lost: u64,
    deaths: u64,
    /// The most that the last deaths can have kept from being counted.
    uncounted: u64,
}

impl Scene {
    fn new(memory_bytes: u64, seed: u64) -> Self {
        Self {
            memory: memory_of(&Cache::new(config(memory_bytes)).expect("a cache")),
            memory_bytes,
            seed,
            known: HashMap::new(),
            next: [0; THREADS as usize],
            lost: 0,
            deaths: 0,
            uncounted: 0,
        }
    }

    fn start(&self) -> Child {
        let memory = self.memory.as_raw_fd();
        let path = format!("/proc/{}/fd/{memory}", std::process::id());
        let [one, two] = self.next;
        let told = format!("{path} {} {} {one} {two}", self.memory_bytes, self.seed);
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env(CHILD, told)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child")
    }

    /// One life and one death: after so many acknowledgements.
    fn live_and_die(&mut self, acknowledged: u64) {
        let mut child = self.start();
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.expect("text");
            let Some(told) = line.strip_prefix('@') else {
                continue;
            };
            self.acknowledge(told);
            seen += 1;
            if seen == 1 {
                self.look_on();
            }
            if seen == acknowledged {
                child.kill().expect("it runs");
            }
        }
        let status = child.wait().expect("it has ended");
        assert!(
            status.code().is_none() && seen >= acknowledged,
            "{status}, {seen} steps"
        );
        self.deaths += 1;
        self.look();
    }

    /// While the child writes, its memory can be examined, and not be recovered.
    fn look_on(&self) {
        let config = config(self.memory_bytes);
        let examined = Cache::examine(self.memory.as_fd(), &config).expect("it is a cache's");
        assert_eq!(examined.owner, LastOwner::AtWork);
        let memory = self.memory.try_clone().expect("a descriptor");
        let recovered = Cache::recover(memory, &config, Proof::Lengths);
        assert!(matches!(recovered, Err(RecoverError::InUse)));
    }

    fn acknowledge(&mut self, told: &str) {
        let mut numbers = told
            .split(' ')
            .map(|number| number.parse().expect("a number"));
        let mut number = || numbers.next();
        let (thread, step) = (number().expect("a thread"), number().expect("a step"));
        assert_eq!(step, self.next[thread as usize], "steps come in order");
        self.next[thread as usize] += 1;
        let step = Step::of(self.seed, thread, step);
        if let Some(value) = number() {
            let known = match step.act {
                Act::Set { .. } => Known::Stored(step),
                Act::Delete => Known::Nothing,
                Act::Increment => {
                    self.check_count(&step, value);
                    Known::Number(value)
                }
            };
            self.known.insert(step.key, known);
        }
    }

    /// A counter goes on from where it was, or from the beginning if it was evicted.
    fn check_count(&mut self, step: &Step, value: u64) {
        match self.known.get(&step.key) {
            Some(Known::Number(before)) if value == before + 1 => {}
            Some(Known::Number(_)) => {
                assert_eq!(value, step.initial(), "{step:?}");
                self.lost += 1;
            }
            _ => assert_eq!(value, step.initial(), "{step:?}"),
        }
    }

    /// Recovers the memory and compares it with what is known.
    fn look(&mut self) {
        let memory = self.memory.try_clone().expect("a descriptor");
        let recovered = Cache::recover(memory, &config(self.memory_bytes), Proof::Contents);
        let (cache, receipt) = recovered.expect("the memory is whole, and nobody's any more");
        assert_eq!(receipt.last_owner, LastOwner::Died);
        assert_eq!(receipt.torn_segments, 0, "{receipt:#?}");
        let dropped = receipt.dropped.total() - receipt.dropped.key;
        assert_eq!(dropped, 0, "{receipt:#?}");
        let mut session = cache.session().expect("a session");
        assert_eq!(session.verify(), Ok(()), "{receipt:#?}");
        // One operation of each thread was under way, or done and not acknowledged.
        let under_way =
            [0, 1].map(|thread| Step::of(self.seed, thread, self.next[thread as usize]));
        let guard = session.pin(NOW_MS);
        for key in 0..KEYS * THREADS {
            let known = self.known.get(&key).copied().unwrap_or(Known::Nothing);
            let next = under_way.iter().find(|step| step.key == key);
            let found = found(&guard, key, known, next);
            self.lost +=
                u64::from(found == Known::Nothing && known != Known::Nothing && next.is_none());
            self.known.insert(key, found);
        }
        drop(guard);
        // What was under way may be done: the next child goes on behind it.
        self.next.iter_mut().for_each(|next| *next += 1);
        self.uncounted += THREADS;
        let stats = cache.stats();
        assert!(
            self.lost <= stats.evicted + self.uncounted * u64::from(stats.evicted > 0),
            "{} lost: {stats:#?}",
            self.lost
        );
    }
}

/// What the cache holds of a key: what is known, or what the step that was under way left, or
/// nothing.
fn found(guard: &Guard<'_>, key: u64, known: Known, next: Option<&Step>) -> Known {
    let name = format!("key {key}");
    let item = guard.get(&guard.key(name.as_bytes()).expect("a key"));
    let Some(item) = item else {
        return Known::Nothing;
    };
    let value = item.value();
    let stored = |step: &Step| match step.act {
        Act::Set { value_bytes } => {
            (step.value(value_bytes) == *value).then_some(Known::Stored(*step))
        }
        Act::Delete | Act::Increment => None,
    };
    let number = || std::str::from_utf8(&value).ok()?.parse::<u64>().ok();
    let counted = |number: u64| {
        let was = match known {
            Known::Number(was) => was == number || (next.is_some() && was + 1 == number),
            _ => false,
        };
        let began = next.is_some_and(|next| next.act == Act::Increment && next.initial() == number);
        (was || began).then_some(Known::Number(number))
    };
    let as_known = match known {
        Known::Stored(step) => stored(&step),
        Known::Number(_) | Known::Nothing => None,
    };
    let as_next = next.and_then(stored);
    let holds = as_known.or(as_next).or_else(|| number().and_then(counted));
    let start = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
    holds.unwrap_or_else(|| panic!("{name} holds {start:?}, and should hold {known:?} or {next:?}"))
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    if let Ok(told) = std::env::var(CHILD) {
        return child(&told);
    }
    let kills = std::env::var("LARDER_TEST_KILLS").map_or(KILLS, |kills| {
        kills.parse().expect("LARDER_TEST_KILLS is a number")
    });
    let mut scene = None;
    for kill in 0..kills {
        let lives = kill / LIVES;
        // Some memories are full at once, some fill, and some have room for all.
        let memory_bytes = [2 << 20, 64 << 20, 6 << 20][lives as usize % 3];
        if kill % LIVES == 0 {
            scene = Some(Scene::new(memory_bytes, lives));
        }
        let scene = scene.as_mut().expect("just made");
        scene.live_and_die(1 + mixed(99, 0, kill) % 12_000);
    }
}
