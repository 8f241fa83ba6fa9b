//! A cache in this process, in place of a server.
//!
//! This crate knows no cache. It knows what a cache must be able to do to stand where a server
//! stands: execute a frame, at once, in the caller's own thread. There is no socket, no other task
//! and no copy but that of the frame; what an operation means is decided by the same code as in a
//! server, since it is the same frame.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use larder_protocol::{Request, RequestFrame};
use tokio::task::coop::consume_budget;

use crate::allowance::Allowance;
use crate::call::Outcome;
use crate::client::ServerInfo;
use crate::error::Cause;
use crate::length::too_much;
use crate::reply::{Answered, Failure, read_answer};
use crate::{Client, Error};

/// LIMIT: replies up to this length are copied out of the buffer that the thread keeps.
const COPY_BYTES_MAX: usize = 4096;

/// LIMIT: a buffer that once held a large value is not kept for small ones.
const KEPT_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What executes requests in this process.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What a server would say about itself in the handshake.
    fn server(&self) -> &ServerInfo;

    /// Executes one whole frame and appends the whole response to it, whatever its length.
    fn execute(&self, request: &[u8], response: &mut Vec<u8>);
}

/// A cache that a [`Client`] can have in its own process; see [`Client::embedded`].
pub trait Embed {
    /// Why it cannot.
    type Error;

    /// Makes it ready to execute requests.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way.
    fn embed(self) -> Result<Arc<dyn Backend>, Self::Error>;
}

thread_local! {
    /// A request and its response; while one is under way its thread does nothing else.
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// A request that is executed when it is first looked at.
pub(crate) struct Executing<'r, T> {
    backend: &'r dyn Backend,
    request: Request<'r>,
    allowance: Allowance,
    outcome: PhantomData<fn() -> T>,
}

impl<'r, T> Executing<'r, T> {
    pub(crate) fn new(
        backend: &'r dyn Backend,
        request: Request<'r>,
        allowance: Allowance,
    ) -> Self {
        let outcome = PhantomData;
        Self {
            backend,
            request,
            allowance,
            outcome,
        }
    }
}

impl<T: Outcome> Future for Executing<'_, T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        check_time(self.allowance)?;
        // What is never waited for would otherwise never let other tasks run.
        ready!(pin!(consume_budget()).poll(context));
        Poll::Ready(answer(self.backend, &self.request).and_then(T::from_answer))
    }
}

/// Refuses what begins without any time.
#[inline]
pub(crate) fn check_time(allowance: Allowance) -> Result<(), Error> {
    let after = Duration::ZERO;
    match allowance.is_used_up() {
        true => Err(Error::NotExecuted(Cause::Timeout { after })),
        false => Ok(()),
    }
}

/// Has a request executed.
pub(crate) fn answer(backend: &dyn Backend, request: &Request<'_>) -> Result<Answered, Error> {
    if let Some(reason) = too_much(request, request.frame_bytes(), &backend.server().limits) {
        return Ok(Err(Failure {
            status: reason.status(),
            message: reason.to_string(),
        }));
    }
    BUFFERS.with_borrow_mut(|(frame, response)| {
        execute(backend, request, frame, response);
        let answered = read(response);
        for buffer in [frame, response] {
            if buffer.capacity() > KEPT_BUFFER_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        answered
    })
}

/// The whole response to a request, as bytes.
pub(crate) fn response(backend: &dyn Backend, request: &Request<'_>) -> BytesMut {
    let (mut frame, mut response) = (Vec::new(), Vec::new());
    execute(backend, request, &mut frame, &mut response);
    BytesMut::from(Bytes::from(response))
}

fn execute(
    backend: &dyn Backend,
    request: &Request<'_>,
    frame: &mut Vec<u8>,
    response: &mut Vec<u8>,
) {
    frame.clear();
    response.clear();
    RequestFrame {
        id: 0,
        quiet: false,
        request: request.clone(),
    }
    .encode(frame);
    backend.execute(frame, response);
}

/// Makes a response own what it says.
fn read(response: &mut Vec<u8>) -> Result<Answered, Error> {
    let answered = if response.len() <= COPY_BYTES_MAX {
        read_answer(response, Bytes::copy_from_slice)
    } else {
        let whole = Bytes::from(std::mem::take(response));
        read_answer(&whole, |slice| whole.slice_ref(slice))
    };
    answered.map_err(|why| Error::Unknown(Cause::Protocol(why)))
}

impl Client {
    /// A client of a cache in this process: no server, no socket, and no other task to wait for.
    ///
    /// `larder::Cache` is one such cache. All operations are there and mean the same; a program moves
    /// to a server by making its client with [`connect`](Self::connect) instead. What belongs to
    /// connections is not: such a client has no [metrics](Self::metrics), and a request that has begun
    /// has no timeout; one that has no time when it begins ([`until`](Self::until),
    /// [`within`](Self::within)) is not executed.
    ///
    /// # Errors
    ///
    /// Those of the cache.
    pub fn embedded<C: Embed>(cache: C) -> Result<Self, C::Error> {
        Ok(Self::over(crate::way::Way::Embedded(cache.embed()?)))
    }
}
