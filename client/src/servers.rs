//! Several servers, each with its share of the keys.
//!
//! Which server a key belongs to is decided by [ketama](crate::ketama), from the servers' names and
//! weights alone, so that every client with the same list finds the same keys, whatever state its
//! connections are in. A server that is gone keeps its keys: they miss, or fail, until it is back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::join_all;
use larder_protocol::{Arithmetic, Request, Status, Store};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::allowance::Allowance;
use crate::call::{Call, Outcome};
use crate::config::bounded;
use crate::connector::Connector;
use crate::error::Cause;
use crate::ketama::Continuum;
use crate::reply::Failure;
use crate::way::Way;
use crate::{Address, Client, Config, ConnectError, Error};

/// LIMIT: a list longer than this is a mistake.
const SERVERS_MAX: usize = 1024;

/// LIMIT: weights are 1 to this, so that their sum stays exact.
const WEIGHT_MAX: u32 = 65_535;

/// One of several servers, for [`Client::connect_many`]. A URL alone makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    url: String,
    name: Option<String>,
    weight: u32,
}

/// What becomes of the keys of a server that cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenGone {
    /// Reads find nothing and writes fail, at once, for this long after an attempt to reach it has
    /// failed; then one request tries again. A connection that is lost while it reads is a miss too.
    Miss {
        /// For how long it is left alone.
        retry_after: Duration,
    },
    /// Every request for them tries to reach it, and fails.
    Fail,
}

/// Several servers.
#[derive(Debug)]
pub(crate) struct Servers {
    nodes: Vec<Node>,
    continuum: Continuum,
    when_gone: WhenGone,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Node {
    connector: Arc<Connector>,
    /// Until when it is left alone.
    gone_until: Mutex<Option<Instant>>,
}

/// A request to one of several servers, and what comes of it.
pub(crate) struct AskingOne<'r, T> {
    servers: &'r Servers,
    number: usize,
    /// Whether it changes nothing.
    reads: bool,
    /// Whether its server was asked.
    asked: bool,
    call: Call<'r, T>,
}

impl<T: Outcome> Future for AskingOne<'_, T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (servers, number) = (self.servers, self.number);
        let left_alone = match std::mem::replace(&mut self.asked, true) {
            true => None,
            false => servers.is_left_alone(number),
        };
        let answered = match left_alone {
            Some(error) => Err(error),
            None => ready!(Pin::new(&mut self.call).poll(context)),
        };
        servers.note(number, &answered);
        Poll::Ready(match answered {
            Err(error) if self.reads && servers.is_miss(&error) => T::from_answer(Err(Failure {
                status: Status::NOT_FOUND,
                message: String::new(),
            })),
            answered => answered,
        })
    }
}

impl Server {
    /// A server at a URL, of weight 1, placed by its host and port.
    pub fn new(url: impl Into<String>) -> Self {
        let (url, name, weight) = (url.into(), None, 1);
        Self { url, name, weight }
    }

    /// Its share of the keys, beside the others' weights: 1 to 65,535.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// What it is placed by. Without this it is what libmemcached and twemproxy make of a server's
    /// address: `HOST:PORT`, or `HOST` alone where the port is 11211. Where other clients reach the same
    /// server at another port, give all of them the same name:
    /// `Server::new("larder://10.0.0.1:5273").named("10.0.0.1")` has its keys where a client of
    /// memcached's protocol looks for them at 10.0.0.1:11211. In twemproxy's settings a name of one's own
    /// is behind the weight, as in `10.0.0.1:11211:1 cache-a`.
    ///
    /// A socket is placed by `PATH:0`, as by libmemcached; twemproxy makes `PATH:` of it.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<T: Into<String>> From<T> for Server {
    fn from(url: T) -> Self {
        Self::new(url)
    }
}

impl Client {
    /// Connects to several servers, among which the keys are spread by ketama: every client with the
    /// same list finds the same keys, also one that uses libmemcached's weighted ketama, or twemproxy
    /// with `distribution: ketama` and `hash: md5` (by itself it hashes keys otherwise). When a server is
    /// added, or taken away, only its share of the keys moves.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use larder_client::{Client, Server};
    ///
    /// let client = Client::connect_many([
    ///     Server::new("larder://10.0.0.1"),
    ///     Server::new("larder://10.0.0.2").weight(2),
    /// ])
    /// .await?;
    /// client.set("greeting", "hello").await?;       // goes to one of them
    /// client.get_many(["a", "b", "c"]).await?;      // goes to all that have some, at the same time
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The list makes no sense, or a server cannot be reached. Where the keys of one that is gone
    /// [miss](WhenGone::Miss), as they do by default, that is an error only if none can be reached.
    pub async fn connect_many<S: Into<Server>>(
        servers: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConnectError> {
        Self::connect_many_with(servers, Config::default()).await
    }

    /// [`Client::connect_many`] with other settings than the default ones.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect_many_with<S: Into<Server>>(
        servers: impl IntoIterator<Item = S>,
        config: Config,
    ) -> Result<Self, ConnectError> {
        let servers: Vec<Server> = servers.into_iter().map(Into::into).collect();
        let servers = Arc::new(Servers::new(&servers, &config)?);
        servers.connect_once().await?;
        Ok(Self::over(Way::Servers(servers)))
    }

