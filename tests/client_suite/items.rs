//! Operations on one item.

use std::time::{Duration, Instant};

use larder_client::{Cause, Conditional, Error, ExpiryLeft, Freshness, Lease, Status};

use crate::ground::Ground;
use crate::over_every_way;

const HOUR: Duration = Duration::from_secs(3600);

over_every_way! {
    what_is_set_is_read_until_it_is_deleted
    conditions_hold_or_nothing_changes
    values_are_added_to
    counters_count
    expiries_are_kept_changed_and_carried_out
    items_that_are_out_of_date_have_one_caller_make_them_anew
    a_flush_empties_it
    what_cannot_be_is_refused_with_the_reason
    figures_are_told
    an_update_keeps_flags_and_expiry
    updates_of_many_all_take_effect
    nothing_is_asked_after_the_deadline
}

async fn what_is_set_is_read_until_it_is_deleted(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    assert_eq!(client.get("k").await, Ok(None));
    let version = client.set("k", "v").flags(7).await.expect("stored");
    let item = other.get("k").await.expect("answered").expect("found");
    assert_eq!(item.value, "v");
    assert_eq!((item.flags, item.version), (7, version));
    assert_eq!(item.expiry_left, ExpiryLeft::NotAsked);
    let newer = other.set("k", vec![0, 255]).await.expect("stored");
    assert_ne!(newer, version);
    assert_eq!(
        client.delete_if_version("k", version).await,
        Ok(Conditional::VersionDiffers)
    );
    assert_eq!(client.delete("k").await, Ok(true));
    assert_eq!(client.delete("k").await, Ok(false));
    assert_eq!(other.get("k").await, Ok(None));
}

async fn conditions_hold_or_nothing_changes(ground: &Ground) {
    let client = ground.client().await;
    assert_eq!(client.replace("k", "a").await, Ok(None));
    let added = client.add("k", "b").await.expect("answered");
    let added = added.expect("there was none");
    assert_eq!(client.add("k", "c").await, Ok(None));
    let replaced = client.replace("k", "d").await.expect("answered");
    let replaced = replaced.expect("there was one");
    assert_eq!(
        client.cas("k", added, "e").await,
        Ok(Conditional::VersionDiffers)
    );
    assert_eq!(
        client.cas("other", added, "e").await,
        Ok(Conditional::NotFound)
    );
    let set = client.cas("k", replaced, "f").await;
    assert!(matches!(set, Ok(Conditional::Done(_))), "{set:?}");
    let item = client.get("k").await.expect("answered").expect("found");
    assert_eq!(item.value, "f");
    assert_eq!(client.set("k", "g").if_absent().await, Ok(None));
    assert_eq!(client.set("other", "g").if_present().await, Ok(None));
    let differs = client.set("k", "g").if_version(replaced).await;
    assert_eq!(differs, Ok(Conditional::VersionDiffers));
    let set = client.set("k", "g").flags(1).if_present().await;
    assert!(matches!(set, Ok(Some(_))), "{set:?}");
    let item = client.get("k").await.expect("answered").expect("found");
    assert_eq!((&item.value[..], item.flags), (&b"g"[..], 1));
}

async fn values_are_added_to(ground: &Ground) {
    let client = ground.client().await;
    assert_eq!(client.append("k", "x").await, Ok(None));
    client.set("k", "b").await.expect("stored");
    client
        .append("k", "c")
        .await
        .expect("answered")
        .expect("there is one");
    client
        .prepend("k", "a")
        .await
        .expect("answered")
        .expect("there is one");
    let item = client.get("k").await.expect("answered").expect("found");
    assert_eq!(item.value, "abc");
}

async fn counters_count(ground: &Ground) {
    let client = ground.client().await;
    assert_eq!(client.increment("n").await, Ok(None));
    let number = async |counting: larder_client::Count<'_>| {
        let counter = counting.await.expect("answered");
        counter.expect("there is a number").number
    };
    assert_eq!(number(client.increment("n").initial(5)).await, 5);
    assert_eq!(number(client.increment("n").by(10)).await, 15);
    assert_eq!(number(client.decrement("n").by(16)).await, 0);
    client.set("n", "no number").await.expect("stored");
    let refused = client.increment("n").await;
    assert!(
        matches!(
            refused,
            Err(Error::Refused {
                status: Status::NOT_A_NUMBER,
                ..
            })
        ),
        "{refused:?}"
    );
}

async fn expiries_are_kept_changed_and_carried_out(ground: &Ground) {
    let client = ground.client().await;
    client
        .set("gone", "v")
        .expire_in(Duration::ZERO)
        .await
        .expect("stored");
    assert_eq!(client.get("gone").await, Ok(None));
    client.set("k", "v").expire_in(HOUR).await.expect("stored");
    let left = async || {
        let item = client.get_with_expiry("k").await.expect("answered");
        item.expect("found").expiry_left
    };
    assert!(matches!(left().await, ExpiryLeft::Ms(ms) if (3_500_000..=3_600_000).contains(&ms)));
    assert_eq!(client.touch("k", None).await, Ok(true));
    assert_eq!(left().await, ExpiryLeft::Never);
    let item = client
        .get_and_touch("k")
        .expire_in(HOUR * 2)
        .await
        .expect("answered");
    assert!(matches!(item.expect("found").expiry_left, ExpiryLeft::Ms(ms) if ms > 3_600_000));
    assert_eq!(client.touch("absent", None).await, Ok(false));
}

