//! The black box of a thread: what it does now and did last, in shared memory of its own.
//!
//! ```text
//!   a thread of the server                            the process outside
//!   Pen ──plain stores──> BlackBox (a sealed memfd) <──loads── Snapshot, Record, Latencies, Board
//!                         BlackBox <──stores── Orders          (alive, hung or dead: all the same)
//! ```
//!
//! Each box has one writer, the thread whose [`Pen`] it is, and any number of readers, which take no
//! lock, stop nobody and need nothing of the writer: it may be hung, killed, or in the middle of a
//! store. What a reader is given is checked against what it knows, word by word: a box of another
//! layout is refused ([`BoxError`]), and of one that holds arbitrary bytes every figure may be wrong,
//! but nothing is read outside of it and nothing fails.
//!
//! # What is where
//!
//! | part | written | how readers know that it is whole |
//! |---|---|---|
//! | header, names of the counters | once, before the box is shared | they compare magic and version |
//! | identity | when its thread begins | a sequence (`sequence.rs`) |
//! | phase and since when, turns, connections, work waiting | each in one store | one word |
//! | the connection that is served, its peer | when it is another one | a sequence |
//! | ring of operations, ring of batches | before, during and after each | laps and announcements (`ring.rs`) |
//! | counters, latencies | one word each | one word |
//! | orders | by others than the thread | one word |
//! | board | now and then, by one thread of the server | a sequence |
//!
//! Reading a clock for each operation costs more than all the rest of this. The clock is read when
//! a batch begins and when it ends: an operation has the time and the duration of its batch, and so
//! have the latencies. A batch here is what was read at once and is answered at once, 64 operations or a
//! few more at most: it goes on where the server executes it in parts.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | a sequence, begun | `Sequence::write`, Relaxed, before a Release of each word | `Sequence::read`, an Acquire of each word, then Relaxed | who has seen a word of a change sees that it has begun | `a_connection_is_read_whole`, `a_board_is_read_whole` |
//! | a sequence, ended | `Sequence::write`, Release | `Sequence::read`, Acquire | who sees that a change has ended sees its words | the same |
//! | announced operations, batches | `Pen::begin_batch`, Relaxed, before a Release of each word | `ring::read_last`, an Acquire of each word, then Relaxed | who has seen a word of an entry sees that its place was to be used again | `an_operation_is_read_whole`, `a_batch_is_read_whole`, `a_batch_that_goes_on_is_read_whole`, `a_renamed_operation_is_read_whole` |
//! | an entry's last word, with its lap | `Pen::begin`, `Pen::begin_batch`, Release | `ring::read_last`, Acquire | who sees the lap sees the words before | the same |
//! | phase, turns, counters, latencies, orders | Relaxed | Relaxed | nothing: figures, each for itself | |

mod board;
mod content;
mod latency;
mod layout;
mod memory;
mod names;
mod orders;
mod peer;
mod pen;
mod ring;
mod sequence;
mod snapshot;

pub use board::Board;
pub use content::BlackBox;
pub use latency::{Histogram, Latency};
pub(crate) use layout::COUNTERS_MAX;
pub use memory::{BOX_BYTES, BoxError, Boxes};
pub use names::{Kind, Operation, Outcome, Phase};
pub use peer::{PackedPeer, Peer};
pub use pen::{Pen, Thread};
pub use ring::{Fingerprint, Record};
pub use snapshot::{Connection, Pulse, Snapshot};

#[cfg(test)]
mod tests;
