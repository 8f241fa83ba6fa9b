//! Every operation asks what it should and understands what is answered.

use std::time::Duration;

use bytes::Bytes;
use larder_client::{Client, Conditional, Config, Counter, Error, ExpiryLeft, Item, Status};
use larder_protocol::{
    Arithmetic, Direction, Opcode, Request, ScanEntry, ScanReply, StatsReply, Store, StoreMode,
    ValueMeta, encode_counter, encode_done, encode_pong, encode_status, encode_stored,
    encode_value,
};

use crate::fake::Fake;

/// What a server appends to answer the request with this id.
pub(crate) type Answer = fn(&mut Vec<u8>, u32);

/// Awaits an operation while the server checks what it asks and answers.
pub(crate) async fn exchange<T>(
    operation: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    expected: Request<'_>,
    answer: Answer,
) -> Result<T, Error> {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        let asked = peer.expect().await;
        assert_eq!(asked.request(), expected);
        assert!(!asked.frame().quiet);
        let mut output = Vec::new();
        answer(&mut output, asked.frame().id);
        peer.send(&output).await;
    };
    tokio::join!(operation(&client), serve).0
}

fn store<'a>(mode: StoreMode, value: &'a [u8]) -> Store<'a> {
    Store {
        mode,
        key: b"key",
        value,
        client_flags: 0,
        expire_in_ms: None,
    }
}

fn item(expiry_left: ExpiryLeft) -> Item {
    Item {
        value: Bytes::from_static(b"value"),
        flags: 7,
        version: 9,
        expiry_left,
    }
}

const META: ValueMeta = ValueMeta {
    client_flags: 7,
    version: 9,
    expiry_left: ExpiryLeft::NotAsked,
};

#[tokio::test]
async fn get_finds_an_item() {
    let request = Request::Get {
        key: b"key",
        want_expiry: false,
    };
    let answer: Answer = |out, id| encode_value(out, Opcode::Get, id, &META, b"value");
    let found = exchange(async |client| client.get("key").await, request, answer).await;
    assert_eq!(found, Ok(Some(item(ExpiryLeft::NotAsked))));
}

#[tokio::test]
async fn get_finds_nothing() {
    let request = Request::Get {
        key: b"key",
        want_expiry: false,
    };
    let answer: Answer = |out, id| encode_status(out, Opcode::Get, id, Status::NOT_FOUND, "");
    let found = exchange(async |client| client.get(b"key").await, request, answer).await;
    assert_eq!(found, Ok(None));
}

#[tokio::test]
async fn a_read_that_asks_learns_how_long_an_item_has_left() {
    let request = Request::Get {
        key: b"key",
        want_expiry: true,
    };
    let answer: Answer = |out, id| {
        let meta = ValueMeta {
            expiry_left: ExpiryLeft::Ms(50),
            ..META
        };
        encode_value(out, Opcode::Get, id, &meta, b"value");
    };
    let found = exchange(
        async |client| client.get_with_expiry("key").await,
        request,
        answer,
    )
    .await;
    assert_eq!(found, Ok(Some(item(ExpiryLeft::Ms(50)))));
}

#[tokio::test]
async fn get_and_touch_gives_a_new_expiry() {
    let request = Request::GetAndTouch {
        key: b"key",
        expire_in_ms: Some(2000),
        want_expiry: true,
    };
    let answer: Answer = |out, id| {
        let meta = ValueMeta {
            expiry_left: ExpiryLeft::Never,
            ..META
        };
        encode_value(out, Opcode::GetAndTouch, id, &meta, b"value");
    };
    let touch = async |client: &Client| {
        client
            .get_and_touch("key")
            .expire_in(Duration::from_secs(2))
            .await
    };
    assert_eq!(
        exchange(touch, request, answer).await,
        Ok(Some(item(ExpiryLeft::Never)))
    );
}

#[tokio::test]
async fn set_sends_flags_and_expiry() {
    let store = Store {
        client_flags: 5,
        expire_in_ms: Some(1),
        ..store(StoreMode::Set, b"value")
    };
    let answer: Answer = |out, id| encode_stored(out, Opcode::Set, id, 11);
    let set = async |client: &Client| {
        client
            .set("key", "value")
            .flags(5)
            .expire_in(Duration::from_micros(1))
            .await
    };
    assert_eq!(exchange(set, Request::Store(store), answer).await, Ok(11));
}