async fn items_that_are_out_of_date_have_one_caller_make_them_anew(ground: &Ground) {
    let (client, other) = (ground.client().await, ground.client().await);
    let won = client.get_or_lease("k", HOUR).await.expect("answered");
    let Lease::Won { version } = won.lease else {
        panic!("{won:?}")
    };
    let taken = other.get_or_lease("k", HOUR).await.expect("answered");
    assert_eq!((taken.lease, taken.item), (Lease::Taken, None));
    assert_eq!(client.end_lease("k", version).await, Ok(true));
    let won = other.get_or_lease("k", HOUR).await.expect("answered");
    let Lease::Won { version } = won.lease else {
        panic!("{won:?}")
    };
    let stored = other.cas("k", version, "v").await;
    assert!(matches!(stored, Ok(Conditional::Done(_))), "{stored:?}");
    let marked = client.invalidate("k").await;
    assert!(matches!(marked, Ok(Conditional::Done(_))), "{marked:?}");
    let stale = client.get_or_lease("k", HOUR).await.expect("answered");
    assert_eq!(stale.freshness, Freshness::Stale);
    assert!(matches!(stale.lease, Lease::Won { .. }));
    assert_eq!(stale.item.expect("it is served all the same").value, "v");
}

async fn a_flush_empties_it(ground: &Ground) {
    let client = ground.client().await;
    for number in 0..20 {
        client.set(format!("k{number}"), "v").await.expect("stored");
    }
    client.flush().await.expect("answered");
    for number in 0..20 {
        assert_eq!(client.get(format!("k{number}")).await, Ok(None));
    }
}

async fn what_cannot_be_is_refused_with_the_reason(ground: &Ground) {
    let client = ground.client().await;
    let limits = client.server().await.expect("answered").limits;
    let refused = |error: Error, is: Status| match error {
        Error::Refused { status, message } => {
            assert_eq!(status, is);
            assert_ne!(message, "", "{status} says why");
        }
        error => panic!("{error:?}"),
    };
    refused(client.get("").await.expect_err("no key"), Status::KEY_EMPTY);
    let long = vec![b'k'; limits.key_bytes_max as usize + 1];
    refused(
        client.get(&long).await.expect_err("too long"),
        Status::KEY_TOO_LONG,
    );
    let large = vec![0; limits.value_bytes_max as usize + 1];
    refused(
        client.set("k", large).await.expect_err("too large"),
        Status::TOO_LARGE,
    );
    refused(
        client.stats("nonsense").await.expect_err("no group"),
        Status::NOT_FOUND,
    );
    client.ping().await.expect("and it goes on");
}

async fn figures_are_told(ground: &Ground) {
    let client = ground.client().await;
    client.set("k", "v").await.expect("stored");
    let mut items = 0;
    for server in client.each_server() {
        let figures = server.stats("cache").await.expect("answered");
        let of_name = figures.iter().find(|(name, _)| name == "items");
        items += of_name.map_or(0, |(_, value)| value.parse::<u64>().expect("a number"));
    }
    assert_eq!(items, 1);
    assert!(
        client
            .server()
            .await
            .expect("answered")
            .name
            .starts_with("larder")
    );
}

async fn an_update_keeps_flags_and_expiry(ground: &Ground) {
    let client = ground.client().await;
    assert_eq!(client.update("k", |_| None::<Vec<u8>>).await, Ok(None));
    let created = client.update("k", |old| old.is_none().then_some("a")).await;
    assert!(matches!(created, Ok(Some(_))), "{created:?}");
    client
        .set("k", "b")
        .flags(9)
        .expire_in(HOUR)
        .await
        .expect("stored");
    let add_c = |old: Option<&larder_client::Item>| Some([&old?.value[..], b"c"].concat());
    client
        .update("k", add_c)
        .await
        .expect("answered")
        .expect("stored");
    let item = client
        .get_with_expiry("k")
        .await
        .expect("answered")
        .expect("found");
    assert_eq!((&item.value[..], item.flags), (&b"bc"[..], 9));
    assert!(
        matches!(item.expiry_left, ExpiryLeft::Ms(ms) if (3_500_000..=3_600_000).contains(&ms))
    );
    client
        .update("k", add_c)
        .expire_in(HOUR * 2)
        .await
        .expect("answered");
    let item = client
        .get_with_expiry("k")
        .await
        .expect("answered")
        .expect("found");
    assert!(matches!(item.expiry_left, ExpiryLeft::Ms(ms) if ms > 3_600_000));
}

async fn updates_of_many_all_take_effect(ground: &Ground) {
    const TASKS: usize = 8;
    const TIMES: usize = 5;
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        // An update that lost for as long as a request may take gives up.
        let client = ground.client().await.within(Duration::from_secs(60));
        tasks.push(tokio::spawn(async move {
            for _ in 0..TIMES {
                let add_one = |old: Option<&larder_client::Item>| {
                    let mut value = old.map(|item| item.value.to_vec()).unwrap_or_default();
                    value.push(b'x');
                    Some(value)
                };
                let stored = client.update("k", add_one).await.expect("answered");
                stored.expect("stored");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no task fails");
    }
    let item = ground.client().await.get("k").await.expect("answered");
    assert_eq!(item.expect("found").value.len(), TASKS * TIMES);
}

async fn nothing_is_asked_after_the_deadline(ground: &Ground) {
    let client = ground.client().await;
    let late = client.until(Instant::now());
    let asked = late.set("k", "v").await;
    assert!(
        matches!(asked, Err(Error::NotExecuted(Cause::Timeout { .. }))),
        "{asked:?}"
    );
    assert_eq!(client.get("k").await, Ok(None));
    let early = client.until(Instant::now() + HOUR);
    early.set("k", "v").await.expect("there is time");
    assert!(early.get("k").await.expect("answered").is_some());
}
