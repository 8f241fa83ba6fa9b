//! What has come on a connection: bytes, and the frames that are whole.
//!
//! Answers are told from the rest by their headers alone, and go to whoever asked as they came: what
//! is in them is read by the caller's task. What concerns the connection is read here.
//!
//! Nothing is cut out of the buffer that all is read into: a value that is kept for long would keep all
//! of it. Small answers are copied, a [handful](GROUP_BYTES_MAX) into one piece of memory of just their
//! size, since an allocation for each would cost more than all else that is done for it. Longer ones
//! have one each, and one that is [large](OWN_BYTES_MIN) is read into it, but for its beginning.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use larder_protocol::{
    Class, Decoded, HEADER_BYTES, Opcode, Response, ResponseHeader, Status, decode_response,
};

use crate::ending::Ending;
use crate::pending::Answer;
use crate::reply::is_unasked;

/// LIMIT: longer answers have memory of their own.
const SMALL_BYTES_MAX: usize = 4096;

/// LIMIT: what a small value that is kept may keep beside it.
const GROUP_BYTES_MAX: usize = 2048;

/// LIMIT: a frame that is longer, and not there whole, is read into memory of its own. It also bounds
/// what the common buffer grows to: room for a read behind the beginning of a frame, doubled.
const OWN_BYTES_MIN: usize = 64 * 1024;

/// What was read and not handed out.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// What is read into: what all frames share, or what a large one has for itself, of its length.
    pub(crate) buffer: BytesMut,
    /// What all share, meanwhile; empty.
    shared: Option<BytesMut>,
    frame_bytes_max: usize,
    notes: Notes,
    /// Small answers at the front of the buffer that are still to be copied, by their ids and lengths.
    group: Vec<(u32, usize)>,
    group_bytes: usize,
}

/// What the frames of a batch said.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Answers, by the ids of their requests.
    pub(crate) answers: Vec<(u32, Answer)>,
    /// The server takes no more requests, and closes the connection after so much time.
    pub(crate) drains: Option<Duration>,
}

impl Inbox {
    pub(crate) fn new(buffer: BytesMut, frame_bytes_max: u32) -> Self {
        Self {
            buffer,
            shared: None,
            frame_bytes_max: frame_bytes_max as usize,
            notes: Notes::default(),
            group: Vec::new(),
            group_bytes: 0,
        }
    }

    /// What the frames said that were [taken](Self::take_frames).
    pub(crate) fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Makes room for what is read next, and for all of a frame that is there in part.
    pub(crate) fn make_room(&mut self, read_bytes: usize, needed_bytes: usize) {
        if needed_bytes > OWN_BYTES_MIN {
            return self.make_room_of_its_own(needed_bytes);
        }
        if let Some(shared) = self.shared.take() {
            let rest = std::mem::replace(&mut self.buffer, shared);
            self.buffer.extend_from_slice(&rest);
        }
        self.buffer
            .reserve(read_bytes.max(needed_bytes - self.buffer.len()));
    }

    /// Has the frame at the front read into memory of its length, so that nothing else gets there.
    fn make_room_of_its_own(&mut self, frame_bytes: usize) {
        if self.shared.is_some() && self.buffer.capacity() >= frame_bytes {
            return;
        }
        let mut own = BytesMut::with_capacity(frame_bytes);
        own.extend_from_slice(&self.buffer);
        let mut shared = std::mem::replace(&mut self.buffer, own);
        shared.clear();
        self.shared.get_or_insert(shared);
    }

    /// Takes all whole frames from the front of the buffer, and returns how many bytes it must hold
    /// before there is another.
    ///
    /// # Errors
    ///
    /// Why there is nothing more to be read.
    pub(crate) fn take_frames(&mut self) -> Result<usize, Ending> {
        let taken = loop {
            let rest = &self.buffer[self.group_bytes..];
            let Some(header) = ResponseHeader::read(rest) else {
                break Ok(HEADER_BYTES);
            };
            let frame_bytes = HEADER_BYTES + header.body_bytes as usize;
            let is_answer = is_answer(&header) && frame_bytes <= self.frame_bytes_max;
            if is_answer && frame_bytes > rest.len() {
                break Ok(frame_bytes);
            }
            if is_answer && frame_bytes <= SMALL_BYTES_MAX {
                if self.group_bytes + frame_bytes > GROUP_BYTES_MAX {
                    self.end_group();
                }
                self.group.push((header.id, frame_bytes));
                self.group_bytes += frame_bytes;
                continue;
            }
            self.end_group();
            if is_answer {
                let frame = self.take_longer(frame_bytes);
                self.notes.answers.push((header.id, Answer::Frame(frame)));
            } else if let Some(taken) = self.take_other(header.id) {
                break taken;
            }
        };
        self.end_group();
        taken
    }