#[tokio::test]
async fn add_and_replace_say_whether_they_stored() {
    let request = Request::Store(store(StoreMode::Add, b"value"));
    let answer: Answer = |out, id| encode_status(out, Opcode::Add, id, Status::NOT_STORED, "");
    let added = exchange(
        async |client| client.add("key", "value").await,
        request,
        answer,
    )
    .await;
    assert_eq!(added, Ok(None));

    let request = Request::Store(store(StoreMode::Replace, b"value"));
    let answer: Answer = |out, id| encode_stored(out, Opcode::Replace, id, 12);
    let replaced = exchange(
        async |client| client.replace("key", "value").await,
        request,
        answer,
    )
    .await;
    assert_eq!(replaced, Ok(Some(12)));
}

#[tokio::test]
async fn append_and_prepend_say_whether_they_stored() {
    let request = Request::Store(store(StoreMode::Append, b"end"));
    let answer: Answer = |out, id| encode_stored(out, Opcode::Append, id, 13);
    let appended = exchange(
        async |client| client.append("key", "end").await,
        request,
        answer,
    )
    .await;
    assert_eq!(appended, Ok(Some(13)));

    let request = Request::Store(store(StoreMode::Prepend, b"start"));
    let answer: Answer = |out, id| encode_status(out, Opcode::Prepend, id, Status::NOT_STORED, "");
    let prepended = exchange(
        async |client| client.prepend("key", "start").await,
        request,
        answer,
    )
    .await;
    assert_eq!(prepended, Ok(None));
}

#[tokio::test]
async fn cas_tells_its_three_outcomes_apart() {
    let answers: [(Answer, _); 3] = [
        (
            |out, id| encode_stored(out, Opcode::Cas, id, 14),
            Conditional::Done(14),
        ),
        (
            |out, id| encode_status(out, Opcode::Cas, id, Status::EXISTS, ""),
            Conditional::VersionDiffers,
        ),
        (
            |out, id| encode_status(out, Opcode::Cas, id, Status::NOT_FOUND, ""),
            Conditional::NotFound,
        ),
    ];
    for (answer, expected) in answers {
        let request = Request::Store(store(StoreMode::Cas { version: 9 }, b"value"));
        let cas = exchange(
            async |client| client.cas("key", 9, "value").await,
            request,
            answer,
        );
        assert_eq!(cas.await, Ok(expected));
    }
}

#[tokio::test]
async fn counting_sends_its_options_and_returns_the_counter() {
    let arithmetic = Arithmetic {
        direction: Direction::Increment,
        key: b"key",
        delta: 5,
        initial: Some(100),
        expire_in_ms: Some(1000),
    };
    let answer: Answer = |out, id| encode_counter(out, Opcode::Increment, id, 105, 15);
    let count = async |client: &Client| {
        client
            .increment("key")
            .by(5)
            .initial(100)
            .expire_in(Duration::from_secs(1))
            .await
    };
    let counted = exchange(count, Request::Arithmetic(arithmetic), answer).await;
    assert_eq!(
        counted,
        Ok(Some(Counter {
            number: 105,
            version: 15
        }))
    );
}

#[tokio::test]
async fn what_is_no_number_is_refused_with_the_servers_sentence() {
    let arithmetic = Arithmetic {
        direction: Direction::Decrement,
        key: b"key",
        delta: 1,
        initial: None,
        expire_in_ms: None,
    };
    let answer: Answer = |out, id| {
        encode_status(
            out,
            Opcode::Decrement,
            id,
            Status::NOT_A_NUMBER,
            "it says hello",
        );
    };
    let count = async |client: &Client| client.decrement("key").await;
    let error = exchange(count, Request::Arithmetic(arithmetic), answer)
        .await
        .expect_err("refused");
    assert_eq!(error.to_string(), "it says hello (NOT_A_NUMBER)");
    assert!(!error.is_not_executed());
}

