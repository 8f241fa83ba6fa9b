//! Keeping connections at hand.
//!
//! There are at most as many open connections as the configuration says, and at most one attempt to
//! make one. A request takes the open connection with the most room. It finds it without a lock: the
//! [links](Link) stay for as long as the connector does, and one whose connection has ended serves the
//! next. It waits for an attempt only
//! where no connection is open; where one is and more are wanted, the attempt runs beside it. The
//! attempt runs in a task of its own, so that a request that gives up waiting does not cut it short
//! for the others; it goes on, with growing pauses, for as long as anybody waits.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use larder_protocol::{
    Decoded, HEADER_BYTES, HELLO_BODY_BYTES_MAX, HelloRequest, PROTOCOL_VERSION, Response,
    decode_response,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio::runtime::{self, Handle, RuntimeFlavor};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::client::ServerInfo;
use crate::config::bounded;
use crate::desk::Terms;
use crate::link::{Halves, Link};
use crate::metrics::Meter;
use crate::pause::jittered;
use crate::pending::IN_FLIGHT_CEILING;
use crate::{Address, Config, ConnectError};

/// LIMIT: a server's workers are as many as its cores; more connections than this share nothing well.
const CONNECTIONS_MAX: usize = 64;

/// LIMIT: those that are open, and as many that finish what is under way on them.
const LINKS_PER_CONNECTION: usize = 4;

/// LIMIT: past this many failures the pause no longer grows; keeps the doubling in range.
const DOUBLINGS_MAX: u32 = 16;

/// Makes connections to one server.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) address: Address,
    pub(crate) config: Config,
    pub(crate) meter: Arc<Meter>,
    /// Filled from the front. Those that are open, that are not yet done, and that have ended.
    links: Box<[OnceLock<Arc<Link>>]>,
    pool: Mutex<Pool>,
    /// Told when a connection is there.
    connected: Notify,
}

#[derive(Debug, Default)]
struct Pool {
    /// Whether a task is trying to connect.
    connecting: bool,
    /// How many requests wait for a connection.
    waiters: usize,
    /// Attempts that failed since the last that did not.
    failures: u32,
    last_error: Option<ConnectError>,
    /// Where the last connection was made.
    runtime: Option<Handle>,
}

/// A connection whose handshake is done.
pub(crate) struct Greeted<R, W> {
    pub(crate) server: ServerInfo,
    pub(crate) reader: R,
    pub(crate) writer: W,
    /// What was read behind the handshake.
    pub(crate) buffer: BytesMut,
}

/// A new connection.
pub(crate) enum Opened {
    Tcp(Greeted<tcp::OwnedReadHalf, tcp::OwnedWriteHalf>),
    Unix(Greeted<unix::OwnedReadHalf, unix::OwnedWriteHalf>),
}

/// The one task that tries to connect. One that is dropped before it is done, with its runtime or by a
/// panic, has failed, and whoever still waits starts the next.
struct Attempts {
    connector: Arc<Connector>,
    // INVARIANT: says the same as the pool's `connecting`.
    is_done: bool,
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if !self.is_done {
            let cut_short = self.connector.cut_short();
            self.connector.pool().note_failure(cut_short).connecting = false;
            self.connector.connected.notify_waiters();
        }
    }
}

/// Counts a request among those that wait.
struct Waiter<'c>(&'c Connector);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.pool().waiters -= 1;
    }
}

impl Pool {
    fn note_failure(&mut self, error: ConnectError) -> &mut Self {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error);
        self
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.links().for_each(|link| link.abandon());
    }
}

impl Connector {
    pub(crate) fn new(address: Address, config: Config) -> Arc<Self> {
        let links = connections(&config) * LINKS_PER_CONNECTION;
        Arc::new(Self {
            address,
            config,
            meter: Arc::default(),
            links: (0..links).map(|_| OnceLock::new()).collect(),
            pool: Mutex::default(),
            connected: Notify::new(),
        })
    }

    /// Makes the first connection, in one attempt.
    pub(crate) async fn connect_once(&self) -> Result<(), ConnectError> {
        self.attempt().await
    }

