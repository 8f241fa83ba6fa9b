//! The client and the server with values that no buffer holds.
//!
//! The long look at [`slow_and_fast_readers_get_every_value_byte_for_byte`], with a server of 2 GiB,
//! that many values of 1 MiB and ten of 64 MiB:
//!
//! ```text
//! LARDER_TEST_VALUES=1000 cargo test --release --test client_large byte_for_byte -- --nocapture
//! ```
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
mod server_harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::server::{Address, Settings};
use larder_client::{Client, Config, SetItem, Status};
use process::ServerProcess;
use server_harness::{settings, start};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

fn bytes(seed: u32, count: usize) -> Vec<u8> {
    (0..count).map(|at| byte(seed, at)).collect()
}

/// A byte of a value; neighbouring seeds have none alike.
fn byte(seed: u32, at: usize) -> u8 {
    let place = (at as u32).wrapping_mul(2_654_435_761);
    (place.wrapping_add(seed.wrapping_mul(0x9e37_79b9)) >> 24) as u8
}

async fn client(running: &larder::server::Running) -> Client {
    let Address::Tcp(address) = &running.addresses()[0] else {
        panic!("not a TCP address")
    };
    connect(&format!("larder://{address}")).await
}

async fn connect(url: &str) -> Client {
    let config = Config {
        request_timeout: Duration::from_secs(20),
        ..Config::default()
    };
    Client::connect_with(url, config).await.unwrap()
}

#[tokio::test]
async fn values_up_to_the_announced_limit_are_set_and_got_as_any_other() {
    let running = start(settings(2));
    let client = client(&running).await;
    let limits = client.server().await.unwrap().limits;
    assert_eq!(limits.value_bytes_max, 16 << 20);
    for size in [10_000, 65_537, 1 << 20, 16 << 20] {
        let value = bytes(1, size);
        let version = client.set("key", value.clone()).flags(7).await.unwrap();
        let item = client.get("key").await.unwrap().unwrap();
        assert!(item.value == value, "{size} bytes");
        assert_eq!((item.version, item.flags), (version, 7));
    }
    let refused = client
        .set("key", vec![0; (16 << 20) + 1])
        .await
        .unwrap_err();
    assert!(refused.is_not_executed());
    assert!(refused.to_string().contains("16777216"), "{refused}");
}

#[tokio::test]
async fn values_are_streamed_in_and_out() {
    let running = start(settings(2));
    let client = client(&running).await;
    for size in [0, 1, 10_000, 300_000, 16 << 20] {
        let value = bytes(2, size);
        let store = client.set_from("key", size as u64, &value[..]).flags(9);
        let version = store.await.unwrap();
        let mut stream = client.get_stream("key").await.unwrap().unwrap();
        assert_eq!((stream.version(), stream.flags()), (version, 9));
        assert_eq!(stream.value_bytes(), size as u64);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert!(read == value, "{size} bytes");
    }
    assert!(client.get_stream("other").await.unwrap().is_none());
    let added = client.add_from("key", 3, &b"new"[..]).await.unwrap();
    assert_eq!(added, None);
    let replaced = client.replace_from("key", 3, &b"new"[..]).await.unwrap();
    assert!(replaced.is_some());
    assert_eq!(client.get("key").await.unwrap().unwrap().value, "new");
}

#[tokio::test]
async fn streams_go_over_unix_sockets_too() {
    let name = format!("larder-test-{}-large.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let running = start(Settings {
        listen: vec![Address::Unix(path.clone())],
        ..settings(1)
    });
    let url = format!("larder+unix://{}", path.display());
    let client = Client::connect(&url).await.unwrap();
    let value = bytes(4, 3 << 20);
    let store = client.set_from("key", value.len() as u64, &value[..]);
    assert!(store.await.is_ok());
    let mut read = Vec::new();
    let mut stream = client.get_stream("key").await.unwrap().unwrap();
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read == value);
    drop(running);
}

#[tokio::test]
async fn what_fills_the_memory_is_refused_while_it_is_streamed() {
    let running = start(settings(1));
    let client = client(&running).await;
    // Held by readers that do not read, so that there is no room that could be made.
    let mut held = Vec::new();
    let value = bytes(3, 15 << 20);
    let refused = loop {
        assert!(held.len() < 8, "8 times a quarter of the memory");
        match client.set_from("key", 15 << 20, &value[..]).await {
            Ok(_) => held.push(client.get_stream("key").await.unwrap().unwrap()),
            Err(error) => break error,
        }
    };
    assert!(refused.is_not_executed(), "{refused}");
    for mut stream in held {
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert!(read == value);
    }
}

