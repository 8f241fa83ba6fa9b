//! Values too large to be buffered: received straight into their place in the cache, and sent
//! straight from there.
//!
//! ```text
//!  the head of a store is there      the last byte is there
//!  ───────────────────────────> Receiving ────────────────> stored, answered; requests go on
//!  a large item was read             the last byte is sent
//!  ───────────────────────────> Sending ──────────────────> requests go on
//! ```
//!
//! Neither costs more memory of the server's own than the head. While one of them is under way the
//! connection executes nothing else. What a client holds by it is bounded in time: whoever moves
//! less than [`PROGRESS_BYTES`] within a deadline, and does not come to the end either, has missed
//! it.

use std::io::IoSlice;

use super::buffers::HeldBuffer;
use super::connection::{Cause, Connection, NEVER_MS};
use super::service::{SLICE_BYTES, Service, Stop, Turned};
use super::tongue::{Spoken, in_tongue};
use super::transfer::Sent;
use crate::blackbox::Phase;
use crate::dialect::After;
use crate::engine::{LargeDraft, LargeValue, StoreError};
use crate::execute::{Begun, Follow, Received, begin_store, fail_store, finish_store};

/// LIMIT: what must move within a deadline for it to begin anew. With the usual deadlines of 10
/// seconds, 100 kB/s: slow enough for any network between a service and its cache.
pub(crate) const PROGRESS_BYTES: u64 = 1 << 20;

/// LIMIT: what a turn receives while upkeep comes with it: four times as much is looked at, about a
/// millisecond where items are small.
const UPKEEP_SLICE_BYTES: usize = 32 << 10;

/// LIMIT: pieces of a value that one write takes; with the smallest segments 256 KiB.
const PIECES: usize = 16;

/// LIMIT: what has to come behind a value, in the dialect where that is longest.
const TRAILER_BYTES_MAX: usize = 2;

/// A value on its way.
#[derive(Debug)]
pub(crate) enum Transfer {
    Receiving(Receiving),
    Sending(Sending),
}

/// A value that is being received.
#[derive(Debug)]
pub(crate) struct Receiving {
    /// The request up to its value.
    head: HeldBuffer,
    draft: LargeDraft,
    trailer: Trailer,
}

/// What has to come behind a value.
#[derive(Debug)]
struct Trailer {
    expected: &'static [u8],
    /// How much of it has come.
    bytes: usize,
    /// Whether something else came instead.
    broken: bool,
}

impl Trailer {
    fn missing_bytes(&self) -> usize {
        self.expected.len() - self.bytes
    }

    fn take(&mut self, received: &[u8]) {
        let expected = &self.expected[self.bytes..][..received.len()];
        self.broken |= received != expected;
        self.bytes += received.len();
    }
}

/// A value that is being sent.
#[derive(Debug)]
pub(crate) struct Sending {
    value: LargeValue,
    sent_bytes: u64,
    /// What is to be said when the value is sent.
    behind: Vec<u8>,
}

impl Transfer {
    pub(crate) fn sending(follow: Follow) -> Self {
        Self::Sending(Sending {
            value: follow.value,
            sent_bytes: 0,
            behind: follow.behind.to_vec(),
        })
    }
}

/// Whether bytes from `before` to `after` make a deadline begin anew.
pub(crate) fn is_progress(before: u64, after: u64) -> bool {
    before / PROGRESS_BYTES != after / PROGRESS_BYTES
}

impl Sending {
    fn left_bytes(&self) -> u64 {
        self.value.value_bytes() - self.sent_bytes
    }

    /// What comes next, behind `front`, of which no more than `bytes_max` bytes are taken.
    fn slices<'s>(
        &'s self,
        front: &'s [u8],
        bytes_max: usize,
        slices: &mut [IoSlice<'s>; PIECES],
    ) -> usize {
        let (mut count, mut bytes, mut at) = (0, 0, self.sent_bytes);
        if !front.is_empty() {
            slices[0] = IoSlice::new(front);
            (count, bytes) = (1, front.len());
        }
        while count < PIECES && bytes < bytes_max {
            let piece = self.value.piece_at(at);
            if piece.is_empty() {
                break;
            }
            slices[count] = IoSlice::new(piece);
            (count, bytes, at) = (count + 1, bytes + piece.len(), at + piece.len() as u64);
        }
        count
    }
}

