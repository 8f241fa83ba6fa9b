//! A lost connection is replaced, and a drain is obeyed.

use std::pin::pin;
use std::time::Duration;

use larder_client::{Cause, Client, Config, ConnectError, Error, Status};
use larder_protocol::encode_drain;
use tokio::net::UnixListener;

use crate::fake::{Fake, Peer};

#[tokio::test]
async fn a_lost_connection_is_replaced_when_it_is_needed() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    for _ in 0..3 {
        let die = async {
            peer.expect().await;
            drop(peer);
        };
        assert!(tokio::join!(client.get("key"), die).0.is_err());
        let serve = async {
            let mut next = fake.accept().await;
            let asked = next.expect().await;
            next.found(&asked, b"again").await;
            next
        };
        let (found, next) = tokio::join!(client.get("key"), serve);
        assert_eq!(found.expect("answered").expect("found").value, "again");
        peer = next;
    }
}

#[tokio::test]
async fn many_requests_that_need_a_connection_make_one() {
    let fake = Fake::start().await;
    let client = Client::lazy(&fake.url(), Config::default()).expect("a good address");
    let serve = async {
        let mut peer = fake.accept().await;
        for _ in 0..3 {
            let asked = peer.expect().await;
            peer.found(&asked, b"").await;
        }
        peer
    };
    let ask = async { tokio::join!(client.get("a"), client.get("b"), client.get("c")) };
    let ((a, b, c), _peer) = tokio::join!(ask, serve);
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
}

#[tokio::test]
async fn a_request_waits_while_the_server_restarts() {
    let fake = Fake::start().await;
    let (client, peer) = fake.client(Config::default()).await;
    let address = fake.address();
    drop((fake, peer));
    let restart = async {
        let fake = Fake::start_at(address).await;
        let mut peer = fake.accept().await;
        let asked = peer.expect().await;
        peer.found(&asked, b"back").await;
    };
    // The first may still take the connection for alive; what it learns then is that nobody knows.
    let ask = async {
        match client.get("key").await {
            Err(Error::Unknown(_)) => client.get("key").await,
            answer => answer,
        }
    };
    let (found, ()) = tokio::join!(ask, restart);
    assert_eq!(found.expect("answered").expect("found").value, "back");
}

