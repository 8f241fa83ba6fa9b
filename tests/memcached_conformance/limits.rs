//! Lengths at their limits, and values that no buffer holds.

use std::io::{Read, Write};
use std::net::TcpStream;

use larder::server::{Address, Server, Settings};
use larder::{Cache, Config};

use crate::script::{Script, connect, hear, run_in_every_way, say, server, server_with};
use crate::server_harness::{Raw, settings};

const LENGTHS: &[Script] = &[
    Script {
        name: "a key has up to 250 bytes",
        steps: &[
            ("set {k*250} 0 0 1\r\na\r\n", "STORED\r\n"),
            ("get {k*250}\r\n", "VALUE {k*250} 0 1\r\na\r\nEND\r\n"),
            ("get x {k*250}\r\n", "VALUE {k*250} 0 1\r\na\r\nEND\r\n"),
            (
                "incr {k*250} 1\r\n",
                "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            ),
            ("touch {k*250} 0\r\n", "TOUCHED\r\n"),
            ("mg {k*250} k\r\n", "HD k{k*250}\r\n"),
            ("delete {k*250}\r\n", "DELETED\r\n"),
            (
                "set {k*251} 0 0 1\r\na\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "get {k*251}\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "gat 0 {k*251}\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "incr {k*251} 1\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "touch {k*251} 0\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "delete {k*251}\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            ("mg {k*251}\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("md {k*251}\r\n", "CLIENT_ERROR bad command line format\r\n"),
            ("ma {k*251}\r\n", "CLIENT_ERROR bad command line format\r\n"),
        ],
    },
    Script {
        name: "of a retrieval with a key that is too long, nothing is answered",
        steps: &[
            ("set a 0 0 1\r\na\r\n", "STORED\r\n"),
            (
                "get a {k*251} a\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            (
                "gets {k*250} a {k*251}\r\n",
                "CLIENT_ERROR bad command line format\r\n",
            ),
            ("get a\r\n", "VALUE a 0 1\r\na\r\nEND\r\n"),
        ],
    },
    Script {
        name: "a line has up to 2048 bytes",
        steps: &[
            ("delete k{ *2038}\r\n", "NOT_FOUND\r\n"),
            ("delete k{ *2039}\r\n", "CLIENT_ERROR line too long\r\n"),
        ],
    },
    Script {
        name: "a line without an end is not waited for",
        steps: &[("x{x*2047}", "CLIENT_ERROR line too long\r\n")],
    },
    Script {
        name: "a retrieval may be longer",
        steps: &[
            ("set a 0 0 1\r\nA\r\n", "STORED\r\n"),
            ("get{ k*3000} a\r\n", "VALUE a 0 1\r\nA\r\nEND\r\n"),
            (
                "gats 0{ k*3000} a{ *10000}\r\n",
                "VALUE a 0 1 {}\r\nA\r\nEND\r\n",
            ),
        ],
    },
];

#[test]
fn lengths_have_their_limits() {
    run_in_every_way(LENGTHS);
}

/// Whatever comes until the end.
fn hear_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// Bytes in which every mistake of place is seen.
fn value(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| b'a' + (at * 7 / 3 % 26) as u8)
        .collect()
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    let line = format!("set {key} 3 0 {}\r\n", value.len());
    [line.as_bytes(), value, b"\r\n"].concat()
}

fn found(key: &str, value: &[u8]) -> Vec<u8> {
    let line = format!("VALUE {key} 3 {}\r\n", value.len());
    [line.as_bytes(), value, b"\r\n"].concat()
}

#[test]
fn values_of_all_lengths_go_both_ways() {
    let running = server(1);
    let mut stream = connect(&running);
    let lengths = [
        1,
        100,
        4096,
        8000,
        65_536,
        100_000,
        262_143,
        1 << 20,
        5_000_000,
    ];
    for bytes in lengths {
        let value = value(bytes);
        say(&mut stream, &set("k", &value));
        hear(&mut stream, b"STORED\r\n");
        say(&mut stream, b"get k\r\n");
        hear(&mut stream, &[&found("k", &value)[..], b"END\r\n"].concat());
        say(&mut stream, b"mg k v s\r\nmg k s\r\n");
        let head = format!("VA {bytes} s{bytes}\r\n");
        let line = format!("\r\nHD s{bytes}\r\n");
        hear(
            &mut stream,
            &[head.as_bytes(), &value, line.as_bytes()].concat(),
        );
    }
}

#[test]
fn large_values_stand_among_others_in_one_retrieval() {
    let running = server(1);
    let mut stream = connect(&running);
    let (large, small) = (value(700_000), value(10));
    say(&mut stream, &set("large", &large));
    say(&mut stream, &set("small", &small));
    hear(&mut stream, b"STORED\r\nSTORED\r\n");
    let (large, small) = (found("large", &large), found("small", &small));
    say(
        &mut stream,
        b"get small large none large small\r\nget large\r\nmn\r\n",
    );
    let list = [&small[..], &large, &large, &small, b"END\r\n"].concat();
    hear(
        &mut stream,
        &[&list[..], &large, b"END\r\n", b"MN\r\n"].concat(),
    );
    say(&mut stream, b"gat 0 large large\r\nmn\r\n");
    hear(
        &mut stream,
        &[&large[..], &large, b"END\r\nMN\r\n"].concat(),
    );
}

#[test]
fn a_large_value_may_arrive_in_any_pieces() {
    let running = server(1);
    let mut control = Raw::greeted(&running);
    let value = value(300_000);
    let all = [&set("k", &value)[..], b"get k\r\n"].concat();
    let head = b"set k 3 0 300000\r\n".len();
    let expected = [b"STORED\r\n", &found("k", &value)[..], b"END\r\n"].concat();
    let end = head + value.len();
    for split in [
        1,
        head - 1,
        head,
        head + 1,
        150_000,
        end - 1,
        end,
        end + 1,
        end + 2,
        end + 3,
    ] {
        let mut stream = connect(&running);
        let read = control.figure("bytes_in");
        say(&mut stream, &all[..split]);
        let mut asked = 0;
        control.wait_for_figure("bytes_in", |now| {
            asked += 16;
            now >= read + asked + split as u64
        });
        say(&mut stream, &all[split..]);
        hear(&mut stream, &expected);
    }
}

#[test]
fn a_large_value_ends_where_it_was_said_to() {
    let running = server(1);
    let mut stream = connect(&running);
    let value = value(300_000);
    say(&mut stream, &set("k", &value));
    hear(&mut stream, b"STORED\r\n");
    for (verb, answer) in [
        (
            "set k 0 0 300000\r\n",
            &b"CLIENT_ERROR bad data chunk\r\n"[..],
        ),
        ("set k 0 0 300000 noreply\r\n", b""),
        ("ms k 300000 q\r\n", b"CLIENT_ERROR bad data chunk\r\n"),
    ] {
        say(&mut stream, verb.as_bytes());
        say(&mut stream, &[&value[..], b"xymn\r\n"].concat());
        hear(&mut stream, &[answer, b"MN\r\n"].concat());
    }
    say(&mut stream, b"get k\r\n");
    hear(&mut stream, &[&found("k", &value)[..], b"END\r\n"].concat());
}

#[test]
fn large_stores_keep_their_conditions_and_their_silence() {
    let running = server(1);
    let mut stream = connect(&running);
    let value = value(300_000);
    let body = [&value[..], b"\r\n"].concat();
    for (line, answer) in [
        ("replace k 3 0 300000\r\n", &b"NOT_STORED\r\n"[..]),
        ("cas k 3 0 300000 7\r\n", b"NOT_FOUND\r\n"),
        ("ms k 300000 MR Ox\r\n", b"NS Ox\r\n"),
        ("add k 3 0 300000\r\n", b"STORED\r\n"),
        ("add k 3 0 300000\r\n", b"NOT_STORED\r\n"),
        ("cas k 3 0 300000 0\r\n", b"EXISTS\r\n"),
        ("set k 3 0 300000 noreply\r\n", b""),
        ("ms k 300000 F3 q\r\n", b""),
        ("ms a2V5 300000 F3 b k s\r\n", b"HD ka2V5 b s300000\r\n"),
    ] {
        say(&mut stream, line.as_bytes());
        say(&mut stream, &body);
        say(&mut stream, b"mn\r\n");
        hear(&mut stream, &[answer, b"MN\r\n"].concat());
    }
    say(&mut stream, b"get key\r\n");
    hear(
        &mut stream,
        &[&found("key", &value)[..], b"END\r\n"].concat(),
    );
}

#[test]
fn values_grow_by_what_is_added_however_long_they_become() {
    let running = server(1);
    let mut stream = connect(&running);
    let piece = value(200_000);
    say(&mut stream, &set("k", &piece));
    hear(&mut stream, b"STORED\r\n");
    for _ in 0..3 {
        say(
            &mut stream,
            &[b"append k 0 0 200000\r\n", &piece[..], b"\r\n"].concat(),
        );
        hear(&mut stream, b"STORED\r\n");
    }
    say(
        &mut stream,
        &[b"ms k 200000 MP s\r\n", &piece[..], b"\r\n"].concat(),
    );
    hear(&mut stream, b"HD s1000000\r\n");
    say(&mut stream, b"get k\r\n");
    hear(
        &mut stream,
        &[&found("k", &piece.repeat(5))[..], b"END\r\n"].concat(),
    );
    // More than may be added at once is skipped.
    let long = value((1 << 20) + 1);
    let line = format!("append k 0 0 {}\r\n", long.len());
    say(
        &mut stream,
        &[line.as_bytes(), &long, b"\r\nmn\r\n"].concat(),
    );
    hear(
        &mut stream,
        b"SERVER_ERROR object too large for cache\r\nMN\r\n",
    );
}

#[test]
fn a_value_that_is_too_large_is_swallowed_and_takes_the_old_one_with_it() {
    let running = server_with(8 << 20, |config| config.value_bytes_max = Some(100_000));
    let mut stream = connect(&running);
    let value = value(100_001);
    for (line, answer) in [
        (
            "set k 0 0 100001\r\n",
            &b"SERVER_ERROR object too large for cache\r\n"[..],
        ),
        ("set k 0 0 100001 noreply\r\n", b""),
        (
            "ms k 100001 q\r\n",
            b"SERVER_ERROR object too large for cache\r\n",
        ),
    ] {
        say(&mut stream, b"set k 0 0 3\r\nold\r\n");
        hear(&mut stream, b"STORED\r\n");
        say(&mut stream, line.as_bytes());
        say(&mut stream, &[&value[..], b"\r\nmn\r\nget k\r\n"].concat());
        hear(&mut stream, &[answer, b"MN\r\nEND\r\n"].concat());
    }
    // What replaces nothing takes nothing.
    say(&mut stream, b"set k 0 0 3\r\nold\r\n");
    hear(&mut stream, b"STORED\r\n");
    say(
        &mut stream,
        &[b"add k 0 0 100001\r\n", &value[..], b"\r\nget k\r\n"].concat(),
    );
    hear(
        &mut stream,
        b"SERVER_ERROR object too large for cache\r\nVALUE k 0 3\r\nold\r\nEND\r\n",
    );
    // Two gibibytes are skipped as they come; nothing of them is kept.
    say(&mut stream, b"set k 0 0 2147483645\r\n");
    hear(&mut stream, b"SERVER_ERROR object too large for cache\r\n");
}

#[test]
fn a_server_for_longer_keys_has_short_ones_here_and_one_for_shorter_keys_keeps_to_its_own() {
    let running = server_with(8 << 20, |config| config.key_bytes_max = 1000);
    let mut stream = connect(&running);
    let long = "k".repeat(251);
    say(
        &mut stream,
        format!("get {long}\r\nset {long} 0 0 1\r\na\r\n").as_bytes(),
    );
    hear(
        &mut stream,
        &b"CLIENT_ERROR bad command line format\r\n".repeat(2),
    );
    let running = server_with(8 << 20, |config| config.key_bytes_max = 10);
    let mut stream = connect(&running);
    say(
        &mut stream,
        b"set 12345678901 0 0 1\r\na\r\nget 12345678901\r\nget a 12345678901\r\n",
    );
    hear(
        &mut stream,
        b"CLIENT_ERROR bad command line format\r\nEND\r\nEND\r\n",
    );
    say(&mut stream, b"delete 12345678901\r\nmg 12345678901\r\n");
    hear(
        &mut stream,
        &b"CLIENT_ERROR bad command line format\r\n".repeat(2),
    );
}

#[test]
fn thousands_of_keys_in_one_line_are_answered_in_order_and_in_bounded_memory() {
    let running = server(1);
    let mut control = Raw::greeted(&running);
    let mut stream = connect(&running);
    let value = value(2000);
    for key in 0..100 {
        say(&mut stream, &set(&format!("key-{key}"), &value));
        hear(&mut stream, b"STORED\r\n");
    }
    let keys: Vec<String> = (0..25_000).map(|n| format!("key-{}", n % 200)).collect();
    let line = format!("get {}\r\nmn\r\n", keys.join(" "));
    assert!(line.len() > 150_000);
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || say(&mut writer, line.as_bytes()));
    // Before anything is read: what waits is the line, and a turn's worth of answers.
    control.wait_for_figure("backlogs", |backlogs| backlogs > 0);
    assert!(control.figure("buffer_bytes") < 1 << 20);
    let stored = (0..25_000).map(|n| n % 200).filter(|key| *key < 100);
    for key in stored {
        let key = format!("key-{key}");
        hear(&mut stream, &found(&key, &value));
    }
    hear(&mut stream, b"END\r\nMN\r\n");
    sender.join().unwrap();
    assert_eq!(control.figure("closed_slow_reader"), 0);
}

#[test]
fn a_line_of_keys_that_are_not_there_gives_way_to_others() {
    let running = server(1);
    let mut control = Raw::greeted(&running);
    let before = control.figure("slices_exhausted");
    let mut stream = connect(&running);
    say(&mut stream, b"set last 3 0 1\r\nx\r\n");
    hear(&mut stream, b"STORED\r\n");
    let line = format!("get {}last\r\nmn\r\n", "k ".repeat(40_000));
    say(&mut stream, line.as_bytes());
    hear(&mut stream, b"VALUE last 3 1\r\nx\r\nEND\r\nMN\r\n");
    // 40,001 keys are ten turns.
    assert!(control.figure("slices_exhausted") >= before + 9);
}

#[test]
fn short_requests_that_copy_long_values_give_way_to_others() {
    let running = server(1);
    let mut control = Raw::greeted(&running);
    let mut stream = connect(&running);
    say(&mut stream, &set("large", &value(200_000)));
    hear(&mut stream, b"STORED\r\n");
    say(&mut stream, &set("small", &value(7_000)));
    hear(&mut stream, b"STORED\r\n");
    let appends = "append large 0 0 1 noreply\r\nx\r\n".repeat(100);
    let touches = "touch small 0 noreply\r\n".repeat(2_000);
    // A mebibyte is a turn: 20 MB, and 14 MB.
    for (requests, turns) in [(appends, 19), (touches, 13)] {
        let before = control.figure("slices_exhausted");
        say(&mut stream, format!("{requests}mn\r\n").as_bytes());
        hear(&mut stream, b"MN\r\n");
        assert!(control.figure("slices_exhausted") >= before + turns - 3);
    }
    say(&mut stream, b"mg large s\r\n");
    hear(&mut stream, b"HD s200100\r\n");
}

#[test]
fn a_retrieval_without_an_end_is_refused_at_a_mebibyte() {
    let running = server(1);
    let mut stream = connect(&running);
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        // The server may close before all is sent.
        let _ = writer.write_all(&[b"get ", "key ".repeat(300_000).as_bytes()].concat());
    });
    assert_eq!(hear_all(&mut stream), b"CLIENT_ERROR line too long\r\n");
    sender.join().unwrap();
    let mut control = Raw::greeted(&running);
    control.wait_for_figure("buffer_bytes", |bytes| bytes == 0);
}

