use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use larder_protocol::{Limits, Request, RequestFrame, encode_drain, encode_pong};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{AtomicU64, Driven, Halves, LAST_LOOK, Link, SHARE_MIN};
use crate::client::ServerInfo;
use crate::desk::{Desk, Terms, Time};
use crate::ending::Ending;
use crate::metrics::Meter;
use crate::pending::Pending;

const PATIENCE: Duration = Duration::from_secs(5);

/// Counts how many were woken.
#[derive(Default)]
struct Bell(Mutex<usize>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.0.lock() += 1;
    }
}

impl Bell {
    fn rung(&self) -> usize {
        *self.0.lock()
    }
}

fn link(places: u32) -> Arc<Link> {
    let server = Arc::new(ServerInfo {
        name: "test".to_owned(),
        limits: Limits::default(),
    });
    let terms = Terms {
        server,
        places,
        patience: PATIENCE,
        home: None,
    };
    Arc::new(Link {
        meter: Arc::new(Meter::default()),
        desk: Mutex::new(Desk::new(terms, Pending::new())),
        room_left: AtomicU64::new(0),
        work: Notify::new(),
        hurry: Notify::new(),
    })
}

/// The driver of a connection through a pipe that holds so much, and the server's end.
fn driver(
    link: &Arc<Link>,
    pipe_bytes: usize,
) -> (impl Future<Output = ()> + Send + 'static, DuplexStream) {
    let driven = Driven {
        link: link.clone(),
        ending: Ending::Finished,
    };
    let (near, far) = tokio::io::duplex(pipe_bytes);
    let (reader, writer) = tokio::io::split(near);
    let halves = Halves {
        reader,
        writer,
        buffer: BytesMut::new(),
    };
    let frame_bytes_max = Limits::default().frame_bytes_max;
    (driven.drive(halves, frame_bytes_max), far)
}

fn start(link: &Arc<Link>, pipe_bytes: usize) -> (JoinHandle<()>, DuplexStream) {
    let (driver, far) = driver(link, pipe_bytes);
    (tokio::spawn(driver), far)
}

/// Sends a PING that its caller gives up at once.
fn ask_and_leave(link: &Link) {
    let mut frame = ping();
    let context = Context::from_waker(Waker::noop());
    let mut time = Time::For(Duration::from_secs(3600));
    let sent = link.poll_send(&mut frame, &mut time, &mut None, &mut None, &context);
    assert!(matches!(sent, Poll::Ready(Ok(_))));
    link.give_up(frame.id);
}

fn ping() -> RequestFrame<'static> {
    RequestFrame {
        id: 0,
        quiet: false,
        request: Request::Ping { echo: b"" },
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_though_nobody_waits() {
    let link = link(1);
    let (driver, _far) = start(&link, 1024);
    let begin = Instant::now();
    ask_and_leave(&link);
    driver.await.expect("no panic");
    let after = begin.elapsed();
    assert!(after >= PATIENCE && after < 2 * PATIENCE, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_even_read_is_left() {
    let link = link(1);
    let (driver, _far) = start(&link, 1);
    ask_and_leave(&link);
    driver.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_on_reading_what_is_long_is_not_silent() {
    const PIPE_BYTES: usize = 1024;
    let link = link(1);
    let (mut driver, mut far) = start(&link, PIPE_BYTES);
    let mut frame = RequestFrame {
        request: Request::Ping {
            echo: &[0; 10 * PIPE_BYTES],
        },
        ..ping()
    };
    let context = Context::from_waker(Waker::noop());
    let mut time = Time::For(Duration::from_secs(3600));
    let sent = link.poll_send(&mut frame, &mut time, &mut None, &mut None, &context);
    assert!(matches!(sent, Poll::Ready(Ok(_))));
    link.give_up(frame.id);
    for _ in 0..8 {
        let read = far.read_exact(&mut [0; PIPE_BYTES]).await;
        read.expect("there is more");
        assert!(
            timeout(PATIENCE / 2, &mut driver).await.is_err(),
            "it is left"
        );
    }
    let begin = Instant::now();
    driver.await.expect("no panic");
    assert!(begin.elapsed() <= PATIENCE, "it reads no more");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_dropped_leaves_a_server_that_does_not_read() {
    let link = link(1);
    let (driver, _far) = start(&link, 1);
    ask_and_leave(&link);
    tokio::task::yield_now().await;
    let begin = Instant::now();
    link.abandon();
    driver.await.expect("no panic");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_drained_connection_is_left_when_the_server_should_have_closed_it() {
    const LEFT: Duration = Duration::from_millis(1000);
    let link = link(1);
    let (driver, mut far) = start(&link, 1024);
    let begin = Instant::now();
    let mut time = Time::For(Duration::from_secs(3600));
    let context = Context::from_waker(Waker::noop());
    let sent = link.poll_send(&mut ping(), &mut time, &mut None, &mut None, &context);
    assert!(matches!(sent, Poll::Ready(Ok(_))));
    let mut notice = Vec::new();
    encode_drain(&mut notice, LEFT.as_millis() as u32, "moving house");
    far.write_all(&notice).await.expect("there is room");
    driver.await.expect("no panic");
    let after = begin.elapsed();
    assert!(after >= LEFT && after < PATIENCE, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn what_came_while_the_driver_could_not_run_is_a_sign_of_life() {
    let link = link(1);
    let (driver, mut far) = driver(&link, 1024);
    let mut driver = Box::pin(driver);
    let mut poll_driver = || {
        driver
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    };
    ask_and_leave(&link);
    assert!(poll_driver().is_pending() && poll_driver().is_pending());
    tokio::time::advance(2 * PATIENCE).await;
    assert!(poll_driver().is_pending(), "it looks at the socket before");
    let mut answer = Vec::new();
    encode_pong(&mut answer, 0, b"");
    far.write_all(&answer).await.expect("there is room");
    tokio::time::advance(2 * LAST_LOOK).await;
    assert!(poll_driver().is_pending());
    assert!(link.room_left().is_some());
}

#[tokio::test]
async fn half_of_many_go_first_and_the_others_are_woken_even_if_the_driver_is_dropped() {
    const ASKED: usize = 2 * SHARE_MIN;
    let link = link(ASKED as u32);
    let (driver, mut far) = driver(&link, 64 * 1024);
    let mut driver = Box::pin(driver);

    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let (mut answers, mut asked_bytes) = (Vec::new(), 0);
    for _ in 0..ASKED {
        let mut frame = ping();
        let mut time = Time::For(Duration::from_secs(10));
        let sent = link.poll_send(
            &mut frame,
            &mut time,
            &mut None,
            &mut None,
            &Context::from_waker(&waker),
        );
        assert!(matches!(sent, Poll::Ready(Ok(_))));
        asked_bytes += frame.request.frame_bytes() as usize;
        encode_pong(&mut answers, frame.id, b"");
    }
    let mut poll_driver = || {
        driver
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    };
    assert!(poll_driver().is_pending());
    // Written in the first look, since the server waits for it.
    let mut asked = vec![0; asked_bytes];
    let read = pin!(far.read_exact(&mut asked)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(read, Poll::Ready(Ok(_))));
    far.write_all(&answers).await.expect("there is room");
    assert!(poll_driver().is_pending());
    assert_eq!(bell.rung(), ASKED / 2);
    drop(driver);
    assert_eq!(bell.rung(), ASKED);
}
