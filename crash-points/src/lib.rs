//! Crash points: Larder's engine dies after every single store to shared memory, and is recovered.
//!
//! The engine's own source files are compiled here beside other flavours of the four modules that they
//! stand on. Behind [`sync`] and [`arena`] every store to shared memory goes on a [`tape`]; [`reclaim`]
//! gives memory back as soon as its contract allows; [`shape`] and the [layouts](scene) are so small that
//! a few operations split buckets, evict, clean. [`families`] of [`programs`] are run exhaustively, one
//! session after the other or [two at once](turns). For each store on the tape the [`sweep`] takes the
//! memory as it was left then, has the engine's own recovery go on in it, and asks whether what is there
//! is what may be: what was answered, and of what was not any or none. What readers see and what
//! operations mean is told a second time for that, in [`seen`] and [`model`].
//!
//! That is the model of a process that dies, by whatever signal: what its threads have stored is in the
//! memory, and the rest of their programs is not carried out. Orderings do not come into it, since who
//! recovers comes after all of it. (A machine that dies loses the memory with it.) What threads see of each
//! other while they live is the subject of `loom-tests`.
//!
//! `cargo test -p larder-crash-points` sweeps all families, which takes two cores about a minute.
//! `LARDER_CRASH_POINTS=deep` goes further, for an hour. What that is worth is tested as well: with any step
//! of recovery left out ([`fault`]), and with any careless order of stores ([`reorder`]), the sweep finds
//! something wrong.

mod arena;
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the engine is a library there, and a module here"
)]
mod engine;
mod families;
mod fault;
mod ledger;
mod model;
mod operation;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the engine is a library there, and a module here"
)]
#[path = "../../src/pages.rs"]
mod pages;
mod programs;
mod reclaim;
mod reorder;
mod scene;
mod seen;
mod shape;
mod sweep;
mod sync;
mod tape;
mod turns;

pub use fault::Fault;
pub use reorder::Reorder;
pub use sweep::{Asked, Counts, Depth, Settings};

/// Names of the families of programs.
pub fn names() -> Vec<&'static str> {
    families::all().iter().map(|family| family.name).collect()
}

/// Sweeps a family.
///
/// # Errors
///
/// What is wrong, the program, and the store after which the process died.
///
/// # Panics
///
/// If there is no such family.
pub fn sweep(name: &str, settings: Settings) -> Result<Counts, String> {
    let family = families::all()
        .into_iter()
        .find(|family| family.name == name);
    family.expect("there is one").sweep(settings)
}
