//! Requests that read on terms, mark items stale, and give leases back.

use crate::dialect::{Failure, Reply};
use crate::engine::{Guard, Invalidated, Invalidation, Key, LargeValue, Terms};

/// Reads on terms; a large value is to follow the reply.
pub(super) fn get_or_lease(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    terms: &Terms,
    reply: &mut impl Reply,
    large: &mut Option<LargeValue>,
) {
    match guard.get_or_lease(key, terms) {
        Ok(leased) if leased.item.is_none() => reply.failed(Failure::NotFound),
        Ok(leased) => {
            reply.leased(&leased);
            *large = leased.large;
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
