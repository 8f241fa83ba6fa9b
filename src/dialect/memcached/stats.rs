//! `stats`: the server's own figures under the names that dashboards for memcached read.
//!
//! A name is there only if its figure is known: what Larder does not count, or does not have, is left
//! out. Its items are of one class, and its memory is of one kind, so that `stats items` and
//! `stats slabs` have one class to tell of.

use super::command::words;
use super::reply::push_number;

/// What the server says to `version`: the release whose protocol this is. Clients take it apart, some
/// from its beginning and some from its end, and tell from it what they may use.
pub(super) const VERSION_LINE: &[u8] = b"VERSION 1.6.0\r\n";

/// All stores, whatever came of them.
const SETS: &[&str] = &["stored", "not_stored", "store_mismatches"];

/// A list that `stats` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    General,
    Settings,
    Items,
    Slabs,
    Sizes,
    Connections,
    /// No list: counts begin anew.
    Reset,
}

impl Group {
    /// The list that a client asks for by its name and what follows it, or what it is answered.
    pub(super) fn named(name: &[u8], rest: &[u8]) -> Result<Self, &'static [u8]> {
        Ok(match name {
            b"" => Self::General,
            b"settings" => Self::Settings,
            b"items" => Self::Items,
            b"slabs" => Self::Slabs,
            b"sizes" => Self::Sizes,
            b"conns" => Self::Connections,
            b"reset" => Self::Reset,
            b"detail" => return Err(detail(words(rest).next())),
            b"cachedump" => return Err(b"CLIENT_ERROR stats cachedump not allowed\r\n"),
            _ => return Err(b"ERROR\r\n"),
        })
    }

    /// The server's group of figures that it is made of.
    pub(super) fn asked(self) -> &'static [u8] {
        match self {
            Self::General | Self::Items | Self::Slabs | Self::Reset => b"since_reset",
            Self::Settings => b"settings",
            Self::Connections => b"connections",
            Self::Sizes => b"items",
        }
    }
}

/// Figures by the beginnings of keys are not kept, so that they are off and there are none.
fn detail(what: Option<&[u8]>) -> &'static [u8] {
    match what {
        Some(b"off") => b"OK\r\n",
        Some(b"dump") => b"END\r\n",
        Some(b"on") => b"SERVER_ERROR figures by key prefix are not kept\r\n",
        _ => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
    }
}

/// Writes a list, made of the server's figures.
pub(super) fn write(group: Group, figures: &[(String, String)], out: &mut Vec<u8>) {
    let list = List { figures, out };
    match group {
        Group::General => general(list),
        Group::Settings => settings(list),
        Group::Items => items(list),
        Group::Slabs => slabs(list),
        Group::Sizes => sizes(list),
        Group::Connections => connections(list),
        Group::Reset => {}
    }
    out.extend_from_slice(b"END\r\n");
}

/// A list under construction, and the figures that it is made of.
struct List<'f> {
    figures: &'f [(String, String)],
    out: &'f mut Vec<u8>,
}

