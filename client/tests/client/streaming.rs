//! Values that are streamed, each on a connection of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use larder_client::{Cause, Client, Config, Error, Status};
use larder_protocol::{
    ExpiryLeft, Opcode, Request, ResponseHeader, ValueMeta, encode_close, encode_drain,
    encode_stored, encode_value_head,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

use crate::fake::{Fake, Peer};

const KIB: usize = 1024;

const LONG: Duration = Duration::from_secs(3600);

/// A source of so many bytes that then does what its end says.
struct Source {
    left: usize,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Stops,
    Fails,
    NeverComes,
}

impl AsyncRead for Source {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return match self.end {
                End::Stops => Poll::Ready(Ok(())),
                End::Fails => Poll::Ready(Err(io::Error::other("the disk is gone"))),
                End::NeverComes => Poll::Pending,
            };
        }
        let count = self.left.min(buf.remaining());
        buf.put_slice(&vec![7; count]);
        self.left -= count;
        Poll::Ready(Ok(()))
    }
}

fn client(fake: &Fake) -> Client {
    let config = Config {
        request_timeout: Duration::from_millis(300),
        ..Config::default()
    };
    Client::lazy(&fake.url(), config).expect("a good address")
}

/// Reads at least so many bytes and keeps none.
async fn swallow(peer: &mut Peer, count: usize) {
    let mut read = 0;
    while read < count {
        let more = peer.read().await;
        assert!(more > 0, "the client closed after {read} bytes");
        read += more;
    }
}

fn meta(version: u64) -> ValueMeta {
    ValueMeta {
        client_flags: 42,
        version,
        expiry_left: ExpiryLeft::Ms(1000),
    }
}

#[tokio::test]
async fn a_value_is_stored_as_it_is_read() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let value: Vec<u8> = (0..300 * KIB).map(|at| (at / 7) as u8).collect();
    let store = client.set_from("key", value.len() as u64, &value[..]);
    let store = store.flags(42).expire_in(Duration::from_secs(5));
    let serve = async {
        let mut peer = fake.accept().await;
        let asked = peer.expect().await;
        let Request::Store(store) = asked.request() else {
            panic!("{:?}", asked.request())
        };
        assert_eq!((store.key, store.client_flags), (&b"key"[..], 42));
        assert_eq!(store.expire_in_ms, Some(5000));
        assert!(store.value == value);
        let mut output = Vec::new();
        // A notice in between answers nothing.
        encode_drain(&mut output, 1000, "soon");
        encode_stored(&mut output, Opcode::Set, asked.frame().id, 17);
        peer.send(&output).await;
    };
    let (stored, ()) = tokio::join!(store, serve);
    assert_eq!(stored, Ok(17));
}

#[tokio::test]
async fn a_source_that_fails_or_ends_early_is_not_executed() {
    let fake = Fake::start().await;
    let client = client(&fake);
    for (end, why) in [
        (End::Stops, "it ended after 204800 of 307200 bytes"),
        (End::Fails, "the disk is gone"),
    ] {
        let left = 200 * KIB;
        let store = client.set_from("key", 300 * KIB as u64, Source { left, end });
        let serve = async {
            let mut peer = fake.accept().await;
            peer.expect_end().await;
        };
        let (stored, ()) = tokio::join!(store, serve);
        assert_eq!(
            stored,
            Err(Error::NotExecuted(Cause::Source(why.to_owned())))
        );
    }
}

