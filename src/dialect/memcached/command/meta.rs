//! The meta commands: a key, and flags of one letter, some with a token behind the letter.
//!
//! All commands know all flags, as memcached's do: one that has no meaning for a command is read and
//! changes nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::store::{NoHead, StoreHead, StoreStyle, StoreVerb, value_bytes};
use super::word::{self, words};
use super::{Answer, Command, Complaint, Delta, Expiry, Front, KEY_BYTES_MAX, Line};

/// LIMIT: words of a meta command, its name and its key included.
const WORDS_MAX: usize = 19;

/// LIMIT: an opaque token, its letter included.
const OPAQUE_BYTES_MAX: usize = 32;

/// LIMIT: what a key of the greatest length decodes to, in whole groups of three.
const DECODED_BYTES_MAX: usize = KEY_BYTES_MAX.div_ceil(4) * 3;

/// A meta command without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetaCommand<'i> {
    pub(crate) verb: MetaVerb,
    pub(crate) key: &'i [u8],
    pub(crate) flags: Flags<'i>,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetaVerb {
    Get,
    /// A store, which has a value and is another [`Command`].
    Set,
    Delete,
    Count {
        delta: Delta,
    },
    /// Shows what is known about an item.
    Debug,
}

/// How a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyForm {
    Plain,
    Base64,
}

/// The flags of a meta command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags<'i> {
    /// As they were written, for the answer repeats some of them in their order.
    pub(crate) text: &'i [u8],
    /// Which of them are there: a bit for each letter.
    seen: u128,
    pub(crate) key_form: KeyForm,
    /// `C`: the version that the item must have.
    pub(crate) version: Option<u64>,
    /// `E`: the version that the item gets.
    pub(crate) new_version: Option<u64>,
    /// `T`: when the item is to expire.
    pub(crate) expiry: Option<Expiry>,
    /// `N`: when an item expires that is made because there is none.
    pub(crate) vivify: Option<Expiry>,
    /// `R`: an item that expires before this is to be made anew.
    pub(crate) refresh: Option<Expiry>,
    /// `M`.
    mode: Option<u8>,
    /// `F`.
    client_flags: u32,
    /// `J`.
    pub(crate) initial: u64,
    /// `D`.
    delta: u64,
}

impl<'i> Flags<'i> {
    fn none(text: &'i [u8]) -> Self {
        Self {
            text,
            seen: 0,
            key_form: KeyForm::Plain,
            version: None,
            new_version: None,
            expiry: None,
            vivify: None,
            refresh: None,
            mode: None,
            client_flags: 0,
            initial: 0,
            delta: 1,
        }
    }

    /// Whether a flag is there.
    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.seen & (1 << (flag & 0x7f)) != 0
    }

    /// Whether ordinary outcomes are to be answered.
    #[inline]
    pub(crate) fn answer(&self) -> Answer {
        match self.has(b'q') {
            true => Answer::Unwanted,
            false => Answer::Wanted,
        }
    }

    /// Reads the flags. Of several mistakes the last is told, unless one hides the others.
    #[inline]
    fn read(&mut self, key: &[u8]) -> Result<(), Complaint> {
        let mut mistake = None;
        for word in words(self.text) {
            let (letter, token) = (word[0], &word[1..]);
            if letter >= 0x7f || self.has(letter) {
                return Err(Complaint::DuplicateFlag);
            }
            self.seen |= 1 << letter;
            if let Err(complaint) = self.take(letter, token, key) {
                match complaint {
                    Complaint::InvalidFlag => return Err(complaint),
                    // This one has no words of its own: those of an earlier mistake stay.
                    Complaint::BadLine => mistake = mistake.or(Some(complaint)),
                    _ => mistake = Some(complaint),
                }
            }
        }
        mistake.map_or(Ok(()), Err)
    }

    #[inline]
    fn take(&mut self, letter: u8, token: &[u8], key: &[u8]) -> Result<(), Complaint> {
        let expiry = || {
            word::signed_32(token)
                .map(Expiry)
                .ok_or(Complaint::BadToken)
        };
        match letter {
            b'O' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'v' | b'q' | b'h' | b'l'
            | b'u' | b'I' | b'x' => {}
            b'b' => {
                self.key_form = KeyForm::Base64;
                decode(key, &mut [0; DECODED_BYTES_MAX]).ok_or(Complaint::KeyEncoding)?;
            }
            b'N' => self.vivify = Some(expiry()?),
            b'T' => self.expiry = Some(expiry()?),
            b'R' => self.refresh = Some(expiry()?),
            b'F' => self.client_flags = word::number_32(token).ok_or(Complaint::BadLine)?,
            b'C' => self.version = Some(word::number(token).ok_or(Complaint::BadToken)?),
            b'E' => {
                let version = word::number(token).ok_or(Complaint::BadToken)?;
                // No item has version 0: it is as if none were chosen.
                self.new_version = (version != 0).then_some(version);
            }
            b'M' => match token {
                [mode] => self.mode = Some(*mode),
                _ => return Err(Complaint::ModeLength),
            },
            b'J' => self.initial = word::number(token).ok_or(Complaint::BadInitial)?,
            b'D' => self.delta = word::number(token).ok_or(Complaint::BadDeltaToken)?,
            _ => return Err(Complaint::InvalidFlag),
        }
        Ok(())
    }

    /// Whether both flags are there, in this order.
    pub(crate) fn is_before(&self, one: u8, other: u8) -> bool {
        let place = |flag: u8| words(self.text).position(|word| word[0] == flag);
        self.has(one) && self.has(other) && place(one) < place(other)
    }

    /// Refuses opaque tokens that are too long.
    fn check_opaque(&self) -> Result<(), Complaint> {
        let is_long = |word: &[u8]| word[0] == b'O' && word.len() > OPAQUE_BYTES_MAX;
        match self.has(b'O') && words(self.text).any(is_long) {
            true => Err(Complaint::OpaqueTooLong),
            false => Ok(()),
        }
    }
}

