//! Many items at once, and all of them.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use larder_client::{SetItem, Status};

use crate::ground::Ground;
use crate::over_every_way;

over_every_way! {
    many_are_stored_read_and_deleted_in_their_order
    a_large_value_is_read_with_small_ones
    what_cannot_be_stored_is_told_apart
    nothing_is_asked_of_nobody
    a_scan_lists_every_key
}

fn key(number: usize) -> String {
    format!("key {number}")
}

async fn many_are_stored_read_and_deleted_in_their_order(ground: &Ground) {
    const KEYS: usize = 3000;
    let client = ground.client().await;
    let even = (0..KEYS).step_by(2);
    let items = even.map(|number| SetItem::new(key(number), number.to_string()).flags(3));
    let stored = client.set_many(items).await.expect("answered");
    assert_eq!(stored, vec![Status::OK; KEYS / 2]);
    let found = client.get_many((0..KEYS).map(key)).await.expect("answered");
    assert_eq!(found.len(), KEYS);
    for (number, item) in found.iter().enumerate() {
        match number % 2 {
            0 => {
                let item = item.as_ref().expect("it was stored");
                assert_eq!(
                    (&item.value[..], item.flags),
                    (number.to_string().as_bytes(), 3)
                );
            }
            _ => assert_eq!(*item, None),
        }
    }
    let deleted = client
        .delete_many((0..KEYS).map(key))
        .await
        .expect("answered");
    for (number, was_there) in deleted.into_iter().enumerate() {
        assert_eq!(was_there, number % 2 == 0);
    }
    assert_eq!(client.get(key(0)).await, Ok(None));
}

async fn a_large_value_is_read_with_small_ones(ground: &Ground) {
    let client = ground.client().await;
    let large = vec![b'l'; 5 << 20];
    let items = [
        SetItem::new("a", "1"),
        SetItem::new("large", large.clone()),
        SetItem::new("b", "2"),
    ];
    let stored = client.set_many(items).await.expect("answered");
    assert_eq!(stored, [Status::OK; 3]);
    let found = client
        .get_many(["b", "large", "none", "a"])
        .await
        .expect("answered");
    let values: Vec<_> = found
        .iter()
        .map(|item| item.as_ref().map(|item| &item.value[..]))
        .collect();
    assert_eq!(values[0], Some(&b"2"[..]));
    assert!(values[1] == Some(&large[..]));
    assert_eq!(values[2..], [None, Some(&b"1"[..])]);
}

async fn what_cannot_be_stored_is_told_apart(ground: &Ground) {
    let client = ground.client().await;
    let value_bytes_max = client
        .server()
        .await
        .expect("answered")
        .limits
        .value_bytes_max;
    let items = [
        SetItem::new("a", "1"),
        SetItem::new("too large", vec![0; value_bytes_max as usize + 1]),
        SetItem::new("b", "2"),
    ];
    let stored = client.set_many(items).await.expect("answered");
    assert_eq!(stored, [Status::OK, Status::TOO_LARGE, Status::OK]);
}

async fn nothing_is_asked_of_nobody(ground: &Ground) {
    let client = ground.client().await;
    assert_eq!(client.get_many([""; 0]).await, Ok(vec![]));
    assert_eq!(client.set_many([]).await, Ok(vec![]));
    assert_eq!(client.delete_many([""; 0]).await, Ok(vec![]));
}

async fn a_scan_lists_every_key(ground: &Ground) {
    let client = ground.client().await;
    let items = (0..1000).map(|number| SetItem::new(key(number), "v"));
    client.set_many(items).await.expect("answered");
    let listed = client.scan().keys_per_page(50).into_stream();
    let listed: Vec<_> = listed.try_collect().await.expect("answered");
    let listed: BTreeSet<_> = listed.into_iter().map(|key| key.key).collect();
    let stored: BTreeSet<_> = (0..1000).map(|number| key(number).into()).collect();
    assert_eq!(listed, stored);
}
