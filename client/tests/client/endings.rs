//! What a client says when an answer does not come: not executed, or unknown.

use std::time::Duration;

use larder_client::{Cause, Client, Config, ConnectError, Error, Limits, Status};
use larder_protocol::{Opcode, encode_close, encode_done, encode_status, encode_stored};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fake::Fake;

/// A client that reports every ending instead of asking again.
fn blunt() -> Config {
    Config {
        resends_max: 0,
        ..Config::default()
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_unknown_when_the_connection_dies() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let die = async {
        peer.expect().await;
        drop(peer);
    };
    let (error, ()) = tokio::join!(client.get("key"), die);
    let error = error.expect_err("no answer came");
    assert!(
        matches!(error, Error::Unknown(Cause::ConnectionLost(_))),
        "{error}"
    );
    assert!(!error.is_not_executed());
}

#[tokio::test]
async fn a_request_whose_last_byte_was_not_sent_is_not_executed() {
    let mut fake = Fake::start().await;
    // LIMIT: more than any socket buffers on the way take.
    let value = vec![7; 100_000_000];
    fake.limits = Limits::for_items(250, value.len() as u32);
    fake.limits.in_flight_max = 1 << 16;
    let config = Config {
        in_flight_max: 1 << 16,
        ..blunt()
    };
    let (client, mut peer) = fake.client(config).await;
    let die = async {
        peer.expect().await;
        drop(peer);
    };
    let set = async { client.set("large", value).await };
    let (sent, unsent, ()) = tokio::join!(client.get("small"), set, die);
    assert!(
        matches!(sent, Err(Error::Unknown(Cause::ConnectionLost(_)))),
        "{sent:?}"
    );
    assert!(
        matches!(unsent, Err(Error::NotExecuted(Cause::ConnectionLost(_)))),
        "{unsent:?}"
    );
}

#[tokio::test]
async fn a_request_still_waiting_for_room_goes_to_the_next_connection() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake
        .client(Config {
            in_flight_max: 1,
            ..Config::default()
        })
        .await;
    let serve = async {
        peer.expect().await;
        drop(peer);
        let mut peer = fake.accept().await;
        let asked = peer.expect().await;
        assert_eq!(asked.key(), b"second");
        peer.found(&asked, b"here").await;
    };
    let (first, second, ()) = tokio::join!(client.get("first"), client.get("second"), serve);
    assert!(matches!(first, Err(Error::Unknown(_))));
    assert_eq!(second.expect("asked again").expect("found").value, "here");
}

#[tokio::test]
async fn a_server_that_says_why_it_closes_has_executed_nothing_more() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(blunt()).await;
    let close = async {
        let [first, _second] = [peer.expect().await, peer.expect().await];
        let mut output = Vec::new();
        encode_close(&mut output, Status::DRAINED, "time is up");
        peer.found(&first, b"executed").await;
        peer.send(&output).await;
    };
    let (first, second, ()) = tokio::join!(client.get("first"), client.get("second"), close);
    assert_eq!(first.expect("answered").expect("found").value, "executed");
    let (status, message) = (Status::DRAINED, "time is up".to_owned());
    assert_eq!(
        second,
        Err(Error::NotExecuted(Cause::ConnectionClosed {
            status,
            message
        }))
    );
}

#[tokio::test]
async fn a_server_that_failed_leaves_it_unknown() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(blunt()).await;
    let close = async {
        peer.expect().await;
        let mut output = Vec::new();
        encode_close(&mut output, Status::INTERNAL, "out of luck");
        peer.send(&output).await;
    };
    let (error, ()) = tokio::join!(client.get("key"), close);
    let (status, message) = (Status::INTERNAL, "out of luck".to_owned());
    assert_eq!(
        error,
        Err(Error::Unknown(Cause::ConnectionClosed { status, message }))
    );
}

