//! What came of a command, and how it is shown.
//!
//! Commands say what they found; who runs them says for whom: the bytes as they are for a pipe, a line
//! for each command of a batch, something to read for a terminal, one JSON object on a line for programs.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::cli::ending::{Ending, Failure};
use crate::cli::style::{FAINT, painted};
use crate::cli::units;

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Values as they are, byte for byte.
    Bare,
    /// Values as they are, with the end of a line behind each.
    Lines,
    /// For people at a terminal.
    Readable {
        /// Whether in colours.
        colours: bool,
    },
    /// For programs: one object on each line.
    Json,
}

/// What a command has to say.
#[derive(Debug)]
pub(crate) struct Answer {
    /// How it ended.
    pub(crate) ending: Ending,
    /// What was not as asked, where the rest was.
    pub(crate) complaint: Option<String>,
    said: Said,
    json: Value,
}

#[derive(Debug)]
enum Said {
    /// What was to be shown was shown while it came.
    Nothing,
    Text(String),
    Value(Bytes),
}

impl Answer {
    /// A text, ends of lines included, and what it is to programs.
    pub(crate) fn text(text: impl Into<String>, json: Value) -> Self {
        Self {
            ending: Ending::Done,
            complaint: None,
            said: Said::Text(text.into()),
            json,
        }
    }

    /// A value, and what it is to programs.
    pub(crate) fn value(value: Bytes, json: Value) -> Self {
        Self {
            said: Said::Value(value),
            ..Self::text("", json)
        }
    }

    /// What was asked for has gone where it was to go.
    pub(crate) fn printed() -> Self {
        Self {
            said: Said::Nothing,
            ..Self::text("", Value::Null)
        }
    }

    /// Some of what was asked for was not there.
    #[must_use]
    pub(crate) fn but(mut self, complaint: String) -> Self {
        (self.ending, self.complaint) = (Ending::NotFoundOrNotStored, Some(complaint));
        self
    }

    /// The bytes that show it.
    pub(crate) fn shown(&self, form: Form) -> Cow<'_, [u8]> {
        match (&self.said, form) {
            (Said::Nothing, _) => Cow::Borrowed(&[]),
            (_, Form::Json) => Cow::Owned(format!("{}\n", self.json).into_bytes()),
            (Said::Text(text), _) => Cow::Borrowed(text.as_bytes()),
            (Said::Value(value), Form::Bare) => Cow::Borrowed(value),
            (Said::Value(value), Form::Lines) => Cow::Owned([value, &b"\n"[..]].concat()),
            (Said::Value(value), Form::Readable { colours }) => {
                Cow::Owned(readable(value, colours).into_bytes())
            }
        }
    }

    /// What it is to programs, where it was not printed already.
    pub(crate) fn into_json(self) -> Option<Value> {
        match self.said {
            Said::Nothing => None,
            _ => Some(self.json),
        }
    }
}

/// A failure as programs read it.
pub(crate) fn failure_as_json(failure: &Failure) -> Value {
    json!({ "error": failure.sentence, "kind": failure.ending.name() })
}

/// A key or a value as programs read it: a string, or an object with its bytes in base64 where they
/// are no UTF-8.
pub(crate) fn bytes_as_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// A key as a terminal takes it: what is no text, or would move the cursor, is spelled out.
pub(crate) fn readable_key(key: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(key.escape_ascii().to_string()),
    }
}

/// A value as a terminal takes it, up to the end of its line.
fn readable(value: &[u8], colours: bool) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    match std::str::from_utf8(value) {
        Ok("") => painted(FAINT, "(empty)", colours) + "\n",
        Ok(text) if text.chars().all(is_plain) => {
            format!("{}\n", text.strip_suffix('\n').unwrap_or(text))
        }
        _ => {
            let size = units::size_about(value.len() as u64);
            let note = format!("(not plain text, {size})");
            format!(
                "{} {}\n",
                value.escape_ascii(),
                painted(FAINT, &note, colours)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_bare_on_a_line_or_readable() {
        let answer = |value: &'static [u8]| {
            let json = json!({ "value": bytes_as_json(value) });
            Answer::value(Bytes::from_static(value), json)
        };
        let readable = Form::Readable { colours: false };
        for (value, form, expected) in [
            (&b"a\n"[..], Form::Bare, &b"a\n"[..]),
            (b"a", Form::Lines, b"a\n"),
            (b"a\n", Form::Lines, b"a\n\n"),
            (b"a\n", readable, b"a\n"),
            (b"a", readable, b"a\n"),
            (b"", readable, b"(empty)\n"),
            (b"\x1b[2J", readable, b"\\x1b[2J (not plain text, 4 B)\n"),
            (b"\xff", readable, b"\\xff (not plain text, 1 B)\n"),
            (b"a\"", Form::Json, b"{\"value\":\"a\\\"\"}\n"),
            (b"\xff", Form::Json, b"{\"value\":{\"base64\":\"/w==\"}}\n"),
        ] {
            assert_eq!(&*answer(value).shown(form), expected, "{value:?} {form:?}");
        }
    }

    #[test]
    fn what_was_printed_already_says_nothing_more() {
        assert_eq!(&*Answer::printed().shown(Form::Json), b"");
        assert_eq!(Answer::printed().into_json(), None);
    }

    #[test]
    fn a_key_that_would_move_the_cursor_is_spelled_out() {
        assert_eq!(readable_key("birne-ü".as_bytes()), "birne-ü");
        assert_eq!(readable_key(b"a\nb"), "a\\nb");
        assert_eq!(readable_key(b"\xffb"), "\\xffb");
    }
}