    /// A connection that is open, if there is one.
    #[inline]
    pub(crate) fn open_link(&self) -> Option<&Link> {
        self.roomiest(1).0
    }

    /// Whether there is no connection, and the last attempt to make one has failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.open_link().is_none() && self.pool().failures > 0
    }

    /// The open connection with the most room, or a new one as soon as there is one.
    pub(crate) async fn link(self: &Arc<Self>) -> Result<&Link, ConnectError> {
        if let Some(link) = self.open_link_or_more() {
            return Ok(link);
        }
        self.pool().waiters += 1;
        let waiter = Waiter(self);
        let link = timeout(self.config.connect_timeout, self.wait_for_link()).await;
        drop(waiter);
        link.unwrap_or_else(|_| {
            let last_error = self.pool().last_error.clone();
            Err(last_error.unwrap_or_else(|| self.timed_out()))
        })
    }

    async fn wait_for_link(self: &Arc<Self>) -> Result<&Link, ConnectError> {
        loop {
            let mut connected = pin!(self.connected.notified());
            connected.as_mut().enable();
            if let Some(link) = self.open_link() {
                return Ok(link);
            }
            // While somebody waits, an attempt that ends without a connection was cut short. Where it is over
            // at once, this runtime has ended, and the next would fare no better.
            if self.connect_more().is_some_and(|task| task.is_finished())
                && let Some(error) = self.pool().last_error.clone()
            {
                return Err(error);
            }
            connected.await;
        }
    }

    /// The open connection with the most room. Where there are fewer than there should be, sees to it
    /// that somebody makes one.
    #[inline]
    pub(crate) fn open_link_or_more(self: &Arc<Self>) -> Option<&Link> {
        let wanted = connections(&self.config);
        let (link, open) = self.roomiest(wanted);
        if open < wanted {
            self.connect_more();
        }
        link
    }

    /// Starts the task that tries to connect, if there is none.
    #[cold]
    fn connect_more(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        if std::mem::replace(&mut self.pool().connecting, true) {
            return None;
        }
        let attempts = Attempts {
            connector: self.clone(),
            is_done: false,
        };
        let runtime = self.runtime_elsewhere().unwrap_or_else(Handle::current);
        Some(runtime.spawn(attempts.connect()))
    }

    /// For a thread that has no runtime: that of the last connection, if there was one.
    pub(crate) fn runtime_elsewhere(&self) -> Option<Handle> {
        match Handle::try_current() {
            Ok(_) => None,
            Err(_) => self.pool().runtime.clone(),
        }
    }

    /// The open connection with the most room, and how many are open; no more are looked for than may
    /// be.
    #[inline]
    fn roomiest(&self, wanted: usize) -> (Option<&Link>, usize) {
        let (mut roomiest, mut open) = (None, 0);
        for link in self.links() {
            let Some(room) = link.room_left() else {
                continue;
            };
            open += 1;
            if roomiest.is_none_or(|(_, most)| room > most) {
                roomiest = Some((&**link, room));
            }
            if open >= wanted {
                break;
            }
        }
        (roomiest.map(|(link, _)| link), open)
    }

    /// One of its connections, to be held for longer than a borrow.
    pub(crate) fn shared(&self, link: &Link) -> Option<Arc<Link>> {
        self.links()
            .find(|shared| std::ptr::eq(&***shared, link))
            .cloned()
    }

    #[inline]
    fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.iter().map_while(OnceLock::get)
    }

    async fn attempt(&self) -> Result<(), ConnectError> {
        let is_taken = match self.open().await? {
            Opened::Tcp(open) => self.install(open),
            Opened::Unix(open) => self.install(open),
        };
        if !is_taken {
            return Err(self.crowded());
        }
        self.meter.connected();
        self.pool().runtime = Some(Handle::current());
        Ok(())
    }

    /// Gives a connection a link, a new one or one whose connection has ended, if there is one.
    fn install<R, W>(&self, greeted: Greeted<R, W>) -> bool
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let limits = &greeted.server.limits;
        let places = limits.in_flight_max.min(self.config.in_flight_max);
        let terms = Terms {
            server: Arc::new(greeted.server),
            places: places.clamp(1, IN_FLIGHT_CEILING),
            patience: self.config.patience(),
            home: home(),
        };
        let mut halves = Halves {
            reader: greeted.reader,
            writer: greeted.writer,
            buffer: greeted.buffer,
        };
        for link in &self.links {
            match link.get() {
                Some(link) => match link.restart(&terms, halves) {
                    Ok(()) => return true,
                    Err(back) => halves = back,
                },
                None => {
                    let started = Link::start(&terms, halves, self.meter.clone());
                    if let Err(started) = link.set(started) {
                        // Two made their first connection at the same time.
                        started.abandon();
                    }
                    return true;
                }
            }
        }
        false
    }

    /// Makes one connection, in one attempt.
    pub(crate) async fn open(&self) -> Result<Opened, ConnectError> {
        let end = Instant::now() + bounded(self.config.connect_timeout);
        match &self.address {
            Address::Tcp { host, port } => {
                let connecting = TcpStream::connect((host.as_str(), *port));
                let stream = self.connected(end, connecting).await?;
                stream
                    .set_nodelay(true)
                    .map_err(|error| self.failed(&error))?;
                Ok(Opened::Tcp(self.greeted(end, stream.into_split()).await?))
            }
            Address::Unix { path } => {
                let connecting = UnixStream::connect(path);
                let stream = self.connected(end, connecting).await?;
                Ok(Opened::Unix(self.greeted(end, stream.into_split()).await?))
            }
        }
    }

    async fn connected<S>(
        &self,
        end: Instant,
        connecting: impl Future<Output = std::io::Result<S>>,
    ) -> Result<S, ConnectError> {
        let stream = timeout_at(end, connecting).await;
        let stream = stream.map_err(|_| self.timed_out())?;
        stream.map_err(|error| self.failed(&error))
    }

    async fn greeted<R, W>(
        &self,
        end: Instant,
        halves: (R, W),
    ) -> Result<Greeted<R, W>, ConnectError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let greeting = timeout_at(end, self.greet(halves)).await;
        greeting.unwrap_or_else(|_| Err(self.silent()))
    }

    /// The handshake.
    async fn greet<R, W>(
        &self,
        (mut reader, mut writer): (R, W),
    ) -> Result<Greeted<R, W>, ConnectError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut hello = Vec::new();
        HelloRequest::new(&self.config.name).encode(0, &mut hello);
        // A server that turns the client away may do so before it has read this, so that only its
        // answer, or that there is none, decides.
        let written = writer.write_all(&hello).await;
        let mut buffer = BytesMut::new();
        loop {
            if let Some((server, consumed)) = self.read_greeting(&buffer)? {
                buffer.advance(consumed);
                return Ok(Greeted {
                    server,
                    reader,
                    writer,
                    buffer,
                });
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => {
                    written.map_err(|error| self.failed(&error))?;
                    return Err(match &buffer[..] {
                        [] => self.not_larder("it closed the connection without a word"),
                        said => self.not_larder(&beginning_of(said)),
                    });
                }
                Ok(_) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// The server's half of the handshake and its length, once it is there.
    fn read_greeting(&self, buffer: &[u8]) -> Result<Option<(ServerInfo, usize)>, ConnectError> {
        let frame_bytes_max = HELLO_BODY_BYTES_MAX + HEADER_BYTES as u32;
        let (frame, consumed) = match decode_response(buffer, frame_bytes_max) {
            Decoded::Frame { frame, consumed } => (frame, consumed),
            Decoded::Incomplete { .. } => return Ok(None),
            Decoded::Refused(_) => return Err(self.not_larder(&beginning_of(buffer))),
        };
        match frame.response {
            Response::Hello(hello) if hello.version == PROTOCOL_VERSION => {
                // With others, what it sends could take any memory, or lists of keys would be sent in frames
                // of none, again and again.
                let checked = hello.limits.check();
                checked
                    .map_err(|why| self.not_larder(&format!("its limits cannot work: {why}")))?;
                let server = ServerInfo {
                    name: hello.name.to_owned(),
                    limits: hello.limits,
                };
                Ok(Some((server, consumed)))
            }
            Response::Failed { message } | Response::Close { message } => {
                let (address, status) = (self.address.clone(), frame.status);
                Err(ConnectError::TurnedAway {
                    address,
                    status,
                    message: message.to_owned(),
                })
            }
            _ => Err(self.not_larder(&beginning_of(buffer))),
        }
    }

    fn not_larder(&self, why: &str) -> ConnectError {
        ConnectError::NotLarder {
            address: self.address.clone(),
            why: why.to_owned(),
        }
    }

    fn failed(&self, error: &std::io::Error) -> ConnectError {
        ConnectError::io(&self.address, error)
    }

    fn crowded(&self) -> ConnectError {
        ConnectError::Io {
            address: self.address.clone(),
            kind: std::io::ErrorKind::ResourceBusy,
            why: "connections before it are still finishing what is under way on them".to_owned(),
        }
    }

    fn cut_short(&self) -> ConnectError {
        ConnectError::Io {
            address: self.address.clone(),
            kind: std::io::ErrorKind::Interrupted,
            why: "the task that tried to is no more; did its runtime end?".to_owned(),
        }
    }

    fn silent(&self) -> ConnectError {
        ConnectError::Silent {
            address: self.address.clone(),
            after: self.config.connect_timeout,
        }
    }

    fn timed_out(&self) -> ConnectError {
        let after = self.config.connect_timeout;
        ConnectError::Timeout {
            address: self.address.clone(),
            after,
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock()
    }
}

impl Attempts {
    /// Tries to connect until there are enough connections, or nobody waits any more.
    async fn connect(mut self) {
        while !self.is_done {
            let connector = &*self.connector;
            let failures = connector.pool().failures;
            if failures > 0 {
                sleep(connector.config.pause_after(failures)).await;
            }
            let attempt = connector.attempt().await;
            let mut pool = connector.pool();
            match attempt {
                Ok(()) => {
                    let wanted = connections(&connector.config);
                    pool.failures = 0;
                    pool.last_error = None;
                    pool.connecting = connector.roomiest(wanted).1 < wanted;
                    self.is_done = !pool.connecting;
                    drop(pool);
                    connector.connected.notify_waiters();
                }
                Err(error) => {
                    connector.meter.failed_to_connect();
                    tracing::debug!(%error, failures, "an attempt to connect failed");
                    pool.note_failure(error);
                    pool.connecting = pool.waiters > 0;
                    self.is_done = !pool.connecting;
                }
            }
        }
    }
}

/// What a stranger said, as far as people need it to recognise it.
fn beginning_of(said: &[u8]) -> String {
    /// LIMIT: letters of it that are shown.
    const SHOWN_BYTES: usize = 40;
    let shown = &said[..said.len().min(SHOWN_BYTES)];
    format!("its answer begins with \"{}\"", shown.escape_ascii())
}

/// The runtime that the connections are driven by which are made now, where it may run only while
/// somebody waits in it.
fn home() -> Option<runtime::Id> {
    let here = Handle::current();
    (here.runtime_flavor() != RuntimeFlavor::MultiThread).then(|| here.id())
}

/// How many connections there should be.
#[inline]
fn connections(config: &Config) -> usize {
    config.connections.clamp(1, CONNECTIONS_MAX)
}

impl Config {
    /// The pause before the next attempt: doubled with each failure, and drawn from its upper half,
    /// so that clients that lost a server together do not come back together.
    fn pause_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let longest = self
            .backoff_min
            .saturating_mul(1 << doublings)
            .min(self.backoff_max);
        jittered(longest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Config;

    #[test]
    fn pauses_grow_to_the_longest_and_never_past_it() {
        let config = Config {
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(100),
            ..Config::default()
        };
        for (failures, longest_ms) in [(1, 10), (2, 20), (3, 40), (5, 100), (1000, 100)] {
            for _ in 0..100 {
                let pause = config.pause_after(failures);
                assert!(
                    pause <= Duration::from_millis(longest_ms),
                    "{pause:?} after {failures}"
                );
                assert!(
                    pause >= Duration::from_millis(longest_ms) / 2,
                    "{pause:?} after {failures}"
                );
            }
        }
    }
}
