//! One weakening of one site, named at run time.
//!
//! A *site* is a call of the `sync` or `reclaim` door in the source of the engine or the black box,
//! known by file, line and column (`#[track_caller]`). `LARDER_MUTANT=FILE:LINE:COLUMN:KIND` weakens one of them in
//! every execution of this process; `LARDER_SITES=1` prints each site when a model first reaches
//! it. The driver (`mutants`) turns positions into keys that survive edits elsewhere in a file.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::panic::Location;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, Mutex, OnceLock};

/// What a site does, as far as its weakenings depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Load(Ordering),
    Store(Ordering),
    Modify(Ordering),
    /// Orders on success and on failure.
    CompareExchange(Ordering, Ordering),
    Lock,
    Pin,
    Defer,
}

/// One way to weaken a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The order becomes Relaxed.
    Relax,
    /// AcqRel becomes Release.
    DropAcquire,
    /// AcqRel becomes Acquire.
    DropRelease,
    /// The order of a failed exchange becomes Relaxed.
    RelaxFailure,
    /// A read-modify-write becomes a load and a store.
    Split,
    /// The store, the lock or the pin does not happen; an exchange only pretends.
    Skip,
    /// A deferred action runs at once.
    AtOnce,
    /// A deferred action runs only when the collector goes.
    Never,
}

const KIND_NAMES: [(Kind, &str); 8] = [
    (Kind::Relax, "relax"),
    (Kind::DropAcquire, "drop-acquire"),
    (Kind::DropRelease, "drop-release"),
    (Kind::RelaxFailure, "relax-failure"),
    (Kind::Split, "split"),
    (Kind::Skip, "skip"),
    (Kind::AtOnce, "at-once"),
    (Kind::Never, "never"),
];

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = KIND_NAMES.iter().find(|(kind, _)| kind == self);
        formatter.write_str(named.map_or("?", |(_, name)| name))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = KIND_NAMES.iter().find(|(_, name)| *name == text);
        named
            .map(|(kind, _)| *kind)
            .ok_or_else(|| format!("no such kind of mutant: {text}"))
    }
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Load(_) => "load",
            Self::Store(_) => "store",
            Self::Modify(_) => "modify",
            Self::CompareExchange(..) => "exchange",
            Self::Lock => "lock",
            Self::Pin => "pin",
            Self::Defer => "defer",
        }
    }

    /// The weakenings that mean something here.
    fn kinds(self) -> Vec<Kind> {
        match self {
            Self::Load(order) => order_kinds(order),
            Self::Store(order) => [order_kinds(order), vec![Kind::Skip]].concat(),
            Self::Modify(order) => [order_kinds(order), vec![Kind::Split, Kind::Skip]].concat(),
            Self::CompareExchange(success, failure) => {
                let mut kinds = order_kinds(success);
                if failure != Ordering::Relaxed {
                    kinds.push(Kind::RelaxFailure);
                }
                kinds.extend([Kind::Split, Kind::Skip]);
                kinds
            }
            Self::Lock | Self::Pin => vec![Kind::Skip],
            Self::Defer => vec![Kind::AtOnce, Kind::Never],
        }
    }
}

fn order_kinds(order: Ordering) -> Vec<Kind> {
    match order {
        Ordering::Relaxed => vec![],
        Ordering::AcqRel | Ordering::SeqCst => vec![Kind::DropAcquire, Kind::DropRelease],
        _ => vec![Kind::Relax],
    }
}

/// The directories whose sites are weakened, as they stand in the compiler's file names: of the
/// engine's files the names below it are used, of the others' those below `src/`.
const ENGINE: &str = "src/engine/";
const BLACK_BOX: &str = "src/blackbox/";
const SOURCES: &str = "src/";

struct Mutant {
    file: String,
    line: u32,
    column: u32,
    kind: Kind,
}

static MUTANT: LazyLock<Option<Mutant>> = LazyLock::new(|| {
    let text = std::env::var("LARDER_MUTANT").ok()?;
    let parts: Vec<&str> = text.split(':').collect();
    let [file, line, column, kind] = parts[..] else {
        panic!("LARDER_MUTANT is FILE:LINE:COLUMN:KIND, not {text}");
    };
    Some(Mutant {
        file: file.to_owned(),
        line: line.parse().expect("a line number"),
        column: column.parse().expect("a column number"),
        kind: kind.parse().expect("a kind of mutant"),
    })
});

static LISTED: OnceLock<Option<Mutex<HashSet<Reach>>>> = OnceLock::new();

/// A site as one model reached it.
type Reach = (&'static str, &'static str, u32, u32);

thread_local! {
    static MODEL: Cell<&'static str> = const { Cell::new("") };
}

/// Names the model that runs on this system thread from now on.
pub(crate) fn enter(model: &'static str) {
    MODEL.set(model);
}

/// Says whether (and how) the access at `location` is to be weakened.
pub(crate) fn at(location: &'static Location<'static>, operation: Operation) -> Option<Kind> {
    list(location, operation);
    let mutant = MUTANT.as_ref()?;
    let here = mutant.line == location.line()
        && mutant.column == location.column()
        && engine_file(location).is_some_and(|file| file == mutant.file);
    here.then_some(mutant.kind)
}

/// The file below `src/engine/`, or below `src/` for those of the black box; for no other site.
fn engine_file(location: &Location<'static>) -> Option<&'static str> {
    let file = location.file();
    let below = |directory: &str, skipped: &str| {
        let start = file.rfind(directory)?;
        Some(&file[start + skipped.len()..])
    };
    below(ENGINE, ENGINE).or_else(|| below(BLACK_BOX, SOURCES))
}

/// Whether a site is in the black box.
pub(crate) fn is_in_black_box(location: &'static Location<'static>) -> bool {
    location.file().contains(BLACK_BOX)
}

fn list(location: &'static Location<'static>, operation: Operation) {
    let listed = LISTED.get_or_init(|| std::env::var_os("LARDER_SITES").map(|_| Mutex::default()));
    let Some(listed) = listed else {
        return;
    };
    let Some(file) = engine_file(location) else {
        return;
    };
    let reach = (MODEL.get(), file, location.line(), location.column());
    if !listed.lock().expect("not poisoned").insert(reach) {
        return;
    }
    let (model, file, line, column) = reach;
    let kinds: Vec<String> = operation.kinds().iter().map(Kind::to_string).collect();
    println!(
        "site\t{model}\t{file}\t{line}\t{column}\t{}\t{}",
        operation.name(),
        kinds.join(",")
    );
}
