//! The admin endpoint: HTTP on a socket of the supervisor's own, so that it answers when every
//! worker hangs.
//!
//! | | |
//! |---|---|
//! | `GET /healthz` | the supervisor is alive |
//! | `GET /readyz` | a worker process serves: it is not starting, draining or gone |
//! | `GET /status.json` | the [`Journal`] |
//! | `POST /upgrade?binary=PATH` | an upgrade to the program at a path, or to the one at the path of the program that runs; answers with how it came out |

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::journal::{Journal, Phase};
use super::upgrade::Answer;
use crate::server::{Address, Listening};

/// LIMIT: orders that wait for the supervisor, which takes each at once.
const ORDERS_WAITING_MAX: usize = 16;

/// What somebody asks of the supervisor.
#[derive(Debug)]
pub(super) enum Order {
    /// An upgrade to the program at a path; `None`: at that of the program that runs.
    Upgrade {
        binary: Option<PathBuf>,
        answer: Answer,
    },
}

/// What the endpoint answers from.
#[derive(Debug, Clone)]
struct Desk {
    journal: Journal,
    orders: mpsc::Sender<Order>,
}

/// Serves the endpoint on a socket, beside whatever else the runtime does; gives what it is asked for.
pub(super) fn open(
    socket: Option<Listening>,
    journal: &Journal,
) -> io::Result<mpsc::Receiver<Order>> {
    let (orders, taken) = mpsc::channel(ORDERS_WAITING_MAX);
    let Some(socket) = socket else {
        return Ok(taken);
    };
    let desk = Desk {
        journal: journal.clone(),
        orders,
    };
    let routes = routes(desk);
    let is_tcp = matches!(socket.address(), Address::Tcp(_));
    let descriptor: OwnedFd = socket.as_fd().try_clone_to_owned()?;
    // Either future ends with the runtime alone.
    if is_tcp {
        let listener = tokio::net::TcpListener::from_std(descriptor.into())?;
        tokio::spawn(async move {
            let _file = socket;
            axum::serve(listener, routes).await
        });
    } else {
        let listener = tokio::net::UnixListener::from_std(descriptor.into())?;
        tokio::spawn(async move {
            let _file = socket;
            axum::serve(listener, routes).await
        });
    }
    Ok(taken)
}

fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/status.json", get(status))
        .route("/upgrade", post(upgrade))
        .with_state(desk)
}

async fn ready(State(desk): State<Desk>) -> Response {
    let (code, sentence) = match desk.journal.read().phase {
        Phase::Serving => (StatusCode::OK, "serving\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Waiting => (StatusCode::SERVICE_UNAVAILABLE, "between two workers\n"),
        Phase::Ending => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    };
    (code, sentence).into_response()
}

async fn status(State(desk): State<Desk>) -> Response {
    Json(desk.journal.read()).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeOptions {
    binary: Option<PathBuf>,
}

async fn upgrade(State(desk): State<Desk>, Query(options): Query<UpgradeOptions>) -> Response {
    let (answer, outcome) = oneshot::channel();
    let order = Order::Upgrade {
        binary: options.binary,
        answer,
    };
    if desk.orders.send(order).await.is_err() {
        return gone();
    }
    match outcome.await {
        Ok(Ok(sentence)) => (StatusCode::OK, format!("{sentence}\n")).into_response(),
        Ok(Err(sentence)) => (StatusCode::CONFLICT, format!("{sentence}\n")).into_response(),
        Err(_) => gone(),
    }
}

/// The supervisor ends, and so will this connection.
fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the server ends\n").into_response()
}