#[tokio::test]
async fn a_refusal_in_the_middle_is_heard_although_the_source_hangs() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let source = Source {
        left: 100 * KIB,
        end: End::NeverComes,
    };
    let store = client.set_from("key", 300 * KIB as u64, source);
    let serve = async {
        let mut peer = fake.accept().await;
        swallow(&mut peer, 100 * KIB).await;
        let mut output = Vec::new();
        larder_protocol::encode_status(&mut output, Opcode::Set, 0, Status::NO_SPACE, "full");
        peer.send(&output).await;
        peer
    };
    let (stored, _peer) = tokio::join!(store, serve);
    let error = stored.expect_err("refused");
    assert!(error.is_not_executed());
    assert!(
        matches!(
            error,
            Error::Refused {
                status: Status::NO_SPACE,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_waits_too_long_for_the_source_says_so() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let source = Source {
        left: 100 * KIB,
        end: End::NeverComes,
    };
    let store = client.set_from("key", 300 * KIB as u64, source);
    let serve = async {
        let mut peer = fake.accept().await;
        swallow(&mut peer, 100 * KIB).await;
        let mut output = Vec::new();
        encode_close(&mut output, Status::FRAME_TIMEOUT, "too slow");
        peer.send(&output).await;
    };
    let (stored, ()) = tokio::join!(store, serve);
    let error = stored.expect_err("closed");
    assert!(
        matches!(
            &error,
            Error::NotExecuted(Cause::ConnectionClosed {
                status: Status::FRAME_TIMEOUT,
                ..
            })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_lost_before_the_last_byte_is_not_executed_and_after_it_unknown() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let source = Source {
        left: 100 * KIB,
        end: End::NeverComes,
    };
    let store = client.set_from("key", 300 * KIB as u64, source);
    let serve = async {
        let mut peer = fake.accept().await;
        swallow(&mut peer, 100 * KIB).await;
    };
    let (stored, ()) = tokio::join!(store, serve);
    let error = stored.expect_err("lost");
    assert!(
        matches!(error, Error::NotExecuted(Cause::ConnectionLost(_))),
        "{error}"
    );

    let value = vec![7; 100 * KIB];
    let store = client.set_from("key", value.len() as u64, &value[..]);
    let serve = async {
        let mut peer = fake.accept().await;
        drop(peer.expect().await);
    };
    let (stored, ()) = tokio::join!(store, serve);
    let error = stored.expect_err("lost");
    assert!(
        matches!(error, Error::Unknown(Cause::ConnectionLost(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_is_silent_after_the_last_byte_is_unknown() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let store = client.set_from("key", 5, &b"value"[..]);
    let serve = async {
        let mut peer = fake.accept().await;
        drop(peer.expect().await);
        peer
    };
    let (stored, _peer) = tokio::join!(store, serve);
    let error = stored.expect_err("silent");
    assert!(
        matches!(error, Error::Unknown(Cause::Timeout { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_refused_before_it_is_sent() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let value_bytes = u64::from(fake.limits.value_bytes_max) + 1;
    let source = Source {
        left: 0,
        end: End::NeverComes,
    };
    let (stored, mut peer) =
        tokio::join!(client.set_from("key", value_bytes, source), fake.accept());
    let error = stored.expect_err("refused").to_string();
    assert!(
        error.contains(&fake.limits.value_bytes_max.to_string()),
        "{error}"
    );
    peer.expect_end().await;
}

#[tokio::test]
async fn a_value_is_read_as_it_comes() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let value: Vec<u8> = (0..300 * KIB).map(|at| (at / 7) as u8).collect();
    let serve = async {
        let mut peer = fake.accept().await;
        let asked = peer.expect().await;
        assert_eq!(asked.key(), b"key");
        let mut output = Vec::new();
        encode_drain(&mut output, 1000, "soon");
        let value_bytes = value.len() as u32;
        encode_value_head(&mut output, Opcode::Get, 0, &meta(9), value_bytes);
        peer.send(&output).await;
        peer.send(&value[..100 * KIB]).await;
        peer.send(&value[100 * KIB..]).await;
    };
    let read = async {
        let stream = client.get_stream("key").await.expect("answered");
        let mut stream = stream.expect("found");
        assert_eq!((stream.version(), stream.flags()), (9, 42));
        assert_eq!(stream.value_bytes(), value.len() as u64);
        assert_eq!(stream.expiry_left(), ExpiryLeft::Ms(1000));
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("whole");
        assert_eq!(stream.left_bytes(), 0);
        read
    };
    let (read, ()) = tokio::join!(read, serve);
    assert!(read == value);
}

#[tokio::test]
async fn what_is_unasked_and_unknown_answers_no_stream() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let serve = async {
        let mut peer = fake.accept().await;
        let asked = peer.expect().await;
        let unasked = ResponseHeader {
            opcode: 0xE9,
            flags: 0,
            status: Status::DRAINING,
            id: 0,
            word: 0,
            body_bytes: 0,
        };
        peer.send(&unasked.to_bytes()).await;
        peer.failed(&asked, Status::NOT_FOUND).await;
    };
    let (stream, ()) = tokio::join!(client.get_stream("key"), serve);
    assert!(stream.expect("answered").is_none());
}

#[tokio::test]
async fn an_item_that_is_not_there_has_no_stream() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let serve = async {
        let mut peer = fake.accept().await;
        let asked = peer.expect().await;
        peer.failed(&asked, Status::NOT_FOUND).await;
    };
    let (stream, ()) = tokio::join!(client.get_stream("key"), serve);
    assert!(stream.expect("answered").is_none());
}

#[tokio::test]
async fn a_value_that_does_not_come_whole_is_an_error_and_no_end() {
    let fake = Fake::start().await;
    let client = client(&fake);
    for is_silent in [false, true] {
        let serve = async {
            let mut peer = fake.accept().await;
            drop(peer.expect().await);
            let mut output = Vec::new();
            encode_value_head(&mut output, Opcode::Get, 0, &meta(9), 1000);
            output.extend([7; 100]);
            peer.send(&output).await;
            is_silent.then_some(peer)
        };
        let read = async {
            let stream = client.get_stream("key").await.expect("answered");
            let mut read = Vec::new();
            let outcome = stream.expect("found").read_to_end(&mut read).await;
            (read.len(), outcome.expect_err("not whole").kind())
        };
        let (read, _peer) = tokio::join!(read, serve);
        let kind = match is_silent {
            true => io::ErrorKind::TimedOut,
            false => io::ErrorKind::UnexpectedEof,
        };
        assert_eq!(read, (100, kind));
    }
}

#[tokio::test]
async fn the_shared_connection_does_not_wait_for_a_stream() {
    let fake = Fake::start().await;
    let (client, mut shared) = fake.client(Config::default()).await;
    let serve = async {
        let mut own = fake.accept().await;
        drop(own.expect().await);
        let mut output = Vec::new();
        encode_value_head(&mut output, Opcode::Get, 0, &meta(9), 1000);
        own.send(&output).await;
        let asked = shared.expect().await;
        shared.found(&asked, b"small").await;
        own
    };
    let read = async {
        let stream = client.get_stream("large").await.expect("answered");
        let item = client.get("small").await.expect("answered");
        (stream, item.expect("found").value)
    };
    let ((stream, small), _own) = tokio::join!(read, serve);
    assert_eq!(&small[..], b"small");
    drop(stream);
}

fn is_not_in_time(error: &Error) -> bool {
    matches!(error, Error::NotExecuted(Cause::Timeout { after }) if *after < LONG)
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_a_connection_no_longer_than_it_may() {
    let fake = Fake::start().await;
    let config = Config {
        connect_timeout: LONG,
        ..Config::default()
    };
    let client = Client::lazy(&fake.url(), config).expect("a good address");
    let time = Duration::from_millis(100);
    // Nobody greets.
    for hurried in [
        client.within(time),
        client.until(Instant::now() + time),
        client.clone(),
    ] {
        let read = hurried.get_stream("key").await.map(drop);
        let stored = hurried.set_from("key", 1, &b"v"[..]).await.map(drop);
        let server = hurried.server().await.map(drop);
        for asked in [read, stored, server] {
            let error = asked.expect_err("no connection");
            assert!(is_not_in_time(&error), "{error}");
        }
    }
}

#[tokio::test]
async fn a_stream_without_any_time_is_not_begun() {
    let fake = Fake::start().await;
    let client = client(&fake);
    for late in [client.until(Instant::now()), client.within(Duration::ZERO)] {
        let read = late.get_stream("key").await.map(drop);
        let stored = late.set_from("key", 1, &b"v"[..]).await.map(drop);
        let server = late.server().await.map(drop);
        for asked in [read, stored, server] {
            let error = asked.expect_err("no time");
            assert!(is_not_in_time(&error), "{error}");
        }
    }
}

/// Lets a long time pass.
async fn wait_long() {
    tokio::time::pause();
    tokio::time::advance(2 * LONG).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_deadline_is_kept_by_a_value_that_is_still_coming() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let (goes_on, gone_on) = (Notify::new(), Notify::new());
    let serve = async {
        let mut peer = fake.accept().await;
        drop(peer.expect().await);
        let mut output = Vec::new();
        encode_value_head(&mut output, Opcode::Get, 0, &meta(9), 3);
        output.push(b'x');
        peer.send(&output).await;
        goes_on.notified().await;
        peer.send(b"yz").await;
        gone_on.notify_one();
        peer
    };
    let read = async {
        let hurried = client.until(Instant::now() + LONG);
        let stream = hurried.get_stream("key").await.expect("answered");
        let mut stream = stream.expect("found");
        assert_eq!(stream.read_u8().await.expect("in time"), b'x');
        goes_on.notify_one();
        gone_on.notified().await;
        wait_long().await;
        stream.read_u8().await
    };
    let (read, _peer) = tokio::join!(read, serve);
    let error = read.expect_err("not in time");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn a_deadline_is_kept_by_a_value_that_is_still_sent() {
    let fake = Fake::start().await;
    let client = client(&fake);
    let (mut sink, source) = tokio::io::duplex(KIB);
    let serve = async {
        let mut peer = fake.accept().await;
        swallow(&mut peer, 1).await;
        wait_long().await;
        // The source is gone, since the time is over.
        let _ = sink.write_all(b"value").await;
        if let Some(asked) = peer.next().await {
            let mut output = Vec::new();
            encode_stored(&mut output, Opcode::Set, asked.frame().id, 17);
            peer.send(&output).await;
        }
    };
    let hurried = client.until(Instant::now() + LONG);
    let store = async { hurried.set_from("key", 5, source).await };
    let (stored, ()) = tokio::join!(store, serve);
    let error = stored.expect_err("not in time");
    assert!(
        matches!(error, Error::NotExecuted(Cause::Timeout { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_stream_may_stand_still_for_ever() {
    let fake = Fake::start().await;
    let config = Config {
        request_timeout: Duration::MAX,
        ..Config::default()
    };
    let client = Client::lazy(&fake.url(), config).expect("a good address");
    let stands_still = Notify::new();
    let serve = async {
        let mut peer = fake.accept().await;
        drop(peer.expect().await);
        let mut output = Vec::new();
        encode_value_head(&mut output, Opcode::Get, 0, &meta(9), 5);
        peer.send(&output).await;
        stands_still.notified().await;
        peer.send(b"value").await;
    };
    let read = async {
        let stream = client.get_stream("key").await.expect("answered");
        let mut read = Vec::new();
        // Looked at once before it goes on.
        stands_still.notify_one();
        let outcome = stream.expect("found").read_to_end(&mut read).await;
        outcome.expect("whole");
        read
    };
    let (read, ()) = tokio::join!(read, serve);
    assert_eq!(read, b"value");
}
