//! The connections of the admin endpoint: so many at a time, and none for longer than it is used. Or whoever
//! reaches the endpoint could take all open files of the supervisor, which then could start no worker process.
//!
//! What an answer takes is not timed: a drill takes as long as it was asked to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};

use crate::sync::Arc;

/// LIMIT: connections of the endpoint over TCP at a time, and as many over Unix sockets. Further ones wait
/// in the kernel.
pub(super) const VISITORS_MAX: usize = 64;

/// LIMIT: how long a visitor may take to ask, for the first time or the next, and to read more of its answer.
pub(super) const VISITOR_PATIENCE: Duration = Duration::from_secs(5);

/// Answers whoever comes to a socket, while there is room.
pub(super) async fn receive(
    mut listener: impl Listener,
    routes: Router,
    room: Arc<Semaphore>,
    patience: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    // Nobody closes the room.
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        let (stream, _) = listener.accept().await;
        let visitor = TokioIo::new(Visitor {
            stream,
            patience,
            // It counts from when a write has to wait.
            late: Box::pin(sleep(Duration::ZERO)),
            waits: false,
        });
        let answered = http.serve_connection(visitor, TowerToHyperService::new(routes.clone()));
        tokio::spawn(async move {
            // How a visitor leaves does not matter.
            let _ = answered.await;
            drop(place);
        });
    }
}

/// A connection that ends with an error where its other side does not read in time.
struct Visitor<S> {
    stream: S,
    patience: Duration,
    late: Pin<Box<Sleep>>,
    /// Whether a write waits.
    waits: bool,
}

impl<S> Visitor<S> {
    /// What is said of a write, unless it has waited for too long.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        if !self.waits {
            self.waits = true;
            self.late.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.late.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Visitor<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Visitor<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets hold nothing back: this never waits.
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const ASKS: &[u8] = b"GET / HTTP/1.1\r\nhost: larder\r\n\r\n";

    /// Runs a test with a reception that has room for one.
    fn with_room_for_one<F: Future<Output = ()>>(
        answer: &'static str,
        patience: Duration,
        test: impl FnOnce(std::net::SocketAddr) -> F,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let routes = Router::new().route(
                "/",
                get(move || async move {
                    // Longer than any visitor may wait for.
                    sleep(patience * 2).await;
                    answer
                }),
            );
            let room = Arc::new(Semaphore::new(1));
            tokio::spawn(receive(listener, routes, room, patience));
            test(address).await;
        });
    }

    #[test]
    fn who_asks_nothing_makes_room_for_the_next_whose_answer_may_take_its_time() {
        with_room_for_one("fine", Duration::from_millis(50), |address| async move {
            let mut idle = TcpStream::connect(address).await.unwrap();
            let mut next = TcpStream::connect(address).await.unwrap();
            next.write_all(ASKS).await.unwrap();
            let mut text = String::new();
            // It stays after its answer, and is sent away as well.
            next.read_to_string(&mut text).await.unwrap();
            assert!(text.ends_with("fine"), "{text}");
            assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
        });
    }

    #[test]
    fn who_does_not_read_its_answer_makes_room_for_the_next() {
        let long: &'static str = "x".repeat(64 << 20).leak();
        with_room_for_one(long, Duration::from_millis(50), |address| async move {
            let mut deaf = TcpStream::connect(address).await.unwrap();
            deaf.write_all(ASKS).await.unwrap();
            let mut next = TcpStream::connect(address).await.unwrap();
            next.write_all(ASKS).await.unwrap();
            let mut start = [0; 15];
            next.read_exact(&mut start).await.unwrap();
            assert_eq!(&start, b"HTTP/1.1 200 OK");
            drop(deaf);
        });
    }
}
