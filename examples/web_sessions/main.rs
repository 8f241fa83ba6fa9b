//! A web application that keeps its sessions in Larder.
//!
//! ```text
//! cargo run --release -- serve
//! cargo run --release --example web_sessions
//! curl -c jar -X POST http://127.0.0.1:8080/login/ada
//! curl -b jar http://127.0.0.1:8080/
//! ```
//!
//! Start a second one with another port (`-- 8081`): both know the session, since neither keeps it.

mod app;

use larder_client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8080".into());
    let server = std::env::var("LARDER_SERVER");
    let server = server.unwrap_or_else(|_| "larder://127.0.0.1:5273".into());
    let sessions = Client::connect(&server).await?;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!(
        "http://{} keeps its sessions in {server}",
        listener.local_addr()?
    );
    axum::serve(listener, app::routes(sessions)).await?;
    Ok(())
}