    /// A client for each server behind this one, in the order of the list; for one server, and in
    /// this process, that is this client alone. What concerns one server, such as its
    /// [`stats`](Self::stats), is asked of these.
    #[must_use]
    pub fn each_server(&self) -> Vec<Self> {
        match &self.way {
            Way::Servers(servers) => {
                let of_node = |node: &Node| Self {
                    way: Way::Server(node.connector.clone()),
                    ..self.clone()
                };
                servers.nodes.iter().map(of_node).collect()
            }
            Way::Server(_) | Way::Embedded(_) => vec![self.clone()],
        }
    }

    /// Does something at all servers at the same time, and gives the first error, if there is one.
    pub(crate) async fn at_each<T, Fut>(&self, act: impl Fn(Self) -> Fut) -> Result<Vec<T>, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        let all = self.each_server().into_iter().map(act);
        join_all(all).await.into_iter().collect()
    }
}

impl Servers {
    fn new(servers: &[Server], config: &Config) -> Result<Self, ConnectError> {
        let wrong = |why| ConnectError::Servers { why };
        if servers.is_empty() || servers.len() > SERVERS_MAX {
            let count = servers.len();
            return Err(wrong(format!("it has {count} servers, not from 1 to 1024")));
        }
        let mut nodes = Vec::with_capacity(servers.len());
        let mut places: Vec<(String, u32)> = Vec::with_capacity(servers.len());
        for server in servers {
            let address: Address = server.url.parse()?;
            if server.weight == 0 || server.weight > WEIGHT_MAX {
                let Server { url, weight, .. } = server;
                return Err(wrong(format!(
                    "{url} has the weight {weight}; a weight is from 1 to 65535"
                )));
            }
            let name = server.name.clone().unwrap_or_else(|| name_of(&address));
            if places.iter().any(|(other, _)| *other == name) {
                return Err(wrong(format!(
                    "two of them have the name {name:?}, by which keys are placed; each has its own, if need \
                     be by Server::named"
                )));
            }
            places.push((name, server.weight));
            nodes.push(Node {
                connector: Connector::new(address, config.clone()),
                gone_until: Mutex::default(),
            });
        }
        let places = places.iter().map(|(name, weight)| (&name[..], *weight));
        Ok(Self {
            continuum: Continuum::new(places),
            nodes,
            when_gone: match config.when_gone {
                WhenGone::Miss { retry_after } => WhenGone::Miss {
                    retry_after: bounded(retry_after),
                },
                WhenGone::Fail => WhenGone::Fail,
            },
        })
    }

    async fn connect_once(&self) -> Result<(), ConnectError> {
        let connecting = self.nodes.iter().map(|node| async {
            let connected = node.connector.connect_once().await;
            connected.inspect_err(|_| {
                if let WhenGone::Miss { retry_after } = self.when_gone {
                    *node.gone_until() = Some(Instant::now() + retry_after);
                }
            })
        });
        let results = join_all(connecting).await;
        let some_are_there = results.iter().any(Result::is_ok);
        match self.when_gone {
            WhenGone::Miss { .. } if some_are_there => Ok(()),
            _ => results.into_iter().collect(),
        }
    }

    /// The first of them.
    pub(crate) fn first(&self) -> &Arc<Connector> {
        &self.nodes[0].connector
    }

    pub(crate) fn connector(&self, number: usize) -> &Arc<Connector> {
        &self.nodes[number].connector
    }

    pub(crate) fn connectors(&self) -> impl Iterator<Item = &Arc<Connector>> {
        self.nodes.iter().map(|node| &node.connector)
    }

    /// The number of the server that a key belongs to.
    pub(crate) fn server_of(&self, key: &[u8]) -> usize {
        self.continuum.server_of(key)
    }