impl Service {
    /// Looks whether the beginning of a request that would be long to buffer is a store of a large
    /// value, and begins to receive it; says how much of the input it took.
    #[cold]
    pub(super) fn begin_receiving<D: Spoken>(
        &mut self,
        connection: &mut Connection,
        begun: &[u8],
        needed_bytes: usize,
    ) -> (usize, Option<Stop>) {
        let begins = {
            let mut guard = self.session.pin(self.now.wall_ms);
            let (shared, out) = (&self.shared, &mut self.output);
            let setting = (self.now.wall_ms, shared.quarantine(self.now));
            begin_store(D::of(shared), &mut guard, setting, begun, needed_bytes, out)
        };
        match begins {
            Begun::Incomplete { needed_bytes } => (0, Some(Stop::Starved { needed_bytes })),
            Begun::Refused {
                frame_bytes,
                is_quarantined,
            } => {
                self.count_request();
                if is_quarantined {
                    self.station.counters.refused_quarantined.add(1);
                }
                connection.skip_bytes = frame_bytes;
                (0, None)
            }
            Begun::Receiving {
                head_bytes,
                value_bytes,
                draft,
                trailer,
            } => {
                let mut head = HeldBuffer::default();
                if head
                    .extend(&begun[..head_bytes], &self.shared.budget)
                    .is_err()
                {
                    return match self.say_overloaded(connection, begun) {
                        After::Close => (begun.len(), Some(Stop::Finish)),
                        After::Skip { bytes } => {
                            connection.skip_bytes = bytes;
                            (0, None)
                        }
                    };
                }
                let mut trailer = Trailer {
                    expected: trailer,
                    bytes: 0,
                    broken: false,
                };
                let behind = begun[head_bytes..].get(value_bytes as usize..);
                trailer.take(behind.unwrap_or_default());
                let receiving = Receiving {
                    head,
                    draft,
                    trailer,
                };
                connection.transfer = Some(Box::new(Transfer::Receiving(receiving)));
                (begun.len(), Some(Stop::Starved { needed_bytes: 0 }))
            }
        }
    }

    /// Goes on with the value that the connection receives: some reads, each into its place.
    pub(super) fn receive_large(&mut self, connection: &mut Connection) -> Result<Turned, Cause> {
        let Some(transfer) = connection.transfer.take() else {
            return Ok(Turned::Wait);
        };
        let Transfer::Receiving(mut receiving) = *transfer else {
            return Ok(Turned::Wait);
        };
        let mut turn_bytes = 0;
        while receiving.draft.missing_bytes() > 0 {
            let extended = {
                let mut guard = self.session.pin(self.now.wall_ms);
                guard.extend_large(&mut receiving.draft)
            };
            let turn_bytes_max = match extended {
                Ok(true) => UPKEEP_SLICE_BYTES,
                Ok(false) => SLICE_BYTES,
                Err(error) => return self.fail_receiving(connection, &receiving, error),
            };
            if turn_bytes >= turn_bytes_max {
                connection.transfer = Some(Box::new(Transfer::Receiving(receiving)));
                return Ok(Turned::Again);
            }
            let missing_bytes = receiving.draft.missing_bytes();
            let space = receiving.draft.space();
            let bytes_max = space.len().min(turn_bytes_max - turn_bytes);
            let count = self.read(connection, &mut space[..bytes_max])?;
            if count == 0 {
                connection.transfer = Some(Box::new(Transfer::Receiving(receiving)));
                return self.after_reading(connection);
            }
            receiving.draft.advance(count);
            turn_bytes += count;
            self.copied_bytes += count as u64;
            if is_progress(missing_bytes, missing_bytes - count as u64) {
                connection.begun_ms = self.now.uptime_ms;
            }
        }
        while receiving.trailer.missing_bytes() > 0 {
            let mut buffer = [0; TRAILER_BYTES_MAX];
            let into = &mut buffer[..receiving.trailer.missing_bytes()];
            let count = self.read(connection, into)?;
            receiving.trailer.take(&into[..count]);
            if count == 0 {
                connection.transfer = Some(Box::new(Transfer::Receiving(receiving)));
                return self.after_reading(connection);
            }
        }
        self.finish_receiving(connection, receiving)
    }

