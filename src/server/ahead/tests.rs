use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::blackbox::Peer;
use crate::engine::{Cache, Config, Session};
use crate::server::connection::{Cause, Connection};
use crate::server::listener::{Accepted, Stream};
use crate::server::service::tests::PANIC;
use crate::server::service::{Service, Turned};
use crate::server::{Address, Running, Server, Settings, Tongue};
use crate::sync::Arc;

/// A server of one worker, and a session beside that of this.
pub(in crate::server) fn start(settings: Settings) -> (Running, Session) {
    let settings = Settings {
        listen: vec![Address::Tcp(([127, 0, 0, 1], 0).into())],
        workers: 1,
        ..settings
    };
    let cache = Cache::new(Config::new(8 << 20)).unwrap();
    let session = cache.session().unwrap();
    (Server::start(settings, cache).unwrap(), session)
}

/// A service beside that of a server's worker, for connections of its own.
pub(in crate::server) fn service() -> (Running, Service) {
    let (running, session) = start(Settings {
        black_box: false,
        ..Settings::default()
    });
    let (shared, station) = (&running.shared, &running.shared.stations[0]);
    let service = Service::new(Arc::clone(shared), Arc::clone(station), session);
    (running, service)
}

/// A connection that was accepted, to which something was sent, and its other end.
pub(in crate::server) fn accepted(number: u64, sent: &[u8]) -> (Accepted, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.write_all(sent).unwrap();
    let accepted = Accepted {
        stream: Stream::Unix(mio::net::UnixStream::from_std(ours)),
        number,
        peer: Peer::Unix,
        address: "unix:here".into(),
        tongue: Tongue::Memcached,
    };
    (accepted, theirs)
}

/// The same, as the worker has it that has taken it over.
pub(in crate::server) fn connection(number: u64, sent: &[u8]) -> (Connection, UnixStream) {
    let (accepted, theirs) = accepted(number, sent);
    let mut connection = Connection::new(accepted, 0);
    connection.readable = true;
    (connection, theirs)
}

fn received(theirs: &mut UnixStream, expected: &str) {
    let mut reply = vec![0; expected.len()];
    theirs.read_exact(&mut reply).unwrap();
    assert_eq!(String::from_utf8(reply).unwrap(), expected);
}

#[test]
fn what_was_read_ahead_is_answered_in_its_turn() {
    let (_running, mut service) = service();
    let (mut first, mut first_peer) = connection(1, b"set key 0 0 5\r\nvalue\r\nget key\r\n");
    let (mut second, mut second_peer) = connection(2, b"get key\r\nget ");
    let (mut third, mut third_peer) = connection(3, b"version\r\n");
    let mut ahead = service.read_ahead(&mut first).unwrap();
    assert!(ahead.foreseen.is_some());
    service.fetch(&mut ahead);
    let second_ahead = service.read_ahead(&mut second).unwrap();
    assert!(second_ahead.foreseen.is_some());
    assert_eq!(service.turn(&mut first, Some(ahead)), Turned::Wait);
    received(
        &mut first_peer,
        "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n",
    );
    let third_ahead = service.read_ahead(&mut third).unwrap();
    assert!(third_ahead.foreseen.is_none(), "it has no key");
    assert_eq!(service.turn(&mut second, Some(second_ahead)), Turned::Wait);
    received(&mut second_peer, "VALUE key 0 5\r\nvalue\r\nEND\r\n");
    assert_eq!(service.turn(&mut third, Some(third_ahead)), Turned::Wait);
    received(&mut third_peer, "VERSION ");
    // The second connection has begun a request: its turn is to put both parts together.
    second_peer.write_all(b"key\r\n").unwrap();
    second.readable = true;
    assert!(service.read_ahead(&mut second).is_none());
    assert_eq!(service.turn(&mut second, None), Turned::Wait);
    received(&mut second_peer, "VALUE key 0 5\r\nvalue\r\nEND\r\n");
}

#[test]
fn a_panic_takes_nothing_from_who_was_read_ahead() {
    let (running, mut service) = service();
    let (mut unlucky, mut unlucky_peer) = connection(1, PANIC);
    let (mut other, mut other_peer) = connection(2, b"get key\r\n");
    for number in 1..4 {
        let unlucky_ahead = service.read_ahead(&mut unlucky);
        let other_ahead = service.read_ahead(&mut other);
        assert!(other_ahead.is_some());
        let turned = service.turn(&mut unlucky, unlucky_ahead);
        assert_ne!(turned, Turned::Close(Cause::Panic), "it is told why");
        received(&mut unlucky_peer, "SERVER_ERROR ");
        assert_eq!(service.turn(&mut other, other_ahead), Turned::Wait);
        received(&mut other_peer, "END\r\n");
        assert_eq!(running.shared.stations[0].counters.panics.get(), number);
        (unlucky, unlucky_peer) = connection(1, PANIC);
        other_peer.write_all(b"get key\r\n").unwrap();
        other.readable = true;
    }
}

#[test]
fn an_end_that_was_read_ahead_is_one_in_its_turn() {
    let (_running, mut service) = service();
    let (mut ended, peer) = connection(1, b"");
    drop(peer);
    let ahead = service.read_ahead(&mut ended).unwrap();
    let turned = service.turn(&mut ended, Some(ahead));
    assert_eq!(turned, Turned::Close(Cause::Finished));

    // Closed with a reply unread: a reset.
    let (mut reset, peer) = connection(2, b"version\r\n");
    assert_eq!(service.turn(&mut reset, None), Turned::Wait);
    drop(peer);
    reset.readable = true;
    let ahead = service.read_ahead(&mut reset).unwrap();
    let turned = service.turn(&mut reset, Some(ahead));
    assert_eq!(turned, Turned::Close(Cause::Io));

    // Nothing has come.
    let (mut silent, _peer) = connection(3, b"");
    let ahead = service.read_ahead(&mut silent).unwrap();
    assert_eq!(service.turn(&mut silent, Some(ahead)), Turned::Wait);
}
