//! zstd: the frames of a file, one after the other, as one stream of bytes.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes of the number that a frame begins with.
pub(super) const MAGIC_BYTES: usize = 4;

const FRAME: u32 = 0xfd2f_b528;
/// A frame with something other than data: any of 16.
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// LIMIT: the window that zstd's own program accepts unless told otherwise.
const WINDOW_BYTES_MAX: u64 = 128 << 20;

/// Whether a source that begins with these bytes is compressed.
pub(super) fn is_zstd(first: &[u8]) -> bool {
    let magic = first.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    magic.is_some_and(|magic| magic == FRAME || SKIPPABLE.contains(&magic))
}

/// A reader of what the frames hold.
pub(super) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two frames.
    Between,
    Inside,
    /// At the end, or after an error.
    Ended,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self {
            source,
            decoder,
            state: State::Between,
        }
    }

    /// Goes into the next frame that holds data, past one that does not, or to the end.
    fn begin(&mut self) -> io::Result<State> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(State::Ended);
        }
        match self.decoder.init(&mut self.source) {
            Ok(()) => Ok(State::Inside),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let skipped = &mut self.source.by_ref().take(length.into());
                io::copy(skipped, &mut io::sink())?;
                Ok(State::Between)
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Goes on in a frame: with bytes to hand out, or past its end.
    fn advance(&mut self) -> io::Result<State> {
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() {
                return self.end().map(|()| State::Between);
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let decoded = self.decoder.decode_blocks(&mut self.source, one);
            decoded.map_err(|error| self.broken(&error))?;
        }
        Ok(State::Inside)
    }

    /// Compares a frame that was read to its end with its checksum, if it has one.
    fn end(&self) -> io::Result<()> {
        let written = self.decoder.get_checksum_from_data();
        match written {
            Some(_) if written != self.decoder.get_calculated_checksum() => {
                Err(invalid("a zstd frame's checksum does not match"))
            }
            _ => Ok(()),
        }
    }

    /// Why a frame could not be decoded: most often because the rest of it is not there.
    fn broken(&mut self, why: &FrameDecoderError) -> io::Error {
        match self.source.fill_buf() {
            Ok([]) => invalid("it ends within a zstd frame"),
            _ => invalid(format!("a zstd frame is broken: {why}")),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if room.is_empty() {
            return Ok(0);
        }
        loop {
            // An error ends the stream.
            let state = std::mem::replace(&mut self.state, State::Ended);
            self.state = match state {
                State::Ended => return Ok(0),
                State::Between => self.begin()?,
                State::Inside => self.advance()?,
            };
            if self.state == State::Inside && self.decoder.can_collect() > 0 {
                return self.decoder.read(room);
            }
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
