//! `get_or_fill` where there is no cache to be asked.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use larder_client::{Cause, Client, Config, Error, FillError};
use larder_protocol::{
    ExpiryLeft, Lease as WireLease, Opcode, Presence, Request, StoreMode, ValueMeta, encode_done,
    encode_leased_head, encode_stored,
};
use tokio::time::{Instant, timeout};

use crate::fake::{Asked, Fake, Peer};

const CALLERS: usize = 12;

#[tokio::test(start_paused = true)]
async fn those_who_fail_without_the_cache_do_not_wait_for_it_one_after_the_other() {
    let nobody = Fake::start().await;
    let config = Config::default();
    let once = config.connect_timeout;
    let client = Client::lazy(&nobody.url(), config).expect("a good address");
    drop(nobody);
    let made = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, made) = (client.clone(), made.clone());
            tokio::spawn(async move {
                let filled = client.get_or_fill("k", async || {
                    made.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Err::<&str, _>("no database")
                });
                filled.await
            })
        })
        .collect();
    for caller in callers {
        let filled = caller.await.expect("no panic");
        assert_eq!(filled, Err(FillError::Fill("no database")));
    }
    assert_eq!(made.load(Ordering::Relaxed), CALLERS);
    let waited = begun.elapsed();
    assert!(waited < 2 * once, "{waited:?} on the clock of the test");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_is_told_with_the_time_that_there_was() {
    let nobody = Fake::start().await;
    let client = Client::lazy(&nobody.url(), Config::default()).expect("a good address");
    drop(nobody);
    let after = Duration::from_secs(10);
    let hurried = client.until((Instant::now() + after).into_std());
    let filled = hurried
        .get_or_fill("k", std::future::pending::<Result<&str, &str>>)
        .await;
    let over = Error::Unknown(Cause::Timeout { after });
    assert_eq!(filled, Err(FillError::Cache(over)));
}

/// Has a value made that is out of date, and that another caller was to make, who is dead.
#[tokio::test]
async fn what_a_dead_process_was_to_make_anew_is_made_by_another() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    let serve = tokio::spawn(async move {
        let (mut version, mut holder) = (7, WireLease::Taken);
        let mut stored = None;
        while let Some(asked) = peer.next().await {
            let (id, mut out) = (asked.frame().id, Vec::new());
            match asked.request() {
                Request::GetOrLease { .. } => {
                    let meta = ValueMeta {
                        client_flags: 0,
                        version,
                        expiry_left: ExpiryLeft::Never,
                    };
                    encode_leased_head(&mut out, id, &meta, (Presence::Stale, holder), 3);
                    out.extend_from_slice(b"old");
                    holder = WireLease::Taken;
                }
                Request::Invalidate { version: of, .. } => {
                    assert_eq!(of, Some(version), "only the one that was found");
                    version += 1;
                    holder = WireLease::Won;
                    encode_stored(&mut out, Opcode::Invalidate, id, version);
                }
                Request::Store(store) => {
                    assert_eq!(store.mode, StoreMode::Cas { version });
                    stored = Some(store.value.to_vec());
                    encode_stored(&mut out, Opcode::Cas, id, version + 1);
                }
                other => panic!("{other:?}"),
            }
            peer.send(&out).await;
        }
        stored
    });
    let fill = || client.get_or_fill("k", async || Ok::<_, &str>("new"));
    let in_time = fill().await;
    assert_eq!(in_time.expect("there is one"), "old");
    let late = fill().lease_for(Duration::ZERO).await;
    assert_eq!(late.expect("made"), "new");
    let waited = fill().lease_for(Duration::ZERO).never_stale().await;
    assert_eq!(waited.expect("made"), "new");
    drop(client);
    assert_eq!(serve.await.expect("no panic"), Some(b"new".to_vec()));
}

/// How a caller leaves whom a lease is won for.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// Before the answer comes.
    Before,
    /// When it is there, and was not looked at.
    After,
    /// Since its time is over.
    InTime,
}

#[tokio::test]
async fn a_lease_that_was_won_for_a_caller_who_has_gone_is_given_back() {
    /// LIMIT: the answer to a request over the loopback.
    const PATIENCE: Duration = Duration::from_secs(10);
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client(Config::default()).await;
    for leaves in [Leaves::Before, Leaves::After, Leaves::InTime] {
        let hurried = client.within(match leaves {
            Leaves::Before | Leaves::After => PATIENCE,
            Leaves::InTime => Duration::from_millis(20),
        });
        let fill = hurried.get_or_fill("k", async || Ok::<_, &str>("v"));
        let mut fill = fill.into_future();
        let first_poll = poll_fn(|context| Poll::Ready(fill.as_mut().poll(context)));
        assert!(first_poll.await.is_pending());
        let asked = peer.expect().await;
        match leaves {
            Leaves::Before => {
                drop(fill);
                won(&mut peer, &asked).await;
            }
            Leaves::After => {
                won(&mut peer, &asked).await;
                let serve = async {
                    let asked = peer.expect().await;
                    peer.found(&asked, b"").await;
                };
                let (behind, ()) = tokio::join!(client.get("behind it"), serve);
                behind.expect("answered");
                drop(fill);
            }
            Leaves::InTime => {
                assert_eq!(fill.await.expect("made without the cache"), "v");
                won(&mut peer, &asked).await;
            }
        }
        let given_back = timeout(PATIENCE, peer.expect()).await;
        let given_back = given_back.unwrap_or_else(|_| panic!("nobody gives it back: {leaves:?}"));
        let expected = Request::EndLease {
            key: b"k",
            version: 9,
        };
        assert_eq!(given_back.request(), expected);
        let mut out = Vec::new();
        encode_done(&mut out, Opcode::EndLease, given_back.frame().id);
        peer.send(&out).await;
    }
}

/// Tells the caller to make a value.
async fn won(peer: &mut Peer, asked: &Asked) {
    let meta = ValueMeta {
        client_flags: 0,
        version: 9,
        expiry_left: ExpiryLeft::Never,
    };
    let mut out = Vec::new();
    let said = (Presence::Absent, WireLease::Won);
    encode_leased_head(&mut out, asked.frame().id, &meta, said, 0);
    peer.send(&out).await;
}
