//! Listing the keys.

use bytes::Bytes;
use larder_protocol::{ExpiryLeft, Request};

use crate::call::{Answered, Outcome};
use crate::reply::Reply;
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
pub struct Scan<'c> {
    client: &'c Client,
    cursor: Option<u64>,
    keys_per_page: u32,
}

impl<'c> Scan<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        Self {
            client,
            cursor: Some(0),
            keys_per_page: 0,
        }
    }

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
        let Some(cursor) = self.cursor else {
            return Ok(None);
        };
        let page = self.client.scan_page(cursor, self.keys_per_page).await?;
        self.cursor = page.next_cursor;
        Ok(Some(page.keys))
    }
}

impl Client {
    /// Lists the keys, a page at a time. Every key that is there from the first page to the last is
    /// listed at least once; some may be listed twice.
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
    pub fn scan(&self) -> Scan<'_> {
        Scan::new(self)
    }

    /// One page of a scan: the first with cursor 0, each further one with the cursor that the page
    /// before named. `limit` is about how many keys it should have; 0 leaves it to the server.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn scan_page(&self, cursor: u64, limit: u32) -> Result<Page, Error> {
        self.connector.call(Request::Scan { cursor, limit }).await
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
