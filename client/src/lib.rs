//! The async client for Larder, an in-memory cache server.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use larder_client::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("larder://127.0.0.1:5273").await?;
//!
//! client.set("session:17", "ada").expire_in(Duration::from_secs(3600)).await?;
//! if let Some(item) = client.get("session:17").await? {
//!     println!("{:?}, version {}", item.value, item.version);
//! }
//!
//! client.increment("visits").initial(1).await?;
//! let found = client.get_many(["session:17", "session:18"]).await?;
//! assert!(found[1].is_none());
//! # Ok(())
//! # }
//! ```
//!
//! # One connection for everybody
//!
//! A [`Client`] is a handle; clone it freely, clones share what is behind it. Requests of all tasks
//! are written together, as many in one write as there are at the moment, and replies find their
//! request by its id. How many are under way at once is bounded; those beyond wait their turn.
//! Dropping a future gives its request up: a reply that comes later is discarded. One connection is
//! enough for most programs; [`Config::connections`] makes it a few.
//!
//! How long a request may take is [`Config::request_timeout`], or what a part of a program says:
//! [`Client::within`] gives each of its requests other time, [`Client::until`] all of them a deadline.
//!
//! # Runtimes
//!
//! A connection lives in the tokio runtime in which it was made: that of [`Client::connect`], or of the
//! request that needed it. That runtime must keep running, as one of several threads does by itself, and
//! one of a single thread for as long as somebody waits in `block_on`. Any other runtime with timers may
//! then ask through the same client. Where the connection's runtime is only paused, a request from another
//! ends a tenth of a second after its time, as unknown (it may be sent when that runtime goes on), and those
//! after it make a connection in theirs. Where it has ended, so has the connection. A thread without a
//! runtime may make single requests, and connects in the runtime of the last connection; streams, and what
//! takes several requests, have to be in a runtime.
//!
//! # Large values
//!
//! [`Client::get`] and [`Client::set`] take values up to what the server accepts
//! ([`Limits::value_bytes_max`]), whole and in memory. [`Client::get_stream`] gives a value as an
//! [`AsyncRead`](tokio::io::AsyncRead) while it arrives, and [`Client::set_from`] sends one while it is
//! read from one; each on a connection of its own, so that nobody else waits for a slow end.
//!
//! ```no_run
//! # async fn example(client: larder_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use tokio::io::AsyncReadExt;
//!
//! let source: &[u8] = &[7; 10 << 20];
//! client.set_from("backup", source.len() as u64, source).await?;
//! if let Some(mut value) = client.get_stream("backup").await? {
//!     let mut first = [0; 4096];
//!     value.read_exact(&mut first).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Many who need the same
//!
//! Where making a value is dear, [`Client::get_or_fill`] has one caller of all make it, in this process
//! and in others; the others wait, or take what is out of date meanwhile. Who fails, panics, is dropped
//! or dies is followed by the next.
//!
//! ```no_run
//! # async fn load_report() -> Result<String, std::io::Error> { Ok(String::new()) }
//! # async fn example(client: larder_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let report = client
//!     .get_or_fill("report", async || load_report().await)
//!     .expire_in(Duration::from_secs(60))
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! It stands on [`Client::get_or_lease`], [`Client::invalidate`] and [`Client::end_lease`], which are
//! there for those who want it otherwise. [`Client::update`] changes a value by what it was, by
//! compare and set.
//!
//! # Several servers, or none
//!
//! [`Client::connect_many`] spreads the keys over several servers, as libmemcached and twemproxy do.
//! [`Client::embedded`] has a cache in this process (`larder::Cache`) and no server at all. Either is
//! a `Client` like any other.
//!
//! # Features
//!
//! * `json` and `postcard`: values with a type, by serde.
//! * `blocking`: for programs without a runtime.
//!
//! Requests have [`tracing`] spans at the level of debugging; [`Client::metrics`] has counts and the
//! time that answers took.
//!
//! # When things go wrong
//!
//! An [`Error`] says whether the request was executed: [`Error::NotExecuted`] and
//! [`Error::Refused`] on the one hand, [`Error::Unknown`] on the other. A lost connection is
//! replaced when the next request needs one, with growing, jittered pauses between attempts. What
//! is known not to have been executed is sent again by itself, within the limits of [`Config`]; what
//! is unknown never is. When the server announces that it drains, requests under way are finished on
//! the old connection and new ones take a new one.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod address;
mod allowance;
mod beside;
#[cfg(feature = "blocking")]
pub mod blocking;
mod call;
mod client;
mod config;
mod connector;
mod count;
mod desk;
mod embedded;
mod ending;
mod error;
mod fill;
mod flights;
mod formats;
mod forsaken;
mod inbox;
mod ketama;
mod lease;
mod length;
mod link;
mod many;
mod metrics;
mod own;
mod pause;
mod pending;
mod read;
mod reply;
mod room;
mod scan;
mod servers;
mod store;
mod store_from;
mod update;
mod value_stream;
mod way;

pub use address::{Address, DEFAULT_PORT};
pub use client::{Client, ServerInfo};
pub use config::Config;
pub use count::{Count, Counter};
pub use embedded::{Backend, Embed};
pub use error::{Cause, ConnectError, Error};
pub use fill::{FillError, GetOrFill};
pub use formats::FormatError;
#[cfg(feature = "json")]
pub use formats::json;
#[cfg(feature = "postcard")]
pub use formats::postcard;
pub use larder_protocol::{Class, ExpiryLeft, Limits, Status};
pub use lease::{Freshness, GetOrLease, Invalidate, Lease, Leased};
pub use many::SetItem;
pub use metrics::{Latency, Metrics};
pub use read::GetAndTouch;
pub use reply::Item;
pub use scan::{Page, Scan, ScanKey};
pub use servers::{Server, WhenGone};
pub use store::{Conditional, Store};
pub use store_from::StoreFrom;
pub use update::Update;
pub use value_stream::ValueStream;
