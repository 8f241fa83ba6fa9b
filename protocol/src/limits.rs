//! What a server accepts, and tells its clients in the handshake.

use crate::HEADER_BYTES;

/// The longest key that any server may be configured to accept.
///
/// LIMIT: 64 KiB is what the engine's item header has room for.
pub const KEY_BYTES_CEILING: u32 = 64 * 1024;

/// LIMIT: lengths on the wire are 32 bits; a quarter of that keeps every sum of two of them in range.
const FRAME_BYTES_CEILING: u32 = 1 << 30;

/// The longest value that any server may be configured to accept.
///
/// LIMIT: what the longest frame holds beside the longest key and all fields.
pub const VALUE_BYTES_CEILING: u32 =
    FRAME_BYTES_CEILING - KEY_BYTES_CEILING - ENTRY_HEAD_BYTES - HEADER_BYTES as u32;

/// LIMIT: the longest head of an entry in any list, rounded up; also covers all fields of a request.
const ENTRY_HEAD_BYTES: u32 = 64;

/// LIMIT: a page of a scan holds at least what one step of a server's walk may bring to light.
const SCAN_KEYS_MIN: u32 = 32;

/// LIMIT: room for statistics and sentences, however small keys and values are made.
const FRAME_BYTES_FLOOR: u32 = 64 * 1024;

/// LIMIT: room for enough small items in one frame that its own cost does not count.
const BUFFERED_BYTES_FLOOR: u64 = 256 * 1024;

/// What a server accepts. Both sides keep to it: no frame of either is longer than
/// `frame_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame, header included, in both directions.
    pub frame_bytes_max: u32,
    /// The longest key.
    pub key_bytes_max: u32,
    /// The longest value in a request; what the server can store with some keys may be less.
    pub value_bytes_max: u32,
    /// The most entries in a multi-key frame, and in a page of a scan.
    pub keys_per_frame_max: u32,
    /// How many unanswered requests a client should have under way on a connection at most. A server
    /// that gets more stops reading until it has answered; nothing is refused.
    pub in_flight_max: u32,
    /// The longest frame that the server reads and drops in order to keep the connection.
    pub skip_bytes_max: u32,
    /// How long a connection may stay silent before the server closes it; 0 is for ever.
    pub idle_ms: u32,
    /// The longest frame of those that have to be gathered before they are looked at: all but SET,
    /// ADD, REPLACE, CAS and the replies to GET and GET_AND_TOUCH. Never more than
    /// `frame_bytes_max`.
    pub buffered_bytes_max: u32,
}

/// Why limits cannot work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The key limit is out of range.
    #[error("the longest key is {0} bytes; accepted are 1 to {KEY_BYTES_CEILING}")]
    KeyBytes(u32),
    /// No multi-key frame could hold anything.
    #[error("a frame must be allowed to hold at least 1 key")]
    KeysPerFrame,
    /// No request could ever be answered.
    #[error("at least 1 request must be allowed in flight")]
    InFlight,
    /// The frame limit does not leave room for what the other limits allow, or is out of range.
    #[error(
        "the longest frame is {frame_bytes_max} bytes; the other limits need {needed_bytes}, and at most {FRAME_BYTES_CEILING} are accepted"
    )]
    FrameBytes {
        /// The limit as given.
        frame_bytes_max: u32,
        /// What the longest key and value and the most keys need.
        needed_bytes: u64,
    },
    /// A frame of acceptable length could not be skipped.
    #[error(
        "frames are accepted up to {frame_bytes_max} bytes but skipped only up to {skip_bytes_max}"
    )]
    SkipBytes {
        /// The longest frame accepted.
        frame_bytes_max: u32,
        /// The longest frame skipped.
        skip_bytes_max: u32,
    },
    /// Frames that have to be gathered are not given the room that they need, or more than frames
    /// have.
    #[error(
        "frames that are gathered have up to {buffered_bytes_max} bytes; accepted are {needed_bytes} to {frame_bytes_max}, the longest frame"
    )]
    BufferedBytes {
        /// The limit as given.
        buffered_bytes_max: u32,
        /// What the longest key and the most keys need.
        needed_bytes: u64,
        /// The longest frame accepted.
        frame_bytes_max: u32,
    },
}

impl Limits {
    /// Limits for these keys and values, with the frame limit that they need and the rest by default.
    ///
    /// [`Limits::check`] tells whether they are in range.
    #[must_use]
    pub fn for_items(key_bytes_max: u32, value_bytes_max: u32) -> Self {
        let mut limits = Self {
            frame_bytes_max: 0,
            key_bytes_max,
            value_bytes_max,
            // LIMIT: bounds the turn that one frame can take, some hundred microseconds of work.
            keys_per_frame_max: 1024,
            // LIMIT: at 100 bytes a reply, what a server is ready to keep for a slow reader.
            in_flight_max: 4096,
            // LIMIT: a client that is wrong about the limits by a factor of four keeps its connection.
            skip_bytes_max: 0,
            idle_ms: 0,
            buffered_bytes_max: 0,
        };
        let frame_bytes_max = limits
            .needed_frame_bytes()
            .min(u64::from(FRAME_BYTES_CEILING));
        limits.frame_bytes_max = frame_bytes_max as u32;
        limits.skip_bytes_max = limits.frame_bytes_max.saturating_mul(4);
        limits.buffered_bytes_max = limits.frame_bytes_max;
        limits
    }

