//! The admin endpoint: HTTP on a socket of the supervisor's own, so that it answers when every
//! worker hangs.
//!
//! Whoever reaches a port can ask over TCP, a page in somebody's browser among them: so what is not GET or
//! HEAD is taken on Unix sockets alone, where the file says who may connect, and refused over TCP. Where it listens
//! for this machine alone, it answers who calls it by a name of this machine ([`callers`]).
//!
//! | | |
//! |---|---|
//! | `GET /healthz` | the supervisor is alive |
//! | `GET /readyz` | a worker process serves: it is not starting, draining or gone, and not all of its workers hang; if they do, the evidence is saved before that is said |
//! | `GET /status.json` | the [`Journal`], whether it is ready, and all that is [seen](super::sight) of the worker process |
//! | `GET /metrics` | the same, and everything that is counted, for Prometheus ([`metrics`]) |
//! | `GET /why`, `GET /why.json` | what every thread is about, or with `?worker=N` one worker |
//! | `GET /postmortem`, `GET /postmortem.json` | what is known of the last worker process that died |
//! | `POST /drill?drill=NAME&worker=N&for_ms=T` | a failure on purpose ([`drill`]) |
//! | `POST /deadly-key?drill=NAME&key=KEY`, `DELETE /deadly-key` | from now on, workers die when they are to execute an operation on that key; or no longer. The worker process is replaced for it: it learns of the key as it starts |
//! | `POST /upgrade?binary=PATH` | an upgrade to the program at a path, or to the one at the path of the program that runs; answers with how it came out |

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use axum::Json;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::journal::Journal;
use super::reception::{VISITOR_PATIENCE, VISITORS_MAX, receive};
use super::sight::Sight;
use super::status::Status;
use super::upgrade::Answer;
use super::watch::{Postmortem, Probe, Why};
use super::{callers, drill, metrics};
use crate::server::{Address, Entrance, Listening, Tongue};
use crate::sync::Arc;

/// LIMIT: orders that wait for the supervisor, which takes each at once.
const ORDERS_WAITING_MAX: usize = 16;

/// LIMIT: pages that are put together at a time. Each takes a thread, and a server of very many workers
/// has long ones.
const PAGES_AT_A_TIME: usize = 2;

/// What somebody asks of the supervisor.
#[derive(Debug)]
pub(super) enum Order {
    /// An upgrade to the program at a path; `None`: at that of the program that runs.
    Upgrade {
        binary: Option<PathBuf>,
        answer: Answer,
    },
    /// A key that workers are to die of, from the next one on, which takes the place of this one now; `None`:
    /// none is.
    Deadly { key: Option<String>, answer: Answer },
    /// Whether the server can be used.
    Probe { answer: Probe },
    /// The same, and nothing is saved; `None`: it can.
    Ready {
        answer: oneshot::Sender<Option<&'static str>>,
    },
    /// What every thread is about, or one worker; an error says that there is no such worker.
    Why {
        worker: Option<u32>,
        answer: oneshot::Sender<Result<Why, String>>,
    },
    /// What is known of the last worker process that died; `None`: none has.
    Postmortem {
        answer: oneshot::Sender<Option<Postmortem>>,
    },
}

/// What the endpoint answers from.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) journal: Journal,
    pub(super) sight: Sight,
    /// Where the server listens, and where it does for memcached's protocol.
    pub(super) addresses: Vec<String>,
    pub(super) memcached_addresses: Vec<String>,
    /// Where this endpoint answers.
    pub(super) admin_addresses: Vec<String>,
    /// When the supervisor began.
    pub(super) started: Instant,
    /// Whether workers may be asked to fail.
    pub(super) allow_drills: bool,
    orders: mpsc::Sender<Order>,
    pages: Arc<Semaphore>,
}

impl Desk {
    /// A desk, and where its orders come out.
    pub(super) fn new(
        journal: &Journal,
        sight: &Sight,
        entrances: &[Entrance],
    ) -> (Self, mpsc::Receiver<Order>) {
        let (orders, taken) = mpsc::channel(ORDERS_WAITING_MAX);
        let at = |tongue| {
            let there = (entrances.iter()).filter(|entrance| entrance.tongue == tongue);
            let addresses = there.map(|entrance| entrance.socket.address().to_string());
            addresses.collect()
        };
        let desk = Self {
            journal: journal.clone(),
            sight: sight.clone(),
            addresses: at(Tongue::Larder),
            memcached_addresses: at(Tongue::Memcached),
            admin_addresses: Vec::new(),
            started: Instant::now(),
            allow_drills: false,
            orders,
            pages: Arc::new(Semaphore::new(PAGES_AT_A_TIME)),
        };
        (desk, taken)
    }

    /// Puts a page together on a thread of its own, so that the supervisor does not wait for it. It is told
    /// why the server cannot be used, if that is so.
    async fn page<T: Send + 'static>(
        &self,
        make: fn(&Self, Option<&'static str>) -> T,
    ) -> Option<T> {
        let why_not_ready = ask(self, |answer| Order::Ready { answer }).await?;
        let _turn = self.pages.acquire().await.ok()?;
        let desk = self.clone();
        tokio::task::spawn_blocking(move || make(&desk, why_not_ready))
            .await
            .ok()
    }
}

