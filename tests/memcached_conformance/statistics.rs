//! What `stats` tells, and that it is true.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use larder::server::{Address, Settings};

use crate::script::{connect, server};
use crate::server_harness::{Raw, settings, start};

/// A client that reads lines.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn say(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, text: &str) -> String {
        self.say(text);
        self.line()
    }

    fn stats(&mut self, group: &str) -> BTreeMap<String, String> {
        self.say(&format!("stats{group}\r\n"));
        let mut stats = BTreeMap::new();
        loop {
            let line = self.line();
            if line == "END" {
                return stats;
            }
            let mut words = line.splitn(3, ' ');
            assert_eq!(words.next(), Some("STAT"), "{line}");
            let (name, value) = (words.next().unwrap(), words.next().unwrap());
            let before = stats.insert(name.to_owned(), value.to_owned());
            assert_eq!(before, None, "{name} comes twice");
        }
    }

    fn stat(&mut self, name: &str) -> u64 {
        self.stats("")[name].parse().unwrap()
    }
}

fn client(running: &larder::server::Running) -> Client {
    let reader = BufReader::new(connect(running));
    Client { reader }
}

#[test]
fn counts_go_with_what_was_done() {
    let running = server(2);
    let mut client = client(&running);
    for (request, expected) in [
        ("set a 0 0 1\r\n1\r\n", "STORED"),
        ("set b 0 0 1\r\nx\r\n", "STORED"),
        ("add a 0 0 1\r\n1\r\n", "NOT_STORED"),
        ("cas a 0 0 1 99999\r\n1\r\n", "EXISTS"),
        ("cas none 0 0 1 1\r\n1\r\n", "NOT_FOUND"),
        ("get none\r\n", "END"),
        ("incr a 1\r\n", "2"),
        ("incr a 1\r\n", "3"),
        ("decr a 1\r\n", "2"),
        ("incr none 1\r\n", "NOT_FOUND"),
        ("decr none 1\r\n", "NOT_FOUND"),
        ("touch a 0\r\n", "TOUCHED"),
        ("touch none 0\r\n", "NOT_FOUND"),
        ("delete b\r\n", "DELETED"),
        ("delete b\r\n", "NOT_FOUND"),
    ] {
        assert_eq!(client.ask(request), expected, "{request}");
    }
    assert!(client.ask("gets a\r\n").starts_with("VALUE a 0 1 "));
    let value_and_end = [client.line(), client.line()];
    assert_eq!(value_and_end, ["2", "END"]);
    let stats = client.stats("");
    for (name, value) in [
        ("cmd_get", 2),
        ("get_hits", 1),
        ("get_misses", 1),
        ("cmd_set", 5),
        ("cas_badval", 1),
        ("cas_misses", 1),
        ("cas_hits", 0),
        ("incr_hits", 2),
        ("incr_misses", 1),
        ("decr_hits", 1),
        ("decr_misses", 1),
        ("cmd_touch", 2),
        ("touch_hits", 1),
        ("touch_misses", 1),
        ("delete_hits", 1),
        ("delete_misses", 1),
        ("curr_items", 1),
        ("total_items", 2),
        ("evictions", 0),
        ("expired_unfetched", 0),
        ("evicted_unfetched", 0),
        ("reclaimed", 0),
        ("cmd_flush", 0),
        ("curr_connections", 1),
        ("total_connections", 1),
        ("rejected_connections", 0),
        ("threads", 2),
        ("limit_maxbytes", 64 << 20),
        ("pid", u64::from(std::process::id())),
        ("pointer_size", 64),
    ] {
        assert_eq!(stats[name], value.to_string(), "{name}");
    }
    assert_eq!(stats["version"], "1.6.0");
    assert!(stats["time"].parse::<u64>().unwrap() > 1_700_000_000);
    for name in ["rusage_user", "rusage_system"] {
        let decimals = stats[name].split_once('.').unwrap().1;
        assert_eq!(decimals.len(), 6, "{name}");
    }
    for name in ["bytes", "bytes_read", "bytes_written"] {
        assert!(stats[name].parse::<u64>().unwrap() > 0, "{name}");
    }
}

