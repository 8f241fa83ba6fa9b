//! Requests that are not executed, since their like has brought the server down before.

use super::batch::{Act, Batch};
use super::record::operation_of;
use crate::blackbox::{Fingerprint, Operation};
use crate::dialect::{Dialect, Request};
use crate::engine::{Guard, Key};

/// Marks the requests of a batch that are not to be executed; says how many those are.
#[cold]
pub(super) fn mark<D: Dialect>(
    guard: &Guard<'_>,
    quarantine: &[Fingerprint],
    batch: &mut Batch<'_, D>,
) -> u64 {
    let mut marked = 0;
    for one in &mut batch.prepared {
        let operation = match &one.act {
            Act::Get(key) => has(quarantine, Operation::Get, key).then_some(Operation::Get),
            Act::Request(at, key) => {
                let request = &batch.requests[usize::from(*at)];
                let is_in = is_quarantined(guard, quarantine, request, key.as_ref());
                is_in.then(|| operation_of(request))
            }
            Act::Quarantine(..) => None,
        };
        if let Some(operation) = operation {
            one.act = Act::Quarantine(operation, one.act.key_mut().copied());
            marked += 1;
        }
    }
    marked
}

/// Whether this operation on this key is among them.
pub(super) fn has(quarantine: &[Fingerprint], operation: Operation, key: &Key<'_>) -> bool {
    let key_hash = key.hash.0;
    quarantine.contains(&Fingerprint {
        operation,
        key_hash,
    })
}

fn is_quarantined(
    guard: &Guard<'_>,
    quarantine: &[Fingerprint],
    request: &Request<'_>,
    key: Option<&Key<'_>>,
) -> bool {
    let operation = operation_of(request);
    if let Some(key) = key {
        return has(quarantine, operation, key);
    }
    if quarantine.iter().all(|one| one.operation != operation) {
        return false;
    }
    // One key of many is enough: the death was in the middle of such a request.
    let is_in = |bytes: &[u8]| {
        let key = guard.key(bytes);
        key.is_ok_and(|key| has(quarantine, operation, &key))
    };
    match *request {
        Request::GetEach { mut keys, .. } => keys.any(is_in),
        Request::MultiGet(keys) | Request::MultiDelete(keys) => keys.iter().any(is_in),
        Request::MultiSet(entries) => entries.iter().any(|entry| is_in(entry.key)),
        _ => false,
    }
}
