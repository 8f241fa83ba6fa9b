//! The handshake.
//!
//! HELLO is the first frame of a connection and the only one whose shape later versions may not
//! change, except by making its body longer: what a receiver does not know at its end, it ignores.

use crate::decoded::{After, Decoded, Reason, Refusal};
use crate::header::{HEADER_BYTES, RequestHeader, ResponseHeader};
use crate::limits::Limits;
use crate::opcode::Opcode;
use crate::status::Status;
use crate::wire::{shorten, take, take_u16, take_u32, take_u64, text, wire_len};

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// What every HELLO begins with, so that a stray client of another protocol is told at once.
pub const MAGIC: [u8; 4] = *b"LRDR";

/// The longest body of a HELLO, in both directions.
///
/// LIMIT: what a server reads of a stranger before it knows that it is a client; room for later
/// fields included.
pub const HELLO_BODY_BYTES_MAX: u32 = 1024;

/// The longest name of a client or server; longer ones are cut.
///
/// LIMIT: a name is for logs.
pub const NAME_BYTES_MAX: usize = 255;

/// A HELLO of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloFrame<'a> {
    /// Echoed in the answer.
    pub id: u32,
    /// What the client says about itself.
    pub hello: HelloRequest<'a>,
}

/// What a client says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloRequest<'a> {
    /// The lowest version that it speaks.
    pub version_min: u16,
    /// The highest version that it speaks.
    pub version_max: u16,
    /// Bits of the features that it would like; none are defined yet.
    pub features: u64,
    /// Its name, for the server's log.
    pub name: &'a str,
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReply<'a> {
    /// The version that both speak from here on.
    pub version: u16,
    /// Those of the client's features that the server has.
    pub features: u64,
    /// What the server accepts.
    pub limits: Limits,
    /// Its name and version, for people.
    pub name: &'a str,
}

/// Reads the HELLO at the front of `buf`, on a new connection.
///
/// Whatever is no HELLO is refused as early as can be told, at the first byte where it is already
/// another operation, and the connection closes: only a server that has said which protocol it speaks
/// is asked for anything. What the client offers is judged by [`HelloRequest::accept`].
pub fn decode_hello(buf: &[u8]) -> Decoded<HelloFrame<'_>> {
    let refused = |id, reason| {
        let opcode = Opcode::Hello as u8;
        Decoded::Refused(Refusal {
            opcode,
            id,
            reason,
            after: After::Close,
        })
    };
    if buf
        .first()
        .is_some_and(|&first| first != Opcode::Hello as u8)
    {
        return refused(0, Reason::HelloRequired);
    }
    let Some(header) = RequestHeader::read(buf) else {
        return Decoded::Incomplete {
            needed_bytes: HEADER_BYTES,
        };
    };
    if header.body_bytes > HELLO_BODY_BYTES_MAX {
        return refused(0, Reason::HelloRequired);
    }
    let frame_bytes = HEADER_BYTES + header.body_bytes as usize;
    let Some(body) = buf.get(HEADER_BYTES..frame_bytes) else {
        return Decoded::Incomplete {
            needed_bytes: frame_bytes,
        };
    };
    match HelloRequest::read(header.word, body) {
        Some(hello) => {
            let frame = HelloFrame {
                id: header.id,
                hello,
            };
            Decoded::Frame {
                frame,
                consumed: frame_bytes,
            }
        }
        None => refused(header.id, Reason::HelloRequired),
    }
}

impl<'a> HelloRequest<'a> {
    /// What this crate offers under a name.
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        let version = PROTOCOL_VERSION;
        Self {
            version_min: version,
            version_max: version,
            features: 0,
            name,
        }
    }

    fn read(name_bytes: u32, body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        if take(&mut rest, 4)? != MAGIC {
            return None;
        }
        let [version_min, version_max] = [take_u16(&mut rest)?, take_u16(&mut rest)?];
        let features = take_u64(&mut rest)?;
        let name = text(take(&mut rest, name_bytes)?);
        Some(Self {
            version_min,
            version_max,
            features,
            name,
        })
    }

    /// Appends the frame.
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) {
        let name = shorten(self.name, NAME_BYTES_MAX);
        let header = RequestHeader {
            opcode: Opcode::Hello as u8,
            flags: 0,
            fields: 0,
            id,
            word: wire_len(name.len()),
            body_bytes: 16 + wire_len(name.len()),
        };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.version_max.to_le_bytes());
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }

    /// What a server with these features, limits and name answers.
    ///
    /// # Errors
    ///
    /// The client does not speak [`PROTOCOL_VERSION`]; the refusal, to be encoded, says so.
    pub fn accept<'s>(
        &self,
        id: u32,
        features: u64,
        limits: Limits,
        name: &'s str,
    ) -> Result<HelloReply<'s>, Refusal> {
        let Self {
            version_min,
            version_max,
            ..
        } = *self;
        let spoken = PROTOCOL_VERSION;
        if !(version_min..=version_max).contains(&spoken) {
            let reason = Reason::VersionMismatch {
                version_min,
                version_max,
                spoken,
            };
            return Err(Refusal {
                opcode: Opcode::Hello as u8,
                id,
                reason,
                after: After::Close,
            });
        }
        Ok(HelloReply {
            version: spoken,
            features: self.features & features,
            limits,
            name,
        })
    }
}

impl<'a> HelloReply<'a> {
    pub(crate) fn read(name_bytes: u32, body: &'a [u8]) -> Result<Self, Reason> {
        Self::take(name_bytes, body).ok_or(Reason::BadFrame("the handshake is cut short"))
    }

    fn take(name_bytes: u32, body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        let version = take_u16(&mut rest)?;
        take_u16(&mut rest)?;
        let features = take_u64(&mut rest)?;
        let mut limits = Limits {
            frame_bytes_max: take_u32(&mut rest)?,
            key_bytes_max: take_u32(&mut rest)?,
            value_bytes_max: take_u32(&mut rest)?,
            keys_per_frame_max: take_u32(&mut rest)?,
            in_flight_max: take_u32(&mut rest)?,
            skip_bytes_max: take_u32(&mut rest)?,
            idle_ms: take_u32(&mut rest)?,
            buffered_bytes_max: 0,
        };
        let name = text(take(&mut rest, name_bytes)?);
        // A server that does not say gathers every frame that it accepts.
        limits.buffered_bytes_max = take_u32(&mut rest).unwrap_or(limits.frame_bytes_max);
        Some(Self {
            version,
            features,
            limits,
            name,
        })
    }

    /// Appends the frame.
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) {
        let name = shorten(self.name, NAME_BYTES_MAX);
        let header = ResponseHeader {
            opcode: Opcode::Hello as u8,
            flags: 0,
            status: Status::OK,
            id,
            word: wire_len(name.len()),
            body_bytes: 44 + wire_len(name.len()),
        };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.features.to_le_bytes());
        let limits = &self.limits;
        let numbers = [
            limits.frame_bytes_max,
            limits.key_bytes_max,
            limits.value_bytes_max,
            limits.keys_per_frame_max,
            limits.in_flight_max,
            limits.skip_bytes_max,
            limits.idle_ms,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&limits.buffered_bytes_max.to_le_bytes());
    }
}
