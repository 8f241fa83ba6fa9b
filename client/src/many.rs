//! Many items in few frames.
//!
//! What does not fit one frame is sent in several, one after the other; what belongs to several
//! servers is sent to all of them at the same time. They are not one operation: where one of them
//! fails, others may have been executed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use larder_protocol::{Class, Entry, EntryList, KeyList, Limits, Request, Status};

use crate::call::Outcome;
use crate::read::whole_ms;
use crate::reply::Answered;
use crate::reply::{Item, Reply};
use crate::servers::Servers;
use crate::way::Way;
use crate::{Client, Error};

/// LIMIT: a frame is closed when it has this much, so that it does not hold up what other tasks ask.
const FRAME_BYTES: usize = 256 * 1024;

/// LIMIT: what the header and the entry's own lengths take, rounded up.
const OVERHEAD_BYTES: usize = 64;

/// An item for [`Client::set_many`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetItem {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Thirty-two bits that the server keeps with the item and does not look at.
    pub flags: u32,
    /// How long after the server has executed the request the item expires; `None` is never.
    pub expire_in: Option<Duration>,
}

impl SetItem {
    /// An item without flags that never expires.
    pub fn new(key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        let (key, value) = (Bytes::copy_from_slice(key.as_ref()), value.into());
        Self {
            key,
            value,
            flags: 0,
            expire_in: None,
        }
    }

    /// The item expires this long after the server has executed the request.
    #[must_use]
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }

    /// Whether no frame with others may hold it, by the server's limits: those would be refused with it.
    fn goes_alone(&self, limits: &Limits) -> bool {
        let [key_bytes, value_bytes] = [&self.key, &self.value].map(|part| part.len() as u64);
        let frame_bytes = key_bytes + value_bytes + OVERHEAD_BYTES as u64;
        !(1..=u64::from(limits.key_bytes_max)).contains(&key_bytes)
            || value_bytes > u64::from(limits.value_bytes_max)
            || frame_bytes > u64::from(limits.buffered_bytes_max)
    }

    /// Sets the flags.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }
}

