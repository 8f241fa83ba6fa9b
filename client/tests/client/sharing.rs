//! Many tasks, one connection.

use std::task::Poll;

use bytes::Bytes;
use larder_client::{Client, Config};

use crate::fake::Fake;

async fn value_of(client: &Client, key: &str) -> Bytes {
    client
        .get(key)
        .await
        .expect("answered")
        .expect("found")
        .value
}

#[tokio::test]
async fn a_reply_is_matched_by_its_id() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(peer.expect().await);
        }
        for asked in asked.iter().rev() {
            peer.found(asked, &asked.key()).await;
        }
    };
    let clones = [client.clone(), client.clone(), client];
    let ask = async {
        tokio::join!(
            value_of(&clones[0], "a"),
            value_of(&clones[1], "b"),
            value_of(&clones[2], "c")
        )
    };
    let ((a, b, c), ()) = tokio::join!(ask, serve);
    assert_eq!([a, b, c], ["a", "b", "c"]);
}

#[tokio::test]
async fn requests_of_one_moment_share_a_write() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(
                async move { client.get(format!("key {number}")).await.expect("answered") },
            )
        })
        .collect();
    peer.read().await;
    assert_eq!(peer.requests_at_hand(), 50);
    for _ in 0..50 {
        let asked = peer.expect().await;
        peer.found(&asked, &asked.key()).await;
    }
    for (number, task) in tasks.into_iter().enumerate() {
        let item = task.await.expect("no panic").expect("found");
        assert_eq!(item.value, format!("key {number}"));
    }
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake
        .client(Config {
            in_flight_max: 2,
            ..Config::default()
        })
        .await;
    let serve = async {
        peer.read().await;
        assert_eq!(peer.requests_at_hand(), 2, "the third waits for room");
        for _ in 0..3 {
            let asked = peer.expect().await;
            peer.found(&asked, &asked.key()).await;
        }
    };
    let ask = async {
        tokio::join!(
            value_of(&client, "a"),
            value_of(&client, "b"),
            value_of(&client, "c")
        )
    };
    let ((a, b, c), ()) = tokio::join!(ask, serve);
    assert_eq!([a, b, c], ["a", "b", "c"]);
}

#[tokio::test]
async fn the_servers_own_bound_holds_too() {
    let mut fake = Fake::start().await;
    fake.limits.in_flight_max = 1;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        peer.read().await;
        assert_eq!(peer.requests_at_hand(), 1);
        for _ in 0..2 {
            let asked = peer.expect().await;
            peer.found(&asked, b"").await;
        }
    };
    tokio::join!(value_of(&client, "a"), value_of(&client, "b"), serve);
}

#[tokio::test]
async fn a_cancelled_request_disturbs_nobody_and_its_late_reply_is_dropped() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake
        .client(Config {
            in_flight_max: 1,
            ..Config::default()
        })
        .await;

    let cancelled = {
        let mut abandoned = Box::pin(client.get("abandoned"));
        let first_poll =
            std::future::poll_fn(|context| Poll::Ready(abandoned.as_mut().poll(context)));
        assert!(first_poll.await.is_pending());
        peer.expect().await
    };

    // The only place is taken until the server is done with the abandoned request.
    let mut next = Box::pin(value_of(&client, "next"));
    let first_poll = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context)));
    assert!(first_poll.await.is_pending());
    assert_eq!(peer.requests_at_hand(), 0);

    let serve = async {
        peer.found(&cancelled, b"too late").await;
        let asked = peer.expect().await;
        peer.found(&asked, b"in time").await;
    };
    let (value, ()) = tokio::join!(next, serve);
    assert_eq!(value, "in time");
}

#[tokio::test]
async fn large_values_come_whole_and_small_ones_between_them() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let large = vec![7; 3_000_000];
    let serve = async {
        for _ in 0..4 {
            let asked = peer.expect().await;
            match &asked.key()[..] {
                b"large" => peer.found(&asked, &large).await,
                key => peer.found(&asked, key).await,
            }
        }
    };
    let ask = async {
        tokio::join!(
            value_of(&client, "large"),
            value_of(&client, "small"),
            value_of(&client, "large"),
            value_of(&client, "tiny"),
        )
    };
    let ((first, small, second, tiny), ()) = tokio::join!(ask, serve);
    assert!(first == large && second == large);
    assert_eq!([small, tiny], ["small", "tiny"]);
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_connection() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let clone = client.clone();
    drop(client);
    let asked = async {
        let asked = peer.expect().await;
        peer.found(&asked, b"still here").await;
    };
    assert_eq!(tokio::join!(value_of(&clone, "key"), asked).0, "still here");
    drop(clone);
    peer.expect_end().await;
}

#[tokio::test]
async fn threads_of_a_runtime_share_a_connection() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake
        .client(Config {
            in_flight_max: 64,
            ..Config::default()
        })
        .await;
    let serve = tokio::spawn(async move {
        while let Some(asked) = peer.next().await {
            peer.found(&asked, &asked.key()).await;
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("threads");
    let tasks: Vec<_> = (0..100)
        .map(|task| {
            let client = client.clone();
            runtime.spawn(async move {
                for number in 0..50 {
                    let key = format!("{task} {number}");
                    assert_eq!(value_of(&client, &key).await, key);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("every task gets its own values");
    }
    runtime.shutdown_background();
    drop(client);
    serve.await.expect("the server saw the end");
}