#[tokio::test]
async fn touch_and_delete_say_whether_there_was_an_item() {
    let request = Request::Touch {
        key: b"key",
        expire_in_ms: None,
    };
    let answer: Answer = |out, id| encode_done(out, Opcode::Touch, id);
    let touched = exchange(
        async |client| client.touch("key", None).await,
        request,
        answer,
    )
    .await;
    assert_eq!(touched, Ok(true));

    let request = Request::Delete {
        key: b"key",
        version: None,
    };
    let answer: Answer = |out, id| encode_status(out, Opcode::Delete, id, Status::NOT_FOUND, "");
    let deleted = exchange(async |client| client.delete("key").await, request, answer).await;
    assert_eq!(deleted, Ok(false));
}

#[tokio::test]
async fn a_conditional_delete_tells_its_outcomes_apart() {
    let answers: [(Answer, _); 2] = [
        (
            |out, id| encode_done(out, Opcode::Delete, id),
            Conditional::Done(()),
        ),
        (
            |out, id| encode_status(out, Opcode::Delete, id, Status::EXISTS, ""),
            Conditional::VersionDiffers,
        ),
    ];
    for (answer, expected) in answers {
        let request = Request::Delete {
            key: b"key",
            version: Some(9),
        };
        let delete = async |client: &Client| client.delete_if_version("key", 9).await;
        assert_eq!(exchange(delete, request, answer).await, Ok(expected));
    }
}

#[tokio::test]
async fn flush_ping_and_stats_are_understood() {
    let answer: Answer = |out, id| encode_done(out, Opcode::Flush, id);
    let flush = async |client: &Client| client.flush_in(Duration::from_secs(3)).await;
    assert_eq!(
        exchange(flush, Request::Flush { delay_ms: 3000 }, answer).await,
        Ok(())
    );

    let answer: Answer = |out, id| encode_pong(out, id, b"");
    let ping = async |client: &Client| client.ping().await;
    assert_eq!(
        exchange(ping, Request::Ping { echo: b"" }, answer).await,
        Ok(())
    );

    let answer: Answer = |out, id| {
        let mut reply = StatsReply::begin(out, id, 4096);
        let _ = reply.push(out, "items", "17");
        reply.finish(out);
    };
    let stats = async |client: &Client| client.stats("store").await;
    let told = exchange(stats, Request::Stats { group: b"store" }, answer).await;
    assert_eq!(told, Ok(vec![("items".to_owned(), "17".to_owned())]));
}

#[tokio::test]
async fn a_scan_goes_from_page_to_page_until_there_is_no_cursor() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        for (cursor, next_cursor, key) in [(0, 77, "a"), (77, 0, "b")] {
            let asked = peer.expect().await;
            assert_eq!(asked.request(), Request::Scan { cursor, limit: 10 });
            let mut output = Vec::new();
            let mut reply = ScanReply::begin(&mut output, asked.frame().id, 4096);
            let key = key.as_bytes();
            let entry = ScanEntry {
                key,
                value_bytes: 5,
                version: 1,
                expire_in_ms: Some(6),
            };
            let _ = reply.push(&mut output, &entry);
            reply.finish(&mut output, next_cursor);
            peer.send(&output).await;
        }
    };
    let scan = async {
        let mut scan = client.scan().keys_per_page(10);
        let mut keys = Vec::new();
        while let Some(page) = scan.next_page().await.expect("a page") {
            keys.extend(page.into_iter().map(|key| (key.key, key.expiry_left)));
        }
        keys
    };
    let (keys, ()) = tokio::join!(scan, serve);
    let left = ExpiryLeft::Ms(6);
    assert_eq!(
        keys,
        [
            (Bytes::from_static(b"a"), left),
            (Bytes::from_static(b"b"), left)
        ]
    );
}

#[tokio::test]
async fn a_reply_of_another_kind_is_the_servers_fault() {
    let request = Request::Get {
        key: b"key",
        want_expiry: false,
    };
    let answer: Answer = |out, id| encode_stored(out, Opcode::Set, id, 1);
    let error = exchange(async |client| client.get("key").await, request, answer).await;
    assert!(matches!(error, Err(Error::Unknown(_))));
}

#[tokio::test]
async fn a_client_knows_what_the_server_said_about_itself() {
    let fake = Fake::start().await;
    let (client, _peer) = fake.client(Config::default()).await;
    let server = client.server().await.expect("connected");
    assert_eq!((&server.name[..], server.limits), ("fake 1", fake.limits));
}