/// Items leave by themselves, within a second or two.
#[test]
fn what_expired_without_being_read_is_counted() {
    let running = server(1);
    let mut client = client(&running);
    client.ask("set read 0 0 1\r\n1\r\n");
    client.ask("set unread 0 0 1\r\n1\r\n");
    assert!(client.ask("mg read v T-1\r\n").starts_with("VA"));
    client.line();
    assert_eq!(client.ask("touch unread -1\r\n"), "TOUCHED");
    let stats = loop {
        let stats = client.stats("");
        if stats["reclaimed"] == "2" {
            break stats;
        }
    };
    assert_eq!(stats["expired_unfetched"], "0", "a touch counts as well");
    client.ask("set unread 0 -1 1\r\n1\r\n");
    while client.stats("")["reclaimed"] != "3" {}
    assert_eq!(client.stat("expired_unfetched"), 1);
    assert_eq!(client.stats(" items")["items:1:reclaimed"], "3");
}

#[test]
fn attempts_are_counted_as_what_they_were() {
    let running = server(1);
    let mut client = client(&running);
    client.ask("set k 0 0 1\r\nx\r\n");
    for (request, expected) in [
        ("cas k 0 0 1 1\r\ny\r\n", "EXISTS"),
        ("md k C1\r\n", "EX"),
        ("ma k C1\r\n", "EX"),
        (
            "incr k 1\r\n",
            "CLIENT_ERROR cannot increment or decrement non-numeric value",
        ),
        ("mg k T0\r\n", "HD"),
        ("ma n N0\r\n", "HD"),
        ("flush_all 1000\r\n", "OK"),
        (
            "set l 0 0 20000000\r\n",
            "SERVER_ERROR object too large for cache",
        ),
    ] {
        assert_eq!(client.ask(request), expected, "{request}");
    }
    client.say(&format!("{}\r\nmn\r\n", "x".repeat(20_000_000)));
    assert_eq!(client.line(), "MN");
    assert!(client.ask("me k\r\n").starts_with("ME k exp=-1 "));
    let stats = client.stats("");
    for (name, expected) in [
        ("cmd_set", 2),
        ("cas_badval", 1),
        ("delete_misses", 1),
        ("delete_hits", 0),
        ("incr_hits", 0),
        ("cmd_touch", 1),
        ("touch_hits", 1),
        ("cmd_get", 0),
        ("total_items", 2),
        ("cmd_flush", 1),
        ("store_too_large", 1),
    ] {
        assert_eq!(stats[name], expected.to_string(), "{name}");
    }
    let slabs = client.stats(" slabs");
    assert_eq!(
        (&slabs["1:cmd_set"][..], &slabs["1:cas_badval"][..]),
        ("2", "1")
    );
}

#[test]
fn what_was_flushed_leaves_the_figures_though_nobody_writes() {
    let running = server(2);
    let mut client = client(&running);
    for n in 0..100 {
        client.ask(&format!("set k{n} 0 0 1\r\nx\r\n"));
    }
    client.ask("flush_all\r\n");
    while client.stat("curr_items") > 0 {}
    // Also where the one who has stored it is gone, and nobody is connected to that worker.
    client.ask("set k 0 1 1\r\nx\r\n");
    drop(client);
    let mut control = Raw::greeted(&running);
    control.wait_for_figure("items", |items| items == 0);
}

#[test]
fn counts_begin_anew_and_states_stay() {
    let running = server(1);
    let mut client = client(&running);
    client.ask("set a 0 0 1\r\n1\r\n");
    client.ask("get none\r\n");
    assert_eq!(client.stat("get_misses"), 1);
    assert_eq!(client.ask("stats reset\r\n"), "RESET");
    let stats = client.stats("");
    for name in [
        "cmd_get",
        "get_misses",
        "cmd_set",
        "total_items",
        "total_connections",
    ] {
        assert_eq!(stats[name], "0", "{name}");
    }
    for name in ["curr_items", "curr_connections", "threads"] {
        assert_eq!(stats[name], "1", "{name}");
    }
    client.ask("get none\r\n");
    assert_eq!(client.stat("get_misses"), 1);
}

