//! A proxy that treats connections badly: it delays and splits what passes, so that connections
//! overtake each other, stops reading for a while, and cuts connections in the middle of frames. What
//! it does to a connection is drawn from a seed and the connection's number.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// LIMIT: a connection is cut after this many bytes at most, in either direction.
const LIFE_BYTES_MAX: u64 = 400_000;

/// LIMIT: what is read at a time; less than many frames.
const CHUNK_BYTES_MAX: usize = 8_192;

/// A proxy, until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (client, _) = listener.accept().await.expect("a client comes");
                let server = TcpStream::connect(server)
                    .await
                    .expect("the server is there");
                let chance = StdRng::seed_from_u64(seed << 32 | number);
                connections.spawn(mistreat(client, server, chance));
            }
        });
        let accepting = accepting.abort_handle();
        Self { address, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("larder://{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries bytes both ways until one way ends; then both do.
async fn mistreat(client: TcpStream, server: TcpStream, mut chance: StdRng) {
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a TCP socket");
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let ways = [chance.fork_with(), chance.fork_with()];
    let [up, down] = ways;
    tokio::select! {
        () = carry(from_client, to_server, up) => {}
        () = carry(from_server, to_client, down) => {}
    }
}

/// Carries bytes one way until they end, or the connection has lived long enough.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut chance: StdRng,
) {
    // Many live short lives, and a few long ones.
    let life: f64 = chance.random();
    let mut left_bytes = (life * life * life * LIFE_BYTES_MAX as f64) as u64;
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    while left_bytes > 0 {
        let wanted = chance.random_range(1..=CHUNK_BYTES_MAX);
        let Ok(count @ 1..) = from.read(&mut chunk[..wanted]).await else {
            return;
        };
        let count = count.min(usize::try_from(left_bytes).unwrap_or(count));
        left_bytes -= count as u64;
        let (first, second) = chunk[..count].split_at(chance.random_range(0..=count));
        for piece in [first, second] {
            delay(&mut chance).await;
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    }
    // Bytes pile up that will never be read.
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..5))).await;
}

async fn delay(chance: &mut StdRng) {
    match chance.random_range(0..20) {
        0 => tokio::time::sleep(Duration::from_millis(1)).await,
        turns => {
            for _ in 0..turns / 2 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A second source of chance from a first.
trait Fork {
    fn fork_with(&mut self) -> Self;
}

impl Fork for StdRng {
    fn fork_with(&mut self) -> Self {
        Self::seed_from_u64(self.random())
    }
}
