//! What comes of looking at bytes: a frame, a wish for more, or a refusal.

use std::fmt::Write as _;

use crate::header::ResponseHeader;
use crate::wire::wire_len;
use crate::{HEADER_BYTES, Status};

/// What the bytes at the front of a buffer are.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Decoded<T> {
    /// A whole frame.
    Frame {
        /// The frame; it borrows from the buffer.
        frame: T,
        /// How many bytes of the buffer it took; never more than there are.
        consumed: usize,
    },
    /// The beginning of a frame, with nothing wrong so far.
    Incomplete {
        /// How many bytes the buffer must hold, counted from its front, before it makes sense to
        /// decode again: more than it holds now, never more than the limits allow for one frame.
        needed_bytes: usize,
    },
    /// A frame that is not to be executed.
    Refused(Refusal),
}

/// A frame that is not to be executed: what to answer and how to go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The opcode of the frame, known or not.
    pub opcode: u8,
    /// The id of the frame.
    pub id: u32,
    /// What is wrong with it.
    pub reason: Reason,
    /// How to go on.
    pub after: After,
}

/// How to go on after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Drop this many bytes, counted from the front of the buffer, and decode what follows. Not all
    /// of them need be in the buffer yet: a server drops them as they come and buffers none.
    Skip {
        /// The length of the refused frame; never more than `skip_bytes_max`.
        frame_bytes: u64,
    },
    /// Close the connection after the answer: the bytes that follow cannot be told apart.
    Close,
}

/// What is wrong with a frame, as a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// See [`Status::BAD_FRAME`].
    #[error("the frame does not add up: {0}")]
    BadFrame(&'static str),
    /// See [`Status::UNKNOWN_OPCODE`].
    #[error("there is no operation with the number {0:#04x}")]
    UnknownOpcode(u8),
    /// See [`Status::UNSUPPORTED`].
    #[error(
        "{opcode} has no flag in {flags:#04x} or no field in {fields:#06x} of those that are set"
    )]
    Unsupported {
        /// The operation.
        opcode: crate::Opcode,
        /// Flags that the operation does not have.
        flags: u8,
        /// Fields that the operation does not have.
        fields: u16,
    },
    /// See [`Status::UNSUPPORTED`].
    #[error("{opcode} needs the fields {fields:#06x}")]
    FieldMissing {
        /// The operation.
        opcode: crate::Opcode,
        /// Fields that the operation needs and the frame lacks.
        fields: u16,
    },
    /// See [`Status::KEY_EMPTY`].
    #[error("a key needs at least 1 byte")]
    KeyEmpty,
    /// See [`Status::KEY_TOO_LONG`].
    #[error("the key has {key_bytes} bytes; this server accepts up to {key_bytes_max}")]
    KeyTooLong {
        /// The length of the key.
        key_bytes: u32,
        /// The longest key accepted.
        key_bytes_max: u32,
    },
    /// See [`Status::TOO_LARGE`].
    #[error("the value has {value_bytes} bytes; this server accepts up to {value_bytes_max}")]
    TooLarge {
        /// The length of the value.
        value_bytes: u32,
        /// The longest value accepted.
        value_bytes_max: u32,
    },
    /// See [`Status::TOO_MANY_KEYS`].
    #[error("the frame has {keys} keys; this server accepts up to {keys_per_frame_max}")]
    TooManyKeys {
        /// The number of keys.
        keys: u32,
        /// The most keys accepted.
        keys_per_frame_max: u32,
    },
    /// See [`Status::FRAME_TOO_LARGE`].
    #[error("the frame has {frame_bytes} bytes; accepted are up to {frame_bytes_max}")]
    FrameTooLarge {
        /// The length of the frame.
        frame_bytes: u64,
        /// The longest frame accepted.
        frame_bytes_max: u32,
    },
    /// See [`Status::FRAME_UNSKIPPABLE`].
    #[error("the frame has {frame_bytes} bytes; more than {skip_bytes_max} are not even skipped")]
    FrameUnskippable {
        /// The length of the frame.
        frame_bytes: u64,
        /// The longest frame that is skipped.
        skip_bytes_max: u32,
    },
    /// See [`Status::HELLO_REQUIRED`].
    #[error("a connection begins with HELLO; is this a client of another protocol?")]
    HelloRequired,
    /// See [`Status::VERSION_MISMATCH`].
    #[error(
        "the client speaks versions {version_min} to {version_max}; this server speaks {spoken}"
    )]
    VersionMismatch {
        /// The lowest version that the client speaks.
        version_min: u16,
        /// The highest version that the client speaks.
        version_max: u16,
        /// The version that the server speaks.
        spoken: u16,
    },
}

impl Reason {
    /// The status that goes with the reason.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::BadFrame(_) => Status::BAD_FRAME,
            Self::UnknownOpcode(_) => Status::UNKNOWN_OPCODE,
            Self::Unsupported { .. } | Self::FieldMissing { .. } => Status::UNSUPPORTED,
            Self::KeyEmpty => Status::KEY_EMPTY,
            Self::KeyTooLong { .. } => Status::KEY_TOO_LONG,
            Self::TooLarge { .. } => Status::TOO_LARGE,
            Self::TooManyKeys { .. } => Status::TOO_MANY_KEYS,
            Self::FrameTooLarge { .. } => Status::FRAME_TOO_LARGE,
            Self::FrameUnskippable { .. } => Status::FRAME_UNSKIPPABLE,
            Self::HelloRequired => Status::HELLO_REQUIRED,
            Self::VersionMismatch { .. } => Status::VERSION_MISMATCH,
        }
    }
}

impl Refusal {
    /// The status to answer with.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.reason.status()
    }

    /// Appends the answer: the status and the reason as a sentence. Quiet requests get it too.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut sentence = String::new();
        // Writing to a string cannot fail.
        let _ = write!(sentence, "{}", self.reason);
        let header = ResponseHeader {
            opcode: self.opcode,
            flags: 0,
            status: self.status(),
            id: self.id,
            word: 0,
            body_bytes: wire_len(sentence.len()),
        };
        out.reserve(HEADER_BYTES + sentence.len());
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(sentence.as_bytes());
    }
}