impl Client {
    /// Reads many items. The result has one place for each key, in the order of the keys.
    ///
    /// # Errors
    ///
    /// Any [`Error`] of any of the frames.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Item>>, Error> {
        let keys: Vec<K> = keys.into_iter().collect();
        if let Way::Servers(servers) = &self.way {
            let keys = keys.iter().map(|key| (key.as_ref(), key.as_ref()));
            let parts = Parts::of(servers, keys);
            return parts
                .ask(self, async |server: Self, keys: Vec<&[u8]>| {
                    server.get_list(&keys).await
                })
                .await;
        }
        self.get_list(&keys).await
    }

    async fn get_list<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Item>>, Error> {
        let mut items = Vec::with_capacity(keys.len());
        while items.len() < keys.len() {
            let limits = self.limits().await?;
            let list = fill_keys(&keys[items.len()..], &limits);
            let asked = list.keys();
            let Found { found, partial } = self
                .call(Request::MultiGet {
                    keys: asked,
                    want_expiry: false,
                })
                .await?;
            // An answer may be short only where it says so, and never empty.
            let asked = asked.count() as usize;
            let is_short = found.len() < asked;
            if found.is_empty() || found.len() > asked || is_short && !partial {
                return Err(Error::misfit());
            }
            for lookup in found {
                items.push(match lookup {
                    Ok(item) => Some(item),
                    Err(Status::NOT_FOUND) => None,
                    // A value that is too large for a reply with others.
                    Err(Status::TOO_LARGE) => self.get(keys[items.len()].as_ref()).await?,
                    Err(status) => {
                        return Err(Error::Refused {
                            status,
                            message: String::new(),
                        });
                    }
                });
            }
        }
        Ok(items)
    }

    /// Stores many items, each as [`set`](Client::set) does. The result has one status for each, in
    /// the order of the items: [`Status::OK`], or why it was not stored.
    ///
    /// # Errors
    ///
    /// Any [`Error`] of any of the frames.
    pub async fn set_many(
        &self,
        items: impl IntoIterator<Item = SetItem>,
    ) -> Result<Vec<Status>, Error> {
        let items: Vec<SetItem> = items.into_iter().collect();
        if let Way::Servers(servers) = &self.way {
            let parts = Parts::of(
                servers,
                items.iter().map(|item| (&item.key[..], item.clone())),
            );
            return parts
                .ask(self, async |server: Self, items: Vec<SetItem>| {
                    server.set_list(&items).await
                })
                .await;
        }
        self.set_list(&items).await
    }

    async fn set_list(&self, items: &[SetItem]) -> Result<Vec<Status>, Error> {
        let mut statuses = Vec::with_capacity(items.len());
        while statuses.len() < items.len() {
            let limits = self.limits().await?;
            let rest = &items[statuses.len()..];
            // Refused or not, it concerns this item alone.
            if rest[0].goes_alone(&limits) {
                statuses.push(self.set_alone(&rest[0]).await?);
                continue;
            }
            let list = fill_entries(rest, &limits);
            let entries = list.entries();
            let outcomes: Vec<Status> = self.call(Request::MultiSet { entries }).await?;
            if outcomes.len() != entries.count() as usize {
                return Err(Error::misfit());
            }
            statuses.extend(outcomes);
        }
        Ok(statuses)
    }

    /// Stores an item that goes alone.
    async fn set_alone(&self, item: &SetItem) -> Result<Status, Error> {
        let mut store = self.set(&item.key, item.value.clone()).flags(item.flags);
        if let Some(expire_in) = item.expire_in {
            store = store.expire_in(expire_in);
        }
        match store.await {
            Ok(_) => Ok(Status::OK),
            Err(Error::Refused { status, .. }) if status.class() == Class::Refused => Ok(status),
            Err(error) => Err(error),
        }
    }

    /// Deletes many items. The result says of each key, in the order of the keys, whether there was
    /// an item.
    ///
    /// # Errors
    ///
    /// Any [`Error`] of any of the frames.
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<bool>, Error> {
        let keys: Vec<K> = keys.into_iter().collect();
        if let Way::Servers(servers) = &self.way {
            let keys = keys.iter().map(|key| (key.as_ref(), key.as_ref()));
            let parts = Parts::of(servers, keys);
            return parts
                .ask(self, async |server: Self, keys: Vec<&[u8]>| {
                    server.delete_list(&keys).await
                })
                .await;
        }
        self.delete_list(&keys).await
    }

    async fn delete_list<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<bool>, Error> {
        let mut deleted = Vec::with_capacity(keys.len());
        while deleted.len() < keys.len() {
            let limits = self.limits().await?;
            let list = fill_keys(&keys[deleted.len()..], &limits);
            let keys = list.keys();
            let outcomes: Vec<Status> = self.call(Request::MultiDelete { keys }).await?;
            if outcomes.len() != keys.count() as usize {
                return Err(Error::misfit());
            }
            for status in outcomes {
                deleted.push(match status {
                    Status::OK => true,
                    Status::NOT_FOUND => false,
                    status => {
                        return Err(Error::Refused {
                            status,
                            message: String::new(),
                        });
                    }
                });
            }
        }
        Ok(deleted)
    }
}

/// What each of several servers is asked, and where its answers belong.
struct Parts<'s, T> {
    servers: &'s Servers,
    /// For each server: the places in the caller's list, and what stands there.
    parts: Vec<(Vec<usize>, Vec<T>)>,
    places: usize,
}

impl<'s, T> Parts<'s, T> {
    /// Takes a list apart by the servers of its keys.
    fn of<'k>(servers: &'s Servers, list: impl Iterator<Item = (&'k [u8], T)>) -> Self {
        let mut parts: Vec<_> = servers.connectors().map(|_| (vec![], vec![])).collect();
        let mut places = 0;
        for (key, one) in list {
            let (of_part, asked) = &mut parts[servers.server_of(key)];
            of_part.push(places);
            asked.push(one);
            places += 1;
        }
        Self {
            servers,
            parts,
            places,
        }
    }