    /// Asks the server that the key of a request belongs to.
    pub(crate) fn call<'r, T>(
        &'r self,
        request: Request<'r>,
        allowance: Allowance,
    ) -> AskingOne<'r, T> {
        // Requests without a key, and lists of keys, are taken apart before they come here.
        let number = key_of(&request).map_or(0, |key| self.server_of(key));
        AskingOne {
            servers: self,
            number,
            reads: is_read(&request),
            asked: false,
            call: self.nodes[number].connector.call(request, allowance),
        }
    }

    /// Asks a server something that takes more than one request, unless it is not asked at this moment,
    /// and notes whether it is there.
    pub(crate) async fn ask<T>(
        &self,
        number: usize,
        ask: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answered = match self.is_left_alone(number) {
            Some(error) => Err(error),
            None => ask.await,
        };
        self.note(number, &answered);
        answered
    }

    /// Whether a read that ended with this error found nothing instead. That the caller had no more
    /// time tells nothing about the server.
    pub(crate) fn is_miss(&self, error: &Error) -> bool {
        let is_lost = matches!(
            error,
            Error::Unknown(Cause::ConnectionLost(_) | Cause::ConnectionClosed { .. })
        );
        let is_gone = error.is_unreachable() || is_lost;
        is_gone && matches!(self.when_gone, WhenGone::Miss { .. })
    }

    /// Why a server is not asked at this moment, if it is not.
    fn is_left_alone(&self, number: usize) -> Option<Error> {
        match self.when_gone {
            WhenGone::Miss { retry_after } => self.nodes[number].is_left_alone(retry_after),
            WhenGone::Fail => None,
        }
    }

    /// Notes from how a request ended whether its server is there. One that had too little time to
    /// hear that it cannot be reached may still know of an attempt that has failed.
    fn note<T>(&self, number: usize, answered: &Result<T, Error>) {
        if let WhenGone::Miss { retry_after } = self.when_gone {
            let node = &self.nodes[number];
            match answered {
                Ok(_) | Err(Error::Refused { .. }) => node.note_there(),
                Err(error) if error.is_unreachable() || node.connector.is_failing() => {
                    node.note_gone(retry_after);
                }
                Err(_) => {}
            }
        }
    }
}

impl Node {
    /// Why it is not asked now, if it is not. The first that comes when its time is over tries, and
    /// the others leave it alone for as long again.
    fn is_left_alone(&self, retry_after: Duration) -> Option<Error> {
        let mut gone_until = self.gone_until();
        match *gone_until {
            Some(until) if until > Instant::now() => {
                let error = ConnectError::LeftAlone {
                    address: self.connector.address.clone(),
                };
                Some(error.into())
            }
            Some(_) => {
                *gone_until = Some(Instant::now() + retry_after);
                None
            }
            None => None,
        }
    }

    fn note_gone(&self, retry_after: Duration) {
        let mut gone_until = self.gone_until();
        if gone_until.is_none_or(|until| until <= Instant::now()) {
            *gone_until = Some(Instant::now() + retry_after);
        }
    }

    fn note_there(&self) {
        *self.gone_until() = None;
    }

    fn gone_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.gone_until.lock()
    }
}

/// What others call the server at an address.
fn name_of(address: &Address) -> String {
    /// memcached's own port, which its clients leave out.
    const MEMCACHED_PORT: u16 = 11211;
    match address {
        Address::Tcp {
            host,
            port: MEMCACHED_PORT,
        } => host.clone(),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        // libmemcached has no other place for a socket's path than the host's, and no port.
        Address::Unix { path } => format!("{}:0", path.display()),
    }
}

/// Whether a request changes nothing, so that it may as well have found nothing. (A lease that is won
/// and not heard of runs out.)
fn is_read(request: &Request<'_>) -> bool {
    matches!(request, Request::Get { .. } | Request::GetOrLease { .. })
}

fn key_of<'r>(request: &Request<'r>) -> Option<&'r [u8]> {
    match request {
        Request::Get { key, .. }
        | Request::GetAndTouch { key, .. }
        | Request::Store(Store { key, .. })
        | Request::Arithmetic(Arithmetic { key, .. })
        | Request::Touch { key, .. }
        | Request::Delete { key, .. }
        | Request::GetOrLease { key, .. }
        | Request::Invalidate { key, .. }
        | Request::EndLease { key, .. } => Some(key),
        Request::MultiGet { .. }
        | Request::MultiSet { .. }
        | Request::MultiDelete { .. }
        | Request::Flush { .. }
        | Request::Scan { .. }
        | Request::Stats { .. }
        | Request::Ping { .. }
        | Request::Quit => None,
    }
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn servers_have_the_names_that_libmemcached_makes_of_their_addresses() {
        let name = |url: &str| name_of(&url.parse().expect("a URL"));
        assert_eq!(name("larder://10.0.0.1:5273"), "10.0.0.1:5273");
        assert_eq!(name("larder://10.0.0.1"), "10.0.0.1:5273");
        assert_eq!(name("larder://10.0.0.1:11211"), "10.0.0.1");
        assert_eq!(name("larder+unix:///run/larder.sock"), "/run/larder.sock:0");
    }
}
