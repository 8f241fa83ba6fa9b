//! What a trace is made of: requests, and what a cache stores for them.

/// One request of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// When it came, on the trace's own clock.
    pub(super) time_ms: u64,
    pub(super) key: TraceKey,
    /// Bytes of the key and the value together.
    pub(super) size_bytes: u32,
    pub(super) operation: Operation,
    /// How long what it stores lives; `None`: for ever.
    pub(super) ttl_ms: Option<u64>,
}

/// A key as it is stored.
///
/// INVARIANT: different keys of a trace have different bytes. Only numbers have 8 of them: a text of
/// 8 bytes or more has a zero byte behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TraceKey {
    Number([u8; 8]),
    Text(Box<[u8]>),
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// A read; where it misses, a set of the traced size follows.
    Get,
    Set,
    /// A read that `--overwrite` turned into a set.
    Overwrite,
    Add,
    Replace,
    Append,
    Prepend,
    Increment,
    Decrement,
    Touch,
    Delete,
}

impl Operation {
    /// Every name that a trace may use.
    pub(super) const NAMES: &[(&str, Self)] = &[
        ("get", Self::Get),
        ("gets", Self::Get),
        ("read", Self::Get),
        ("set", Self::Set),
        ("write", Self::Set),
        ("add", Self::Add),
        ("replace", Self::Replace),
        ("cas", Self::Replace),
        ("append", Self::Append),
        ("prepend", Self::Prepend),
        ("incr", Self::Increment),
        ("decr", Self::Decrement),
        ("touch", Self::Touch),
        ("delete", Self::Delete),
    ];

    /// The operation of this name, in whatever case.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let named = |(accepted, _): &&(&str, Self)| accepted.as_bytes().eq_ignore_ascii_case(name);
        Self::NAMES.iter().find(named).map(|&(_, found)| found)
    }
}

/// LIMIT: what the engine accepts unless told otherwise, the zero byte included.
const KEY_BYTES_MAX: usize = 249;

/// A key that no cache takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyProblem {
    #[error("the key is empty")]
    Empty,
    #[error("the key has {key_bytes} bytes; accepted: 1 to {KEY_BYTES_MAX}")]
    TooLong { key_bytes: usize },
}

impl TraceKey {
    pub(super) fn number(number: u64) -> Self {
        Self::Number(number.to_le_bytes())
    }

    /// The key that a trace writes as text; a number is one only if it is written in the one way
    /// that numbers are.
    pub(super) fn written(text: &[u8]) -> Result<Self, KeyProblem> {
        let key_bytes = text.len();
        if key_bytes == 0 {
            return Err(KeyProblem::Empty);
        }
        if key_bytes > KEY_BYTES_MAX {
            return Err(KeyProblem::TooLong { key_bytes });
        }
        if let Some(number) = canonical_number(text) {
            return Ok(Self::number(number));
        }
        let mut bytes = Vec::with_capacity(key_bytes + 1);
        bytes.extend_from_slice(text);
        if key_bytes >= 8 {
            bytes.push(0);
        }
        Ok(Self::Text(bytes.into()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Number(bytes) => bytes,
            Self::Text(bytes) => bytes,
        }
    }
}

fn canonical_number(text: &[u8]) -> Option<u64> {
    let first = *text.first()?;
    if !first.is_ascii_digit() || first == b'0' && text.len() > 1 {
        return None;
    }
    decimal(text)
}

/// A number of nothing but decimal digits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

impl Request {
    /// How long the value is, so that key and value have the traced size together; `None` if the
    /// key alone is longer, and is stored with no value.
    pub(super) fn value_bytes(&self) -> Option<usize> {
        (self.size_bytes as usize).checked_sub(self.key.bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_keys_are_stored_differently() {
        let texts = [
            "7",
            "07",
            "+7",
            "18446744073709551615",
            "18446744073709551616",
            "\u{7}\0\0\0\0\0\0\0",
            "\u{7}\0\0\0\0\0\0\0\0",
            "eightlong",
            "eight",
        ];
        let keys = texts.map(|text| TraceKey::written(text.as_bytes()).expect(text));
        let stored: std::collections::BTreeSet<_> = keys.iter().map(TraceKey::bytes).collect();
        assert_eq!(stored.len(), texts.len());
        assert_eq!(TraceKey::written(b"7"), Ok(TraceKey::number(7)));
    }

    #[test]
    fn key_and_value_have_the_traced_size_together() {
        let request = |size_bytes| Request {
            time_ms: 0,
            key: TraceKey::number(1),
            size_bytes,
            operation: Operation::Get,
            ttl_ms: None,
        };
        assert_eq!(request(54).value_bytes(), Some(46));
        assert_eq!(request(8).value_bytes(), Some(0));
        assert_eq!(request(7).value_bytes(), None);
    }

    #[test]
    fn keys_that_no_cache_takes_are_refused() {
        assert_eq!(TraceKey::written(b""), Err(KeyProblem::Empty));
        let long = TraceKey::written(&[b'k'; 250]).unwrap_err().to_string();
        assert_eq!(long, "the key has 250 bytes; accepted: 1 to 249");
    }
}
