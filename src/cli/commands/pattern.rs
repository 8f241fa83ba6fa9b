//! Which keys a glob stands for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobMatcher};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

/// What a regular expression over bytes begins with.
const OVER_BYTES: &str = "(?-u)";

/// A glob: over the characters of keys that are UTF-8, over the bytes of others.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    characters: Regex,
    bytes: GlobMatcher,
}

impl Pattern {
    /// Reads a glob; its mistakes as a sentence.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        // Keys are no paths: nothing is special about a slash.
        let glob = GlobBuilder::new(text).literal_separator(false).build();
        let glob = glob.map_err(|error| {
            format!(
                "{}; a backslash before a special character makes it an ordinary one",
                error.kind()
            )
        })?;
        let syntax = syntax::Config::new().dot_matches_new_line(true);
        let characters = Regex::builder()
            .syntax(syntax)
            .build(&over_characters(glob.regex()))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            characters,
            bytes: glob.compile_matcher(),
        })
    }

    pub(super) fn is_match(&self, key: &[u8]) -> bool {
        match std::str::from_utf8(key) {
            Ok(key) => self.characters.is_match(key),
            Err(_) => self.bytes.is_match(OsStr::from_bytes(key)),
        }
    }
}

/// The same regular expression over characters: globset writes one over bytes, in which every byte of a
/// character beyond ASCII is an escape of its own.
fn over_characters(expression: &str) -> String {
    let mut left = expression.strip_prefix(OVER_BYTES).unwrap_or(expression);
    let mut written = Vec::with_capacity(left.len());
    while let Some(at) = left.find('\\') {
        written.extend_from_slice(&left.as_bytes()[..at]);
        let escape = &left[at..];
        let byte = escape
            .strip_prefix("\\x")
            .and_then(|digits| digits.get(..2));
        left = match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                written.push(byte);
                &escape["\\xff".len()..]
            }
            None => {
                // Whatever is escaped here is ASCII, and one character.
                let end = escape.len().min(2);
                written.extend_from_slice(&escape.as_bytes()[..end]);
                &escape[end..]
            }
        };
    }
    written.extend_from_slice(left.as_bytes());
    // The bytes are those of a glob, which is text.
    String::from_utf8_lossy(&written).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(pattern: &str, key: impl AsRef<[u8]>) -> bool {
        Pattern::new(pattern).unwrap().is_match(key.as_ref())
    }

    #[test]
    fn a_glob_is_over_characters() {
        for (pattern, key) in [
            ("ün?", "ünï"),
            ("?nï", "ünï"),
            ("[ü]nï", "ünï"),
            ("[à-ü]nï", "ünï"),
            ("ün[!a]", "ünï"),
            ("{ü,ä}n*", "ünï"),
            ("???", "日本語"),
            ("*", "日本語"),
            ("a?b", "a\nb"),
            ("a*/b", "a/x/b"),
            ("**/b", "a/b"),
            (r"\\xc3", r"\xc3"),
            (r"\*.[x.]", "*.."),
            ("a.b(c)|^$", "a.b(c)|^$"),
            ("", ""),
        ] {
            assert!(matches(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("ün??", "ünï"),
            ("??nï", "ünï"),
            ("[ü]nï", "önï"),
            ("[!ü]nï", "ünï"),
            ("??", "ü"),
            ("a.b", "axb"),
            (r"\\xc3", "Ã"),
            ("a", "ab"),
        ] {
            assert!(!matches(pattern, key), "{pattern} {key}");
        }
    }

    #[test]
    fn a_key_that_is_no_text_is_matched_by_its_bytes() {
        assert!(matches("a??", b"a\xff\xfe"));
        assert!(matches(
            "ü*",
            "ü".bytes().chain([0xff]).collect::<Vec<u8>>()
        ));
        assert!(!matches("a?", b"a\xff\xfe"));
    }

    #[test]
    fn what_is_no_glob_is_refused_with_a_way_out() {
        let refused = Pattern::new("[a").unwrap_err();
        assert!(refused.contains("unclosed character class"), "{refused}");
    }
}
