//! Requests that read on terms, mark items stale, and give leases back.

use super::Follow;
use crate::dialect::{Failure, Reply};
use crate::engine::{Guard, Invalidated, Invalidation, Key, Terms};

/// Reads on terms; a large value is to follow the reply.
pub(super) fn get_or_lease(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    terms: &Terms,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
) {
    match guard.get_or_lease(key, terms) {
        Ok(mut leased) => {
            let Some(item) = leased.item else {
                return reply.failed(Failure::NotFound);
            };
            leased.large = leased.large.filter(|_| reply.wants_value(&item));
            reply.leased(&leased);
            if let Some(value) = leased.large {
                let behind = reply.behind_large();
                *large = Some(Follow { value, behind });
            }
        }
        Err(error) => reply.failed(error.into()),
    }
}

pub(super) fn invalidate(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    how: &Invalidation,
    reply: &mut impl Reply,
) {
    match guard.invalidate(key, how) {
        Ok(Invalidated::Marked { version }) => reply.stored(version),
        Ok(Invalidated::NotFound) => reply.failed(Failure::NotFound),
        Ok(Invalidated::Exists) => reply.failed(Failure::Exists),
        Err(error) => reply.failed(error.into()),
    }
}

pub(super) fn end_lease(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    version: u64,
    reply: &mut impl Reply,
) {
    match guard.end_lease(key, version) {
        true => reply.done(),
        false => reply.failed(Failure::NotFound),
    }
}
