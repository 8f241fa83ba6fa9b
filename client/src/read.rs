//! Reading one item.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use larder_protocol::{Decoded, Request, Status, decode_value_head};

use crate::call::Outcome;

use crate::reply::{Answered, Failure, Item, Reply, read_answer};
use crate::{Client, Error};

/// What an operation with options becomes when it is awaited.
pub(crate) type Boxed<'c, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'c>>;

/// A read that gives the item a new expiry; await it. Made by [`Client::get_and_touch`].
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct GetAndTouch<'c> {
    pub(crate) client: &'c Client,
    pub(crate) key: Bytes,
    pub(crate) expire_in: Option<Duration>,
}

impl GetAndTouch<'_> {
    /// The item expires this long after the server has executed the request. Without this it never
    /// expires.
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }
}

impl<'c> IntoFuture for GetAndTouch<'c> {
    type Output = Result<Option<Item>, Error>;
    type IntoFuture = Boxed<'c, Option<Item>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let expire_in_ms = self.expire_in.map(whole_ms);
            let request = Request::GetAndTouch {
                key: &self.key,
                expire_in_ms,
                want_expiry: true,
            };
            self.client.call(request).await
        })
    }
}

impl Outcome for Option<Item> {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer {
            Ok(Reply::Item(item)) => Ok(Some(item)),
            Ok(_) => Err(Error::misfit()),
            Err(Failure {
                status: Status::NOT_FOUND,
                ..
            }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// What most requests are after: the frame of a value is cut down to the value, without a look at
    /// anything else that a frame may be.
    #[inline]
    fn from_frame(mut frame: Bytes) -> Result<Result<Self, Error>, String> {
        match decode_value_head(&frame, u32::MAX) {
            Decoded::Frame {
                frame: head,
                consumed,
            } if frame.len() - consumed == head.value_bytes as usize => {
                frame.advance(consumed);
                Ok(Ok(Some(Item::new(frame, &head.meta))))
            }
            _ => Ok(Self::from_answer(read_answer(&frame, |slice| {
                frame.slice_ref(slice)
            })?)),
        }
    }
}

/// A duration as the wire states it: rounded up, so that no item expires before its time.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    // LIMIT: the largest number means never; half a billion years are as good.
    u64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::whole_ms;

    #[test]
    fn parts_of_a_millisecond_count_whole() {
        assert_eq!(whole_ms(Duration::ZERO), 0);
        assert_eq!(whole_ms(Duration::from_nanos(1)), 1);
        assert_eq!(whole_ms(Duration::from_micros(2001)), 3);
        assert_eq!(whole_ms(Duration::MAX), u64::MAX - 1);
    }
}
