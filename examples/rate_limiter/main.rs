//! A web service that answers each caller five times in ten seconds.
//!
//! ```text
//! cargo run --release -- serve
//! cargo run --release --example rate_limiter
//! for i in 1 2 3 4 5 6; do curl -w '%{http_code}\n' http://127.0.0.1:8080/ada; done
//! ```
//!
//! Start a second one with another port (`-- 8081`): both count together.

mod limiter;

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use larder_client::Client;
use limiter::{Limit, Limiter, Verdict};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8080".into());
    let server = std::env::var("LARDER_SERVER");
    let server = server.unwrap_or_else(|_| "larder://127.0.0.1:5273".into());
    let limit = Limit {
        requests: 5,
        window: Duration::from_secs(10),
    };
    let limiter = Limiter::new(Client::connect(&server).await?, limit);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{} counts in {server}", listener.local_addr()?);
    let routes = Router::new().route("/{caller}", get(answer));
    axum::serve(listener, routes.with_state(limiter)).await?;
    Ok(())
}

async fn answer(
    State(limiter): State<Limiter>,
    Path(caller): Path<String>,
) -> (StatusCode, String) {
    match limiter.check(&caller).await {
        Ok(Verdict::Allowed { left }) => (StatusCode::OK, format!("hello {caller}, {left} left\n")),
        Ok(Verdict::Refused { retry_in }) => {
            let text = format!("come back in {} ms\n", retry_in.as_millis());
            (StatusCode::TOO_MANY_REQUESTS, text)
        }
        // Better to answer than to count: whoever thinks otherwise refuses here.
        Err(error) => (
            StatusCode::OK,
            format!("hello {caller} (not counted: {error})\n"),
        ),
    }
}
