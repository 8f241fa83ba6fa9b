//! What is too long to be sent.

use larder_protocol::{Limits, Reason, Request, Store};

/// Why a server with these limits would refuse a request for its length, which need not be sent then.
#[inline]
pub(crate) fn too_much(request: &Request<'_>, frame_bytes: u64, limits: &Limits) -> Option<Reason> {
    let never_too_much = limits.value_bytes_max.min(limits.buffered_bytes_max);
    if frame_bytes <= u64::from(never_too_much) {
        return None;
    }
    let value_bytes_max = limits.value_bytes_max;
    if let Request::Store(Store { value, .. }) = request
        && value.len() as u64 > u64::from(value_bytes_max)
    {
        return Some(Reason::TooLarge {
            value_bytes: u32::try_from(value.len()).unwrap_or(u32::MAX),
            value_bytes_max,
        });
    }
    let frame_bytes_max = match request.opcode().has_value_in_place() {
        true => limits.frame_bytes_max,
        false => limits.buffered_bytes_max,
    };
    (frame_bytes > u64::from(frame_bytes_max)).then_some(Reason::FrameTooLarge {
        frame_bytes,
        frame_bytes_max,
    })
}
