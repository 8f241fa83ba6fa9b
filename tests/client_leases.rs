//! Many clients that need the same, against a real server: one of them makes it.
#![cfg(feature = "server")]

mod server_harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder::server::Running;
use larder_client::{Client, Conditional, Freshness, Lease};
use server_harness::{address, settings, start};

const HOUR: Duration = Duration::from_secs(3600);

async fn client(running: &Running) -> Client {
    let url = format!("larder://{}", address(running));
    Client::connect(&url).await.expect("the server is there")
}

/// Reads until there is a fresh item, and makes it if told to.
async fn read_or_make(client: Client, made: Arc<AtomicU64>) -> Vec<u8> {
    loop {
        let found = client
            .get_or_lease("report", HOUR)
            .await
            .expect("an answer");
        match (found.lease, found.item, found.freshness) {
            (Lease::Won { version }, ..) => {
                let number = made.fetch_add(1, Ordering::SeqCst);
                // Others ask meanwhile.
                for _ in 0..20 {
                    client.ping().await.expect("an answer");
                }
                let value = format!("report {number}").into_bytes();
                let stored = client.cas("report", version, value.clone()).await;
                assert!(matches!(stored, Ok(Conditional::Done(_))), "{stored:?}");
                return value;
            }
            (Lease::None, Some(item), Freshness::Fresh) => return item.value.to_vec(),
            (Lease::Taken, ..) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn of_hundreds_that_need_the_same_one_makes_it() {
    let running = start(settings(2));
    let clients = [client(&running).await, client(&running).await];
    let made = Arc::new(AtomicU64::new(0));
    for round in 0..5 {
        if round > 0 {
            let marked = clients[0].invalidate("report").await;
            assert!(matches!(marked, Ok(Conditional::Done(_))), "{marked:?}");
        }
        let tasks = (0..200).map(|task| {
            let client = clients[task % 2].clone();
            tokio::spawn(read_or_make(client, Arc::clone(&made)))
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            let read = task.await.expect("no task fails");
            assert_eq!(read, format!("report {round}").into_bytes());
        }
        assert_eq!(made.load(Ordering::SeqCst), round + 1);
    }
}

#[tokio::test]
async fn what_was_made_from_old_data_is_not_stored() {
    let running = start(settings(2));
    let (one, two) = (client(&running).await, client(&running).await);
    let won = |lease| match lease {
        Lease::Won { version } => version,
        other => panic!("{other:?}"),
    };
    for deleted in [true, false] {
        let found = one.get_or_lease("k", HOUR).await.expect("an answer");
        assert_eq!(found.item, None);
        let version = won(found.lease);
        match deleted {
            true => assert_eq!(two.delete("k").await, Ok(false)),
            false => assert_eq!(two.invalidate("k").await, Ok(Conditional::NotFound)),
        }
        let stored = one.cas("k", version, "old").await;
        assert_eq!(stored, Ok(Conditional::NotFound));
    }
    // Its place was not kept, so another one is told at once; and gives it back.
    let found = two.get_or_lease("k", HOUR).await.expect("an answer");
    let version = won(found.lease);
    assert_eq!(two.end_lease("k", version).await, Ok(true));
    assert_eq!(two.end_lease("k", version).await, Ok(false));
    let found = one.get_or_lease("k", HOUR).await.expect("an answer");
    let version = won(found.lease);
    let stored = one.cas("k", version, "new").await;
    assert!(matches!(stored, Ok(Conditional::Done(_))), "{stored:?}");
    assert_eq!(
        two.get("k")
            .await
            .expect("an answer")
            .expect("stored")
            .value,
        "new"
    );
}

#[tokio::test]
async fn a_place_that_is_kept_for_no_time_is_not_kept() {
    let running = start(settings(1));
    let client = client(&running).await;
    for _ in 0..3 {
        let found = client.get_or_lease("k", Duration::ZERO).await;
        let found = found.expect("an answer");
        assert!(matches!(found.lease, Lease::Won { .. }), "{found:?}");
    }
}

#[tokio::test]
async fn a_large_value_is_served_stale() {
    let running = start(settings(2));
    let client = client(&running).await;
    let value: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7) as u8).collect();
    client
        .set("k", value.clone())
        .flags(9)
        .await
        .expect("stored");
    let marked = client.invalidate("k").expire_in(HOUR).await;
    let Ok(Conditional::Done(version)) = marked else {
        panic!("{marked:?}");
    };
    let found = client.get_or_lease("k", HOUR).await.expect("an answer");
    assert_eq!(found.lease, Lease::Won { version });
    assert_eq!(found.freshness, Freshness::Stale);
    let item = found.item.expect("served");
    assert!(item.value == value);
    assert_eq!((item.version, item.flags), (version, 9));
    // What comes behind it is in its place.
    client.ping().await.expect("an answer");
    let again = client.get_or_lease("k", HOUR).await.expect("an answer");
    assert_eq!(again.lease, Lease::Taken);
}