#[test]
fn other_groups_tell_what_there_is_to_tell() {
    let running = server(1);
    let mut client = client(&running);
    let set = format!("set a 0 0 100\r\n{}\r\n", "x".repeat(100));
    assert_eq!(client.ask(&set), "STORED");
    let settings = client.stats(" settings");
    let Address::Tcp(address) = running.memcached_addresses()[0] else {
        panic!("listens on TCP")
    };
    assert_eq!(settings["tcpport"], address.port().to_string());
    assert_eq!(settings["inter"], "127.0.0.1");
    assert_eq!(settings["maxbytes"], (64 << 20).to_string());
    assert_eq!(settings["num_threads"], "1");
    assert_eq!(settings["cas_enabled"], "yes");
    assert_eq!(settings["item_size_max"], (16 << 20).to_string());
    assert_eq!(client.stats(" items")["items:1:number"], "1");
    let slabs = client.stats(" slabs");
    assert_eq!(slabs["active_slabs"], "1");
    assert_eq!(slabs["1:cmd_set"], "1");
    let sizes = client.stats(" sizes");
    let count: u64 = sizes
        .values()
        .map(|value| value.parse::<u64>().unwrap())
        .sum();
    assert_eq!(count, 1);
    let connections = client.stats(" conns");
    assert_eq!(connections["0:addr"], format!("tcp:{address}"));
    assert_eq!(connections["0:state"], "conn_listening");
}

#[test]
fn clients_are_told_of_and_what_they_wait_for() {
    let path = std::env::temp_dir().join(format!("larder-{}-conns.sock", std::process::id()));
    let running = start(Settings {
        memcached: vec![
            Address::Tcp(([127, 0, 0, 1], 0).into()),
            Address::Unix(path.clone()),
        ],
        // So that connections are looked at often.
        write_timeout: Duration::from_millis(80),
        ..settings(2)
    });
    let mut client = client(&running);
    let ours = client.reader.get_ref().local_addr().unwrap();
    let mut sends = UnixStream::connect(&path).unwrap();
    sends.write_all(b"set k 0 0 9\r\nhalf").unwrap();
    let native = Raw::greeted(&running);
    let unix = format!("unix:{}", path.display());
    let connections = loop {
        let connections = client.stats(" conns");
        if connections.values().any(|value| value == "conn_nread") {
            break connections;
        }
    };
    let of = |number: &str| {
        let name = |of: &str| format!("{number}:{of}");
        let value = |of: &str| connections.get(&name(of)).map(String::as_str);
        ["addr", "listen_addr", "state"].map(value)
    };
    let (tcp, larder) = (
        format!("tcp:{}", running.memcached_addresses()[0]),
        format!("tcp:{}", running.addresses()[0]),
    );
    let listening = Some("conn_listening");
    assert_eq!(of("0"), [Some(&tcp[..]), None, listening]);
    assert_eq!(of("1"), [Some(&unix[..]), None, listening]);
    assert_eq!(of("2"), [Some(&larder[..]), None, listening]);
    let ours = format!("tcp:{ours}");
    assert_eq!(of("3"), [Some(&ours[..]), Some(&tcp), Some("conn_read")]);
    let sending = Some("conn_nread");
    assert_eq!(of("4"), [Some("unix"), Some(&unix), sending]);
    assert_eq!(of("5")[1..], [Some(&larder[..]), Some("conn_read")]);
    assert_eq!(connections["3:secs_since_last_cmd"], "0");
    // Of one that is gone nothing is told.
    drop((sends, native));
    while client.stats(" conns").contains_key("4:addr") {}
    while client.stats(" conns").contains_key("5:addr") {}
    assert_eq!(client.stats(" conns")["3:addr"], ours);
}

#[test]
fn what_is_not_kept_is_told_or_empty() {
    let running = server(1);
    let mut client = client(&running);
    for (request, expected) in [
        ("stats detail dump\r\n", "END"),
        ("stats detail off\r\n", "OK"),
        (
            "stats detail on\r\n",
            "SERVER_ERROR figures by key prefix are not kept",
        ),
        (
            "stats detail\r\n",
            "CLIENT_ERROR usage: stats detail on|off|dump",
        ),
        (
            "stats cachedump 1 0\r\n",
            "CLIENT_ERROR stats cachedump not allowed",
        ),
        ("stats extstore\r\n", "ERROR"),
        ("stats proxy\r\n", "ERROR"),
        ("stats nothing\r\n", "ERROR"),
    ] {
        assert_eq!(client.ask(request), expected, "{request}");
    }
}
