//! Has a worker fail on purpose, by an order in its black box.
//!
//! A deadly key is not in a box, since it is to outlive the process: workers have it on their command lines.
//! So the worker process is replaced by one of the same program that has it, in the way of an upgrade; it is
//! not counted as one.
//!
//! The worker's side is in [`server`](crate::server): it takes the order out of the box as it begins.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Supervisor;
use super::admin::{Desk, Order, ask, tell_outcome};
use super::journal::{Phase, now_ms};
use super::upgrade::{Answer, Errand};
use crate::blackbox::BlackBox;
use crate::server::{DeadlyKey, Drill, DrillOrder};

/// How often it is looked whether the worker has taken the order.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// LIMIT: how long a worker may take to take an order; the maintenance thread wakes it four times a second.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrillOptions {
    drill: String,
    worker: u32,
    for_ms: u64,
}

/// A drill that has begun.
#[derive(Debug, Serialize)]
struct Begun {
    drill: &'static str,
    worker: u32,
    /// When the worker was seen to have taken the order, in milliseconds since the Unix epoch.
    at_ms: u64,
}

/// `POST /drill`: answers when the worker has begun.
pub(super) async fn order(
    State(desk): State<Desk>,
    Query(options): Query<DrillOptions>,
) -> Response {
    match begin(&desk, &options).await {
        Ok(begun) => Json(begun).into_response(),
        Err((code, sentence)) => (code, format!("{sentence}\n")).into_response(),
    }
}

fn must_be_allowed(desk: &Desk) -> Result<(), (StatusCode, String)> {
    match desk.allow_drills {
        true => Ok(()),
        false => {
            let sentence =
                "this server does no drills; `larder serve --allow-drills` starts one that does";
            Err((StatusCode::FORBIDDEN, sentence.to_owned()))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadlyOptions {
    drill: String,
    key: String,
}

/// `POST /deadly-key`: answers when a worker process serves that dies of the key.
pub(super) async fn make_deadly(
    State(desk): State<Desk>,
    Query(options): Query<DeadlyOptions>,
) -> Response {
    let key = format!("{}:{}", options.drill, options.key);
    if let Err(sentence) = key.parse::<DeadlyKey>() {
        return (StatusCode::BAD_REQUEST, format!("{sentence}\n")).into_response();
    }
    replace_by(&desk, Some(key)).await
}

/// `DELETE /deadly-key`: answers when a worker process serves that dies of no key.
pub(super) async fn make_harmless(State(desk): State<Desk>) -> Response {
    replace_by(&desk, None).await
}

async fn replace_by(desk: &Desk, key: Option<String>) -> Response {
    if let Err((code, sentence)) = must_be_allowed(desk) {
        return (code, format!("{sentence}\n")).into_response();
    }
    tell_outcome(ask(desk, |answer| Order::Deadly { key, answer }).await)
}

impl Supervisor {
    /// Has the worker process replaced by one to which a key is deadly, or none.
    pub(super) fn make_deadly(&mut self, key: Option<String>, answer: Answer) {
        let errand = Errand::deadly(std::mem::replace(&mut self.deadly, key), answer);
        match self.program.again() {
            Ok(same) => self.replace_by(same, errand),
            Err(error) => self.refuse(errand, &error.to_string()),
        }
    }
}

async fn begin(desk: &Desk, options: &DrillOptions) -> Result<Begun, (StatusCode, String)> {
    let wrong = |sentence| (StatusCode::BAD_REQUEST, sentence);
    must_be_allowed(desk)?;
    let drill: Drill = options.drill.parse().map_err(wrong)?;
    let order = DrillOrder::new(drill, Duration::from_millis(options.for_ms)).map_err(wrong)?;
    if desk.journal.read().phase != Phase::Serving {
        let sentence = "the server does not serve at the moment".to_owned();
        return Err((StatusCode::CONFLICT, sentence));
    }
    let seen = desk.sight.seen();
    let worker = seen.worker(options.worker);
    let worker = worker.ok_or_else(|| wrong(seen.no_such_worker(options.worker)))?;
    hand_over(&worker.black_box, order).await?;
    Ok(Begun {
        drill: drill.name(),
        worker: options.worker,
        at_ms: now_ms(),
    })
}

/// Puts the order into the box, and waits until it is taken.
async fn hand_over(black_box: &BlackBox, order: DrillOrder) -> Result<(), (StatusCode, String)> {
    if black_box.ordered_drill().is_some() {
        let sentence = "another drill of this worker has not begun yet".to_owned();
        return Err((StatusCode::CONFLICT, sentence));
    }
    black_box.order_drill(order.word());
    let latest = Instant::now() + PATIENCE;
    while black_box.ordered_drill().is_some() {
        if Instant::now() >= latest {
            black_box.order_drill(0);
            let doing = black_box
                .snapshot()
                .phase
                .map_or("nobody knows what", |p| p.name());
            let sentence = format!(
                "the worker does not take the order ({doing}); a panic needs a connection, and \
                 a worker that hangs takes none"
            );
            return Err((StatusCode::CONFLICT, sentence));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}
