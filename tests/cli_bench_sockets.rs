//! What `larder bench` reads and writes its connections with, by io_uring and without: large batches, many
//! connections, and some that end in the middle.
#![cfg(feature = "server")]

#[path = "support/forbidden.rs"]
mod forbidden;
#[path = "support/process.rs"]
mod process;
#[path = "support/scratch.rs"]
mod scratch;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use forbidden::{IO_URING_CALLS, forbid, punish};
use process::{Ended, ServerProcess, end_of, larder};
use scratch::Scratch;
use serde_json::Value;

/// A load, for which the system forbids a call if there is one.
fn bench(url: &str, forbidden: Option<libc::c_long>, options: &str) -> (Ended, Value) {
    let mut command = larder(&["bench", "--json", "--server", url]);
    command.args(options.split(' '));
    if let Some(call) = forbidden {
        forbid(call, &mut command);
    }
    let ended = end_of(&mut command, b"");
    let report = serde_json::from_str(&ended.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    (ended, report)
}

/// Loads of more connections than one call takes, of which many have nothing to do, and of batches that no
/// socket takes at once while as much comes back.
fn takes_every_load(forbidden: Option<libc::c_long>) {
    let socket = Scratch::named(&format!("bench-{}.sock", forbidden.unwrap_or_default()));
    let addresses = ["127.0.0.1:0", &format!("unix:{}", socket.text())];
    for server in addresses.map(ServerProcess::listen) {
        let url = server.url();
        let many = "--load --keys 1000 --ratio 3:1 --requests 3k --verify --depth 3 --threads 2 --connections 150";
        let large = "--load --keys 40 --ratio 1:1 --requests 400 --verify --depth 64 --value-bytes 50KB --connections 3";
        let keys =
            "--load --keys 40 --requests 400 --verify --depth 16 --value-bytes 50KB --multi-get 4";
        for (load, operations) in [(many, 3000), (large, 400), (keys, 400)] {
            let (ended, report) = bench(&url, forbidden, load);
            let figures = ["operations", "wrong", "misses", "unanswered"];
            let figures = figures.map(|name| report[name].as_u64().unwrap());
            assert_eq!(
                (ended.code, figures),
                (Some(0), [operations, 0, 0, 0]),
                "{load}: {}",
                ended.stderr
            );
        }
    }
}

#[test]
fn every_load_is_carried_by_io_uring() {
    takes_every_load(None);
}

#[test]
fn every_load_is_carried_without_io_uring() {
    (IO_URING_CALLS.into_iter()).for_each(|call| takes_every_load(Some(call)));
}

#[test]
fn a_load_is_carried_where_whoever_asks_for_io_uring_is_killed() {
    let server = ServerProcess::start();
    for call in IO_URING_CALLS {
        let mut command = larder(&["bench", "--requests", "100", "--server", &server.url()]);
        punish(call, &mut command);
        let ended = end_of(&mut command, b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// The next lines of a connection.
fn read_lines(reader: &mut impl BufRead, lines: usize) -> usize {
    reader
        .split(b'\n')
        .take(lines)
        .map_while(Result::ok)
        .count()
}

#[test]
fn a_connection_that_ends_in_the_middle_of_a_reply_is_lost_and_the_others_go_on() {
    for forbidden in [None, Some(libc::SYS_io_uring_setup)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("memcached://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut streams = listener.incoming().map(Result::unwrap);
            let mut asking = streams.next().unwrap();
            read_lines(&mut BufReader::new(&asking), 1);
            asking.write_all(b"END\r\n").unwrap();
            let loading: [TcpStream; 3] = std::array::from_fn(|_| streams.next().unwrap());
            let [mut ends, others @ ..] = loading;
            // A set is two lines.
            assert_eq!(read_lines(&mut BufReader::new(&ends), 8), 8);
            ends.write_all(b"STORED\r\nSTO").unwrap();
            drop(ends);
            for mut other in others {
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(other.try_clone().unwrap());
                    while read_lines(&mut reader, 2) == 2 {
                        other.write_all(b"STORED\r\n").unwrap();
                    }
                });
            }
        });
        let options = "--keys 100 --ratio 0:1 --requests 100 --depth 4 --connections 3";
        let (ended, report) = bench(&url, forbidden, options);
        server.join().unwrap();
        let figures = ["stored", "unanswered", "lost_connections"];
        let figures = figures.map(|name| report[name].as_u64().unwrap());
        assert_eq!(
            (ended.code, figures),
            (Some(3), [97, 3, 1]),
            "{forbidden:?}"
        );
        assert_eq!(
            ended.stderr,
            "larder bench: 1 connections lost: the server closed the connection\n"
        );
    }
}
