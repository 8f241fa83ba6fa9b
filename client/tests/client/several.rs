//! Several servers, and what becomes of the keys of one that is gone.

use std::time::Duration;

use larder_client::{Cause, Client, Config, ConnectError, Error, Server, Status, WhenGone};
use larder_protocol::{Fit, Request, ValuesAsked, ValuesReply};

use crate::fake::{Asked, Fake, Peer};

const LONG: Duration = Duration::from_secs(3600);

fn config(when_gone: WhenGone) -> Config {
    Config {
        when_gone,
        connect_timeout: Duration::from_millis(100),
        ..Config::default()
    }
}

/// Answers GETs with their key, and everything else not at all.
async fn serve(mut peer: Peer) {
    while let Some(asked) = peer.next().await {
        peer.found(&asked, &asked.key()).await;
    }
}

/// A client of two servers, the second of which goes away with the connection that is returned.
async fn client_of_two(when_gone: WhenGone) -> (Client, Peer) {
    let (stays, goes) = (Fake::start().await, Fake::start().await);
    let urls = [stays.url(), goes.url()];
    let connecting = Client::connect_many_with(urls, config(when_gone));
    let (client, peer, leaving) = tokio::join!(connecting, stays.accept(), goes.accept());
    tokio::spawn(serve(peer));
    (client.expect("both are there"), leaving)
}

/// Keys, and whether the server that stays has them.
async fn keys(client: &Client, leaving: &mut Peer) -> (String, String) {
    let (mut stays, mut goes) = (None, None);
    for number in 0.. {
        let key = format!("key {number}");
        tokio::select! {
            biased;
            item = client.get(&key) => {
                assert_eq!(item.expect("answered").expect("found").value, key);
                stays = Some(key.clone());
            }
            asked = leaving.expect() => {
                assert_eq!(asked.key(), key.as_bytes());
                goes = Some(key.clone());
            }
        }
        if let (Some(stays), Some(goes)) = (&stays, &goes) {
            return (stays.clone(), goes.clone());
        }
    }
    unreachable!("some key is on each server")
}

#[tokio::test]
async fn keys_of_a_server_that_is_gone_miss() {
    let when_gone = WhenGone::Miss { retry_after: LONG };
    let (client, mut leaving) = client_of_two(when_gone).await;
    let (there, gone) = keys(&client, &mut leaving).await;
    drop(leaving);
    for _ in 0..3 {
        assert_eq!(client.get(&gone).await, Ok(None));
    }
    let item = client.get(&there).await.expect("answered");
    assert_eq!(item.expect("found").value, there);
    // Nobody shall believe that it is stored, or deleted.
    let stored = client.set(&gone, "v").await.expect_err("it is gone");
    assert!(
        stored.is_not_executed() && stored.is_unreachable(),
        "{stored:?}"
    );
    assert!(matches!(
        stored,
        Error::NotExecuted(Cause::Unreachable(ConnectError::LeftAlone { .. }))
    ));
    client.delete(&gone).await.expect_err("it is gone");
    assert_eq!(client.get_many([&gone, &gone]).await, Ok(vec![None, None]));
    client.delete_many([&gone]).await.expect_err("it is gone");
}

