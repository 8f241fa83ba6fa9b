//! The lists of all items that `lru_crawler` gives.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use larder::AccessTimes;

use crate::script::{Script, connect, hear, run_in_every_way, say, server, server_with};
use crate::server_harness::{Raw, set};

const DUMPS: &[Script] = &[
    Script {
        name: "an empty cache has empty lists",
        steps: &[
            ("lru_crawler metadump all\r\n", "OK\r\nEND\r\n"),
            ("lru_crawler mgdump all\r\n", "OK\r\nEN\r\n"),
        ],
    },
    Script {
        name: "a line tells what is known about an item",
        steps: &[
            (
                "set a 7 0 1\r\n1\r\ngets a\r\n",
                "STORED\r\nVALUE a 7 1 {cas}\r\n1\r\nEND\r\n",
            ),
            (
                "lru_crawler metadump all\r\n",
                "OK\r\nkey=a exp=-1 cas={cas} fetch=yes cls=1 size={} flags=7 \nEND\r\n",
            ),
            (
                "delete a\r\nset b 0 {now+1000} 0\r\n\r\n",
                "DELETED\r\nSTORED\r\n",
            ),
            (
                "lru_crawler metadump hash\r\n",
                "OK\r\nkey=b exp={} cas={} fetch=no cls=1 size={} flags=0 \nEND\r\n",
            ),
            // Telling of an item is no use of it.
            (
                "lru_crawler metadump 1\r\n",
                "OK\r\nkey=b exp={} cas={} fetch=no cls=1 size={} flags=0 \nEND\r\n",
            ),
            (
                "lru_crawler mgdump 1\r\nget b\r\n",
                "OK\r\nmg b\r\nEN\r\nVALUE b 0 0\r\n\r\nEND\r\n",
            ),
        ],
    },
    Script {
        name: "keys are written so that they can be read again",
        steps: &[
            ("set a%/b 0 0 0\r\n\r\n", "STORED\r\n"),
            (
                "lru_crawler metadump all\r\n",
                "OK\r\nkey=a%25%2Fb exp=-1 cas={} fetch=no cls=1 size={} flags=0 \nEND\r\n",
            ),
            ("lru_crawler mgdump all\r\n", "OK\r\nmg a%/b\r\nEN\r\n"),
            ("delete a%/b\r\nms YSBi 0 b\r\n\r\n", "DELETED\r\nHD\r\n"),
            (
                "lru_crawler metadump all\r\n",
                "OK\r\nkey=a%20b exp=-1 cas={} fetch=no cls=1 size={} flags=0 \nEND\r\n",
            ),
            ("lru_crawler mgdump all\r\n", "OK\r\nmg YSBi b\r\nEN\r\n"),
            ("mg YSBi b k\r\n", "HD kYSBi b\r\n"),
        ],
    },
    Script {
        name: "what has expired or was flushed is in no list",
        steps: &[
            (
                "set a 0 -1 0\r\n\r\nset b 0 0 0\r\n\r\n",
                "STORED\r\nSTORED\r\n",
            ),
            ("lru_crawler mgdump all\r\n", "OK\r\nmg b\r\nEN\r\n"),
            ("flush_all\r\n", "OK\r\n"),
            ("lru_crawler mgdump all\r\n", "OK\r\nEN\r\n"),
        ],
    },
    Script {
        name: "what is no list is refused",
        steps: &[
            ("lru_crawler\r\n", "ERROR\r\n"),
            ("lru_crawler metadump\r\n", "ERROR\r\n"),
            ("lru_crawler metadump all more\r\n", "ERROR\r\n"),
            ("lru_crawler crawl all\r\n", "ERROR\r\n"),
            ("lru_crawler enable\r\n", "ERROR\r\n"),
            (
                "lru_crawler metadump 99\r\n",
                "BADCLASS invalid class id\r\n",
            ),
            (
                "lru_crawler mgdump some\r\n",
                "BADCLASS invalid class id\r\n",
            ),
        ],
    },
];

#[test]
fn items_are_listed() {
    run_in_every_way(DUMPS);
}

#[test]
fn times_of_access_are_told_where_they_are_kept() {
    let running = server_with(8 << 20, |config| config.access_times = AccessTimes::Kept);
    let mut stream = connect(&running);
    say(
        &mut stream,
        b"set a 0 0 0\r\n\r\nmg a l\r\nlru_crawler metadump all\r\n",
    );
    hear(&mut stream, b"STORED\r\nHD l0\r\nOK\r\nkey=a exp=-1 la=");
}

/// Stores `items` items; gives their keys.
fn fill(stream: &mut TcpStream, items: usize) -> BTreeSet<String> {
    let keys = (0..items).map(|n| format!("{n:0>200}"));
    let keys: BTreeSet<String> = keys.collect();
    for key in &keys {
        say(
            stream,
            format!("set {key} 0 0 1 noreply\r\nx\r\n").as_bytes(),
        );
    }
    say(stream, b"mn\r\n");
    hear(stream, b"MN\r\n");
    keys
}

#[test]
fn a_long_list_waits_for_its_reader_in_bounded_memory() {
    let running = server(1);
    let mut control = Raw::greeted(&running);
    let mut stream = connect(&running);
    // More than sockets and buffers hold.
    let keys = fill(&mut stream, 60_000);
    say(
        &mut stream,
        b"lru_crawler metadump all\r\nlru_crawler mgdump all\r\nmn\r\n",
    );
    // Before anything is read, the worker serves others, and holds no more than a turn's worth of lines.
    control.wait_for_figure("backlogs", |backlogs| backlogs > 0);
    assert!(control.figure("buffer_bytes") < 1 << 20);
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "OK");
    let mut told = BTreeSet::new();
    for line in lines.by_ref().take_while(|line| line != "END") {
        let key = line
            .strip_prefix("key=")
            .and_then(|rest| rest.split(' ').next());
        assert!(told.insert(key.unwrap().to_owned()), "{line} comes twice");
    }
    assert!(told == keys, "{} of {}", told.len(), keys.len());
    assert_eq!(lines.next().unwrap(), "OK");
    let gets = lines.by_ref().take_while(|line| line != "EN");
    let told: BTreeSet<String> = gets.map(|line| line["mg ".len()..].to_owned()).collect();
    assert!(told == keys, "{} of {}", told.len(), keys.len());
    assert_eq!(lines.next().unwrap(), "MN");
}

#[test]
fn keys_that_this_protocol_has_no_words_for_are_in_the_list_of_items_alone() {
    let running = server_with(8 << 20, |config| config.key_bytes_max = 300);
    let (mut control, mut stream) = (Raw::greeted(&running), connect(&running));
    for key in ["k".repeat(251), " ".repeat(188)] {
        control.send(&set(1, &key, b"x"));
        assert!(control.next().is_some());
    }
    say(
        &mut stream,
        b"lru_crawler mgdump all\r\nlru_crawler metadump all\r\n",
    );
    hear(&mut stream, b"OK\r\nEN\r\nOK\r\n");
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.by_ref().take_while(|line| line != "END").collect();
    let has = |key: String| {
        lines
            .iter()
            .any(|line| line.starts_with(&format!("key={key} ")))
    };
    assert!(has("k".repeat(251)) && has("%20".repeat(188)), "{lines:?}");
}