impl List<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        let found = self.figures.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The sum of some figures, if all of them are known.
    fn sum(&self, names: &[&str]) -> Option<u64> {
        names.iter().map(|name| self.number(name)).sum()
    }

    /// A figure less a part of it, if both are known.
    fn difference(&self, all: &str, part: &str) -> Option<u64> {
        Some(self.number(all)?.saturating_sub(self.number(part)?))
    }

    fn push(&mut self, name: &str, value: &str) {
        for part in ["STAT ", name, " ", value, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    fn push_some(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            for part in ["STAT ", name, " "] {
                self.out.extend_from_slice(part.as_bytes());
            }
            push_number(self.out, value);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Figures under other names.
    fn push_all(&mut self, names: &[(&str, &str)]) {
        for (name, of) in names {
            self.push_some(name, self.number(of));
        }
    }

    /// Seconds with six decimals.
    fn push_seconds(&mut self, name: &str, us: Option<u64>) {
        if let Some(us) = us {
            let (seconds, rest) = (us / 1_000_000, us % 1_000_000);
            self.push(name, &format!("{seconds}.{rest:06}"));
        }
    }
}

fn general(mut list: List<'_>) {
    let seconds = |ms: Option<u64>| ms.map(|ms| ms / 1000);
    list.push_some("pid", list.number("pid"));
    list.push_some("uptime", seconds(list.number("uptime_ms")));
    list.push_some("time", seconds(list.number("time_ms")));
    list.push("version", "1.6.0");
    list.push("larder_version", env!("CARGO_PKG_VERSION"));
    list.push_some("pointer_size", Some(usize::BITS.into()));
    list.push_seconds("rusage_user", list.number("cpu_user_us"));
    list.push_seconds("rusage_system", list.number("cpu_system_us"));
    list.push_all(&[
        ("max_connections", "connections_max"),
        ("curr_connections", "connections"),
        ("total_connections", "connections_opened"),
        ("rejected_connections", "connections_refused"),
    ]);
    let gets = ["get_hits", "get_misses"];
    let touches = ["touch_hits", "touch_misses"];
    list.push_some("cmd_get", list.sum(&gets));
    list.push_some("cmd_set", list.sum(SETS));
    list.push_some("cmd_flush", list.number("flushes"));
    list.push_some("cmd_touch", list.sum(&touches));
    list.push_all(&[
        ("get_hits", "get_hits"),
        ("get_misses", "get_misses"),
        ("get_expired", "get_expired"),
        ("get_flushed", "get_flushed"),
        ("delete_hits", "delete_hits"),
    ]);
    let deletes = ["delete_misses", "delete_mismatches"];
    list.push_some("delete_misses", list.sum(&deletes));
    list.push_some(
        "incr_misses",
        list.difference("counter_misses", "decrement_misses"),
    );
    list.push_some(
        "incr_hits",
        list.difference("counter_hits", "decrement_hits"),
    );
    list.push_all(&[
        ("decr_misses", "decrement_misses"),
        ("decr_hits", "decrement_hits"),
        ("cas_misses", "cas_misses"),
        ("cas_hits", "cas_hits"),
        ("cas_badval", "store_mismatches"),
        ("touch_hits", "touch_hits"),
        ("touch_misses", "touch_misses"),
        ("store_no_memory", "no_space"),
        ("store_too_large", "too_large"),
        ("bytes_read", "bytes_in"),
        ("bytes_written", "bytes_out"),
        ("limit_maxbytes", "memory_bytes"),
    ]);
    list.push("accepting_conns", "1");
    // It never stops listening.
    list.push("listen_disabled_num", "0");
    list.push_all(&[
        ("threads", "workers"),
        ("conn_yields", "slices_exhausted"),
        ("hash_bytes", "index_bytes"),
    ]);
    list.push_some("bytes", list.sum(&["live_bytes", "large_bytes"]));
    list.push_all(&[("curr_items", "items")]);
    list.push_some("total_items", list.sum(&["stored", "counters_created"]));
    list.push_all(&[
        ("expired_unfetched", "expired_unfetched"),
        ("evicted_unfetched", "evicted_unfetched"),
        ("evictions", "evicted"),
        ("reclaimed", "expired"),
    ]);
}

fn settings(mut list: List<'_>) {
    let addresses = list
        .text("memcached_addresses")
        .unwrap_or_default()
        .to_owned();
    let first = |is_wanted: fn(&str) -> bool| addresses.split(' ').find(|one| is_wanted(one));
    let tcp = first(|one| !one.starts_with("unix:")).and_then(|one| one.rsplit_once(':'));
    let unix = first(|one| one.starts_with("unix:"));
    list.push_all(&[
        ("maxbytes", "memory_bytes"),
        ("maxconns", "connections_max"),
    ]);
    list.push("tcpport", tcp.map_or("0", |(_, port)| port));
    list.push("udpport", "0");
    list.push("inter", tcp.map_or("NULL", |(host, _)| host));
    list.push("evictions", "on");
    list.push(
        "domain_socket",
        unix.map_or("NULL", |one| &one["unix:".len()..]),
    );
    list.push_some("num_threads", list.number("workers"));
    list.push("detail_enabled", "no");
    list.push("cas_enabled", "yes");
    list.push("auth_enabled_sasl", "no");
    list.push("auth_enabled_ascii", "no");
    list.push_some("item_size_max", list.number("value_bytes_max"));
    list.push("maxconns_fast", "yes");
    list.push("flush_enabled", "yes");
    list.push("dump_enabled", "yes");
    let idle = list.number("idle_timeout_ms").map(|ms| ms.div_ceil(1000));
    list.push_some("idle_timeout", idle);
}

fn items(mut list: List<'_>) {
    let ages = [list.number("small_age_s"), list.number("main_age_s")];
    list.push_some("items:1:number", list.number("items"));
    list.push_some("items:1:age", ages.into_iter().flatten().max());
    list.push_some(
        "items:1:mem_requested",
        list.sum(&["live_bytes", "large_bytes"]),
    );
    list.push_all(&[
        ("items:1:evicted", "evicted"),
        ("items:1:outofmemory", "no_space"),
        ("items:1:reclaimed", "expired"),
        ("items:1:expired_unfetched", "expired_unfetched"),
        ("items:1:evicted_unfetched", "evicted_unfetched"),
    ]);
}

fn slabs(mut list: List<'_>) {
    let hits = [
        ("1:get_hits", "get_hits"),
        ("1:delete_hits", "delete_hits"),
        ("1:decr_hits", "decrement_hits"),
        ("1:cas_hits", "cas_hits"),
        ("1:cas_badval", "store_mismatches"),
        ("1:touch_hits", "touch_hits"),
    ];
    list.push_all(&[("1:total_pages", "segments"), ("1:used_chunks", "items")]);
    list.push_some("1:mem_requested", list.sum(&["live_bytes", "large_bytes"]));
    list.push_all(&hits);
    list.push_some("1:cmd_set", list.sum(SETS));
    list.push_some(
        "1:incr_hits",
        list.difference("counter_hits", "decrement_hits"),
    );
    list.push("active_slabs", "1");
    list.push_some("total_malloced", list.number("memory_bytes"));
}

/// How many values are at most so long; from a sample.
fn sizes(mut list: List<'_>) {
    for (name, count) in list.figures {
        if let Some(bytes) = name.strip_prefix("value_bytes_to_") {
            list.push(bytes, count);
        }
    }
}

/// Sockets that listen, and then those of clients, whatever they speak.
fn connections(mut list: List<'_>) {
    let mut listening = 0_u64;
    for name in ["memcached_addresses", "addresses"] {
        let addresses = list.text(name).unwrap_or_default().to_owned();
        for address in addresses.split_ascii_whitespace() {
            list.push(&format!("{listening}:addr"), &with_family(address));
            list.push(&format!("{listening}:state"), "conn_listening");
            listening += 1;
        }
    }
    for (name, value) in list.figures {
        let numbered = (name.strip_prefix("connection_")).and_then(|name| name.split_once('.'));
        let Some((Ok(number), of)) = numbered.map(|(number, of)| (number.parse::<u64>(), of))
        else {
            continue;
        };
        // They are numbered from 1 on.
        let mut push = |name, value: &str| {
            list.push(&format!("{}:{name}", number + listening - 1), value);
        };
        match of {
            "peer" => push("addr", &with_family(value)),
            "address" => push("listen_addr", &with_family(value)),
            "state" => push("state", state(value)),
            "idle_ms" => {
                let idle_ms: u64 = value.parse().unwrap_or(0);
                push("secs_since_last_cmd", &(idle_ms / 1000).to_string());
            }
            _ => {}
        }
    }
}

/// An address as memcached writes it.
fn with_family(address: &str) -> String {
    match address.as_bytes() {
        [b'u', b'n', b'i', b'x', ..] => address.to_owned(),
        [b'[', ..] => format!("tcp6:{address}"),
        _ => format!("tcp:{address}"),
    }
}

/// What memcached calls the state of a connection.
fn state(of: &str) -> &'static str {
    match of {
        "receiving" => "conn_nread",
        "sending" => "conn_mwrite",
        "closing" => "conn_closing",
        _ => "conn_read",
    }
}
