//! A few connections, shared.

use std::time::{Duration, Instant};

use larder_client::{Cause, Client, Config, Error, Status};
use larder_protocol::encode_drain;

use crate::fake::{Fake, Peer};

fn config(connections: usize) -> Config {
    Config {
        connections,
        ..Config::default()
    }
}

/// Answers GETs with their key until the client is gone; says how many it answered.
async fn serve(mut peer: Peer) -> usize {
    let mut answered = 0;
    while let Some(asked) = peer.next().await {
        peer.found(&asked, &asked.key()).await;
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn requests_are_spread_over_as_many_connections_as_wanted() {
    let fake = Fake::start().await;
    let (client, first) = fake.client(config(3)).await;
    let servers = tokio::spawn(async move {
        let mut peers = vec![first];
        // The others are made once there are requests.
        let first = peers[0].expect().await;
        for _ in 0..2 {
            peers.push(fake.accept().await);
        }
        peers[0].found(&first, &first.key()).await;
        let served: Vec<_> = peers
            .into_iter()
            .map(|peer| tokio::spawn(serve(peer)))
            .collect();
        let mut counts = Vec::new();
        for served in served {
            counts.push(served.await.expect("no panic"));
        }
        counts
    });
    client.get("first").await.expect("answered");
    let tasks: Vec<_> = (0..300)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let key = format!("key {number}");
                let item = client.get(&key).await.expect("answered").expect("found");
                assert_eq!(item.value, key);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task fails");
    }
    assert_eq!(client.metrics().connections, 3);
    drop(client);
    let counts = servers.await.expect("no panic");
    assert_eq!(counts.iter().sum::<usize>(), 300);
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[tokio::test]
async fn one_that_drains_is_left_without_an_error_to_anyone() {
    let fake = Fake::start().await;
    let (client, mut draining) = fake.client(config(1)).await;
    let asks = client.clone();
    let under_way = tokio::spawn(async move { asks.get("old").await });
    let asked = draining.expect().await;
    let mut notice = Vec::new();
    encode_drain(&mut notice, 1000, "as the test wants");
    draining.send(&notice).await;
    while client.is_connected() {
        tokio::task::yield_now().await;
    }
    // A new request goes to a new connection while the old one is under way.
    let new = {
        let served = async {
            let mut peer = fake.accept().await;
            let asked = peer.expect().await;
            peer.found(&asked, b"new").await;
            peer
        };
        tokio::join!(client.get("new"), served)
    };
    assert_eq!(new.0.expect("answered").expect("found").value, "new");
    draining.found(&asked, b"old").await;
    let old = under_way.await.expect("no panic").expect("answered");
    assert_eq!(old.expect("found").value, "old");
    draining.expect_end().await;
    let metrics = client.metrics();
    assert_eq!((metrics.not_executed, metrics.unknown), (0, 0));
}

#[tokio::test]
async fn a_part_of_a_program_has_less_time() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(config(1)).await;
    let hurried = client.within(Duration::from_millis(10));
    let late = hurried.get("k").await;
    assert!(
        matches!(late, Err(Error::Unknown(Cause::Timeout { after })) if after.as_millis() == 10),
        "{late:?}"
    );
    // A hurried caller does not take the connection from the others.
    let asked = peer.expect().await;
    let served = async {
        let patient = peer.expect().await;
        peer.found(&asked, b"late").await;
        peer.found(&patient, b"in time").await;
    };
    let (patient, ()) = tokio::join!(client.get("k"), served);
    assert_eq!(patient.expect("answered").expect("found").value, "in time");
    assert!(client.is_connected());
    let over = client.until(Instant::now()).get("k").await;
    assert!(
        matches!(over, Err(Error::NotExecuted(Cause::Timeout { .. }))),
        "{over:?}"
    );
}

#[tokio::test]
async fn what_was_done_is_counted() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(config(1)).await;
    let served = async {
        let asked = peer.expect().await;
        peer.found(&asked, b"v").await;
        let asked = peer.expect().await;
        peer.failed(&asked, Status::NO_SPACE).await;
        drop(peer.expect().await);
        drop(peer);
    };
    let asks = async {
        client.get("a").await.expect("answered").expect("found");
        client.get("b").await.expect_err("refused");
        client.get("c").await.expect_err("unknown");
    };
    tokio::join!(served, asks);
    let metrics = client.metrics();
    assert_eq!((metrics.answered, metrics.latency.count()), (2, 2));
    assert_eq!(
        (metrics.refused, metrics.unknown, metrics.not_executed),
        (1, 1, 0)
    );
    assert_eq!((metrics.connections, metrics.connect_failures), (1, 0));
    assert!(
        metrics.sent_bytes >= 3 * 17 && metrics.writes >= 3,
        "{metrics:?}"
    );
    assert!(
        metrics.received_bytes > 0 && metrics.reads > 0,
        "{metrics:?}"
    );
}

#[tokio::test]
async fn a_deadline_holds_while_there_is_no_connection() {
    let nobody = Fake::start().await;
    let url = nobody.url();
    drop(nobody);
    // Nobody waits for a connection longer than for this.
    let patient = Config {
        connect_timeout: Duration::from_secs(3600),
        request_timeout: Duration::from_secs(3600),
        ..Config::default()
    };
    let client = Client::lazy(&url, patient).expect("a good URL");
    let hurried = client.until(Instant::now() + Duration::from_millis(5));
    let one = hurried.get("k").await.expect_err("nobody is there");
    let hurried = client.until(Instant::now() + Duration::from_millis(5));
    let many = hurried.get_many(["k"]).await.expect_err("nobody is there");
    for error in [one, many] {
        assert!(
            matches!(error, Error::NotExecuted(Cause::Timeout { .. })),
            "{error:?}"
        );
    }
}