#[tokio::test]
async fn streams_of_a_server_that_is_gone_miss_and_note_it() {
    let is_left_alone = |error: &Error| {
        matches!(
            error,
            Error::NotExecuted(Cause::Unreachable(ConnectError::LeftAlone { .. }))
        )
    };
    for begins_with_a_write in [false, true] {
        let when_gone = WhenGone::Miss { retry_after: LONG };
        let (client, mut leaving) = client_of_two(when_gone).await;
        let (_, gone) = keys(&client, &mut leaving).await;
        drop(leaving);
        if begins_with_a_write {
            let stored = client.set_from(&gone, 1, &b"v"[..]).await;
            let error = stored.expect_err("it is gone");
            assert!(error.is_unreachable() && !is_left_alone(&error), "{error}");
        } else {
            let stream = client.get_stream(&gone).await;
            assert!(stream.expect("a miss").is_none());
        }
        let error = client.set(&gone, "v").await.expect_err("it is gone");
        assert!(is_left_alone(&error), "{error}");
        let stream = client.get_stream(&gone).await;
        assert!(stream.expect("a miss").is_none());
        let stored = client.set_from(&gone, 1, &b"v"[..]).await;
        let error = stored.expect_err("it is gone");
        assert!(is_left_alone(&error), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_may_be_left_alone_for_ever() {
    let for_ever = WhenGone::Miss {
        retry_after: Duration::MAX,
    };
    let nobody = Fake::start().await;
    let there = Fake::start().await;
    let urls = [there.url(), nobody.url()];
    drop(nobody);
    let connecting = Client::connect_many_with(urls, config(for_ever));
    let (client, _peer) = tokio::join!(connecting, there.accept());
    client.expect("one of them is there");

    let (client, mut leaving) = client_of_two(for_ever).await;
    let (_, gone) = keys(&client, &mut leaving).await;
    drop(leaving);
    for _ in 0..2 {
        assert_eq!(client.get(&gone).await, Ok(None));
    }
}

#[tokio::test]
async fn keys_of_a_server_that_is_gone_fail_where_that_is_chosen() {
    let (client, mut leaving) = client_of_two(WhenGone::Fail).await;
    let (there, gone) = keys(&client, &mut leaving).await;
    drop(leaving);
    // The first may have been under way.
    let _ = client.get(&gone).await;
    let error = client.get(&gone).await.expect_err("it is gone");
    assert!(error.is_unreachable(), "{error:?}");
    client.get_many([&gone]).await.expect_err("it is gone");
    assert!(client.get(&there).await.expect("answered").is_some());
}

#[tokio::test]
async fn keys_of_a_server_that_hangs_miss_though_each_request_has_little_time() {
    let (stays, hangs) = (Fake::start().await, Fake::start().await);
    let urls = [stays.url(), hangs.url()];
    let config = Config {
        request_timeout: Duration::from_millis(50),
        connect_timeout: Duration::from_millis(50),
        ..config(WhenGone::Miss { retry_after: LONG })
    };
    let connecting = Client::connect_many_with(urls, config);
    let (client, peer, mut silent) = tokio::join!(connecting, stays.accept(), hangs.accept());
    tokio::spawn(serve(peer));
    let client = client.expect("both are there");
    let (_, gone) = keys(&client, &mut silent).await;
    let hurried = client.within(Duration::from_millis(5));
    let is_left_alone = |error: Error| error.is_unreachable();
    while !hurried.set(&gone, "v").await.is_err_and(is_left_alone) {}
    for _ in 0..3 {
        assert_eq!(hurried.get(&gone).await, Ok(None));
    }
}

#[tokio::test]
async fn a_server_that_is_back_is_found_again() {
    let when_gone = WhenGone::Miss {
        retry_after: Duration::from_millis(1),
    };
    let back = Fake::start().await;
    let address = back.address();
    let stays = Fake::start().await;
    let urls = [stays.url(), back.url()];
    drop(back);
    let connecting = Client::connect_many_with(urls, config(when_gone));
    let (client, peer) = tokio::join!(connecting, stays.accept());
    tokio::spawn(serve(peer));
    let client = client.expect("one of them is there");
    let key = (0..).map(|number| format!("key {number}"));
    let mut gone = None;
    for key in key {
        if client.get(&key).await.expect("answered").is_none() {
            gone = Some(key);
            break;
        }
    }
    let gone = gone.expect("some key is on it");
    let back = Fake::start_at(address).await;
    tokio::spawn(async move { serve(back.accept().await).await });
    loop {
        if let Some(item) = client.get(&gone).await.expect("answered") {
            assert_eq!(item.value, gone);
            break;
        }
    }
}

#[tokio::test]
async fn a_list_that_makes_no_sense_is_refused() {
    let refused = async |servers: Vec<Server>| {
        let error = Client::connect_many(servers).await.expect_err("refused");
        assert!(
            matches!(
                error,
                ConnectError::Url { .. } | ConnectError::Servers { .. }
            ),
            "{error:?}"
        );
        error.to_string()
    };
    let one = || Server::new("larder://127.0.0.1:1");
    assert!(
        refused(vec![])
            .await
            .contains("0 servers, not from 1 to 1024")
    );
    assert!(refused(vec![one(), one()]).await.contains("127.0.0.1:1"));
    assert!(
        refused(vec![one().weight(0)])
            .await
            .contains("the weight 0")
    );
    assert!(
        refused(vec!["redis://host".into()])
            .await
            .contains("larder://")
    );
}

#[tokio::test]
async fn all_of_them_gone_is_an_error() {
    let nobody = Fake::start().await;
    let url = nobody.url();
    drop(nobody);
    let error = Client::connect_many([url])
        .await
        .expect_err("nobody is there");
    assert!(matches!(error, ConnectError::Io { .. }), "{error:?}");
}

/// Answers a list of keys with as many misses.
fn none_of(asked: &Asked) -> Vec<u8> {
    let frame = asked.frame();
    let Request::MultiGet { keys, want_expiry } = frame.request else {
        panic!("not a MULTI_GET")
    };
    let mut output = Vec::new();
    let values_asked = ValuesAsked {
        id: frame.id,
        keys: keys.count(),
        want_expiry,
        frame_bytes_max: u32::MAX,
    };
    let mut reply = ValuesReply::begin(&mut output, values_asked);
    for _ in keys {
        assert_eq!(reply.push_miss(&mut output, Status::NOT_FOUND), Fit::Added);
    }
    reply.finish(&mut output);
    output
}

#[tokio::test]
async fn many_keys_are_asked_of_all_servers_at_the_same_time() {
    let (one, other) = (Fake::start().await, Fake::start().await);
    let urls = [one.url(), other.url()];
    let connecting = Client::connect_many_with(urls, config(WhenGone::Fail));
    let (client, mut one, mut other) = tokio::join!(connecting, one.accept(), other.accept());
    let client = client.expect("both are there");
    let served = async {
        // Neither is answered before both are asked.
        let (of_one, of_other) = tokio::join!(one.expect(), other.expect());
        one.send(&none_of(&of_one)).await;
        other.send(&none_of(&of_other)).await;
    };
    let keys: Vec<_> = (0..100).map(|number| format!("key {number}")).collect();
    let (found, ()) = tokio::join!(client.get_many(&keys), served);
    assert_eq!(found, Ok(vec![None; 100]));
}