#[tokio::test]
async fn without_a_server_requests_are_not_executed() {
    let fake = Fake::start().await;
    let url = fake.url();
    drop(fake);
    let error = Client::connect(&url).await.expect_err("nobody listens");
    assert!(matches!(
        error,
        ConnectError::Io {
            kind: std::io::ErrorKind::ConnectionRefused,
            ..
        }
    ));

    let config = Config {
        connect_timeout: Duration::from_millis(30),
        ..Config::default()
    };
    let client = Client::lazy(&url, config).expect("a good address");
    let error = client.get("key").await.expect_err("nobody listens");
    assert!(error.is_unreachable() && error.is_not_executed(), "{error}");
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn after_a_drain_notice_old_requests_finish_and_new_ones_go_elsewhere() {
    let fake = Fake::start().await;
    let (client, mut old) = fake.client(Config::default()).await;
    let mut notice = Vec::new();
    encode_drain(&mut notice, 5000, "moving house");

    let serve = async {
        let first = old.expect().await;
        old.send(&notice).await;
        let mut new = fake.accept().await;
        let second = new.expect().await;
        assert_eq!(second.key(), b"second");
        new.found(&second, b"new").await;
        old.found(&first, b"old").await;
        old.expect_end().await;
        new
    };
    let ask = async {
        let mut first = pin!(client.get("first"));
        tokio::select! {
            biased;
            _ = &mut first => panic!("answered before the notice"),
            () = has_heard_the_notice(&client) => {}
        }
        tokio::join!(first, client.get("second"))
    };
    let ((first, second), _new) = tokio::join!(ask, serve);
    assert_eq!(first.expect("answered").expect("found").value, "old");
    assert_eq!(second.expect("answered").expect("found").value, "new");
}

/// Waits until the client takes no more requests to the connection it has.
async fn has_heard_the_notice(client: &Client) {
    while client.is_connected() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idle_connection_that_drains_is_closed_at_once() {
    let fake = Fake::start().await;
    let (_client, mut peer) = fake.client(Config::default()).await;
    let mut notice = Vec::new();
    encode_drain(&mut notice, 5000, "moving house");
    peer.send(&notice).await;
    peer.expect_end().await;
}

#[tokio::test]
async fn what_a_draining_server_refuses_is_asked_elsewhere() {
    let fake = Fake::start().await;
    let (client, mut old) = fake.client(Config::default()).await;
    let serve = async {
        let asked = old.expect().await;
        old.failed(&asked, Status::DRAINING).await;
        let mut new = fake.accept().await;
        let asked = new.expect().await;
        new.found(&asked, b"elsewhere").await;
        old.expect_end().await;
    };
    let (found, ()) = tokio::join!(client.get("key"), serve);
    assert_eq!(found.expect("answered").expect("found").value, "elsewhere");
}

#[tokio::test]
async fn a_server_that_only_drains_is_asked_a_bounded_number_of_times() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake
        .client(Config {
            resends_max: 2,
            ..Config::default()
        })
        .await;
    let serve = async {
        for _ in 0..2 {
            let asked = peer.expect().await;
            peer.failed(&asked, Status::DRAINING).await;
            peer = fake.accept().await;
        }
        let asked = peer.expect().await;
        peer.failed(&asked, Status::DRAINING).await;
    };
    let (error, ()) = tokio::join!(client.get("key"), serve);
    assert_eq!(error, Err(Error::NotExecuted(Cause::Draining)));
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let path = std::env::temp_dir().join(format!("larder-client-test-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a socket in the temporary directory");
    let url = format!("larder+unix://{}", path.display());
    let accept = async {
        let (stream, _) = listener.accept().await.expect("a client connects");
        let mut peer = Peer::new(stream, larder_client::Limits::default());
        peer.greet().await;
        peer
    };
    let (client, mut peer) = tokio::join!(Client::connect(&url), accept);
    let client = client.expect("connected");
    let serve = async {
        let asked = peer.expect().await;
        peer.found(&asked, b"value").await;
    };
    let (found, ()) = tokio::join!(client.get("key"), serve);
    assert_eq!(found.expect("answered").expect("found").value, "value");
    std::fs::remove_file(&path).expect("the socket is there");
}

#[tokio::test]
async fn what_is_under_way_on_drained_connections_is_finished_there() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let (mut draining, mut asking) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let (one, key) = (client.clone(), format!("{number}"));
        asking.push(tokio::spawn(async move { one.get(key).await }));
        let asked = peer.expect().await;
        let mut notice = Vec::new();
        encode_drain(&mut notice, 10_000, "");
        peer.send(&notice).await;
        draining.push((peer, asked));
        // Whoever comes before the notice is read goes the old way, and is sent on from there.
        peer = fake
            .accept_when_asked(&client, &mut draining[number].0)
            .await;
    }
    for (mut peer, asked) in draining {
        peer.found(&asked, &asked.key()).await;
        peer.expect_end().await;
    }
    for (number, asking) in asking.into_iter().enumerate() {
        let found = asking
            .await
            .expect("no panic")
            .expect("answered")
            .expect("found");
        assert_eq!(found.value, format!("{number}"));
    }
}