    /// The same limits, for a server that gathers no frame that is longer than the longest key with
    /// a value of `value_bytes` needs, or 256 KiB; longer values it receives in place.
    #[must_use]
    pub fn with_buffered_values(self, value_bytes: u32) -> Self {
        let needed_bytes = self.item_frame_bytes(value_bytes);
        let buffered_bytes_max = needed_bytes.max(self.buffered_bytes_min());
        let buffered_bytes_max = buffered_bytes_max.max(BUFFERED_BYTES_FLOOR);
        Self {
            buffered_bytes_max: buffered_bytes_max.min(u64::from(self.frame_bytes_max)) as u32,
            ..self
        }
    }

    /// Whether the limits can work together.
    ///
    /// # Errors
    ///
    /// The first thing that cannot work, as a sentence.
    pub fn check(&self) -> Result<(), LimitsError> {
        let frame_bytes_max = self.frame_bytes_max;
        let needed_bytes = self.needed_frame_bytes();
        if !(1..=KEY_BYTES_CEILING).contains(&self.key_bytes_max) {
            return Err(LimitsError::KeyBytes(self.key_bytes_max));
        }
        if self.keys_per_frame_max == 0 {
            return Err(LimitsError::KeysPerFrame);
        }
        if self.in_flight_max == 0 {
            return Err(LimitsError::InFlight);
        }
        if u64::from(frame_bytes_max) < needed_bytes || frame_bytes_max > FRAME_BYTES_CEILING {
            return Err(LimitsError::FrameBytes {
                frame_bytes_max,
                needed_bytes,
            });
        }
        if self.skip_bytes_max < frame_bytes_max {
            let skip_bytes_max = self.skip_bytes_max;
            return Err(LimitsError::SkipBytes {
                frame_bytes_max,
                skip_bytes_max,
            });
        }
        let needed_bytes = self.buffered_bytes_min();
        let buffered_bytes_max = self.buffered_bytes_max;
        if !(needed_bytes..=frame_bytes_max.into()).contains(&buffered_bytes_max.into()) {
            return Err(LimitsError::BufferedBytes {
                buffered_bytes_max,
                needed_bytes,
                frame_bytes_max,
            });
        }
        Ok(())
    }

    /// The longest body that a frame may have.
    #[inline]
    #[must_use]
    pub fn body_bytes_max(&self) -> u32 {
        self.frame_bytes_max.saturating_sub(HEADER_BYTES as u32)
    }

    /// The frame that holds the longest key with the longest value, the outcomes of the most keys,
    /// or one step of a scan, whichever is longest.
    fn needed_frame_bytes(&self) -> u64 {
        self.item_frame_bytes(self.value_bytes_max)
            .max(self.buffered_bytes_min())
    }

    /// The frame that holds the longest key with a value of this length.
    fn item_frame_bytes(&self, value_bytes: u32) -> u64 {
        let [key, value] = [self.key_bytes_max, value_bytes].map(u64::from);
        HEADER_BYTES as u64 + u64::from(ENTRY_HEAD_BYTES) + key + value
    }

    /// The frame that holds the outcomes of the most keys, or one step of a scan.
    fn buffered_bytes_min(&self) -> u64 {
        let [head, header] = [u64::from(ENTRY_HEAD_BYTES), HEADER_BYTES as u64];
        let outcomes = header + 2 * u64::from(self.keys_per_frame_max);
        let scan = header + u64::from(SCAN_KEYS_MIN) * (head + u64::from(self.key_bytes_max));
        outcomes.max(scan).max(u64::from(FRAME_BYTES_FLOOR))
    }
}

impl Default for Limits {
    /// Keys of up to 250 bytes and values of up to 16 MiB.
    fn default() -> Self {
        Self::for_items(250, 16 * 1024 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::{KEY_BYTES_CEILING, Limits, LimitsError};

    #[test]
    fn limits_made_for_items_work_together() {
        for (key_bytes_max, value_bytes_max) in
            [(1, 0), (250, 1 << 20), (KEY_BYTES_CEILING, 1 << 29)]
        {
            assert_eq!(
                Limits::for_items(key_bytes_max, value_bytes_max).check(),
                Ok(())
            );
        }
    }

    #[test]
    fn limits_that_contradict_each_other_are_named() {
        let good = Limits::default();
        let key = Limits {
            key_bytes_max: 0,
            ..good
        };
        assert_eq!(key.check(), Err(LimitsError::KeyBytes(0)));
        let frame = Limits {
            frame_bytes_max: 1000,
            ..good
        };
        assert!(matches!(
            frame.check(),
            Err(LimitsError::FrameBytes {
                frame_bytes_max: 1000,
                ..
            })
        ));
        let skip = Limits {
            skip_bytes_max: 5,
            ..good
        };
        assert!(matches!(
            skip.check(),
            Err(LimitsError::SkipBytes {
                skip_bytes_max: 5,
                ..
            })
        ));
        assert!(Limits::for_items(250, u32::MAX).check().is_err());
    }
}
