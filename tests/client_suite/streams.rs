//! Values that are read and sent piece by piece.

use std::time::{Duration, Instant};

use larder_client::{Cause, Error, Status};
use tokio::io::AsyncReadExt;

use crate::ground::Ground;
use crate::over_every_way;

over_every_way! {
    a_stream_brings_what_a_stream_sent
    a_source_that_ends_early_stores_nothing
    a_stream_is_refused_like_anything_else
    nothing_is_done_without_any_time
}

async fn a_stream_brings_what_a_stream_sent(ground: &Ground) {
    let client = ground.client().await;
    for length in [0, 10, 100_000, 6 << 20] {
        let value: Vec<u8> = (0..length).map(|at: u32| (at / 7) as u8).collect();
        let stored = client
            .set_from("k", value.len() as u64, &value[..])
            .flags(4);
        stored.await.expect("stored");
        let mut stream = client
            .get_stream("k")
            .await
            .expect("answered")
            .expect("found");
        assert_eq!(
            (stream.value_bytes(), stream.flags()),
            (value.len() as u64, 4)
        );
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("whole");
        assert!(read == value);
    }
    assert!(client.get_stream("none").await.expect("answered").is_none());
    assert_eq!(client.add_from("k", 1, &b"x"[..]).await, Ok(None));
    let replaced = client.replace_from("k", 1, &b"x"[..]).await;
    assert!(matches!(replaced, Ok(Some(_))), "{replaced:?}");
}

async fn a_source_that_ends_early_stores_nothing(ground: &Ground) {
    let client = ground.client().await;
    let failed = client.set_from("k", 100, &[0; 99][..]).await;
    assert!(
        matches!(failed, Err(Error::NotExecuted(Cause::Source(_)))),
        "{failed:?}"
    );
    assert_eq!(client.get("k").await, Ok(None));
}

async fn a_stream_is_refused_like_anything_else(ground: &Ground) {
    let client = ground.client().await;
    let too_large = client.set_from("k", 1 << 40, tokio::io::empty()).await;
    assert!(
        matches!(
            too_large,
            Err(Error::Refused {
                status: Status::TOO_LARGE,
                ..
            })
        ),
        "{too_large:?}"
    );
    let no_key = client.get_stream("").await.map(drop);
    assert!(
        matches!(
            no_key,
            Err(Error::Refused {
                status: Status::KEY_EMPTY,
                ..
            })
        ),
        "{no_key:?}"
    );
}

async fn nothing_is_done_without_any_time(ground: &Ground) {
    let client = ground.client().await;
    for late in [client.until(Instant::now()), client.within(Duration::ZERO)] {
        let asked = [
            late.get("k").await.map(drop),
            late.set("k", "v").await.map(drop),
            late.get_stream("k").await.map(drop),
            late.set_from("k", 1, &b"v"[..]).await.map(drop),
        ];
        for asked in asked {
            let error = asked.expect_err("no time");
            assert!(
                matches!(error, Error::NotExecuted(Cause::Timeout { .. })),
                "{error}"
            );
        }
    }
    assert_eq!(client.get("k").await, Ok(None));
}