    /// Asks all servers that have something of it, and puts their answers where they belong.
    async fn ask<A: Gone, Fut>(
        self,
        client: &Client,
        ask: impl Fn(Client, Vec<T>) -> Fut,
    ) -> Result<Vec<A>, Error>
    where
        Fut: Future<Output = Result<Vec<A>, Error>>,
    {
        let servers = self.servers;
        let parts = client.each_server().into_iter().zip(self.parts).enumerate();
        let parts = parts.filter(|(_, (_, (places, _)))| !places.is_empty());
        let asked = parts.map(|(number, (server, (places, list)))| {
            let ask = &ask;
            async move {
                match servers.ask(number, ask(server, list)).await {
                    Err(error) if A::MISSED.is_some() && servers.is_miss(&error) => {
                        (places, Ok(vec![]))
                    }
                    answers => (places, answers),
                }
            }
        });
        let mut all: Vec<Option<A>> = Vec::new();
        all.resize_with(self.places, || A::MISSED);
        for (places, answers) in join_all(asked).await {
            for (place, answer) in places.into_iter().zip(answers?) {
                all[place] = Some(answer);
            }
        }
        all.into_iter()
            .map(|answer| answer.ok_or_else(Error::misfit))
            .collect()
    }
}

/// What stands for the answer of a server that is gone.
trait Gone: Sized {
    /// The answer, where there can be one.
    const MISSED: Option<Self>;
}

impl Gone for Option<Item> {
    const MISSED: Option<Self> = Some(None);
}

impl Gone for bool {
    const MISSED: Option<Self> = None;
}

impl Gone for Status {
    const MISSED: Option<Self> = None;
}

/// As many of the first keys as make a frame; at least one.
fn fill_keys<K: AsRef<[u8]>>(keys: &[K], limits: &Limits) -> KeyList {
    let mut list = KeyList::default();
    for key in keys
        .iter()
        .map(AsRef::as_ref)
        .take(limits.keys_per_frame_max as usize)
    {
        if !has_room(list.keys().as_bytes(), key.len(), limits) {
            break;
        }
        list.push(key);
    }
    list
}

/// As many of the first items as make a frame; at least one, since the first does not go alone.
fn fill_entries(items: &[SetItem], limits: &Limits) -> EntryList {
    let mut list = EntryList::default();
    let items = items.iter().take(limits.keys_per_frame_max as usize);
    for item in items.take_while(|item| !item.goes_alone(limits)) {
        let SetItem {
            key,
            value,
            flags: client_flags,
            expire_in,
        } = item;
        if !has_room(list.entries().as_bytes(), key.len() + value.len(), limits) {
            break;
        }
        let (client_flags, expire_in_ms) = (*client_flags, expire_in.map(whole_ms));
        list.push(&Entry {
            key,
            value,
            client_flags,
            expire_in_ms,
        });
    }
    list
}

/// Whether an entry of this length goes into a frame that already has some.
fn has_room(list: &[u8], entry_bytes: usize, limits: &Limits) -> bool {
    let frame_bytes = FRAME_BYTES.min(limits.buffered_bytes_max as usize);
    list.is_empty() || list.len() + entry_bytes + OVERHEAD_BYTES <= frame_bytes
}

/// What a MULTI_GET found.
struct Found {
    found: Vec<Result<Item, Status>>,
    partial: bool,
}

impl Outcome for Found {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer? {
            Reply::Items {
                items: found,
                partial,
            } => Ok(Self { found, partial }),
            _ => Err(Error::misfit()),
        }
    }
}

impl Outcome for Vec<Status> {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer? {
            Reply::Outcomes(outcomes) => Ok(outcomes),
            _ => Err(Error::misfit()),
        }
    }
}
