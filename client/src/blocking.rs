//! For programs without a runtime: the same client, and a way to wait.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use larder_client::blocking::{self, Wait};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = blocking::connect("larder://127.0.0.1:5273")?;
//!
//! client.set("greeting", "hello").expire_in(Duration::from_secs(60)).wait()?;
//! let found = client.get("greeting").wait()?;
//! let many = client.get_many(["a", "b"]).wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! Whatever can be awaited can be waited for, so nothing is missing here. The connections are served by
//! one thread in the background, which is started with the first client and shared by all; the thread
//! that waits only sleeps. A client can be cloned and used by many threads at a time.
//!
//! A client that was made in a runtime may be waited for as well, for as long as [that one
//! runs](crate#runtimes).
//!
//! Do not wait within a runtime: a task that waits keeps its thread from every other task. tokio
//! panics there, and says so.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use crate::{Client, Config, ConnectError};

/// Connects to the server at a URL; see [`Client::connect`].
///
/// # Errors
///
/// The URL makes no sense, or the one attempt to connect failed.
pub fn connect(url: &str) -> Result<Client, ConnectError> {
    connect_with(url, Config::default())
}

/// Connects with other settings than the default ones.
///
/// # Errors
///
/// The URL makes no sense, or the one attempt to connect failed.
pub fn connect_with(url: &str, config: Config) -> Result<Client, ConnectError> {
    Client::connect_with(url, config).wait()
}

/// Waiting for what could be awaited.
pub trait Wait: IntoFuture + Sized {
    /// Waits in this thread.
    ///
    /// # Panics
    ///
    /// Within a runtime, where it should be awaited instead; or if the system has no thread left to
    /// serve connections with.
    fn wait(self) -> Self::Output {
        runtime().block_on(self.into_future())
    }
}

impl<T: IntoFuture> Wait for T {}

/// What serves the connections of this module.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("larder-client");
        let runtime = builder.enable_all().build();
        runtime.expect("the system has a thread for the connections")
    })
}
