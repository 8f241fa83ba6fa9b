//! Model checks of Larder's engine, and of its black box.
//!
//! The engine's own source files are compiled here beside other flavours of the four modules that
//! they stand on: `sync`, `reclaim`, `arena` and `shape`. Behind those names are loom's atomics,
//! the strictest reclaimer that the contract allows, an arena whose every access is checked, and
//! sizes small enough to explore. `cargo test` runs each model (`LARDER_LOOM_FULL=1`: with no bound on
//! preemptions, for hours); the binary `mutants` weakens each site of the engine in turn and expects
//! some model to fail. Both want optimized code with debug assertions, which are part of the claims.

#[allow(
    dead_code,
    reason = "the models use a part of what the engine offers and needs"
)]
mod arena;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the black box is a library there, and a module here"
)]
mod blackbox;
mod doors;
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the engine is a library there, and a module here"
)]
mod engine;
mod model;
mod models;
mod mutant;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the engine is a library there, and a module here"
)]
#[path = "../../src/pages.rs"]
mod pages;
#[allow(
    dead_code,
    reason = "the models use a part of what the engine offers and needs"
)]
mod reclaim;
#[allow(
    dead_code,
    reason = "the models use a part of what the engine offers and needs"
)]
mod shape;
#[allow(
    dead_code,
    reason = "the models use a part of what the engine offers and needs"
)]
mod sync;

pub use model::Model;
pub use models::all as models;

/// The claims about the doors themselves, apart from those about the engine.
pub fn door_models() -> impl Iterator<Item = &'static Model> {
    doors::MODELS.iter()
}
pub use mutant::Kind;
