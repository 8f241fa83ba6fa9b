//! Requests whose callers went away before the answer came, or had no more time for it.
//!
//! Nobody needs such an answer, with one exception: a read on the terms of a [lease](crate::lease) may have
//! won it, and then nobody else is told to make the value until its time is over. So that answer is waited
//! for in the caller's place, and what it won is given back.

use std::future::poll_fn;
use std::sync::Arc;

use larder_protocol::Request;
use tokio::runtime::Handle;

use crate::Error;
use crate::allowance::Allowance;
use crate::connector::Connector;
use crate::lease::{Lease, Leased};
use crate::link::Link;
use crate::pending::Answer;
use crate::reply::{Reply, read_answer};

/// A request that was sent, and that somebody waits for. Dropped before its answer is taken, nobody does.
struct Sent {
    link: Arc<Link>,
    id: u32,
    is_answered: bool,
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.is_answered {
            self.link.give_up(self.id);
        }
    }
}

impl Sent {
    async fn answer(mut self) -> Answer {
        let answer = poll_fn(|context| self.link.poll_answer(self.id, context)).await;
        self.is_answered = true;
        answer
    }
}

impl Connector {
    /// The caller of a request that was sent is done with it, whatever comes of it.
    pub(crate) fn forsake(self: &Arc<Self>, request: &Request<'_>, link: &Link, id: u32) {
        let Request::GetOrLease { key, .. } = request else {
            return link.give_up(id);
        };
        let runtime = Handle::try_current().ok();
        let runtime = runtime.or_else(|| self.runtime_elsewhere());
        // Without a runtime there is nobody who could wait; the lease runs out by itself.
        let (Some(link), Some(runtime)) = (self.shared(link), runtime) else {
            return link.give_up(id);
        };
        if !link.pass_on(id) {
            return;
        }
        let sent = Sent {
            link,
            id,
            is_answered: false,
        };
        let (connector, key) = (self.clone(), key.to_vec());
        runtime.spawn(async move {
            if let Some(version) = won(&sent.answer().await) {
                let request = Request::EndLease { key: &key, version };
                let ended: Result<bool, Error> =
                    connector.call(request, Allowance::Configured).await;
                tracing::debug!(?ended, "gave a lease back whose winner had gone");
            }
        });
    }
}

/// The version of the lease that an answer brings.
fn won(answer: &Answer) -> Option<u64> {
    let Answer::Frame(frame) = answer else {
        return None;
    };
    match read_answer(frame, |slice| frame.slice_ref(slice)) {
        Ok(Ok(Reply::Leased(Leased {
            lease: Lease::Won { version },
            ..
        }))) => Some(version),
        _ => None,
    }
}
