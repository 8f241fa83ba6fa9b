//! Many keys: split by the limits, put together again in order.

use larder_client::{Cause, Config, Error, Limits, SetItem, Status};
use larder_protocol::{
    ExpiryLeft, Fit, Opcode, OutcomesReply, Request, ValueMeta, ValuesAsked, ValuesReply,
};

use crate::fake::{Asked, Fake};

/// Finds every key but those that begin with `-`, until the frame is full.
fn answer_multi_get(asked: &Asked, frame_bytes_max: u32) -> Vec<u8> {
    let frame = asked.frame();
    let Request::MultiGet { keys, want_expiry } = frame.request else {
        panic!("not a MULTI_GET")
    };
    let mut output = Vec::new();
    let values_asked = ValuesAsked {
        id: frame.id,
        keys: keys.count(),
        want_expiry,
        frame_bytes_max,
    };
    let mut reply = ValuesReply::begin(&mut output, values_asked);
    let meta = ValueMeta {
        client_flags: 0,
        version: 1,
        expiry_left: ExpiryLeft::NotAsked,
    };
    for key in keys {
        let fit = match key.first() {
            Some(b'-') => reply.push_miss(&mut output, Status::NOT_FOUND),
            _ => reply.push_value(&mut output, &meta, key),
        };
        if fit == Fit::Full {
            break;
        }
    }
    reply.finish(&mut output);
    output
}

#[tokio::test]
async fn what_an_answer_had_no_room_for_is_asked_again() {
    let mut fake = Fake::start().await;
    fake.limits.keys_per_frame_max = 7;
    let (client, mut peer) = fake.client(Config::default()).await;
    let keys: Vec<String> = (0..20)
        .map(|number| {
            if number % 3 == 0 {
                format!("-{number}")
            } else {
                format!("key {number}")
            }
        })
        .collect();
    let serve = tokio::spawn(async move {
        let mut frames = 0;
        while let Some(asked) = peer.next().await {
            // Room for about three values at a time.
            peer.send(&answer_multi_get(&asked, 100)).await;
            frames += 1;
        }
        frames
    });
    let items = client.get_many(&keys).await.expect("answered");
    drop(client);
    assert!(serve.await.expect("no panic") > 3);
    assert_eq!(items.len(), keys.len());
    for (item, key) in items.iter().zip(&keys) {
        match key.starts_with('-') {
            true => assert!(item.is_none(), "{key} is not there"),
            false => assert_eq!(item.as_ref().expect("it is there").value, *key),
        }
    }
}

#[tokio::test]
async fn an_answer_of_more_than_was_asked_breaks_the_protocol() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        let id = peer.expect().await.frame().id;
        let mut output = Vec::new();
        let values_asked = ValuesAsked {
            id,
            // So that the answer says that it is short.
            keys: 3,
            want_expiry: false,
            frame_bytes_max: u32::MAX,
        };
        let mut reply = ValuesReply::begin(&mut output, values_asked);
        for status in [Status::NOT_FOUND, Status::TOO_LARGE] {
            assert_eq!(reply.push_miss(&mut output, status), Fit::Added);
        }
        reply.finish(&mut output);
        peer.send(&output).await;
    };
    let (found, ()) = tokio::join!(client.get_many(["a"]), serve);
    let error = found.expect_err("one key was asked for");
    assert!(
        matches!(error, Error::Unknown(Cause::Protocol(_))),
        "{error}"
    );
}

#[tokio::test]
async fn many_items_are_stored_in_frames_that_keep_the_limits() {
    let mut fake = Fake::start().await;
    fake.limits.keys_per_frame_max = 4;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = tokio::spawn(async move {
        let mut sizes = Vec::new();
        while let Some(asked) = peer.next().await {
            let frame = asked.frame();
            let Request::MultiSet { entries } = frame.request else {
                panic!("not a MULTI_SET")
            };
            sizes.push(entries.count());
            let mut output = Vec::new();
            let mut reply = OutcomesReply::begin(&mut output, Opcode::MultiSet, frame.id);
            for entry in entries {
                let full = entry.key == b"key 5";
                reply.push(
                    &mut output,
                    if full { Status::NO_SPACE } else { Status::OK },
                );
            }
            reply.finish(&mut output);
            peer.send(&output).await;
        }
        sizes
    });
    let items = (0..10).map(|number| SetItem::new(format!("key {number}"), vec![0; 10]));
    let statuses = client.set_many(items).await.expect("answered");
    drop(client);
    assert_eq!(serve.await.expect("no panic"), [4, 4, 2]);
    for (number, status) in statuses.into_iter().enumerate() {
        assert_eq!(
            status,
            if number == 5 {
                Status::NO_SPACE
            } else {
                Status::OK
            }
        );
    }
}

