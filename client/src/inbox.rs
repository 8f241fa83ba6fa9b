//! What has come on a connection: bytes, and the answers that are whole.

use bytes::{Buf, Bytes, BytesMut};
use larder_protocol::{Class, Decoded, Response, ResponseFrame, decode_response};

use crate::desk::Ending;
use crate::pending::Answer;
use crate::reply::Reply;

/// LIMIT: replies up to this length are copied, so that a small value that is kept for long does not
/// keep a read buffer.
const COPY_BYTES_MAX: usize = 4096;

/// What was read and not handed out.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) buffer: BytesMut,
    frame_bytes_max: u32,
    notes: Notes,
}

/// What the frames of a batch said.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Answers, by the ids of their requests.
    pub(crate) answers: Vec<(u32, Answer)>,
    /// Whether the server takes no more requests.
    pub(crate) drains: bool,
}

impl Inbox {
    pub(crate) fn new(buffer: BytesMut, frame_bytes_max: u32) -> Self {
        Self {
            buffer,
            frame_bytes_max,
            notes: Notes::default(),
        }
    }

    /// What the frames said that were [taken](Self::take_frames).
    pub(crate) fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Makes room for what is read next, and for all of a frame that is there in part.
    pub(crate) fn make_room(&mut self, read_bytes: usize, needed_bytes: usize) {
        self.buffer
            .reserve(read_bytes.max(needed_bytes - self.buffer.len()));
    }

    /// Decodes all whole frames at the front of the buffer, and returns how many bytes it must hold
    /// before there is another.
    ///
    /// # Errors
    ///
    /// Why there is nothing more to be read.
    pub(crate) fn take_frames(&mut self) -> Result<usize, Ending> {
        let (notes, frame_bytes_max) = (&mut self.notes, self.frame_bytes_max);
        let mut taken_bytes = 0;
        let taken = loop {
            match decode_response(&self.buffer[taken_bytes..], frame_bytes_max) {
                Decoded::Frame { frame, consumed } if consumed <= COPY_BYTES_MAX => {
                    taken_bytes += consumed;
                    if let Err(ending) = notes.take(&frame, Bytes::copy_from_slice) {
                        break Err(ending);
                    }
                }
                Decoded::Frame { consumed, .. } => {
                    self.buffer.advance(taken_bytes);
                    taken_bytes = 0;
                    let whole = self.buffer.split_to(consumed).freeze();
                    if let Decoded::Frame { frame, .. } = decode_response(&whole, frame_bytes_max)
                        && let Err(ending) = notes.take(&frame, |slice| whole.slice_ref(slice))
                    {
                        break Err(ending);
                    }
                }
                Decoded::Incomplete { needed_bytes } => break Ok(needed_bytes),
                Decoded::Refused(refusal) => break Err(Ending::Broken(refusal.to_string())),
            }
        };
        self.buffer.advance(taken_bytes);
        taken
    }
}

impl Notes {
    #[inline]
    fn take(
        &mut self,
        frame: &ResponseFrame<'_>,
        own: impl Fn(&[u8]) -> Bytes,
    ) -> Result<(), Ending> {
        let ResponseFrame { id, status, .. } = *frame;
        match &frame.response {
            Response::Drain { left_ms, message } => {
                tracing::debug!(left_ms, message, "the server drains this connection");
                self.drains = true;
            }
            Response::Close { message } => {
                return Err(Ending::Closed {
                    status,
                    message: (*message).to_owned(),
                });
            }
            Response::Failed { message } => {
                let message = || (*message).to_owned();
                let answer = Answer::Failed {
                    status,
                    message: message(),
                };
                self.answers.push((id, answer));
                if matches!(status.class(), Class::Closing | Class::Unknown) {
                    let message = message();
                    return Err(Ending::Closed { status, message });
                }
            }
            response => match Reply::from_response(response, own) {
                Some(reply) => self.answers.push((id, Answer::Reply(reply))),
                None => {
                    tracing::debug!(opcode = frame.opcode, "skipped a frame of an unknown kind");
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use larder_protocol::{ExpiryLeft, Opcode, Status, ValueMeta, encode_status, encode_value};

    use super::Inbox;
    use crate::desk::Ending;
    use crate::pending::Answer;
    use crate::reply::Reply;

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
        let of_value = |(id, answer)| match answer {
            Answer::Reply(Reply::Item(item)) => {
                assert!(item.value.iter().all(|byte| *byte == id as u8));
                (id, item.value.len())
            }
            other => panic!("{other:?}"),
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
