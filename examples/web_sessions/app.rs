//! The application: log in, be recognised, log out.
//!
//! A session is one item: its key is a random number that the browser keeps in a cookie, its value
//! the user's name. Every request gives it another half an hour; Larder forgets it by itself.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use larder_client::Client;

const SESSION_TIME: Duration = Duration::from_secs(30 * 60);

/// The application's routes, with their sessions in the server that `sessions` is connected to.
pub(crate) fn routes(sessions: Client) -> Router {
    Router::new()
        .route("/login/{name}", post(log_in))
        .route("/", get(greet))
        .route("/logout", post(log_out))
        .with_state(sessions)
}

/// What goes wrong on the way to the cache is the application's to explain, not to hide.
struct CacheError(larder_client::Error);

impl From<larder_client::Error> for CacheError {
    fn from(error: larder_client::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for CacheError {
    fn into_response(self) -> axum::response::Response {
        let sentence = format!("sessions are out of reach: {}\n", self.0);
        (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response()
    }
}

async fn log_in(
    State(sessions): State<Client>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, CacheError> {
    // `add` stores only where there is nothing: two users never share a session.
    let id = loop {
        let id = format!("{:032x}", rand::random::<u128>());
        let key = session_key(&id);
        let added = sessions.add(&key, name.clone()).expire_in(SESSION_TIME);
        if added.await?.is_some() {
            break id;
        }
    };
    let cookie = format!("session={id}; HttpOnly; SameSite=Lax; Path=/");
    Ok(([(SET_COOKIE, cookie)], format!("welcome, {name}\n")))
}

async fn greet(
    State(sessions): State<Client>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, CacheError> {
    let stranger = (StatusCode::UNAUTHORIZED, "please log in\n".to_owned());
    let Some(id) = session_id(&headers) else {
        return Ok(stranger);
    };
    let session = sessions
        .get_and_touch(session_key(id))
        .expire_in(SESSION_TIME);
    let Some(session) = session.await? else {
        return Ok(stranger);
    };
    let visits = sessions.increment(format!("visits:{id}"));
    let visits = visits.initial(1).expire_in(SESSION_TIME).await?;
    let visits = visits.map_or(1, |counter| counter.number);
    let name = String::from_utf8_lossy(&session.value);
    Ok((StatusCode::OK, format!("hello, {name}: visit {visits}\n")))
}

async fn log_out(
    State(sessions): State<Client>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, CacheError> {
    if let Some(id) = session_id(&headers) {
        sessions.delete(session_key(id)).await?;
    }
    Ok("good-bye\n")
}

fn session_key(id: &str) -> String {
    format!("session:{id}")
}

/// The session's number in the request's cookies.
fn session_id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(COOKIE)?.to_str().ok()?;
    let mut pairs = cookies
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == "session").then_some(value))
}
