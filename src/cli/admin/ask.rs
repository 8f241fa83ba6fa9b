//! One request to an admin endpoint, and its answer.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::ADMIN_VARIABLE;
use crate::cli::SERVER_VARIABLE;
use crate::cli::ending::Failure;
use crate::server::Address;

/// LIMIT: the longest answer that is taken in.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What an endpoint answered.
#[derive(Debug)]
pub(crate) struct Told {
    /// Whether it did what was asked.
    pub(crate) is_done: bool,
    /// Whether what was asked about is not there.
    pub(crate) is_missing: bool,
    /// What it says, for people or for programs.
    pub(crate) text: String,
}

/// Asks an endpoint something and takes its answer in.
pub(super) fn ask(
    address: &Address,
    method: &str,
    path: &str,
    timeout: Duration,
) -> Result<Told, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask_beside(address, method, path, timeout))
}

/// The same, beside other things.
pub(super) async fn ask_beside(
    address: &Address,
    method: &str,
    path: &str,
    timeout: Duration,
) -> Result<Told, Failure> {
    let unreachable = |why: String| {
        Failure::unreachable(format!(
            "no answer from the admin endpoint {address}: {why}; --server or {SERVER_VARIABLE} names another \
             server, --admin or {ADMIN_VARIABLE} another endpoint"
        ))
    };
    let asked = async {
        match address {
            Address::Tcp(at) => {
                let stream = TcpStream::connect(at).await;
                exchange(TokioIo::new(stream.map_err(Lost::Connect)?), method, path).await
            }
            Address::Unix(at) => {
                let stream = UnixStream::connect(at).await;
                exchange(TokioIo::new(stream.map_err(Lost::Connect)?), method, path).await
            }
        }
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(told) => told.map_err(|lost| unreachable(lost.to_string())),
        Err(_) => Err(unreachable(format!("it took longer than {timeout:?}"))),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Connect(std::io::Error),
    #[error("{0}")]
    Exchange(#[from] hyper::Error),
    #[error("{0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
}

async fn exchange<S>(stream: S, method: &str, path: &str) -> Result<Told, Lost>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    // Its error is the request's too.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "larder")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let (is_done, is_missing) = (status.is_success(), status == StatusCode::NOT_FOUND);
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let bytes = body.collect().await.map_err(Lost::Answer)?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Told {
        is_done,
        is_missing,
        text,
    })
}
