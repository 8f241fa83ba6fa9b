//! The client and the server with values that no buffer holds.
#![cfg(feature = "server")]

mod server_harness;

use std::time::Duration;

use larder::server::{Address, Settings};
use larder_client::{Client, Config, SetItem, Status};
use server_harness::{settings, start};
use tokio::io::AsyncReadExt;

fn bytes(seed: u32, count: usize) -> Vec<u8> {
    (0..count as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8)
        .collect()
}

async fn client(running: &larder::server::Running) -> Client {
    let Address::Tcp(address) = &running.addresses()[0] else {
        panic!("not a TCP address")
    };
    let config = Config {
        request_timeout: Duration::from_secs(20),
        ..Config::default()
    };
    let url = format!("larder://{address}");
    Client::connect_with(&url, config).await.unwrap()
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
