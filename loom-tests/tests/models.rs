//! Runs the models: `cargo test -p larder-loom-tests -- [TEXT ...]` those whose name contains a text.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_loom_tests::{Model, door_models, models};

/// LIMIT: models that the crate had when this was written; fewer means that some were lost.
const MODELS_MIN: usize = 174;

fn main() -> ExitCode {
    let all: Vec<&Model> = door_models().chain(models()).collect();
    assert!(all.len() >= MODELS_MIN, "only {} models", all.len());
    let texts = texts();
    let wanted = |model: &&&Model| {
        texts.is_empty() || texts.iter().any(|text| model.name.contains(text.as_str()))
    };
    let chosen: Vec<&Model> = all.iter().filter(wanted).copied().collect();
    let broken = run(&chosen);
    println!("{} models, {} broken", chosen.len(), broken.len());
    for name in &broken {
        println!("broken: {name}");
    }
    if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The texts among the arguments. Options are the usual harness's, meant for other tests of the run.
fn texts() -> Vec<String> {
    const WITH_VALUE: [&str; 5] = [
        "--test-threads",
        "--skip",
        "--format",
        "--color",
        "--logfile",
    ];
    let mut texts = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if WITH_VALUE.contains(&argument.as_str()) {
            arguments.next();
        } else if !argument.starts_with('-') {
            texts.push(argument);
        }
    }
    texts
}

/// Runs models on all cores; returns the names of those whose claim does not hold.
fn run(models: &[&Model]) -> Vec<&'static str> {
    let next = AtomicUsize::new(0);
    let broken = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(model) = models.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if catch_unwind(|| model.check()).is_err() {
                        println!("model {}: BROKEN", model.name);
                        broken.lock().expect("not poisoned").push(model.name);
                    }
                }
            });
        }
    });
    broken.into_inner().expect("not poisoned")
}
