//! A client that is used in another runtime than the one that its connection lives in.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use larder_client::{Cause, Client, Config, Error};
use tokio::runtime::{Builder, Runtime};

use crate::fake::Fake;

/// A server in a runtime of its own, and a client whose connection lives in one that does not run for as
/// long as nobody waits in it.
fn client_of_idle(in_flight_max: u32) -> (Runtime, Client, Runtime) {
    let running = Runtime::new().expect("threads");
    let fake = running.block_on(Fake::start());
    let url = fake.url();
    running.spawn(async move {
        loop {
            let mut peer = fake.accept().await;
            tokio::spawn(async move {
                while let Some(asked) = peer.next().await {
                    peer.found(&asked, &asked.key()).await;
                }
            });
        }
    });
    let idle = Builder::new_current_thread().enable_all().build();
    let idle = idle.expect("a runtime");
    let config = Config {
        in_flight_max,
        ..Config::default()
    };
    let client = idle.block_on(Client::connect_with(&url, config));
    (running, client.expect("the server is there"), idle)
}

#[test]
fn a_request_takes_no_longer_where_the_runtime_of_its_connection_does_not_run() {
    let (running, client, _idle) = client_of_idle(1);
    running.block_on(async {
        let hurried = client.within(Duration::from_millis(10));
        let (sent, queued) = tokio::join!(hurried.get("sent"), hurried.get("queued"));
        assert!(
            matches!(sent, Err(Error::Unknown(Cause::Timeout { .. }))),
            "{sent:?}"
        );
        assert!(
            matches!(queued, Err(Error::NotExecuted(Cause::Timeout { .. }))),
            "{queued:?}"
        );
        // By now there is a connection in this runtime, or this makes one.
        let found = client.get("next").await.expect("answered");
        assert_eq!(found.expect("found").value, "next");
    });
}

#[test]
fn a_connection_goes_on_when_its_runtime_does() {
    let (running, client, idle) = client_of_idle(8);
    let asking = running.spawn({
        let client = client.clone();
        async move { client.get("key").await }
    });
    idle.block_on(async {
        let found = client.get("another").await.expect("answered");
        assert_eq!(found.expect("found").value, "another");
        let found = asking.await.expect("no panic").expect("answered");
        assert_eq!(found.expect("found").value, "key");
    });
    assert_eq!(client.metrics().connections, 1);
}

/// Waits in this thread, without a runtime.
fn wait_without_a_runtime<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_thread_without_a_runtime_connects_in_that_of_the_connection_before() {
    let running = Runtime::new().expect("threads");
    let fake = running.block_on(Fake::start());
    let url = fake.url();
    running.spawn(async move {
        loop {
            let mut peer = fake.accept().await;
            let asked = peer.expect().await;
            peer.found(&asked, &asked.key()).await;
        }
    });
    let client = running.block_on(Client::connect(&url));
    let client = client.expect("the server is there");
    for _ in 0..3 {
        let found = wait_without_a_runtime(client.get("key")).expect("answered");
        assert_eq!(found.expect("found").value, "key");
        while client.is_connected() {
            thread::yield_now();
        }
    }
}

#[test]
fn a_request_in_a_runtime_that_has_ended_is_told_so() {
    let ended = [
        Runtime::new().expect("threads"),
        Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime"),
    ];
    for runtime in ended {
        let handle = runtime.handle().clone();
        drop(runtime);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let client = Client::lazy("larder://127.0.0.1:1", Config::default());
            tell.send(handle.block_on(client.expect("an address").get("key")))
        });
        let told = told.recv_timeout(Duration::from_secs(10));
        let error = told.expect("it is told").expect_err("there is no server");
        assert!(error.is_unreachable(), "{error}");
        assert!(error.to_string().contains("runtime"), "{error}");
    }
}

#[cfg(feature = "blocking")]
#[test]
fn a_thread_waits_no_longer_where_the_runtime_of_the_connection_does_not_run() {
    use larder_client::blocking::Wait;

    let (_running, client, _idle) = client_of_idle(8);
    let hurried = client.within(Duration::from_millis(10));
    let error = hurried.get("key").wait().expect_err("nobody asks for it");
    assert!(
        matches!(error, Error::Unknown(Cause::Timeout { .. })),
        "{error}"
    );
    let found = client.get("next").wait().expect("answered");
    assert_eq!(found.expect("found").value, "next");
}
