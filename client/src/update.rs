//! Changing a value by what it was: read, change, compare and set, and again where somebody else came
//! between.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use larder_protocol::ExpiryLeft;
use tokio::time::Instant;

use crate::error::Cause;
use crate::pause::Pauses;
use crate::read::Boxed;
use crate::reply::Item;
use crate::store::Conditional;
use crate::{Client, Error};

/// LIMIT: the first pause after somebody else came between, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];

/// A change of a value; await it. Made by [`Client::update`].
#[must_use = "nothing is sent until this is awaited"]
pub struct Update<'c, F> {
    client: &'c Client,
    key: Bytes,
    change: F,
    expire_in: Option<Duration>,
}

impl Client {
    /// Changes a value by what it was: `change` gets the item that is there, or `None`, and gives the
    /// new value, or `None` to leave it as it is. Where somebody else changes it meanwhile, `change` is
    /// called again with what is there then, until it is stored. The result is the new version, or
    /// `None` where `change` left it.
    ///
    /// ```no_run
    /// # async fn example(client: larder_client::Client) -> Result<(), larder_client::Error> {
    /// client
    ///     .update("names", |old| {
    ///         let mut names = old.map(|item| item.value.to_vec()).unwrap_or_default();
    ///         names.extend_from_slice(b"ada,");
    ///         Some(names)
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What is stored counts as fresh, as after every store, also where the old value was
    /// [out of date](Self::invalidate), which `change` is not told. So this is for values that change by
    /// what they were and by nothing else; what is made from something else, and invalidated when that
    /// changes, is made anew by [`get_or_fill`](Self::get_or_fill).
    ///
    /// The item keeps its flags, and its expiry unless another is given. As long as a
    /// [request](crate::Config::request_timeout) may take, so long it is tried in all; after that it
    /// is [`Error::NotExecuted`]. What is [unknown](Error::Unknown) is never tried again.
    pub fn update<F, V>(&self, key: impl AsRef<[u8]>, change: F) -> Update<'_, F>
    where
        F: FnMut(Option<&Item>) -> Option<V> + Send,
        V: Into<Bytes>,
    {
        Update {
            client: self,
            key: Bytes::copy_from_slice(key.as_ref()),
            change,
            expire_in: None,
        }
    }
}

impl<F> Update<'_, F> {
    /// What is stored expires this long after. Without this the item keeps its expiry, and a new one
    /// never expires.
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }
}

impl<'c, F, V> IntoFuture for Update<'c, F>
where
    F: FnMut(Option<&Item>) -> Option<V> + Send + 'c,
    V: Into<Bytes> + 'c,
{
    type Output = Result<Option<u64>, Error>;
    type IntoFuture = Boxed<'c, Option<u64>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let (client, key) = (self.client, &self.key);
            let (begun, after) = (Instant::now(), client.time_left());
            let mut pauses = Pauses::new(PAUSES[0], PAUSES[1]);
            loop {
                let old = client.get_with_expiry(key).await?;
                let Some(new) = (self.change)(old.as_ref()) else {
                    return Ok(None);
                };
                if let Some(version) = store(client, key, old, new.into(), self.expire_in).await? {
                    return Ok(Some(version));
                }
                if begun.elapsed() >= after {
                    return Err(Error::NotExecuted(Cause::Timeout { after }));
                }
                pauses.pause().await;
            }
        })
    }
}

/// Stores the new value in the old one's place, if that is still as it was.
async fn store(
    client: &Client,
    key: &Bytes,
    old: Option<Item>,
    new: Bytes,
    expire_in: Option<Duration>,
) -> Result<Option<u64>, Error> {
    let Some(old) = old else {
        let mut add = client.add(key, new);
        if let Some(expire_in) = expire_in {
            add = add.expire_in(expire_in);
        }
        return add.await;
    };
    let left = match old.expiry_left {
        ExpiryLeft::Ms(left_ms) => Some(Duration::from_millis(left_ms)),
        ExpiryLeft::Never | ExpiryLeft::NotAsked => None,
    };
    let mut cas = client.cas(key, old.version, new).flags(old.flags);
    if let Some(expire_in) = expire_in.or(left) {
        cas = cas.expire_in(expire_in);
    }
    Ok(match cas.await? {
        Conditional::Done(version) => Some(version),
        Conditional::VersionDiffers | Conditional::NotFound => None,
    })
}

impl<F> fmt::Debug for Update<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