/// Serves the endpoint on its sockets, beside whatever else the runtime does.
pub(super) fn open(sockets: Vec<Listening>, mut desk: Desk) -> io::Result<()> {
    let addresses = sockets.iter().map(|socket| socket.address().to_string());
    desk.admin_addresses = addresses.collect();
    let over_unix = routes(desk.clone());
    let over_tcp = over_unix.clone().layer(from_fn_with_state(desk, only_tell));
    // Each kind has its own, so that nobody over TCP keeps out who may change something.
    let [room_for_tcp, room_for_unix] = [(); 2].map(|()| Arc::new(Semaphore::new(VISITORS_MAX)));
    for socket in sockets {
        let descriptor: OwnedFd = socket.as_fd().try_clone_to_owned()?;
        // Either future ends with the runtime alone.
        if let Address::Tcp(address) = socket.address() {
            let listener = tokio::net::TcpListener::from_std(descriptor.into())?;
            let routes = match address.ip().is_loopback() {
                true => over_tcp.clone().layer(from_fn(callers::only_by_own_name)),
                false => over_tcp.clone(),
            };
            let room = Arc::clone(&room_for_tcp);
            tokio::spawn(receive(listener, routes, room, VISITOR_PATIENCE));
        } else {
            let listener = tokio::net::UnixListener::from_std(descriptor.into())?;
            let (routes, room) = (over_unix.clone(), Arc::clone(&room_for_unix));
            tokio::spawn(async move {
                let _file = socket;
                receive(listener, routes, room, VISITOR_PATIENCE).await;
            });
        }
    }
    Ok(())
}

/// Refuses what would change something.
async fn only_tell(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return next.run(request).await;
    }
    let others = desk.admin_addresses.iter();
    let unix: Vec<&str> = (others.map(String::as_str))
        .filter(|address| address.starts_with("unix:"))
        .collect();
    let sentence = format!(
        "over TCP this endpoint only tells, since anybody could ask; what changes something is taken on its \
         Unix socket alone ({})\n",
        match &unix[..] {
            [] => "this server has none".to_owned(),
            unix => unix.join(", "),
        }
    );
    (StatusCode::FORBIDDEN, sentence).into_response()
}

fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/status.json", get(status))
        .route("/why", get(why))
        .route("/why.json", get(why_json))
        .route("/postmortem", get(postmortem))
        .route("/postmortem.json", get(postmortem_json))
        .route("/metrics", get(tell_metrics))
        .route("/upgrade", post(upgrade))
        .route("/drill", post(drill::order))
        .route(
            "/deadly-key",
            post(drill::make_deadly).delete(drill::make_harmless),
        )
        .with_state(desk)
}

/// Asks the supervisor; `None`: it ends.
pub(super) async fn ask<T>(
    desk: &Desk,
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Option<T> {
    let (answer, told) = oneshot::channel();
    desk.orders.send(order(answer)).await.ok()?;
    told.await.ok()
}

async fn ready(State(desk): State<Desk>) -> Response {
    match ask(&desk, |answer| Order::Probe { answer }).await {
        Some(Ok(sentence)) => (StatusCode::OK, format!("{sentence}\n")).into_response(),
        Some(Err(why_not)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why_not}\n")).into_response()
        }
        None => gone(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyOptions {
    worker: Option<u32>,
}

async fn why(State(desk): State<Desk>, Query(options): Query<WhyOptions>) -> Response {
    tell_why(&desk, &options, |why| why.to_string().into_response()).await
}

async fn why_json(State(desk): State<Desk>, Query(options): Query<WhyOptions>) -> Response {
    tell_why(&desk, &options, |why| Json(why).into_response()).await
}

async fn tell_why(desk: &Desk, options: &WhyOptions, tell: impl Fn(Why) -> Response) -> Response {
    let worker = options.worker;
    match ask(desk, |answer| Order::Why { worker, answer }).await {
        Some(Ok(why)) => tell(why),
        Some(Err(none)) => (StatusCode::NOT_FOUND, format!("{none}\n")).into_response(),
        None => gone(),
    }
}

async fn postmortem(State(desk): State<Desk>) -> Response {
    tell_postmortem(&desk, |postmortem| postmortem.to_string().into_response()).await
}

async fn postmortem_json(State(desk): State<Desk>) -> Response {
    tell_postmortem(&desk, |postmortem| Json(postmortem).into_response()).await
}

async fn tell_postmortem(desk: &Desk, tell: impl Fn(Postmortem) -> Response) -> Response {
    match ask(desk, |answer| Order::Postmortem { answer }).await {
        Some(Some(postmortem)) => tell(postmortem),
        Some(None) => {
            let none = "no worker process has died since the supervisor started\n";
            (StatusCode::NOT_FOUND, none).into_response()
        }
        None => gone(),
    }
}

async fn status(State(desk): State<Desk>) -> Response {
    match desk.page(Status::of).await {
        Some(status) => Json(status).into_response(),
        None => gone(),
    }
}

async fn tell_metrics(State(desk): State<Desk>) -> Response {
    let headers = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    match desk.page(metrics::text).await {
        Some(text) => (headers, text).into_response(),
        None => gone(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeOptions {
    binary: Option<PathBuf>,
}

async fn upgrade(State(desk): State<Desk>, Query(options): Query<UpgradeOptions>) -> Response {
    let binary = options.binary;
    tell_outcome(ask(&desk, |answer| Order::Upgrade { binary, answer }).await)
}

/// How an upgrade came out, or what is done by one.
pub(super) fn tell_outcome(outcome: Option<Result<String, String>>) -> Response {
    match outcome {
        Some(Ok(sentence)) => (StatusCode::OK, format!("{sentence}\n")).into_response(),
        Some(Err(sentence)) => (StatusCode::CONFLICT, format!("{sentence}\n")).into_response(),
        None => gone(),
    }
}

/// The supervisor ends, and so will this connection.
fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the server ends\n").into_response()
}