    /// Takes an answer that has memory of its own.
    fn take_longer(&mut self, frame_bytes: usize) -> Bytes {
        if self.shared.is_some() && self.buffer.len() == frame_bytes {
            return std::mem::take(&mut self.buffer).freeze();
        }
        let frame = Bytes::copy_from_slice(&self.buffer[..frame_bytes]);
        self.buffer.advance(frame_bytes);
        frame
    }

    /// Copies the small answers at the front of the buffer.
    #[inline]
    fn end_group(&mut self) {
        if self.group_bytes == 0 {
            return;
        }
        let mut copy = Bytes::copy_from_slice(&self.buffer[..self.group_bytes]);
        self.buffer.advance(self.group_bytes);
        self.group_bytes = 0;
        for (id, frame_bytes) in self.group.drain(..) {
            let frame = match copy.len() == frame_bytes {
                true => std::mem::take(&mut copy),
                false => copy.split_to(frame_bytes),
            };
            self.notes.answers.push((id, Answer::Frame(frame)));
        }
    }

    /// Takes a frame that is not, or not only, an answer to a request; `None` where there may be more.
    fn take_other(&mut self, id: u32) -> Option<Result<usize, Ending>> {
        let (frame, frame_bytes) = match decode_response(&self.buffer, self.frame_bytes_max as u32)
        {
            Decoded::Frame { frame, consumed } => (frame, consumed),
            Decoded::Incomplete { needed_bytes } => return Some(Ok(needed_bytes)),
            Decoded::Refused(refusal) => return Some(Err(Ending::Broken(refusal.to_string()))),
        };
        let status = frame.status;
        let closed = |message: &str| {
            let message = message.to_owned();
            Some(Err(Ending::Closed { status, message }))
        };
        let ended = match &frame.response {
            Response::Drain { left_ms, message } => {
                tracing::debug!(left_ms, why = message, "the server drains this connection");
                self.notes.drains = Some(Duration::from_millis((*left_ms).into()));
                None
            }
            Response::Close { message } => closed(message),
            Response::Failed { message } if !is_unasked(frame.opcode) => {
                let frame = Bytes::copy_from_slice(&self.buffer[..frame_bytes]);
                self.notes.answers.push((id, Answer::Frame(frame)));
                closed(message)
            }
            _ => {
                tracing::debug!(opcode = frame.opcode, "skipped a frame of an unknown kind");
                None
            }
        };
        self.buffer.advance(frame_bytes);
        ended
    }
}

