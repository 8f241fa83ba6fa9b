//! The black box's own files, module by module, but for the one that makes its memory; and what
//! models need of its inside.

#[path = "../../src/blackbox/board.rs"]
mod board;
#[path = "../../src/blackbox/content.rs"]
mod content;
#[path = "../../src/blackbox/latency.rs"]
mod latency;
#[path = "../../src/blackbox/layout.rs"]
mod layout;
#[path = "../../src/blackbox/names.rs"]
mod names;
#[path = "../../src/blackbox/orders.rs"]
mod orders;
#[path = "../../src/blackbox/peer.rs"]
mod peer;
#[path = "../../src/blackbox/pen.rs"]
mod pen;
#[path = "../../src/blackbox/ring.rs"]
mod ring;
#[path = "../../src/blackbox/sequence.rs"]
mod sequence;
#[path = "../../src/blackbox/snapshot.rs"]
mod snapshot;

use crate::arena::Arena;
use crate::sync::Arc;

pub(crate) use content::BlackBox;
pub(crate) use names::{Kind, Operation, Outcome, Phase};
pub(crate) use peer::{PackedPeer, Peer};
pub(crate) use pen::{Pen, Thread};
pub(crate) use ring::Record;

/// A box that nobody has written to.
pub(crate) fn empty_box() -> Arc<BlackBox> {
    let arena = Arena::new(layout::BYTES).expect("memory");
    Arc::new(BlackBox::new(arena, Kind::Worker, 7, &["first", "second"]))
}

/// The connection that is served and its peer's port, and whether they are torn.
pub(crate) fn served(black_box: &BlackBox) -> (u64, Peer, bool) {
    let at = layout::SERVED_AT;
    let read = sequence::Sequence { at }.words::<{ layout::SERVED_WORDS }>(&black_box.arena);
    let [number, peer @ ..] = read.value;
    (number, Peer::of(PackedPeer(peer)), read.is_torn)
}

/// A batch: its number, when it began, how long it took (0: it has not ended), its first operation and
/// its connection.
pub(crate) type BatchRead = [u64; 5];

/// The last batches, oldest first.
pub(crate) fn batches(black_box: &BlackBox) -> Vec<BatchRead> {
    let read = ring::read_batches(&black_box.arena, crate::shape::BOX_OPERATIONS);
    let parts = |(number, batch): (u64, ring::Found)| {
        [
            number,
            batch.start_ns,
            batch.duration_ns,
            batch.first,
            batch.connection,
        ]
    };
    read.into_iter().map(parts).collect()
}

/// The operation that has begun and not ended.
pub(crate) fn open(black_box: &BlackBox) -> Option<Record> {
    ring::read_open(&black_box.arena)
}
