//! Larder's engine beside other libraries, in this process: moka, quick_cache and foyer (in memory),
//! which are bounded, and dashmap and papaya, which are not.
//!
//! Method: the same keys (16 to 24 bytes), values (32 bytes, copied out by a get) and requests for all,
//! drawn before the clock starts. A get that misses sets. Each figure is the median of several rounds,
//! and of a round the mean of its threads: the CPU time of a thread divided by its operations. In
//! each round every contender has its turn with the same requests, and another one begins the next
//! round, so a machine that drifts favours none; a turn begins with a quarter as many requests
//! that are not timed, since the one before has left the processor's caches full of its own.
//!
//! Two rooms: in one everything fits; in the other the bounded ones hold about a quarter of the keys.
//! The peers count entries there; Larder counts bytes, and gets the memory that holds as many entries
//! when each key has been set once, found by trying. A round that is not counted comes first in each
//! case, and the hit ratio is that of all counted rounds.
//!
//! `larder` pins for each operation; `larder-16` works in batches of 16: one pin, gets looked up
//! together, then the sets. Both are maintained once they are filled, and so lie in huge pages, where the system
//! makes them; `larder-base` and `larder-16-base`, which take part where they are named, do not.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`; `-- --help` for sizes and choices. It
//! takes about ten minutes.

mod contenders;
mod load;
mod report;
mod rounds;
mod weight;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::contenders::{ENTRANTS, Entrant, Hashing, Kind, Room};
use crate::load::{Draw, Keys};
use crate::report::{Case, Report, Weight};
use crate::rounds::{Field, Standing};

const GETS_PERCENT: [u32; 3] = [100, 90, 50];
const THREADS: [usize; 2] = [1, 2];

/// LIMIT: a quarter of fewer keys would fit Larder's smallest memory several times over.
const ITEMS_MIN: usize = 100_000;
const QUICK_ITEMS: usize = 100_000;
const QUICK_OPERATIONS: usize = 10_000;
const QUICK_ROUNDS: usize = 1;

/// Larder's engine beside other caches and maps, as libraries in one process.
#[derive(Parser)]
struct Options {
    /// Rounds, of which the median counts.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    rounds: usize,
    /// Timed operations for each thread and round.
    #[arg(long, default_value_t = 500_000, value_parser = at_least_one)]
    operations: usize,
    /// Distinct keys: 100,000 at least.
    #[arg(long, default_value_t = 1_000_000, value_parser = items)]
    items: usize,
    /// Who takes part, instead of all but those without huge pages; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = names())]
    only: Vec<String>,
    /// What the peers hash with.
    #[arg(long, value_enum, default_value_t = Hashing::Own)]
    hash: Hashing,
    /// Does everything once, on little, within seconds: the figures mean nothing.
    #[arg(long, conflicts_with_all = ["rounds", "operations", "items"])]
    quick: bool,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Prints the bytes per entry of one contender, and ends: what this program asks of itself.
    #[arg(long, hide = true, value_name = "NAME", value_parser = names())]
    weigh: Option<String>,
}
fn main() {
    let mut options = Options::parse();
    if options.quick {
        options.items = QUICK_ITEMS;
        options.operations = QUICK_OPERATIONS;
        options.rounds = QUICK_ROUNDS;
    }
    if let Some(name) = &options.weigh {
        let entrant = ENTRANTS.iter().find(|entrant| entrant.name == name);
        let entrant = entrant.expect("one of the possible names");
        println!("{}", weight::weigh(entrant, options.items));
        return;
    }
    let report = run(&options);
    match options.json {
        true => println!("{}", report.to_json()),
        false => println!("{}", report.to_markdown()),
    }
}

fn names() -> PossibleValuesParser {
    ENTRANTS.iter().map(|entrant| entrant.name).into()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(1, text)
}

fn items(text: &str) -> Result<usize, String> {
    at_least(ITEMS_MIN, text)
}

fn at_least(min: usize, text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number >= min);
    number.ok_or_else(|| format!("accepted: whole numbers of at least {min}"))
}

fn run(options: &Options) -> Report {
    let is_asked_for = |entrant: &&Entrant| match options.only.as_slice() {
        [] => !entrant.is_on_request,
        only => only.iter().any(|name| name == entrant.name),
    };
    let entrants: Vec<_> = ENTRANTS.iter().filter(is_asked_for).collect();
    let weights = entrants.iter().map(|entrant| {
        eprintln!("weighing {}", entrant.name);
        Weight {
            contender: entrant.name,
            bytes_per_entry: weight::bytes_per_entry(entrant, options.items),
        }
    });
    let weights = weights.collect();
    let keys = Keys::new(options.items);
    let mut figures = Vec::new();
    for room in [Room::Everything, Room::Quarter] {
        eprintln!("filling, room for {room:?}");
        let has_place =
            |entrant: &&&Entrant| room == Room::Everything || entrant.kind != Kind::Unbounded;
        let placed = entrants.iter().filter(has_place);
        let standings = placed.map(|entrant| Standing::open(entrant, options.hash, room, &keys));
        let mut field = Field {
            keys: &keys,
            operations: options.operations,
            rounds: options.rounds,
            standings: standings.collect(),
            seeds: 0..,
        };
        if field.standings.is_empty() {
            continue;
        }
        for case in cases(room) {
            eprintln!("{case:?}");
            figures.extend(field.measure(case));
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Report {
        hashing: options.hash,
        items: options.items,
        operations: options.operations,
        rounds: options.rounds,
        cores,
        weights,
        figures,
    }
}

fn cases(room: Room) -> Vec<Case> {
    let mut cases = Vec::new();
    for draw in [Draw::Zipf, Draw::Uniform] {
        for gets_percent in GETS_PERCENT {
            cases.extend(THREADS.map(|threads| Case {
                room,
                draw,
                gets_percent,
                threads,
            }));
        }
    }
    cases
}
