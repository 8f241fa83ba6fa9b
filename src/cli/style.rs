//! Colours: on a terminal, and nowhere else.
//!
//! `NO_COLOR` and its relatives are respected, as clap does for its own texts; what goes into a pipe or a
//! file has no colours.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();

/// What stands beside the answer: units, notes.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// What went wrong.
pub(crate) const WRONG: Style = AnsiColor::Red.on_default().bold();

/// Whether standard output shows colours.
pub(crate) fn on_stdout() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Whether standard error shows colours.
pub(crate) fn on_stderr() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// A text in a style, if colours are shown.
pub(crate) fn painted(style: Style, text: &str, colours: bool) -> String {
    match colours && !text.is_empty() {
        true => format!("{style}{text}{style:#}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{WRONG, painted};

    #[test]
    fn a_text_has_colours_only_where_they_are_shown() {
        assert_eq!(painted(WRONG, "no", false), "no");
        let painted = painted(WRONG, "no", true);
        assert!(
            painted.starts_with('\u{1b}') && painted.ends_with("\u{1b}[0m"),
            "{painted:?}"
        );
    }
}
