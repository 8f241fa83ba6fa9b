use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use super::*;

#[path = "../../../tests/support/forbidden.rs"]
#[allow(dead_code, reason = "others use the rest of it")]
mod forbidden;

/// A ring of this thread; none where the system has none for us.
fn ring() -> Option<Ring> {
    let opened = Ring::open();
    opened
        .inspect_err(|refused| eprintln!("not tested here: {refused}"))
        .ok()
}

fn receive(ring: &mut Ring, sockets: &[BorrowedFd<'_>], rooms: &mut [[u8; 4]]) -> Vec<String> {
    let mut outcomes = vec![Ok(99)];
    let sockets = sockets.iter().copied();
    let rooms = rooms.iter_mut().map(|room| &mut room[..]);
    ring.receive(sockets.zip(rooms), &mut outcomes);
    outcomes.into_iter().map(told).collect()
}

fn send(ring: &mut Ring, sends: &[(BorrowedFd<'_>, &[u8])]) -> Vec<String> {
    let mut outcomes = vec![Ok(99)];
    ring.send(sends.iter().copied(), &mut outcomes);
    outcomes.into_iter().map(told).collect()
}

fn told(outcome: io::Result<usize>) -> String {
    match outcome {
        Ok(bytes) => bytes.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[test]
fn each_socket_is_received_from_once_and_none_is_waited_for() {
    let Some(mut ring) = ring() else { return };
    let (mut short, short_end) = UnixStream::pair().unwrap();
    let (_silent, silent_end) = UnixStream::pair().unwrap();
    let (mut long, long_end) = UnixStream::pair().unwrap();
    let (over, over_end) = UnixStream::pair().unwrap();
    short.write_all(b"ab").unwrap();
    long.write_all(b"abcdefg").unwrap();
    drop(over);
    let ends = [&short_end, &silent_end, &long_end, &over_end].map(|end| end.as_fd());
    let mut rooms = [*b"____"; 4];
    assert_eq!(
        receive(&mut ring, &ends, &mut rooms),
        ["2", "WouldBlock", "4", "0"]
    );
    assert_eq!(rooms, [*b"ab__", *b"____", *b"abcd", *b"____"]);
    assert_eq!(receive(&mut ring, &ends[2..3], &mut rooms), ["3"]);
    assert_eq!(rooms[0], *b"efg_");
    assert!(receive(&mut ring, &[], &mut rooms).is_empty());
}

#[test]
fn each_socket_is_sent_to_once_and_none_is_waited_for() {
    let Some(mut ring) = ring() else { return };
    let (mut here, here_end) = UnixStream::pair().unwrap();
    let (gone, gone_end) = UnixStream::pair().unwrap();
    let (_full, full_end) = UnixStream::pair().unwrap();
    drop(gone);
    let much = vec![7; 1 << 20];
    full_end.set_nonblocking(true).unwrap();
    while (&full_end).write(&much).is_ok() {}
    let sends = [
        (full_end.as_fd(), &much[..]),
        (gone_end.as_fd(), b"nobody reads this"),
        (here_end.as_fd(), b"this"),
    ];
    assert_eq!(
        send(&mut ring, &sends),
        ["WouldBlock", "BrokenPipe", "4"],
        "and no signal"
    );
    let mut received = [0; 4];
    here.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"this");
    // A part, where a part goes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let told = send(&mut ring, &[(accepted.as_fd(), &vec![7; 64 << 20])]);
    let sent: usize = told[0].parse().unwrap();
    assert!(sent > 0 && sent < 64 << 20, "{sent}");
}

#[test]
fn a_reset_is_told_of_its_own_socket() {
    let Some(mut ring) = ring() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reset = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut reset_end, _) = listener.accept().unwrap();
    let (mut other, other_end) = UnixStream::pair().unwrap();
    // Closed with something unread.
    reset_end.write_all(b"unread").unwrap();
    reset.peek(&mut [0]).unwrap();
    reset.write_all(b"z").unwrap();
    drop(reset);
    other.write_all(b"ab").unwrap();
    // What came before the reset is gone with it.
    while reset_end.take_error().unwrap().is_none() {
        std::thread::yield_now();
    }
    let ends = [reset_end.as_fd(), other_end.as_fd()];
    let mut rooms = [*b"____"; 2];
    let told = receive(&mut ring, &ends, &mut rooms);
    assert_eq!(told[1], "2");
    assert_ne!(told[0], "WouldBlock");
}

#[test]
fn as_many_sockets_as_there_may_be_are_served_again_and_again() {
    let Some(mut ring) = ring() else { return };
    let mut pairs: Vec<_> = (0..SOCKETS_MAX)
        .map(|_| UnixStream::pair().unwrap())
        .collect();
    for round in 0..100_u8 {
        let replies: Vec<[u8; 2]> = (0..SOCKETS_MAX).map(|at| [round, at as u8]).collect();
        let ours = pairs.iter().map(|(ours, _)| ours.as_fd());
        let sends: Vec<_> = ours.zip(replies.iter().map(|it| &it[..])).collect();
        assert_eq!(send(&mut ring, &sends), vec!["2"; SOCKETS_MAX]);
        for ((_, theirs), reply) in pairs.iter_mut().zip(&replies) {
            let mut received = [0; 2];
            theirs.read_exact(&mut received).unwrap();
            assert_eq!(&received, reply);
            theirs.write_all(&received).unwrap();
        }
        let ours: Vec<_> = pairs.iter().map(|(ours, _)| ours.as_fd()).collect();
        let mut rooms = vec![*b"____"; SOCKETS_MAX];
        assert_eq!(
            receive(&mut ring, &ours, &mut rooms),
            vec!["2"; SOCKETS_MAX]
        );
        for (room, reply) in rooms.iter().zip(&replies) {
            assert_eq!(room[..2], reply[..]);
        }
    }
}

#[test]
fn what_the_system_does_not_take_is_done_one_by_one() {
    for error in [Errno::NOMEM, Errno::AGAIN, Errno::BUSY, Errno::BADF] {
        let refused = std::thread::spawn(move || {
            let Some(mut ring) = ring() else { return };
            let [_, enter] = forbidden::IO_URING_CALLS;
            forbidden::refuse(enter, error.raw_os_error()).unwrap();
            let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
            let ours: Vec<_> = pairs.iter().map(|(ours, _)| ours.as_fd()).collect();
            for round in [b"one".as_slice(), b"two"] {
                let sends: Vec<_> = ours.iter().map(|&ours| (ours, round)).collect();
                assert_eq!(send(&mut ring, &sends), ["3"; 3]);
                for (_, theirs) in &pairs {
                    let mut received = [0; 3];
                    (&*theirs).read_exact(&mut received).unwrap();
                    assert_eq!(received, round);
                }
                (&pairs[1].1).write_all(round).unwrap();
                let mut rooms = [*b"____"; 3];
                let received = receive(&mut ring, &ours, &mut rooms);
                assert_eq!(received, ["WouldBlock", "3", "WouldBlock"]);
                assert_eq!(&rooms[1][..3], round);
            }
        });
        refused.join().unwrap();
    }
}