#[tokio::test]
async fn a_closing_answer_to_one_request_frees_the_others_from_doubt() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(blunt()).await;
    let close = async {
        let [first, _second] = [peer.expect().await, peer.expect().await];
        let mut output = Vec::new();
        let id = first.frame().id;
        encode_status(
            &mut output,
            Opcode::Get,
            id,
            Status::FRAME_UNSKIPPABLE,
            "too much",
        );
        peer.send(&output).await;
    };
    let (first, second, ()) = tokio::join!(client.get("first"), client.get("second"), close);
    let first = first.expect_err("refused");
    assert!(first.is_not_executed() && matches!(first, Error::Refused { .. }));
    assert!(matches!(
        second,
        Err(Error::NotExecuted(Cause::ConnectionClosed { .. }))
    ));
}

#[tokio::test]
async fn a_refused_request_is_not_executed_and_the_connection_goes_on() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        let asked = peer.expect().await;
        peer.failed(&asked, Status::NO_SPACE).await;
        let asked = peer.expect().await;
        peer.failed(&asked, Status::NOT_FOUND).await;
    };
    let ask = async {
        let refused = client.set("key", "value").await.expect_err("refused");
        assert!(refused.is_not_executed());
        client.get("key").await
    };
    assert_eq!(tokio::join!(ask, serve).0, Ok(None));
}

#[tokio::test]
async fn an_unknown_status_is_judged_by_its_class() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        let asked = peer.expect().await;
        peer.failed(&asked, Status(0x01ff)).await;
    };
    let error = tokio::join!(client.get("key"), serve)
        .0
        .expect_err("refused");
    assert!(error.is_not_executed());
    assert!(error.to_string().contains("status 0x01ff"), "{error}");
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_is_unknown_and_a_silent_server_is_left() {
    let fake = Fake::start().await;
    let request_timeout = Duration::from_millis(30);
    let (client, mut silent) = fake
        .client(Config {
            request_timeout,
            ..Config::default()
        })
        .await;
    let error = client.get("key").await.expect_err("nobody answers");
    assert_eq!(
        error,
        Error::Unknown(Cause::Timeout {
            after: request_timeout
        })
    );
    silent.expect().await;
    silent.expect_end().await;

    let (again, _peer) = tokio::join!(client.get("key"), fake.accept());
    assert!(
        again.is_err(),
        "the second connection is silent too, and is another one"
    );
}

/// A client of a server that is silent on its first connection and answers on the next.
async fn client_of_silent(config: Config) -> (Client, JoinHandle<()>) {
    let fake = Fake::start().await;
    let (client, mut silent) = fake.client(config).await;
    let serve = tokio::spawn(async move {
        while silent.next().await.is_some() {}
        let mut peer = fake.accept().await;
        while let Some(asked) = peer.next().await {
            peer.found(&asked, b"here").await;
        }
    });
    (client, serve)
}

#[tokio::test]
async fn a_silent_server_is_left_though_each_request_has_little_time() {
    let (client, _serve) = client_of_silent(Config {
        request_timeout: Duration::from_millis(200),
        ..Config::default()
    })
    .await;
    let hurried = client.within(Duration::from_millis(5));
    while hurried.get("key").await.is_err() {}
}

#[tokio::test]
async fn a_silent_server_is_left_though_each_request_is_cancelled() {
    let (client, _serve) = client_of_silent(Config {
        request_timeout: Duration::from_millis(200),
        ..Config::default()
    })
    .await;
    loop {
        let got = timeout(Duration::from_millis(5), client.get("key")).await;
        if got.is_ok_and(|answered| answered.is_ok()) {
            break;
        }
    }
}

#[tokio::test]
async fn a_request_gets_a_place_though_cancelled_ones_have_them_all_at_a_silent_server() {
    let (client, _serve) = client_of_silent(Config {
        request_timeout: Duration::from_millis(30),
        in_flight_max: 2,
        ..Config::default()
    })
    .await;
    for _ in 0..2 {
        let cancelled = timeout(Duration::ZERO, client.get("cancelled")).await;
        assert!(cancelled.is_err(), "{cancelled:?}");
    }
    let patient = client.within(Duration::from_secs(10));
    let found = patient.get("key").await.expect("answered");
    assert_eq!(found.expect("found").value, "here");
}

