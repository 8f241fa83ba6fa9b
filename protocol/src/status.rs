//! How a request went.

use std::fmt;

/// How a request went: a number whose high byte is its [`Class`], so that a client that does not
/// know a status still knows what it means for the request and for the connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(
    /// The number on the wire.
    pub u16,
);

/// What a status says about the request it answers and about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 0x00: the request was executed and this is how it came out. The connection goes on.
    Outcome,
    /// 0x01: the request was refused and *not executed*. The connection goes on.
    Refused,
    /// 0x02: the request was refused and *not executed*, nor was any other that is still unanswered.
    /// The connection closes after this frame.
    Closing,
    /// 0x03 and above: whether this request, or any other that is still unanswered, was executed is
    /// *unknown*. The connection closes after this frame.
    Unknown,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Every status there is, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name that PROTOCOL.md uses, or nothing for a number that has none.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// Done.
    OK = 0x0000;
    /// There is no such item.
    NOT_FOUND = 0x0001;
    /// The condition of ADD, REPLACE, APPEND or PREPEND does not hold; nothing changed.
    NOT_STORED = 0x0002;
    /// The item is there with another version than the request asked for; nothing changed.
    EXISTS = 0x0003;
    /// The item is there and its value is not a decimal number below 2^64; nothing changed.
    NOT_A_NUMBER = 0x0004;

    /// The frame is whole and skippable, and what it holds does not add up.
    BAD_FRAME = 0x0100;
    /// The server does not know this opcode.
    UNKNOWN_OPCODE = 0x0101;
    /// A flag or a field is set that the operation does not have, or one is missing that it needs.
    UNSUPPORTED = 0x0102;
    /// The key has no bytes.
    KEY_EMPTY = 0x0103;
    /// The key is longer than `key_bytes_max`.
    KEY_TOO_LONG = 0x0104;
    /// The value is longer than `value_bytes_max`, or than this server can store or answer with in
    /// this way.
    TOO_LARGE = 0x0105;
    /// The frame holds more keys than `keys_per_frame_max`.
    TOO_MANY_KEYS = 0x0106;
    /// The frame is longer than `frame_bytes_max`, or than `buffered_bytes_max` where that applies;
    /// the server skips it.
    FRAME_TOO_LARGE = 0x0107;
    /// There is no memory for the item at this moment.
    NO_SPACE = 0x0108;
    /// The server is draining and takes no new requests; ask another connection.
    DRAINING = 0x0109;
    /// The server has too much to do at this moment; ask again later.
    OVERLOADED = 0x010A;
    /// Requests of this kind for this key have brought the server down before; for a while it
    /// refuses them.
    QUARANTINED = 0x010B;

    /// The connection did not begin with HELLO.
    HELLO_REQUIRED = 0x0200;
    /// Client and server have no protocol version in common.
    VERSION_MISMATCH = 0x0201;
    /// The frame is longer than `skip_bytes_max`, so that the server does not even skip it.
    FRAME_UNSKIPPABLE = 0x0202;
    /// The server has as many connections as it accepts.
    TOO_MANY_CONNECTIONS = 0x0203;
    /// Nothing came for longer than `idle_ms`.
    IDLE_TIMEOUT = 0x0204;
    /// A frame was begun, and too little of it came in time.
    FRAME_TIMEOUT = 0x0205;
    /// The client took too long to read its replies.
    SLOW_READER = 0x0206;
    /// The connection is drained: nothing was left to answer, or the time for it is over.
    DRAINED = 0x0207;

    /// The server failed while it served this connection.
    INTERNAL = 0x0300;
}

impl Status {
    /// What this status says about the request and the connection.
    #[inline]
    #[must_use]
    pub const fn class(self) -> Class {
        match self.0 >> 8 {
            0x00 => Class::Outcome,
            0x01 => Class::Refused,
            0x02 => Class::Closing,
            _ => Class::Unknown,
        }
    }

    /// Whether a quiet request with this outcome goes unanswered. Refusals are always answered.
    #[inline]
    #[must_use]
    pub const fn is_silent(self, opcode: crate::Opcode) -> bool {
        match opcode.is_read() {
            true => matches!(self, Self::NOT_FOUND),
            false => matches!(self, Self::OK),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "status {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