#[test]
fn a_binary_request_is_refused_in_its_own_form_and_the_connection_ends() {
    let running = server(1);
    for split in [1, 12, 23, 24] {
        let mut stream = connect(&running);
        // A GET of `k` with the opaque 0xdeadbeef.
        let header = [
            0x80, 0x00, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0, 0, 0,
            0,
        ];
        say(&mut stream, &header[..split]);
        say(&mut stream, &[&header[split..], b"k"].concat());
        let sentence = b"Larder speaks memcached's text protocol, and not the binary one";
        let expected = [
            &[
                0x81,
                0x00,
                0,
                0,
                0,
                0,
                0,
                0x83,
                0,
                0,
                0,
                sentence.len() as u8,
            ][..],
            &[0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0, 0, 0, 0],
            sentence,
        ];
        assert_eq!(hear_all(&mut stream), expected.concat());
    }
}

#[test]
fn a_browser_is_not_answered() {
    let running = server(1);
    let mut stream = connect(&running);
    say(&mut stream, b"POST /get%20k HTTP/1.1\r\nget k\r\n");
    assert_eq!(hear_all(&mut stream), b"");
}

#[test]
fn a_server_without_room_for_what_is_begun_says_so() {
    let mut config = Config::new(64 << 20);
    config.sessions_max = 2;
    let settings = Settings {
        memcached: vec![Address::Tcp(([127, 0, 0, 1], 0).into())],
        buffer_bytes_max: 600 << 10,
        ..settings(1)
    };
    let running = Server::start(settings, Cache::new(config).unwrap()).unwrap();
    let mut stream = connect(&running);
    say(&mut stream, b"set k 0 0 1\r\na\r\n");
    hear(&mut stream, b"STORED\r\n");
    // What is added is buffered, and there is no room for so much.
    let piece = value(1_000_000);
    say(
        &mut stream,
        &[b"append k 0 0 1000000\r\n", &piece[..], b"\r\nmn\r\n"].concat(),
    );
    hear(
        &mut stream,
        b"SERVER_ERROR out of memory storing object\r\nMN\r\n",
    );
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let _ = writer.write_all(&[b"get ", "key ".repeat(250_000).as_bytes()].concat());
    });
    assert_eq!(
        hear_all(&mut stream),
        b"SERVER_ERROR out of memory reading request\r\n"
    );
    sender.join().unwrap();
}
