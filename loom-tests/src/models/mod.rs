//! The claims about the engine and the black box, by subject.

mod ahead;
mod black_box;
mod cleaning;
mod counters;
mod evict_open;
mod expiry;
mod ghosts;
mod growth;
mod large;
mod last_reads;
mod leases;
mod log;
mod overflow;
mod readers;
mod relocation;
mod scene;
mod scrub;
mod sessions;
mod writers;

use crate::model::Model;

/// Every model, in a fixed order.
pub fn all() -> impl Iterator<Item = &'static Model> {
    let subjects = [
        readers::MODELS,
        ahead::MODELS,
        writers::MODELS,
        overflow::MODELS,
        growth::MODELS,
        log::MODELS,
        relocation::MODELS,
        cleaning::MODELS,
        expiry::MODELS,
        large::MODELS,
        evict_open::MODELS,
        leases::MODELS,
        last_reads::MODELS,
        counters::MODELS,
        ghosts::MODELS,
        scrub::MODELS,
        sessions::MODELS,
        black_box::MODELS,
    ];
    subjects.into_iter().flatten()
}