/// Whether a frame answers a request and says nothing of the connection.
#[inline]
fn is_answer(header: &ResponseHeader) -> bool {
    let is_reply = Opcode::from_u8(header.opcode).is_some_and(|opcode| !opcode.is_notice());
    let ends_connection = header.status != Status::OK
        && matches!(header.status.class(), Class::Closing | Class::Unknown);
    is_reply && !ends_connection
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use larder_protocol::{
        ExpiryLeft, Opcode, ResponseHeader, Status, ValueMeta, encode_status, encode_value,
    };

    use super::{HEADER_BYTES, Inbox, OWN_BYTES_MIN};
    use crate::ending::Ending;
    use crate::pending::Answer;
    use crate::reply::{Reply, read_answer};

    /// LIMIT: of the frames of these tests.
    const FRAME_BYTES_MAX: u32 = 1 << 20;

    fn value(out: &mut Vec<u8>, id: u32, bytes: usize) {
        let meta = ValueMeta {
            client_flags: 0,
            version: 1,
            expiry_left: ExpiryLeft::NotAsked,
        };
        encode_value(out, Opcode::Get, id, &meta, &vec![id as u8; bytes]);
    }

    fn values(inbox: &mut Inbox) -> Vec<(u32, usize)> {
        let answers = inbox.notes().answers.drain(..);
        let of_value = |(id, answer)| {
            let Answer::Frame(frame) = answer else {
                panic!("{answer:?}");
            };
            match read_answer(&frame, |slice| frame.slice_ref(slice)) {
                Ok(Ok(Reply::Item(item))) => {
                    assert!(item.value.iter().all(|byte| *byte == id as u8));
                    (id, item.value.len())
                }
                other => panic!("{other:?}"),
            }
        };
        answers.map(of_value).collect()
    }

    #[test]
    fn small_and_large_values_come_out_whole_however_they_are_cut() {
        let sizes = [10, 100_000, 0, 4000, 5000, 1];
        let mut bytes = Vec::new();
        for (id, size) in (1..).zip(sizes) {
            value(&mut bytes, id, size);
        }
        for piece in [1, 7, 4096, bytes.len()] {
            let mut inbox = Inbox::new(BytesMut::new(), FRAME_BYTES_MAX);
            for piece in bytes.chunks(piece) {
                inbox.buffer.extend_from_slice(piece);
                let needed_bytes = inbox.take_frames().expect("the frames are good");
                assert!(needed_bytes > inbox.buffer.len());
            }
            let expected: Vec<_> = (1..).zip(sizes).collect();
            assert_eq!(values(&mut inbox), expected);
        }
    }

    #[test]
    fn an_answer_that_is_kept_keeps_nothing_else() {
        /// LIMIT: what the driver asks room for.
        const READ_BYTES: usize = 64 * 1024;
        let sizes = [
            100, 6000, 1_000_000, 6000, 200_000, 70_000, 3000, 60_000, 6000,
        ];
        let mut bytes = Vec::new();
        for (id, size) in (1..).zip(sizes) {
            value(&mut bytes, id, size);
        }
        for piece in [1000, READ_BYTES, bytes.len()] {
            let mut inbox = Inbox::new(BytesMut::new(), FRAME_BYTES_MAX);
            let (mut rest, mut needed_bytes) = (&bytes[..], HEADER_BYTES);
            while !rest.is_empty() {
                inbox.make_room(READ_BYTES, needed_bytes);
                let room = inbox.buffer.capacity() - inbox.buffer.len();
                let (read, unread) = rest.split_at(room.min(piece).min(rest.len()));
                inbox.buffer.extend_from_slice(read);
                rest = unread;
                needed_bytes = inbox.take_frames().expect("the frames are good");
            }
            inbox.make_room(READ_BYTES, needed_bytes);
            assert!(inbox.buffer.capacity() <= 4 * OWN_BYTES_MIN);
            let answers = std::mem::take(&mut inbox.notes().answers);
            assert_eq!(answers.len(), sizes.len());
            let mut whole = &bytes[..];
            for (_, answer) in answers {
                let Answer::Frame(frame) = answer else {
                    panic!("{answer:?}");
                };
                let frame_bytes = frame.len();
                assert!(whole.starts_with(&frame));
                whole = &whole[frame_bytes..];
                let memory = frame.try_into_mut().expect("nobody else has it");
                assert_eq!(memory.capacity(), frame_bytes);
            }
        }
    }

    #[test]
    fn what_is_unasked_and_unknown_is_skipped_whatever_its_status() {
        let mut bytes = Vec::new();
        for status in [Status::OK, Status::INTERNAL, Status(0x0300), Status(0x01ff)] {
            let unasked = ResponseHeader {
                opcode: 0xE9,
                flags: 0,
                status,
                id: 0,
                word: 0,
                body_bytes: 4,
            };
            bytes.extend(unasked.to_bytes());
            bytes.extend(b"news");
        }
        value(&mut bytes, 0, 10);
        let mut inbox = Inbox::new(BytesMut::from(&bytes[..]), FRAME_BYTES_MAX);
        inbox.take_frames().expect("the frames are good");
        assert_eq!(values(&mut inbox), [(0, 10)]);
    }

    #[test]
    fn what_came_before_the_end_counts() {
        let mut bytes = Vec::new();
        value(&mut bytes, 1, 10);
        encode_status(&mut bytes, Opcode::Get, 2, Status::INTERNAL, "bad luck");
        value(&mut bytes, 3, 10);
        let mut inbox = Inbox::new(BytesMut::from(&bytes[..]), FRAME_BYTES_MAX);
        let ending = inbox.take_frames().expect_err("an end");
        assert!(matches!(
            ending,
            Ending::Closed {
                status: Status::INTERNAL,
                ..
            }
        ));
        assert_eq!(inbox.notes().answers.len(), 2);
    }
}
