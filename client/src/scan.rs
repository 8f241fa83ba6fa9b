//! Listing the keys.

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use larder_protocol::{ExpiryLeft, Request, Status};

use crate::call::Outcome;
use crate::reply::Answered;
use crate::reply::Reply;
use crate::way::Way;
use crate::{Client, Error};

/// One key of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanKey {
    /// The key.
    pub key: Bytes,
    /// The length of its value.
    pub value_bytes: u32,
    /// The version of the item.
    pub version: u64,
    /// How long the item has left.
    pub expiry_left: ExpiryLeft,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys; there may be none although the scan goes on.
    pub keys: Vec<ScanKey>,
    /// The cursor of the next page; `None` where this was the last.
    pub next_cursor: Option<u64>,
}

/// A scan under way; see [`Client::scan`].
#[derive(Debug)]
pub struct Scan {
    /// Whose pages are still to be asked for; the present one last.
    servers: Vec<Client>,
    cursor: u64,
    keys_per_page: u32,
}

impl Scan {
    /// About how many keys a page should have; without this the server decides.
    #[must_use]
    pub fn keys_per_page(mut self, keys_per_page: u32) -> Self {
        self.keys_per_page = keys_per_page;
        self
    }

    /// The next page of keys, which may be empty, or `None` when the scan is over. After an error,
    /// the same page is asked for again.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn next_page(&mut self) -> Result<Option<Vec<ScanKey>>, Error> {
        let Some(server) = self.servers.last() else {
            return Ok(None);
        };
        let page = server.scan_page(self.cursor, self.keys_per_page).await?;
        self.cursor = page.next_cursor.unwrap_or(0);
        if page.next_cursor.is_none() {
            self.servers.pop();
        }
        Ok(Some(page.keys))
    }

    /// The keys one after the other. After an error there are no more.
    pub fn into_stream(self) -> impl Stream<Item = Result<ScanKey, Error>> + Send + 'static {
        let begin = (self, Vec::new().into_iter());
        stream::try_unfold(begin, async |(mut scan, mut page)| {
            loop {
                if let Some(key) = page.next() {
                    return Ok(Some((key, (scan, page))));
                }
                match scan.next_page().await? {
                    Some(keys) => page = keys.into_iter(),
                    None => return Ok(None),
                }
            }
        })
    }
}

impl Client {
    /// Lists the keys, a page at a time, of all servers where there are several. Every key that is
    /// there from the first page to the last is listed at least once; some may be listed twice.
    ///
    /// ```no_run
    /// # async fn example(client: larder_client::Client) -> Result<(), larder_client::Error> {
    /// let mut scan = client.scan();
    /// while let Some(keys) = scan.next_page().await? {
    ///     for key in keys {
    ///         println!("{:?}: {} bytes", key.key, key.value_bytes);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Or as a [`Stream`]:
    ///
    /// ```no_run
    /// # async fn example(client: larder_client::Client) -> Result<(), larder_client::Error> {
    /// use futures_util::TryStreamExt;
    ///
    /// let large = client.scan().into_stream().try_filter(|key| {
    ///     std::future::ready(key.value_bytes > 1_000_000)
    /// });
    /// let large: Vec<_> = large.try_collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self) -> Scan {
        let mut servers = self.each_server();
        servers.reverse();
        Scan {
            servers,
            cursor: 0,
            keys_per_page: 0,
        }
    }

    /// One page of a scan: the first with cursor 0, each further one with the cursor that the page
    /// before named. `limit` is about how many keys it should have; 0 leaves it to the server.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Status::UNSUPPORTED`] where there are several servers, since a cursor is of one
    /// of them: [`scan`](Self::scan) goes through all.
    pub async fn scan_page(&self, cursor: u64, limit: u32) -> Result<Page, Error> {
        if matches!(self.way, Way::Servers(_)) {
            return Err(Error::Refused {
                status: Status::UNSUPPORTED,
                message: "a cursor is of one server, and there are several".to_owned(),
            });
        }
        self.call(Request::Scan { cursor, limit }).await
    }
}

impl Outcome for Page {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer? {
            Reply::Scan { next_cursor, keys } => Ok(Self {
                keys,
                next_cursor: (next_cursor != 0).then_some(next_cursor),
            }),
            _ => Err(Error::misfit()),
        }
    }
}