#[tokio::test]
async fn many_items_may_have_large_ones_among_them() {
    let running = start(settings(1));
    let client = client(&running).await;
    let sizes = [10, 100_000, 20, 300_000, 1 << 20, 30];
    let item = |(at, size)| SetItem::new(format!("key-{at}"), bytes(at as u32, size));
    let items: Vec<SetItem> = sizes.into_iter().enumerate().map(item).collect();
    let statuses = client.set_many(items.clone()).await.unwrap();
    assert_eq!(statuses, [Status::OK; 6]);
    let keys = items.iter().map(|item| item.key.clone());
    let found = client.get_many(keys).await.unwrap();
    for (found, item) in found.iter().zip(&items) {
        assert!(found.as_ref().unwrap().value == item.value);
    }
}

/// A server, and the values that it is to hold.
struct Shelf {
    server: ServerProcess,
    memory_bytes: u64,
    sizes: Vec<usize>,
}

/// How a reader goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As fast as it can; each piece lets slow readers read one.
    Fast,
    /// A small piece for each piece that a fast reader read, as long as there are fast readers.
    Slow,
}

impl Shelf {
    fn from_environment() -> Self {
        let values = std::env::var("LARDER_TEST_VALUES").ok();
        let values: Option<usize> = values.map(|text| text.parse().expect("a whole number"));
        let (memory, values, large) = match values {
            None => ("64MiB", vec![128 << 10; 20], vec![2 << 20; 2]),
            Some(count) => ("2GiB", vec![1 << 20; count], vec![64 << 20; 10]),
        };
        let options = [
            "--memory",
            memory,
            "--workers",
            "2",
            "--listen",
            "127.0.0.1:0",
        ];
        let server = ServerProcess::serve(&options);
        let memory_bytes = if memory == "2GiB" { 2 << 30 } else { 64 << 20 };
        Self {
            server,
            memory_bytes,
            sizes: [values, large].concat(),
        }
    }

    /// The most that the server's process had in memory.
    fn peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.server.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kibibytes.parse::<u64>().unwrap() << 10
    }
}

/// Reads values and compares every byte; gives how many it read.
async fn read_all(
    client: Client,
    sizes: Vec<(usize, usize)>,
    pace: Pace,
    turns: Arc<Semaphore>,
) -> usize {
    let mut piece = vec![
        0;
        if pace == Pace::Fast {
            128 << 10
        } else {
            16 << 10
        }
    ];
    for &(number, size) in &sizes {
        let stream = client.get_stream(format!("key-{number}")).await.unwrap();
        let mut stream = stream.unwrap_or_else(|| panic!("value {number} is gone"));
        assert_eq!(stream.value_bytes(), size as u64);
        let mut at = 0;
        loop {
            match pace {
                Pace::Fast => turns.add_permits(1),
                // It is closed when no fast reader is left.
                Pace::Slow => drop(turns.acquire().await.map(|turn| turn.forget())),
            }
            let count = stream.read(&mut piece).await.unwrap();
            if count == 0 {
                break;
            }
            let read = piece[..count].iter().enumerate();
            let wrong = read
                .clone()
                .find(|&(of, &read)| read != byte(number as u32, at + of));
            assert_eq!(wrong, None, "in value {number} from {at} on");
            at += count;
        }
        assert_eq!(at, size, "value {number}");
    }
    sizes.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_fast_readers_get_every_value_byte_for_byte() {
    const READERS: usize = 4;
    let shelf = Shelf::from_environment();
    let client = connect(&shelf.server.url()).await;
    let began = Instant::now();
    for (number, &size) in shelf.sizes.iter().enumerate() {
        let value = bytes(number as u32, size);
        client.set(format!("key-{number}"), value).await.unwrap();
    }
    let stored_in = began.elapsed();
    let numbered: Vec<_> = shelf.sizes.iter().copied().enumerate().collect();
    let turns = Arc::new(Semaphore::new(0));
    let reader = |number: usize, pace| {
        let mut sizes = numbered.clone();
        match pace {
            // Everybody begins with another value.
            Pace::Fast => sizes.rotate_left(number * numbered.len() / READERS),
            // Each has its share.
            Pace::Slow => sizes.retain(|(of, _)| of % READERS == number),
        }
        tokio::spawn(read_all(client.clone(), sizes, pace, Arc::clone(&turns)))
    };
    let slow: Vec<_> = (0..READERS)
        .map(|number| reader(number, Pace::Slow))
        .collect();
    let fast: Vec<_> = (0..READERS)
        .map(|number| reader(number, Pace::Fast))
        .collect();
    let mut read = 0;
    for reader in fast {
        read += reader.await.unwrap();
    }
    turns.close();
    for reader in slow {
        read += reader.await.unwrap();
    }
    let peak_bytes = shelf.peak_bytes();
    println!(
        "{} values stored in {stored_in:.1?}, {read} read back and right in {:.1?}; at most {} MiB \
         in memory",
        shelf.sizes.len(),
        began.elapsed() - stored_in,
        peak_bytes >> 20
    );
    assert!(
        peak_bytes <= shelf.memory_bytes + (64 << 20),
        "{peak_bytes}"
    );
}
