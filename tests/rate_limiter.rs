//! The example `rate_limiter`: processes that count together.
#![cfg(feature = "server")]

#[path = "../examples/rate_limiter/limiter.rs"]
mod limiter;

use std::time::Duration;

use larder::Cache;
use larder_client::Client;
use limiter::{Limit, Limiter, Verdict};

#[tokio::test]
async fn callers_are_limited_each_and_by_all_limiters_together() {
    let cache = Cache::builder().memory_bytes(8 << 20).build().unwrap();
    let limit = Limit {
        requests: 3,
        window: Duration::from_secs(3600),
    };
    let limiter = || Limiter::new(Client::embedded(cache.clone()).unwrap(), limit);
    let limiters = [limiter(), limiter()];
    for left in [2, 1, 0] {
        let verdict = limiters[left as usize % 2].check("ada").await;
        assert_eq!(verdict, Ok(Verdict::Allowed { left }));
    }
    for limiter in &limiters {
        let verdict = limiter.check("ada").await.unwrap();
        let Verdict::Refused { retry_in } = verdict else {
            panic!("{verdict:?}")
        };
        assert!(retry_in > Duration::from_secs(3000), "{retry_in:?}");
    }
    let verdict = limiters[0].check("bob").await;
    assert_eq!(verdict, Ok(Verdict::Allowed { left: 2 }));
}

#[tokio::test]
async fn a_window_that_is_over_begins_anew() {
    let cache = Cache::builder().memory_bytes(8 << 20).build().unwrap();
    let limit = Limit {
        requests: 1,
        window: Duration::ZERO,
    };
    let limiter = Limiter::new(Client::embedded(cache).unwrap(), limit);
    for _ in 0..3 {
        assert_eq!(limiter.check("ada").await, Ok(Verdict::Allowed { left: 0 }));
    }
}
