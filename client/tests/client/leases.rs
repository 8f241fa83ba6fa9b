//! Leases and stale items: what is asked, and how what is answered is understood.

use std::time::Duration;

use bytes::Bytes;
use larder_client::{Conditional, Error, ExpiryLeft, Freshness, Item, Lease, Leased, Status};
use larder_protocol::{
    Lease as WireLease, Opcode, Presence, Request, ValueMeta, encode_done, encode_leased_head,
    encode_status, encode_stored,
};

use crate::operations::{Answer, exchange};

const META: ValueMeta = ValueMeta {
    client_flags: 7,
    version: 9,
    expiry_left: ExpiryLeft::Ms(50),
};

const VALUE: &[u8] = b"value";

fn item() -> Item {
    Item {
        value: Bytes::from_static(VALUE),
        flags: 7,
        version: 9,
        expiry_left: ExpiryLeft::Ms(50),
    }
}

/// Asks for a lease of 3 seconds.
async fn get_or_lease(answer: Answer) -> Result<Leased, Error> {
    let request = Request::GetOrLease {
        key: b"key",
        lease_ms: Some(3000),
        refresh_ms: None,
        want_expiry: true,
    };
    let lease_for = Duration::from_secs(3);
    exchange(
        async |client| client.get_or_lease("key", lease_for).await,
        request,
        answer,
    )
    .await
}

#[tokio::test]
async fn an_item_comes_with_nothing_to_do() {
    let found = get_or_lease(|out, id| {
        let said = (Presence::Fresh, WireLease::None);
        encode_leased_head(out, id, &META, said, 5);
        out.extend_from_slice(VALUE);
    });
    let expected = Leased {
        item: Some(item()),
        freshness: Freshness::Fresh,
        lease: Lease::None,
    };
    assert_eq!(found.await, Ok(expected));
}

#[tokio::test]
async fn a_stale_item_comes_with_the_lease_or_without() {
    let won = get_or_lease(|out, id| {
        let said = (Presence::Stale, WireLease::Won);
        encode_leased_head(out, id, &META, said, 5);
        out.extend_from_slice(VALUE);
    });
    let expected = Leased {
        item: Some(item()),
        freshness: Freshness::Stale,
        lease: Lease::Won { version: 9 },
    };
    assert_eq!(won.await, Ok(expected.clone()));
    let taken = get_or_lease(|out, id| {
        let said = (Presence::Stale, WireLease::Taken);
        encode_leased_head(out, id, &META, said, 5);
        out.extend_from_slice(VALUE);
    });
    let expected = Leased {
        lease: Lease::Taken,
        ..expected
    };
    assert_eq!(taken.await, Ok(expected));
}

#[tokio::test]
async fn what_is_absent_is_no_item() {
    let none = |lease| Leased {
        item: None,
        freshness: Freshness::Fresh,
        lease,
    };
    let won = get_or_lease(|out, id| {
        encode_leased_head(out, id, &META, (Presence::Absent, WireLease::Won), 0);
    });
    assert_eq!(won.await, Ok(none(Lease::Won { version: 9 })));
    let taken = get_or_lease(|out, id| {
        encode_leased_head(out, id, &META, (Presence::Absent, WireLease::Taken), 0);
    });
    assert_eq!(taken.await, Ok(none(Lease::Taken)));
    let missing = get_or_lease(|out, id| {
        encode_status(out, Opcode::GetOrLease, id, Status::NOT_FOUND, "");
    });
    assert_eq!(missing.await, Ok(none(Lease::None)));
}

#[tokio::test]
async fn a_lease_can_be_asked_for_before_an_item_expires() {
    let request = Request::GetOrLease {
        key: b"key",
        lease_ms: Some(3000),
        refresh_ms: Some(1500),
        want_expiry: true,
    };
    let answer: Answer = |out, id| {
        encode_leased_head(out, id, &META, (Presence::Fresh, WireLease::Won), 0);
    };
    let found = exchange(
        async |client| {
            client
                .get_or_lease("key", Duration::from_secs(3))
                .refresh_below(Duration::from_millis(1500))
                .await
        },
        request,
        answer,
    );
    let lease = found.await.map(|leased| leased.lease);
    assert_eq!(lease, Ok(Lease::Won { version: 9 }));
}

#[tokio::test]
async fn an_invalidation_tells_its_outcomes_apart() {
    let cases: [(Answer, Conditional<u64>); 3] = [
        (
            |out, id| encode_stored(out, Opcode::Invalidate, id, 10),
            Conditional::Done(10),
        ),
        (
            |out, id| encode_status(out, Opcode::Invalidate, id, Status::EXISTS, ""),
            Conditional::VersionDiffers,
        ),
        (
            |out, id| encode_status(out, Opcode::Invalidate, id, Status::NOT_FOUND, ""),
            Conditional::NotFound,
        ),
    ];
    for (answer, expected) in cases {
        let request = Request::Invalidate {
            key: b"key",
            version: Some(9),
            expire_in_ms: Some(2000),
        };
        let marked = exchange(
            async |client| {
                let marking = client.invalidate("key").if_version(9);
                marking.expire_in(Duration::from_secs(2)).await
            },
            request,
            answer,
        );
        assert_eq!(marked.await, Ok(expected));
    }
}

#[tokio::test]
async fn a_lease_is_given_back() {
    let cases: [(Answer, bool); 2] = [
        (|out, id| encode_done(out, Opcode::EndLease, id), true),
        (
            |out, id| encode_status(out, Opcode::EndLease, id, Status::NOT_FOUND, ""),
            false,
        ),
    ];
    for (answer, expected) in cases {
        let request = Request::EndLease {
            key: b"key",
            version: 9,
        };
        let ended = exchange(
            async |client| client.end_lease("key", 9).await,
            request,
            answer,
        );
        assert_eq!(ended.await, Ok(expected));
    }
}
