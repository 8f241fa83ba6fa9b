//! What is said about bytes that are no command, in memcached's words.

/// LIMIT: the length of a value as memcached reads it: 31 bits, less its end.
pub(super) const VALUE_BYTES_MAX: u32 = i32::MAX as u32 - 2;

/// What the binary protocol calls a response, and an operation that is not there.
const BINARY_RESPONSE: u8 = 0x81;
const BINARY_NOT_SUPPORTED: u16 = 0x0083;
const BINARY_SENTENCE: &[u8] = b"Larder speaks memcached's text protocol, and not the binary one";

/// Why bytes are not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// There is something to complain about, and the client asked not to be told.
    Unsaid,
    /// There is no such command, or it has another number of words.
    NoCommand,
    BadLine,
    BadDelete,
    BadChunk,
    BadExpiry,
    BadDelta,
    LineTooLong,
    TooLarge,
    DuplicateFlag,
    InvalidFlag,
    InvalidOrDuplicateFlag,
    BadToken,
    BadInitial,
    BadDeltaToken,
    ModeLength,
    SetMode,
    CountMode,
    KeyEncoding,
    GetFlagsTooLong,
    FlagsTooLong,
    OpaqueTooLong,
    NoShutdown,
    /// There is no such class of items.
    BadClass,
    /// A request of the binary protocol.
    Binary {
        opcode: u8,
        opaque: [u8; 4],
    },
}

impl Complaint {
    /// Writes it to where replies go.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Unsaid => {}
            Self::Binary { opcode, opaque } => write_binary(opcode, opaque, out),
            _ => {
                out.extend_from_slice(self.line().as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn line(self) -> &'static str {
        match self {
            Self::Unsaid | Self::Binary { .. } => "",
            Self::NoCommand => "ERROR",
            Self::BadLine => "CLIENT_ERROR bad command line format",
            Self::BadDelete => {
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
            }
            Self::BadChunk => "CLIENT_ERROR bad data chunk",
            Self::BadExpiry => "CLIENT_ERROR invalid exptime argument",
            Self::BadDelta => "CLIENT_ERROR invalid numeric delta argument",
            Self::LineTooLong => "CLIENT_ERROR line too long",
            Self::TooLarge => "SERVER_ERROR object too large for cache",
            Self::DuplicateFlag => "CLIENT_ERROR duplicate flag",
            Self::InvalidFlag => "CLIENT_ERROR invalid flag",
            Self::InvalidOrDuplicateFlag => "CLIENT_ERROR invalid or duplicate flag",
            Self::BadToken => "CLIENT_ERROR bad token in command line format",
            Self::BadInitial => "CLIENT_ERROR invalid numeric initial value",
            Self::BadDeltaToken => "CLIENT_ERROR invalid numeric delta value",
            Self::ModeLength => "CLIENT_ERROR incorrect length for M token",
            Self::SetMode => "CLIENT_ERROR invalid mode for ms M token",
            Self::CountMode => "CLIENT_ERROR invalid mode for ma M token",
            Self::KeyEncoding => "CLIENT_ERROR error decoding key",
            Self::GetFlagsTooLong => "CLIENT_ERROR options flags are too long",
            Self::FlagsTooLong => "CLIENT_ERROR options flags too long",
            Self::OpaqueTooLong => "CLIENT_ERROR opaque token too long",
            Self::NoShutdown => "ERROR: shutdown not enabled",
            Self::BadClass => "BADCLASS invalid class id",
        }
    }
}

/// A response of the binary protocol that says that there is none.
#[cold]
fn write_binary(opcode: u8, opaque: [u8; 4], out: &mut Vec<u8>) {
    let body_bytes = BINARY_SENTENCE.len() as u32;
    out.extend_from_slice(&[BINARY_RESPONSE, opcode, 0, 0, 0, 0]);
    out.extend_from_slice(&BINARY_NOT_SUPPORTED.to_be_bytes());
    out.extend_from_slice(&body_bytes.to_be_bytes());
    out.extend_from_slice(&opaque);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(BINARY_SENTENCE);
}
