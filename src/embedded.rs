//! The cache behind a client in the same process: `Client::embedded(cache)`.
//!
//! A request comes as the frame that a server would get, and is executed by the same code, in the
//! thread of whoever asks. Sessions are of one thread at a time, and the tasks of a client are on any:
//! so there are a few desks, each with a session, and whoever comes takes one that is free.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::thread;

use larder_client::{Backend, Embed, Limits, ServerInfo};
use larder_protocol::VALUE_BYTES_CEILING;

use crate::blackbox::Pen;
use crate::dialect::larder::Larder;
use crate::dialect::{Dialect, Scratch};
use crate::engine::{Cache, Guard, Session, TooManySessions};
use crate::execute::{Next, Report, Setting, execute_batch};
use crate::server::clock::Clock;
use crate::sync::{Arc, Mutex};

/// LIMIT: desks beyond this serve no machine that there is.
const DESKS_MAX: usize = 64;

/// A cache, ready to execute frames.
#[derive(Debug)]
struct Embedded {
    info: ServerInfo,
    dialect: Larder,
    clock: Clock,
    cache: Cache,
    // INVARIANT: there is at least one.
    desks: Box<[Mutex<Desk>]>,
}

/// What one thread at a time works at.
#[derive(Debug)]
struct Desk {
    session: Session,
    scratch: Scratch,
    /// Writes nothing: nobody watches over this process.
    pen: Pen,
}

/// `Client::embedded(cache)` executes requests in this process. It takes a session for each processor,
/// as far as the cache has them; what it does not get, or the program keeps for itself, only means
/// that more threads share one.
///
/// ```
/// use larder::Cache;
/// use larder_client::Client;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::builder().memory_bytes(16 << 20).build()?;
/// let client = Client::embedded(cache)?; // or: Client::connect("larder://127.0.0.1:5273").await?
///
/// client.set("greeting", "hello").await?;
/// assert_eq!(client.get("greeting").await?.expect("just stored").value, "hello");
/// # Ok(())
/// # }
/// ```
impl Embed for Cache {
    type Error = TooManySessions;

    fn embed(self) -> Result<Arc<dyn Backend>, TooManySessions> {
        let wanted = thread::available_parallelism().map_or(1, usize::from);
        let mut sessions = vec![self.session()?];
        while sessions.len() < wanted.min(DESKS_MAX) {
            match self.session() {
                Ok(session) => sessions.push(session),
                Err(TooManySessions { .. }) => break,
            }
        }
        let desks = sessions.into_iter().map(|session| {
            Mutex::new(Desk {
                session,
                scratch: Scratch::default(),
                pen: Pen::off(),
            })
        });
        let of_cache = self.limits();
        let value_bytes_max = of_cache.value_bytes_max.min(VALUE_BYTES_CEILING.into());
        let limits = Limits::for_items(of_cache.key_bytes_max, value_bytes_max as u32);
        Ok(Arc::new(Embedded {
            info: ServerInfo {
                name: concat!("larder ", env!("CARGO_PKG_VERSION"), " in this process").to_owned(),
                limits,
            },
            dialect: Larder { limits },
            clock: Clock::of(&self),
            desks: desks.collect(),
            cache: self,
        }))
    }
}

impl Backend for Embedded {
    fn server(&self) -> &ServerInfo {
        &self.info
    }

    fn execute(&self, request: &[u8], response: &mut Vec<u8>) {
        self.at_desk(|desk| {
            let now_ms = self.clock.now().wall_ms;
            desk.scratch.clear();
            let setting = Setting {
                now_ms,
                answered: 0,
                scratch: &desk.scratch,
                report: self,
                quarantine: &[],
                out_bytes_max: usize::MAX,
                copied_bytes_max: u64::MAX,
            };
            let mut guard = desk.session.pin(now_ms);
            let (dialect, pen) = (&self.dialect, &mut desk.pen);
            let round = execute_batch(dialect, &mut guard, setting, request, response, pen);
            drop(guard);
            if let Next::Refused { refusal, .. } = round.next {
                self.dialect.refuse(&refusal, response);
            }
            if let Some(follow) = round.large {
                let mut at = 0;
                while let piece @ [_, ..] = follow.value.piece_at(at) {
                    response.extend_from_slice(piece);
                    at += piece.len() as u64;
                }
            }
        });
    }
}

impl Embedded {
    /// Works at a desk: at the thread's usual one, or at another that is free, or waits.
    fn at_desk(&self, work: impl FnOnce(&mut Desk)) {
        let mut hasher = DefaultHasher::new();
        thread::current().id().hash(&mut hasher);
        let usual = hasher.finish() as usize % self.desks.len();
        let (before, from) = self.desks.split_at(usual);
        let free = from.iter().chain(before).find_map(Mutex::try_lock);
        work(&mut free.unwrap_or_else(|| self.desks[usual].lock()));
    }
}

impl Report for Embedded {
    fn groups(&self) -> &'static str {
        "none, `cache`, `memory`; a cache without a server has no more"
    }

    fn figures(&self, group: &[u8], _: &Guard<'_>) -> Option<Vec<(String, String)>> {
        let stats = self.cache.stats_at(self.clock.now().wall_ms);
        let figures = match group {
            b"" | b"cache" => stats.figures(),
            b"memory" => stats.ledger(),
            _ => return None,
        };
        let as_text = |(name, value): (&str, u64)| (name.to_owned(), value.to_string());
        Some(figures.into_iter().map(as_text).collect::<Vec<_>>())
    }

    /// Only memcached's clients reset, and none is here.
    fn reset(&self) {}
}
