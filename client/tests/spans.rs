//! What those who listen are told of requests, by `tracing`.
//!
//! In a program of its own, one test after the other: what `tracing` keeps about who listens is one for a
//! whole process.

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "client/fake.rs"]
mod fake;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use larder_client::{Client, Config, Error};
use larder_protocol::encode_drain;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument as _, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use fake::{Fake, Peer};
use tokio::sync::{Mutex as Turns, MutexGuard};

/// What was heard, a line for each thing.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

/// Whose turn it is.
static TURNS: Turns<()> = Turns::const_new(());

async fn turn() -> MutexGuard<'static, ()> {
    TURNS.lock().await
}

/// Fields by name.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Heard {
    fn note(&self, line: String) {
        self.0.lock().expect("nobody panics here").push(line);
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panics here"))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Heard {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = context
            .span(id)
            .and_then(|span| span.parent().map(|of| of.name()));
        let (name, fields) = (attributes.metadata().name(), fields.0);
        self.note(format!("new {name} in {parent:?}: {fields:?}"));
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.note(format!(
            "enter {}",
            context.span(id).expect("it is open").name()
        ));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.note(format!(
            "close {}",
            context.span(&id).expect("it is there").name()
        ));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.lookup_current().map(|span| span.name());
        self.note(format!("event in {span:?}: {:?}", fields.0["message"]));
    }
}

async fn answered(client: &Client, peer: &mut Peer, key: &str) -> Result<(), Error> {
    let serve = async {
        let asked = peer.expect().await;
        peer.found(&asked, b"value").await;
    };
    tokio::join!(client.get(key), serve).0.map(|_| ())
}

#[tokio::test]
async fn a_request_has_a_span_with_its_operation_and_its_server() {
    let _turn = turn().await;
    let heard = Heard::default();
    let _listens =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(heard.clone()));
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    heard.lines();

    let page = tracing::debug_span!("page");
    let ask = answered(&client, &mut peer, "key").instrument(page.clone());
    ask.await.expect("answered");
    let mut lines = heard.lines();
    lines.retain(|line| !line.contains("page") || line.starts_with("new larder"));
    let (operation, server) = (format!("{:?}", "GET"), fake.url());
    let opened = format!(
        "new larder in Some(\"page\"): {:?}",
        BTreeMap::from([("operation", operation), ("server", server)])
    );
    assert_eq!(lines[0], opened);
    // It is entered when the request is sent, and when its answer is there; and then it is over.
    assert!(
        lines.iter().filter(|line| *line == "enter larder").count() >= 2,
        "{lines:?}"
    );
    assert_eq!(lines.last().map(String::as_str), Some("close larder"));
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_span() {
    let _turn = turn().await;
    let heard = Heard::default();
    let _listens =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(heard.clone()));
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    heard.lines();
    tokio::select! {
        answer = client.get("key") => panic!("{answer:?}"),
        _ = peer.expect() => {}
    }
    let lines = heard.lines();
    assert_eq!(
        lines.last().map(String::as_str),
        Some("close larder"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn what_becomes_of_a_connection_is_told() {
    let _turn = turn().await;
    let heard = Heard::default();
    let _listens =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(heard.clone()));
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let mut notice = Vec::new();
    encode_drain(&mut notice, 1000, "for a test");
    peer.send(&notice).await;
    peer.expect_end().await;
    drop(client);
    let lines = heard.lines();
    for expected in ["the server drains this connection", "the connection ended"] {
        let is_told = |line: &String| line.starts_with("event") && line.contains(expected);
        assert!(lines.iter().any(is_told), "{expected}: {lines:?}");
    }
}

#[tokio::test]
async fn whoever_does_not_listen_so_closely_is_not_troubled() {
    let _turn = turn().await;
    let heard = Heard::default();
    let listens = tracing_subscriber::registry().with(heard.clone().with_filter(LevelFilter::INFO));
    let _listens = tracing::subscriber::set_default(listens);
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    answered(&client, &mut peer, "key").await.expect("answered");
    assert_eq!(heard.lines(), Vec::<String>::new());
}
