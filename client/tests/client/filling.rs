//! `get_or_fill` where there is no cache to be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder_client::{Cause, Client, Config, Error, FillError};
use tokio::time::Instant;

use crate::fake::Fake;

const CALLERS: usize = 12;

#[tokio::test(start_paused = true)]
async fn those_who_fail_without_the_cache_do_not_wait_for_it_one_after_the_other() {
    let nobody = Fake::start().await;
    let config = Config::default();
    let once = config.connect_timeout;
    let client = Client::lazy(&nobody.url(), config).expect("a good address");
    drop(nobody);
    let made = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, made) = (client.clone(), made.clone());
            tokio::spawn(async move {
                let filled = client.get_or_fill("k", async || {
                    made.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Err::<&str, _>("no database")
                });
                filled.await
            })
        })
        .collect();
    for caller in callers {
        let filled = caller.await.expect("no panic");
        assert_eq!(filled, Err(FillError::Fill("no database")));
    }
    assert_eq!(made.load(Ordering::Relaxed), CALLERS);
    let waited = begun.elapsed();
    assert!(waited < 2 * once, "{waited:?} on the clock of the test");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_is_told_with_the_time_that_there_was() {
    let nobody = Fake::start().await;
    let client = Client::lazy(&nobody.url(), Config::default()).expect("a good address");
    drop(nobody);
    let after = Duration::from_secs(10);
    let hurried = client.until((Instant::now() + after).into_std());
    let filled = hurried
        .get_or_fill("k", std::future::pending::<Result<&str, &str>>)
        .await;
    let over = Error::Unknown(Cause::Timeout { after });
    assert_eq!(filled, Err(FillError::Cache(over)));
}
