//! Runs one model through every interleaving, and says how many there were.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use loom::thread::JoinHandle;

use crate::{arena, mutant};

/// LIMIT: steps of one execution; a model that needs more waits for something that never comes.
const BRANCHES_MAX: usize = 20_000;

/// LIMIT: 256 KiB; loom's own 32 KiB do not hold an unoptimized engine and a panic's message.
const STACK_WORDS: usize = 32 * 1024;

/// A claim, as a program whose every interleaving must keep it.
#[derive(Clone, Copy)]
pub struct Model {
    /// The claim.
    pub name: &'static str,
    /// Preemptions tried by default; none means all. `LARDER_LOOM_FULL=1` lifts it.
    preemptions_max: Option<usize>,
    ending: Ending,
    body: fn(),
}

/// How the exploration of a model must end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every interleaving keeps the claim.
    Holds,
    /// Some interleaving breaks it: the checker must notice what the model does wrong.
    IsCaught,
}

impl Model {
    pub(crate) const fn new(
        name: &'static str,
        preemptions_max: Option<usize>,
        ending: Ending,
        body: fn(),
    ) -> Self {
        Self {
            name,
            preemptions_max,
            ending,
            body,
        }
    }

    /// Explores the model, and says how far on standard output.
    ///
    /// # Panics
    ///
    /// If it does not end as it must.
    pub fn check(&self) {
        let start = Instant::now();
        let ending = match self.ending {
            Ending::Holds => format!("{} executions", self.explore()),
            Ending::IsCaught => {
                let explored = catch_unwind(AssertUnwindSafe(|| self.explore()));
                assert!(explored.is_err(), "{}: not caught", self.name);
                "caught".to_owned()
            }
        };
        let bound = self.preemptions_max();
        let depth = bound.map_or_else(|| "all".to_owned(), |bound| format!("at most {bound}"));
        let ms = start.elapsed().as_millis();
        println!(
            "model {}: {ending} ({depth} preemptions, {ms} ms)",
            self.name
        );
    }

    fn preemptions_max(&self) -> Option<usize> {
        let full = std::env::var_os("LARDER_LOOM_FULL").is_some_and(|value| value == "1");
        if full { None } else { self.preemptions_max }
    }

    /// Nothing in the environment but `LARDER_LOOM_FULL` changes how far this goes.
    fn explore(&self) -> usize {
        let mut builder = loom::model::Builder::new();
        builder.max_duration = None;
        builder.max_permutations = None;
        builder.checkpoint_file = None;
        builder.max_branches = BRANCHES_MAX;
        builder.max_threads = loom::MAX_THREADS;
        builder.preemption_bound = self.preemptions_max();

        mutant::enter(self.name);
        arena::forget_usage();
        let executions = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&executions);
        let body = self.body;
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            STARTED.set(0);
            spawn(body).join().expect("loom passes panics on itself");
        });
        executions.load(Ordering::Relaxed)
    }
}

/// Starts a thread of the model. The engine's frames are larger than the stack that loom gives.
#[track_caller]
pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let own = STARTED.get();
    assert!(own < THREADS_MAX, "more threads than a model may have");
    STARTED.set(own + 1);
    let builder = loom::thread::Builder::new().stack_size(STACK_WORDS);
    let thread = builder.spawn(move || {
        OWN.with(|number| number.set(own));
        body()
    });
    thread.expect("loom has a thread left")
}

/// LIMIT: threads that a model may start, its body being the first.
pub(crate) const THREADS_MAX: usize = 3;

/// Which threads of the model there are.
pub(crate) struct Threads {
    /// The number of the running one.
    pub(crate) own: usize,
    pub(crate) started: usize,
}

thread_local! {
    static STARTED: Cell<usize> = const { Cell::new(0) };
}

loom::thread_local! {
    static OWN: Cell<usize> = Cell::new(0);
}

pub(crate) fn threads() -> Threads {
    Threads {
        own: OWN.with(Cell::get),
        started: STARTED.get(),
    }
}

/// Declares the models of a module: each with the preemptions that are tried, and its ending where
/// it is not [`Ending::Holds`].
macro_rules! models {
    ($($bound:expr => $name:ident $(: $ending:ident)?),* $(,)?) => {
        pub(crate) const MODELS: &[$crate::model::Model] = &[
            $($crate::model::Model::new(
                stringify!($name),
                $bound,
                $crate::model::models!(@ending $($ending)?),
                $name,
            )),*
        ];
    };
    (@ending) => { $crate::model::Ending::Holds };
    (@ending $ending:ident) => { $crate::model::Ending::$ending };
}

pub(crate) use models;