/// Decodes a key into a buffer that has room for any.
pub(crate) fn decode<'b>(key: &[u8], buffer: &'b mut [u8; DECODED_BYTES_MAX]) -> Option<&'b [u8]> {
    let bytes = STANDARD.decode_slice(key, buffer).ok()?;
    (bytes > 0).then(|| &buffer[..bytes])
}

/// `mg`, `md`, `ma` or `me`; `rest` is what is behind the name.
pub(super) fn command<'i>(name: &[u8], rest: &'i [u8], line: &Line<'i>) -> Front<'i> {
    let (key, text) = word::first(rest);
    let mut flags = Flags::none(text);
    let verb = match name {
        b"mg" => get(key, &mut flags, line),
        b"md" => deletion(key, &mut flags, line),
        b"ma" => count(key, &mut flags, line),
        _ => debug(key, &mut flags),
    };
    match verb {
        Ok(verb) => line.is(Command::Meta(MetaCommand { verb, key, flags })),
        Err(complaint) => line.refused(complaint),
    }
}

#[inline]
fn get(key: &[u8], flags: &mut Flags<'_>, line: &Line<'_>) -> Result<MetaVerb, Complaint> {
    check_words(key, line, Complaint::GetFlagsTooLong)?;
    flags.read(key)?;
    flags.check_opaque()?;
    Ok(MetaVerb::Get)
}

fn deletion(key: &[u8], flags: &mut Flags<'_>, line: &Line<'_>) -> Result<MetaVerb, Complaint> {
    check_words(key, line, Complaint::FlagsTooLong)?;
    let read = flags.read(key);
    read.map_err(|_| Complaint::InvalidOrDuplicateFlag)?;
    flags.check_opaque()?;
    Ok(MetaVerb::Delete)
}

fn count(key: &[u8], flags: &mut Flags<'_>, line: &Line<'_>) -> Result<MetaVerb, Complaint> {
    check_words(key, line, Complaint::FlagsTooLong)?;
    let read = flags.read(key);
    read.map_err(|_| Complaint::InvalidOrDuplicateFlag)?;
    let delta = match flags.mode {
        None | Some(b'I' | b'+') => Delta::Up(flags.delta),
        Some(b'D' | b'-') => Delta::Down(flags.delta),
        _ => return Err(Complaint::CountMode),
    };
    flags.check_opaque()?;
    Ok(MetaVerb::Count { delta })
}

/// Reads no flag but `b`, and that only where it is the first.
fn debug(key: &[u8], flags: &mut Flags<'_>) -> Result<MetaVerb, Complaint> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Complaint::BadLine);
    }
    if words(flags.text).next() == Some(b"b") {
        flags.key_form = KeyForm::Base64;
        decode(key, &mut [0; DECODED_BYTES_MAX]).ok_or(Complaint::BadLine)?;
    }
    Ok(MetaVerb::Debug)
}

/// What all of them refuse before they look at flags.
fn check_words(key: &[u8], line: &Line<'_>, too_many: Complaint) -> Result<(), Complaint> {
    if key.is_empty() {
        return Err(Complaint::NoCommand);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Complaint::BadLine);
    }
    // So many words do not fit into less.
    let is_short = line.text.len() < 2 * WORDS_MAX;
    match is_short || words(line.text).nth(WORDS_MAX).is_none() {
        true => Ok(()),
        false => Err(too_many),
    }
}

/// The line of `ms`; `rest` is what is behind the name.
pub(super) fn store_head<'i>(rest: &'i [u8], line: &Line<'i>) -> Result<StoreHead<'i>, NoHead> {
    let (key, rest) = word::first(rest);
    let (length, text) = word::first(rest);
    if key.is_empty() {
        return Err(NoHead::Lost(Complaint::NoCommand));
    }
    let value_bytes = value_bytes(length).ok_or(NoHead::Lost(Complaint::BadLine))?;
    let known = |complaint| NoHead::Known {
        complaint,
        value_bytes,
    };
    check_words(key, line, Complaint::FlagsTooLong).map_err(known)?;
    let mut flags = Flags::none(text);
    flags.read(key).map_err(known)?;
    let verb = match flags.mode {
        None | Some(b'S') => StoreVerb::Set,
        Some(b'E') => StoreVerb::Add,
        Some(b'A') => StoreVerb::Append,
        Some(b'P') => StoreVerb::Prepend,
        Some(b'R') => StoreVerb::Replace,
        _ => return Err(known(Complaint::SetMode)),
    };
    flags.check_opaque().map_err(known)?;
    Ok(StoreHead {
        verb,
        key,
        client_flags: flags.client_flags,
        expiry: flags.expiry.unwrap_or(Expiry(0)),
        version: flags.version,
        value_bytes,
        style: StoreStyle::Meta(flags),
    })
}