#[tokio::test]
async fn a_link_that_has_ended_serves_the_next_connection_again_and_again() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    for number in 0..20 {
        // A request that was given up waits for its reply on a connection that dies.
        tokio::select! {
            answer = client.get("given up") => panic!("{answer:?}"),
            _ = peer.expect() => {}
        }
        let die = async {
            peer.expect().await;
            drop(peer);
        };
        let (lost, ()) = tokio::join!(client.get("lost"), die);
        assert!(matches!(lost, Err(Error::Unknown(_))), "{lost:?}");
        let serve = async {
            let mut next = fake.accept().await;
            let asked = next.expect().await;
            next.found(&asked, &asked.key()).await;
            next
        };
        let (found, next) = tokio::join!(client.get(format!("{number}")), serve);
        let found = found.expect("answered").expect("found");
        assert_eq!(found.value, format!("{number}"));
        peer = next;
    }
}

/// Answers on the next connection for as long as the client is there.
async fn serve(fake: &Fake) {
    let mut peer = fake.accept().await;
    while let Some(asked) = peer.next().await {
        peer.found(&asked, b"here").await;
    }
}

#[test]
fn a_runtime_that_ends_while_it_connects_leaves_it_to_the_next() {
    let [first, second] = [(); 2].map(|()| tokio::runtime::Runtime::new().expect("threads"));
    second.block_on(async {
        let fake = Fake::start().await;
        let patient = Config {
            connect_timeout: Duration::from_secs(3600),
            ..Config::default()
        };
        let client = Client::lazy(&fake.url(), patient).expect("a good address");
        let hurried = client.within(Duration::from_secs(60));
        let asking = first.spawn(async move { hurried.get("key").await });
        let _silent = fake.accept_silently().await;
        // This one waits for what the other runtime tries to do.
        let mut waiting = pin!(client.get("key"));
        tokio::select! {
            biased;
            answered = &mut waiting => panic!("{answered:?}"),
            () = std::future::ready(()) => {}
        }
        first.shutdown_background();
        assert!(asking.await.is_err_and(|error| error.is_cancelled()));
        let ask = async {
            waiting.await.expect("answered").expect("found");
            client.get("key").await.expect("answered").expect("found");
        };
        tokio::select! {
            () = ask => {}
            () = serve(&fake) => panic!("the client is there"),
        }
    });
}

#[test]
fn a_panic_while_it_begins_to_connect_leaves_it_to_the_next() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let fake = runtime.block_on(Fake::start());
    let client = Client::lazy(&fake.url(), Config::default()).expect("a good address");
    let outside = client.clone();
    let panicked = std::thread::spawn(move || {
        // There is no runtime to connect in.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        pin!(outside.get("key")).poll(&mut context).is_ready()
    });
    assert!(panicked.join().is_err());
    runtime.block_on(async {
        tokio::select! {
            answered = client.get("key") => drop(answered.expect("answered").expect("found")),
            () = serve(&fake) => panic!("the client is there"),
        }
    });
}

#[tokio::test]
async fn all_the_time_there_is_may_be_given() {
    let fake = Fake::start().await;
    let longest = Config {
        request_timeout: Duration::MAX,
        connect_timeout: Duration::MAX,
        backoff_max: Duration::MAX,
        ..Config::default()
    };
    let client = Client::lazy(&fake.url(), longest).expect("a good address");
    tokio::select! {
        answered = client.get("key") => drop(answered.expect("answered").expect("found")),
        () = serve(&fake) => panic!("the client is there"),
    }
}

#[test]
fn a_request_learns_that_the_runtime_of_its_connection_has_ended() {
    let of_connection = tokio::runtime::Runtime::new().expect("threads");
    let of_request = tokio::runtime::Runtime::new().expect("threads");
    let (fake, client, mut peer) = of_connection.block_on(async {
        let fake = Fake::start().await;
        let (client, peer) = fake.client(Config::default()).await;
        (fake, client, peer)
    });
    let asking = of_request.spawn({
        let client = client.clone();
        async move { client.get("key").await }
    });
    of_connection.block_on(peer.expect());
    of_connection.shutdown_background();
    let error = of_request
        .block_on(asking)
        .expect("no panic")
        .expect_err("nobody reads");
    assert!(
        matches!(error, Error::Unknown(Cause::ConnectionLost(_))),
        "{error}"
    );
    drop(fake);
}
