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
//! A [`Client`] is a handle on *one* connection; clone it freely, clones share it. Requests of all
//! tasks are written together, as many in one write as there are at the moment, and replies find
//! their request by its id. How many are under way at once is bounded; those beyond wait their turn.
//! Dropping a future gives its request up: a reply that comes later is discarded.
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
//! Where making a value is dear, [`Client::get_or_lease`] has one caller of many make it:
//!
//! ```no_run
//! # async fn example(client: larder_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use larder_client::Lease;
//!
//! let found = client.get_or_lease("report", Duration::from_secs(5)).await?;
//! match (found.lease, found.item) {
//!     (Lease::Won { version }, _) => {
//!         let report = "a day's work";
//!         client.cas("report", version, report).expire_in(Duration::from_secs(60)).await?;
//!     }
//!     (_, Some(item)) => println!("{:?}", item.value),
//!     (_, None) => println!("somebody is at it: ask again in a while"),
//! }
//! # Ok(())
//! # }
//! ```
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
mod call;
mod client;
mod config;
mod connector;
mod count;
mod error;
mod lease;
mod link;
mod many;
mod own;
mod pending;
mod read;
mod reply;
mod scan;
mod store;
mod store_from;
mod value_stream;

pub use address::{Address, DEFAULT_PORT};
pub use client::{Client, ServerInfo};
pub use config::Config;
pub use count::{Count, Counter};
pub use error::{Cause, ConnectError, Error};
pub use larder_protocol::{Class, ExpiryLeft, Limits, Status};
pub use lease::{Freshness, GetOrLease, Invalidate, Lease, Leased};
pub use many::SetItem;
pub use read::GetAndTouch;
pub use reply::Item;
pub use scan::{Page, Scan, ScanKey};
pub use store::{Conditional, Store};
pub use store_from::StoreFrom;
pub use value_stream::ValueStream;