#[tokio::test]
async fn large_items_travel_in_frames_of_their_own() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = tokio::spawn(async move {
        let mut sizes = Vec::new();
        while let Some(asked) = peer.next().await {
            let frame = asked.frame();
            let Request::MultiSet { entries } = frame.request else {
                panic!("not a MULTI_SET")
            };
            sizes.push(entries.count());
            peer.send(&all_stored(frame.id, entries.count())).await;
        }
        sizes
    });
    let items = [5, 1_000_000, 5, 5].map(|value_bytes| SetItem::new("key", vec![0; value_bytes]));
    assert_eq!(client.set_many(items).await.expect("answered").len(), 4);
    drop(client);
    assert_eq!(serve.await.expect("no panic"), [1, 1, 2]);
}

/// The reply to a MULTI_SET of so many items, which are all stored.
fn all_stored(id: u32, items: u32) -> Vec<u8> {
    let mut output = Vec::new();
    let mut reply = OutcomesReply::begin(&mut output, Opcode::MultiSet, id);
    (0..items).for_each(|_| reply.push(&mut output, Status::OK));
    reply.finish(&mut output);
    output
}

#[tokio::test]
async fn items_that_no_frame_may_hold_are_refused_alone() {
    const KEY_BYTES_MAX: usize = 20;
    const VALUE_BYTES_MAX: usize = 1000;
    let mut fake = Fake::start().await;
    fake.limits = Limits::for_items(KEY_BYTES_MAX as u32, VALUE_BYTES_MAX as u32);
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = tokio::spawn(async move {
        while let Some(asked) = peer.next_or_refused().await {
            let frame = asked.frame();
            let Request::MultiSet { entries } = frame.request else {
                panic!("not a MULTI_SET")
            };
            peer.send(&all_stored(frame.id, entries.count())).await;
        }
    });
    let key = "k".repeat(KEY_BYTES_MAX);
    let items = [
        SetItem::new(&key, vec![0; VALUE_BYTES_MAX]),
        SetItem::new(&key, vec![0; VALUE_BYTES_MAX + 1]),
        SetItem::new(format!("{key}k"), "value"),
        SetItem::new("", "value"),
        SetItem::new(&key, "value"),
    ];
    let statuses = client.set_many(items).await.expect("answered");
    drop(client);
    serve.await.expect("no panic");
    let expected = [
        Status::OK,
        Status::TOO_LARGE,
        Status::KEY_TOO_LONG,
        Status::KEY_EMPTY,
        Status::OK,
    ];
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn deleting_many_says_of_each_whether_it_was_there() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        let asked = peer.expect().await;
        let frame = asked.frame();
        let Request::MultiDelete { keys } = frame.request else {
            panic!("not a MULTI_DELETE")
        };
        let mut output = Vec::new();
        let mut reply = OutcomesReply::begin(&mut output, Opcode::MultiDelete, frame.id);
        for key in keys {
            reply.push(
                &mut output,
                if key == b"b" {
                    Status::NOT_FOUND
                } else {
                    Status::OK
                },
            );
        }
        reply.finish(&mut output);
        peer.send(&output).await;
    };
    let (deleted, ()) = tokio::join!(client.delete_many(["a", "b", "c"]), serve);
    assert_eq!(deleted, Ok(vec![true, false, true]));
}

#[tokio::test]
async fn nothing_is_asked_for_no_keys() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    assert_eq!(client.get_many::<&str>([]).await, Ok(vec![]));
    assert_eq!(client.set_many([]).await, Ok(vec![]));
    drop(client);
    peer.expect_end().await;
}