#[tokio::test]
async fn a_request_that_never_got_a_place_in_time_is_not_executed() {
    let fake = Fake::start().await;
    let config = Config {
        request_timeout: Duration::from_millis(30),
        in_flight_max: 1,
        resends_max: 0,
        ..Config::default()
    };
    let (client, _silent) = fake.client(config).await;
    let (first, second) = tokio::join!(client.get("first"), client.get("second"));
    assert!(
        matches!(first, Err(Error::Unknown(Cause::Timeout { .. }))),
        "{first:?}"
    );
    assert!(
        second.as_ref().is_err_and(Error::is_not_executed),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_left() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let garble = async {
        peer.expect().await;
        peer.send(&[0xff; 64]).await;
        peer.expect_end().await;
    };
    let (error, ()) = tokio::join!(client.get("key"), garble);
    assert!(
        matches!(error, Err(Error::Unknown(Cause::Protocol(_)))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_answers_what_was_not_asked_is_left() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(blunt()).await;
    let serve = async {
        let [first, second] = [peer.expect().await, peer.expect().await];
        // Twice the same is an answer more than was asked for.
        peer.found(&first, b"once").await;
        peer.found(&first, b"twice").await;
        peer.expect_end().await;
        second
    };
    let (first, second, _) = tokio::join!(client.get("first"), client.get("second"), serve);
    assert_eq!(first.expect("answered").expect("found").value, "once");
    assert!(
        matches!(second, Err(Error::Unknown(Cause::Protocol(_)))),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_server_that_answers_with_something_else_is_left() {
    let fake = Fake::start().await;
    let client = Client::lazy(&fake.url(), Config::default()).expect("a good address");
    let serve = async {
        // The body of the one is no body of the other; the other says as much as was asked for.
        for opcode in [Opcode::Set, Opcode::Touch] {
            let mut peer = fake.accept().await;
            let asked = peer.expect().await;
            let mut output = Vec::new();
            match opcode {
                Opcode::Set => encode_stored(&mut output, opcode, asked.frame().id, 7),
                _ => encode_done(&mut output, opcode, asked.frame().id),
            }
            peer.send(&output).await;
            peer.expect_end().await;
        }
    };
    let ask = async {
        let got = client.get("key").await.expect_err("no item");
        let deleted = client.delete("key").await.expect_err("another's answer");
        [got, deleted]
    };
    let (errors, ()) = tokio::join!(ask, serve);
    for error in errors {
        assert!(
            matches!(error, Error::Unknown(Cause::Protocol(_))),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_client_that_is_turned_away_learns_why() {
    let fake = Fake::start().await;
    let url = fake.url();
    let turn_away = async {
        let mut peer = fake.accept_silently().await;
        let mut output = Vec::new();
        encode_close(
            &mut output,
            Status::TOO_MANY_CONNECTIONS,
            "the house is full",
        );
        peer.send(&output).await;
        peer
    };
    let (client, _peer) = tokio::join!(larder_client::Client::connect(&url), turn_away);
    let error = client.expect_err("turned away");
    assert!(matches!(
        error,
        ConnectError::TurnedAway {
            status: Status::TOO_MANY_CONNECTIONS,
            ..
        }
    ));
    assert!(error.to_string().contains("the house is full"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_protocol_is_recognised() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("larder://{}", listener.local_addr().expect("bound"));
    let answer = async {
        let (mut stream, _) = listener.accept().await.expect("a client connects");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("sent");
        stream
    };
    let (client, _stream) = tokio::join!(larder_client::Client::connect(&url), answer);
    let error = client.expect_err("not a Larder server");
    assert!(matches!(error, ConnectError::NotLarder { .. }), "{error}");
    // So that whoever reads it knows what it is instead.
    assert!(error.to_string().contains("HTTP/1.1 400"), "{error}");
}

#[tokio::test]
async fn a_server_that_takes_no_keys_in_a_frame_is_refused() {
    let mut fake = Fake::start().await;
    fake.limits.keys_per_frame_max = 0;
    let url = fake.url();
    let (client, _peer) = tokio::join!(larder_client::Client::connect(&url), fake.accept());
    let error = client.expect_err("nothing could be asked of it");
    assert!(matches!(error, ConnectError::NotLarder { .. }), "{error}");
    assert!(error.to_string().contains("at least 1 key"), "{error}");
}

#[tokio::test]
async fn a_server_whose_limits_are_beyond_the_protocols_is_refused() {
    type Lie = fn(&mut Limits);
    let lies: [(Lie, &str); 6] = [
        (|limits| limits.frame_bytes_max = u32::MAX, "longest frame"),
        (|limits| limits.frame_bytes_max = 1000, "longest frame"),
        (|limits| limits.key_bytes_max = u32::MAX, "longest key"),
        (|limits| limits.value_bytes_max = u32::MAX, "longest frame"),
        (|limits| limits.buffered_bytes_max = u32::MAX, "gathered"),
        (|limits| limits.in_flight_max = 0, "at least 1 request"),
    ];
    for (lie, why) in lies {
        let mut fake = Fake::start().await;
        lie(&mut fake.limits);
        let url = fake.url();
        let (client, _peer) = tokio::join!(larder_client::Client::connect(&url), fake.accept());
        let error = client.expect_err("it could have the client hold any memory");
        assert!(matches!(error, ConnectError::NotLarder { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_greet_in_time_is_given_up() {
    let fake = Fake::start().await;
    let config = Config {
        connect_timeout: Duration::from_millis(30),
        ..Config::default()
    };
    let url = fake.url();
    let (client, _peer) = tokio::join!(
        larder_client::Client::connect_with(&url, config),
        fake.accept_silently()
    );
    let error = client.expect_err("nobody greets");
    assert!(matches!(error, ConnectError::Silent { .. }), "{error}");
    assert!(
        error.to_string().contains("speaks Larder's own protocol"),
        "{error}"
    );
}

#[tokio::test]
async fn what_the_server_would_not_take_is_not_even_sent() {
    let mut fake = Fake::start().await;
    fake.limits = Limits::for_items(250, 1000);
    let (client, mut peer) = fake.client(Config::default()).await;
    let value = client.set("key", vec![0; 1001]).await;
    let key = client.get(vec![0; 100_000]).await;
    for (refused, expected) in [
        (value.err(), Status::TOO_LARGE),
        (key.err(), Status::FRAME_TOO_LARGE),
    ] {
        let refused = refused.expect("refused");
        assert!(
            matches!(refused, Error::Refused { status, .. } if status == expected),
            "{refused}"
        );
        assert!(refused.is_not_executed());
    }
    drop(client);
    peer.expect_end().await;
}

#[tokio::test]
async fn a_request_without_any_time_is_not_sent() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let error = client
        .within(Duration::ZERO)
        .get("key")
        .await
        .expect_err("no time");
    let after = Duration::ZERO;
    assert_eq!(error, Error::NotExecuted(Cause::Timeout { after }));
    assert_eq!(error.to_string(), "not executed: it took longer than 0ns");
    drop(client);
    peer.expect_end().await;
}

#[tokio::test]
async fn a_counter_that_is_none_is_refused_with_a_sentence() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = async {
        let asked = peer.expect().await;
        let mut output = Vec::new();
        let (id, status) = (asked.frame().id, Status::NOT_A_NUMBER);
        encode_status(&mut output, Opcode::Increment, id, status, "");
        peer.send(&output).await;
    };
    let count = async { client.increment("word").await };
    let error = tokio::join!(count, serve).0.expect_err("no number");
    assert_eq!(
        error.to_string(),
        "what is stored there is no number (NOT_A_NUMBER)"
    );
}