    fn finish_receiving(
        &mut self,
        connection: &mut Connection,
        receiving: Receiving,
    ) -> Result<Turned, Cause> {
        let Receiving {
            head,
            draft,
            trailer,
        } = receiving;
        // What came before was the client's time.
        self.tick_if_recorded();
        let received = match trailer.broken {
            false => Received::Whole(draft),
            true => Received::Unterminated,
        };
        {
            let mut guard = self.session.pin(self.now.wall_ms);
            let (shared, now_ms) = (&self.shared, self.now.wall_ms);
            let (head, out, pen) = (head.as_slice(), &mut self.output, &mut self.pen);
            in_tongue!(connection.tongue, D => {
                finish_store(D::of(shared), &mut guard, now_ms, head, received, out, pen)
            });
        }
        self.end_batch();
        self.count_request();
        self.station.counters.large_received.add(1);
        self.settle(connection, Stop::Starved { needed_bytes: 0 })
    }

    /// Answers a store whose value found no room, and skips the rest of it.
    fn fail_receiving(
        &mut self,
        connection: &mut Connection,
        receiving: &Receiving,
        error: StoreError,
    ) -> Result<Turned, Cause> {
        {
            let mut guard = self.session.pin(self.now.wall_ms);
            let (shared, now_ms) = (&self.shared, self.now.wall_ms);
            let (head, out, pen) = (receiving.head.as_slice(), &mut self.output, &mut self.pen);
            in_tongue!(connection.tongue, D => {
                fail_store(D::of(shared), &mut guard, now_ms, head, error, out, pen)
            });
        }
        self.end_batch();
        self.count_request();
        let trailer_bytes = receiving.trailer.missing_bytes() as u64;
        connection.skip_bytes = receiving.draft.missing_bytes() + trailer_bytes;
        self.settle(connection, Stop::Starved { needed_bytes: 0 })
    }

    /// Sends on: what is to come before the value, and of the value as much as the socket takes and
    /// the turn has left.
    pub(super) fn send_large(&mut self, connection: &mut Connection) -> Result<Sent, Cause> {
        while let Some(Transfer::Sending(sending)) = connection.transfer.as_deref() {
            let turn_left = SLICE_BYTES.saturating_sub(self.sent_in_turn() as usize);
            if turn_left == 0 {
                self.keep_output(connection)?;
                return Ok(Sent::UpToSlice);
            }
            let (has_backlog, before) = (connection.has_backlog(), sending.sent_bytes);
            let front = match has_backlog {
                true => connection.backlog(),
                false => &self.output[..],
            };
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = sending.slices(front, turn_left, &mut slices);
            let front_bytes = front.len();
            self.pen.enter(Phase::Writing);
            let taken = self.write_slices(connection, &slices[..count])?;
            if taken == 0 {
                self.keep_output(connection)?;
                if connection.waiting_ms == NEVER_MS {
                    self.station.counters.backlogs.add(1);
                    connection.waiting_ms = self.now.uptime_ms;
                }
                return Ok(Sent::Some);
            }
            let of_front = taken.min(front_bytes);
            match has_backlog {
                true => connection.sent(of_front),
                false => drop(self.output.drain(..of_front)),
            }
            if is_progress(before, before + (taken - of_front) as u64) {
                connection.waiting_ms = NEVER_MS;
            }
            self.advance_sending(connection, taken - of_front);
        }
        Ok(Sent::by(connection))
    }

    /// Counts bytes of the value that were sent. After the last, the connection lets go of it, and
    /// what was to be said behind it is said.
    fn advance_sending(&mut self, connection: &mut Connection, bytes: usize) {
        let Some(Transfer::Sending(sending)) = connection.transfer.as_deref_mut() else {
            return;
        };
        sending.sent_bytes += bytes as u64;
        if sending.left_bytes() == 0 {
            self.output.append(&mut sending.behind);
            connection.transfer = None;
            connection.waiting_ms = NEVER_MS;
            self.station.counters.large_sent.add(1);
        }
    }

    /// Keeps the output until the value that is being sent is through.
    pub(super) fn say_behind(&mut self, connection: &mut Connection) {
        if let Some(Transfer::Sending(sending)) = connection.transfer.as_deref_mut() {
            sending.behind.append(&mut self.output);
        }
    }
}
