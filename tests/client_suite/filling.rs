//! `get_or_fill`: one caller makes the value, whatever happens to it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_client::{Cause, Client, Conditional, Error, FillError, Lease, Status};
use tokio::sync::Notify;

use crate::ground::Ground;
use crate::over_every_way;

const HOUR: Duration = Duration::from_secs(3600);

over_every_way! {
    of_many_one_makes_it
    a_failure_is_told_and_the_next_makes_it
    a_panic_hands_the_lease_on
    one_that_is_dropped_hands_the_lease_on
    what_is_out_of_date_is_taken_while_one_makes_it_anew
    who_wants_nothing_stale_waits
    what_a_dead_process_was_to_make_anew_is_made_by_another
    what_was_made_from_old_data_is_not_stored
    a_value_near_its_end_is_made_anew
    a_deadline_ends_the_wait
    a_key_that_cannot_be_is_refused
}

async fn fill(client: &Client, value: &'static str) -> String {
    let filled = client.get_or_fill("k", async || Ok::<_, Infallible>(value));
    let filled = filled.lease_for(HOUR).await.expect("a value");
    String::from_utf8(filled.to_vec()).expect("text")
}

/// A task that has begun to make the value, and goes on when it is told to.
async fn begin(client: &Client) -> (tokio::task::JoinHandle<String>, Arc<Notify>) {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (has_begun, may_go_on, client) = (begun.clone(), go_on.clone(), client.clone());
    let task = tokio::spawn(async move {
        let made = client.get_or_fill("k", async move || {
            has_begun.notify_one();
            may_go_on.notified().await;
            Ok::<_, Infallible>("first")
        });
        let made = made.lease_for(HOUR).await.expect("a value");
        String::from_utf8(made.to_vec()).expect("text")
    });
    begun.notified().await;
    (task, go_on)
}

async fn of_many_one_makes_it(ground: &Ground) {
    let made = Arc::new(AtomicU64::new(0));
    let clients = [ground.client().await, ground.client().await];
    let tasks: Vec<_> = (0..100)
        .map(|task| {
            let (client, made) = (clients[task % 2].clone(), made.clone());
            tokio::spawn(async move {
                let value = client.get_or_fill("k", async move || {
                    let number = made.fetch_add(1, Ordering::SeqCst);
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, Infallible>(format!("value {number}"))
                });
                value.lease_for(HOUR).await.expect("a value")
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no task fails"), "value 0");
    }
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert_eq!(fill(&clients[0], "another").await, "value 0");
}

async fn a_failure_is_told_and_the_next_makes_it(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    let failed = client.get_or_fill("k", async || Err::<&str, _>("no database"));
    assert_eq!(
        failed.lease_for(HOUR).await,
        Err(FillError::Fill("no database"))
    );
    assert_eq!(fill(&other, "second").await, "second");
    assert_eq!(fill(&client, "third").await, "second");
}

async fn a_panic_hands_the_lease_on(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    let panics = client.clone();
    let task = tokio::spawn(async move {
        let made = panics.get_or_fill("k", async || -> Result<&str, Infallible> {
            panic!("as the test wants")
        });
        made.lease_for(HOUR).await
    });
    task.await.expect_err("it panics");
    assert_eq!(fill(&other, "second").await, "second");
}

async fn one_that_is_dropped_hands_the_lease_on(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    let (task, _) = begin(&client).await;
    let waits = [client.clone(), other];
    let waiting: Vec<_> = waits
        .into_iter()
        .map(|client| tokio::spawn(async move { fill(&client, "second").await }))
        .collect();
    tokio::task::yield_now().await;
    task.abort();
    for waiting in waiting {
        assert_eq!(waiting.await.expect("no task fails"), "second");
    }
}

async fn what_is_out_of_date_is_taken_while_one_makes_it_anew(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    client.set("k", "old").await.expect("stored");
    let marked = client.invalidate("k").await;
    assert!(matches!(marked, Ok(Conditional::Done(_))), "{marked:?}");
    let (task, go_on) = begin(&client).await;
    assert_eq!(fill(&client, "second").await, "old");
    assert_eq!(fill(&other, "second").await, "old");
    go_on.notify_one();
    assert_eq!(task.await.expect("no panic"), "first");
    assert_eq!(fill(&other, "second").await, "first");
}

async fn who_wants_nothing_stale_waits(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    client.set("k", "old").await.expect("stored");
    let marked = client.invalidate("k").await;
    assert!(matches!(marked, Ok(Conditional::Done(_))), "{marked:?}");
    let (task, go_on) = begin(&client).await;
    let waiting = tokio::spawn(async move {
        let filled = other.get_or_fill("k", async || Ok::<_, Infallible>("second"));
        filled.lease_for(HOUR).never_stale().await
    });
    tokio::task::yield_now().await;
    go_on.notify_one();
    assert_eq!(task.await.expect("no panic"), "first");
    assert_eq!(waiting.await.expect("no panic").expect("a value"), "first");
}

async fn what_a_dead_process_was_to_make_anew_is_made_by_another(ground: &Ground) {
    let (client, dead) = (ground.client().await, ground.client().await);
    client.set("k", "old").await.expect("stored");
    let marked = client.invalidate("k").await;
    assert!(matches!(marked, Ok(Conditional::Done(_))), "{marked:?}");
    let leased = dead.get_or_lease("k", HOUR).await.expect("answered");
    assert!(matches!(leased.lease, Lease::Won { .. }), "{leased:?}");
    assert_eq!(fill(&client, "second").await, "old");
    let late = client.get_or_fill("k", async || Ok::<_, Infallible>("second"));
    let late = late.lease_for(Duration::ZERO).await;
    assert_eq!(late.expect("a value"), "second");
    assert_eq!(fill(&client, "third").await, "second");
}

async fn what_was_made_from_old_data_is_not_stored(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    let (task, go_on) = begin(&client).await;
    other.delete("k").await.expect("answered");
    go_on.notify_one();
    assert_eq!(task.await.expect("no panic"), "first");
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(fill(&client, "second").await, "second");
}

async fn a_value_near_its_end_is_made_anew(ground: &Ground) {
    let client = ground.client().await;
    client
        .set("k", "old")
        .expire_in(HOUR)
        .await
        .expect("stored");
    let refreshed = async |below| {
        let filled = client.get_or_fill("k", async || Ok::<_, Infallible>("new"));
        filled
            .refresh_below(below)
            .expire_in(HOUR)
            .await
            .expect("a value")
    };
    assert_eq!(refreshed(HOUR / 2).await, "old");
    assert_eq!(refreshed(HOUR * 2).await, "new");
}

async fn a_deadline_ends_the_wait(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    let (task, go_on) = begin(&client).await;
    let hurried = other.until(Instant::now() + Duration::from_millis(20));
    let waited = hurried.get_or_fill("k", async || Ok::<_, Infallible>("second"));
    let waited = waited.lease_for(HOUR).await;
    assert!(
        matches!(
            waited,
            Err(FillError::Cache(
                Error::NotExecuted(Cause::Timeout { .. }) | Error::Unknown(Cause::Timeout { .. })
            ))
        ),
        "{waited:?}"
    );
    go_on.notify_one();
    assert_eq!(task.await.expect("no panic"), "first");
}

async fn a_key_that_cannot_be_is_refused(ground: &Ground) {
    let client = ground.client().await;
    let filled = client
        .get_or_fill("", async || Ok::<_, Infallible>("v"))
        .await;
    assert!(
        matches!(
            filled,
            Err(FillError::Cache(Error::Refused {
                status: Status::KEY_EMPTY,
                ..
            }))
        ),
        "{filled:?}"
    );
}
