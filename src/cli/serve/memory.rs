//! The cache of a process that serves: in the memory of the last one, with what can be proved of it,
//! or in memory of its own.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Keep, Refusal, ServeOptions, units};
use crate::engine::{
    Cache, Config, Examination, HugePages, LastOwner, Pages, Prefault, Proof, Receipt,
};
use crate::server;
use crate::supervisor::{MEMORY, Watcher};

/// A cache, and how it came to be.
pub(super) struct Memory {
    pub(super) cache: Cache,
    /// The figures of its recovery, by name; none after a cold start.
    pub(super) receipt: Vec<(&'static str, u64)>,
}

impl Memory {
    /// Goes on in the memory that was handed over, if it may and can; else starts cold. What the next
    /// process is to go on in is given to the watcher.
    pub(super) fn open(
        options: &ServeOptions,
        config: Config,
        handed: Option<OwnedFd>,
        watcher: &Watcher,
    ) -> Result<Self, Refusal> {
        if let Some(memory) = handed {
            match recover(options, &config, memory) {
                Ok(recovered) => return Ok(recovered),
                Err(why) => tracing::warn!("starting cold: {why}"),
            }
            if is_touched_ahead(&config) {
                // Or there would have to be room for both.
                let forgotten = watcher.forget(MEMORY);
                if let Err(error) = forgotten.and_then(|()| watcher.wait_until_done()) {
                    tracing::warn!(%error, "the last process's memory may still be there");
                }
            }
        }
        let cache = Cache::new(config).map_err(Refusal::from)?;
        log_pages(options, cache.pages());
        watcher.keep(MEMORY, cache.memory()).map_err(|error| {
            Refusal::Failed(format!(
                "nobody keeps the memory for the next process: {error}"
            ))
        })?;
        let receipt = Vec::new();
        Ok(Self { cache, receipt })
    }
}

/// Whether a cache takes its memory before it is used.
fn is_touched_ahead(config: &Config) -> bool {
    config.prefault == Prefault::Ahead || config.huge_pages == HugePages::Always
}

/// Goes on in a memory, or says why not.
fn recover(options: &ServeOptions, config: &Config, memory: OwnedFd) -> Result<Memory, String> {
    let began = Instant::now();
    let found = Cache::examine(memory.as_fd(), config).map_err(|error| error.to_string())?;
    if let Some(why) = forbidden(options, &found) {
        return Err(why);
    }
    let recovered = Cache::recover_with(memory, config, Proof::Lengths, &on_all_cores);
    let (cache, receipt) = recovered.map_err(|error| error.to_string())?;
    let duration = began.elapsed();
    tracing::info!(?duration, "{receipt}");
    let figures = figures(&receipt, duration);
    let receipt = figures.collect();
    Ok(Memory { cache, receipt })
}

/// Does the same work on as many threads as there are cores.
fn on_all_cores(work: &(dyn Fn() + Sync)) {
    std::thread::scope(|scope| {
        for _ in 1..server::usable_cores() {
            scope.spawn(work);
        }
        work();
    });
}

/// Why nothing may be kept of what was found, if that is so.
fn forbidden(options: &ServeOptions, found: &Examination) -> Option<String> {
    match options.keep {
        Keep::Never => return Some("--keep never has nothing kept".to_owned()),
        Keep::Clean if found.owner != LastOwner::Ended => {
            return Some(format!(
                "--keep clean has nothing kept of a process that did not end in good order \
                 (the last one: {})",
                found.owner
            ));
        }
        Keep::Clean | Keep::Always => {}
    }
    let age_max = options.keep_max_age?;
    // By the clock that it was used with, and not by one that may have been set since.
    let now_ms = found
        .clock_origin_ms
        .map(|origin| origin + server::monotonic_ms());
    let age = now_ms.zip(found.last_used_ms);
    match age.map(|(now, then)| Duration::from_millis(now.saturating_sub(then))) {
        Some(age) if age <= age_max => None,
        Some(age) => Some(format!(
            "--keep-max-age has nothing kept that is older than {age_max:?}, and this is {age:?} old"
        )),
        None => {
            Some("the age of what was kept is not known, and --keep-max-age bounds it".to_owned())
        }
    }
}

fn figures(receipt: &Receipt, duration: Duration) -> impl Iterator<Item = (&'static str, u64)> {
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let figures = receipt.figures().into_iter();
    figures.chain([("duration_us", duration_us)])
}

/// Looks at the memory that was handed over, and says on standard output what would be kept of it.
pub(super) fn examine(
    options: &ServeOptions,
    config: &Config,
    memory: Option<&OwnedFd>,
) -> Result<(), Refusal> {
    let memory = memory.ok_or_else(|| {
        Refusal::Usage("--examine looks at memory that is handed over, and none is".to_owned())
    })?;
    let version = env!("CARGO_PKG_VERSION");
    let sentence = match Cache::examine(memory.as_fd(), config) {
        Err(error) => {
            return refuse(&format!(
                "larder {version} cannot go on in the memory: {error}"
            ));
        }
        Ok(_) if options.keep == Keep::Never => {
            format!("larder {version} would start cold, as --keep never asks for")
        }
        Ok(found) => format!(
            "larder {version} would keep about {}, {} in all",
            units::counted(found.items, "item"),
            units::size_text(found.item_bytes + found.large_bytes)
        ),
    };
    say(&sentence);
    Ok(())
}

/// Says why the memory is of no use to this program, to whoever asked and for people.
fn refuse(sentence: &str) -> Result<(), Refusal> {
    say(sentence);
    Err(Refusal::Failed(sentence.to_owned()))
}

fn say(sentence: &str) {
    // Whoever asked may have gone.
    let _ = writeln!(std::io::stdout(), "{sentence}");
}

/// Says in the log what memory the cache got.
fn log_pages(options: &ServeOptions, pages: Pages) {
    tracing::info!(
        memory_bytes = options.memory,
        prefault = options.prefault,
        %pages,
        "the memory is mapped"
    );
}
