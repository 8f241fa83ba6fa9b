//! Storing a value that is read while it is sent.

use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use larder_protocol::{
    HEADER_BYTES, Limits, Request, RequestFrame, Status, Store as StoreRequest, StoreMode,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::allowance::Patience;
use crate::call::Outcome;
use crate::connector::Connector;
use crate::error::Cause;
use crate::own::{Incoming, NoAnswer, Own, Writer};
use crate::read::{Boxed, whole_ms};
use crate::way::Way;
use crate::{Client, Error, embedded};

/// LIMIT: what is read from the source before it is sent; all that a stream keeps in memory.
const CHUNK_BYTES: usize = 64 * 1024;

/// LIMIT: how long a server that takes no more bytes has to say why.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A request to store what a source holds; await it. `T` is what comes of it, as for
/// [`Store`](crate::Store). Made by [`Client::set_from`], [`Client::add_from`] and
/// [`Client::replace_from`].
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct StoreFrom<'c, R, T> {
    client: &'c Client,
    mode: StoreMode,
    key: Bytes,
    value_bytes: u64,
    source: R,
    flags: u32,
    expire_in: Option<Duration>,
    outcome: PhantomData<fn() -> T>,
}

impl Client {
    /// Stores a value of `value_bytes` bytes that is read from `source` while it is sent. The result
    /// is its version.
    ///
    /// It travels on a connection of its own, and no more than some 64 KiB of it are in memory.
    /// In this process ([`Client::embedded`]) there is no connection, and all of it is gathered first.
    /// There is no limit to the time it takes in all, but for a [deadline](Self::until): it ends when
    /// nothing moves for [`request_timeout`](crate::Config::request_timeout), or when the server has
    /// waited too long for the source. It is never sent again by itself.
    ///
    /// A source that fails, or ends early, is [`Error::NotExecuted`]; what it holds beyond
    /// `value_bytes` is not read.
    pub fn set_from<R: AsyncRead + Send>(
        &self,
        key: impl AsRef<[u8]>,
        value_bytes: u64,
        source: R,
    ) -> StoreFrom<'_, R, u64> {
        StoreFrom::new(self, StoreMode::Set, key.as_ref(), value_bytes, source)
    }

    /// [`Client::set_from`] where there is no item. The result is its version, or `None` where there
    /// is one.
    pub fn add_from<R: AsyncRead + Send>(
        &self,
        key: impl AsRef<[u8]>,
        value_bytes: u64,
        source: R,
    ) -> StoreFrom<'_, R, Option<u64>> {
        StoreFrom::new(self, StoreMode::Add, key.as_ref(), value_bytes, source)
    }

    /// [`Client::set_from`] where there is an item. The result is its version, or `None` where there
    /// is none.
    pub fn replace_from<R: AsyncRead + Send>(
        &self,
        key: impl AsRef<[u8]>,
        value_bytes: u64,
        source: R,
    ) -> StoreFrom<'_, R, Option<u64>> {
        StoreFrom::new(self, StoreMode::Replace, key.as_ref(), value_bytes, source)
    }
}

impl<'c, R, T> StoreFrom<'c, R, T> {
    fn new(client: &'c Client, mode: StoreMode, key: &[u8], value_bytes: u64, source: R) -> Self {
        Self {
            client,
            mode,
            key: Bytes::copy_from_slice(key),
            value_bytes,
            source,
            flags: 0,
            expire_in: None,
            outcome: PhantomData,
        }
    }

    /// The item expires this long after the server has executed the request. Without this it never
    /// expires.
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }

    /// Thirty-two bits that the server keeps with the item and does not look at; 0 without this.
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// The frame up to its value.
    fn head(&self) -> Vec<u8> {
        let store = StoreRequest {
            mode: self.mode,
            key: &self.key,
            value: &[],
            client_flags: self.flags,
            expire_in_ms: self.expire_in.map(whole_ms),
        };
        let request = Request::Store(store);
        let mut head = Vec::new();
        let (id, quiet) = (0, false);
        RequestFrame { id, quiet, request }.encode_head(&mut head);
        let body_bytes = (head.len() - HEADER_BYTES) as u64 + self.value_bytes;
        // The limits were looked at: they are 32 bits.
        let body_bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
        head[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&body_bytes.to_le_bytes());
        head
    }
}

impl<'c, R: AsyncRead + Send + 'c, T: Outcome + 'c> IntoFuture for StoreFrom<'c, R, T> {
    type Output = Result<T, Error>;
    type IntoFuture = Boxed<'c, T>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let client = self.client;
            match &client.way {
                Way::Server(connector) => self.send_to(connector).await,
                Way::Servers(servers) => {
                    let number = servers.server_of(&self.key);
                    let sent = self.send_to(servers.connector(number));
                    servers.ask(number, sent).await
                }
                Way::Embedded(backend) => self.gathered(&backend.server().limits).await,
            }
        })
    }
}

