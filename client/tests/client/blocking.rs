//! A program without a runtime.

use std::thread;

use larder_client::blocking::{self, Wait};

use crate::fake::Fake;

#[test]
fn threads_wait_for_what_tasks_would_await() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the server");
    let fake = runtime.block_on(Fake::start());
    let url = fake.url();
    runtime.spawn(async move {
        let mut peer = fake.accept().await;
        while let Some(asked) = peer.next().await {
            peer.found(&asked, &asked.key()).await;
        }
    });
    let client = blocking::connect(&url).expect("the server is there");
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let client = client.clone();
            thread::spawn(move || {
                let key = format!("key {number}");
                let item = client.get(&key).wait().expect("answered").expect("found");
                assert_eq!(item.value, key);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(blocking::connect("nonsense").is_err());
}