impl<R: AsyncRead + Send, T> StoreFrom<'_, R, T> {
    /// Sends it on a connection of its own.
    async fn send_to(self, connector: &Connector) -> Result<T, Error>
    where
        T: Outcome,
    {
        let Own {
            server,
            mut incoming,
            mut writer,
        } = connector.open_own(self.client.allowance).await?;
        check_length(self.value_bytes, &server.limits)?;
        let head = self.head();
        let patience = incoming.patience;
        let feed = feed(&mut writer, &head, self.source, self.value_bytes, patience);
        let fed = tokio::select! {
            biased;
            // Before the rest, since a source that always has more never lets it come to that.
            () = patience.over() => return Err(Error::NotExecuted(patience.timeout())),
            fed = feed => fed,
            // A server that refuses the value says so before it has seen all of it.
            answered = incoming.early_answer() => {
                return T::from_answer(answered.map_err(not_executed)?);
            }
        };
        match fed {
            Ok(()) => T::from_answer(incoming.answer().await?),
            Err(Unfed::Source(cause)) => Err(Error::NotExecuted(cause)),
            Err(Unfed::Connection(cause)) => last_words(&mut incoming, cause).await,
        }
    }

    /// Gathers the value, and has it stored in this process.
    async fn gathered(self, limits: &Limits) -> Result<T, Error>
    where
        T: Outcome,
    {
        let allowance = self.client.allowance;
        embedded::check_time(allowance)?;
        check_length(self.value_bytes, limits)?;
        let patience = allowance.patience(Duration::MAX);
        let value = tokio::select! {
            biased;
            () = patience.over() => return Err(Error::NotExecuted(patience.timeout())),
            value = gather(self.source, self.value_bytes) => value?,
        };
        let store = StoreRequest {
            mode: self.mode,
            key: &self.key,
            value: &value,
            client_flags: self.flags,
            expire_in_ms: self.expire_in.map(whole_ms),
        };
        self.client.call(Request::Store(store)).await
    }
}

/// All of a value, for where nothing is sent.
async fn gather(source: impl AsyncRead, value_bytes: u64) -> Result<Vec<u8>, Error> {
    let mut source = pin!(source.take(value_bytes));
    let mut value = Vec::new();
    let read = source.read_to_end(&mut value).await;
    read.map_err(|error| Error::NotExecuted(Cause::Source(error.to_string())))?;
    match value.len() as u64 {
        read_bytes if read_bytes < value_bytes => {
            let cause = ended_early(read_bytes, value_bytes);
            Err(Error::NotExecuted(cause))
        }
        _ => Ok(value),
    }
}

/// Refuses a value that the server would refuse.
fn check_length(value_bytes: u64, limits: &Limits) -> Result<(), Error> {
    let value_bytes_max = limits.value_bytes_max;
    match value_bytes > u64::from(value_bytes_max) {
        true => Err(Error::Refused {
            status: Status::TOO_LARGE,
            message: format!(
                "the value has {value_bytes} bytes; this server accepts up to {value_bytes_max}"
            ),
        }),
        false => Ok(()),
    }
}

fn ended_early(read_bytes: u64, value_bytes: u64) -> Cause {
    Cause::Source(format!(
        "it ended after {read_bytes} of {value_bytes} bytes"
    ))
}

/// Why not all of a value was sent.
enum Unfed {
    Source(Cause),
    Connection(Cause),
}

/// Sends the head, and then the value as it comes.
async fn feed(
    writer: &mut Writer,
    head: &[u8],
    source: impl AsyncRead,
    value_bytes: u64,
    patience: Patience,
) -> Result<(), Unfed> {
    let mut source = pin!(source.take(value_bytes));
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left_bytes = value_bytes;
    let mut unsent = head;
    loop {
        let sent = Own::write_all(writer, unsent, patience).await;
        sent.map_err(Unfed::Connection)?;
        if left_bytes == 0 {
            return Ok(());
        }
        let count = match source.read(&mut chunk).await {
            Ok(0) => {
                let read_bytes = value_bytes - left_bytes;
                return Err(Unfed::Source(ended_early(read_bytes, value_bytes)));
            }
            Ok(count) => count,
            Err(error) => return Err(Unfed::Source(Cause::Source(error.to_string()))),
        };
        left_bytes -= count as u64;
        unsent = &chunk[..count];
    }
}

/// A connection that takes no more bytes may still have the reason; the value was not whole.
async fn last_words<T: Outcome>(incoming: &mut Incoming, cause: Cause) -> Result<T, Error> {
    incoming.patience = incoming.patience.at_most(LAST_WORDS);
    match incoming.answer().await {
        Ok(answered) => T::from_answer(answered),
        Err(NoAnswer::NotExecuted(said)) => Err(Error::NotExecuted(said)),
        Err(NoAnswer::Lost(_)) => Err(Error::NotExecuted(cause)),
    }
}

/// Nothing is executed of which the last byte was not sent, whatever else happened.
fn not_executed(none: NoAnswer) -> Error {
    match none {
        NoAnswer::NotExecuted(cause) | NoAnswer::Lost(cause) => Error::NotExecuted(cause),
    }
}
