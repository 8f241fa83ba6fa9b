//! Commands as lines of text: what a batch and a shell read.
//!
//! A line is split into words as a shell splits them, with its quotes, backslashes and comments; the words
//! are what the command line takes after `larder`. There is no second grammar: clap reads both. It takes
//! its time, though, a hundred times that of the request itself; so a line of a command and a key, or a
//! key and a value, with no options, is read as the first of its kind was, which clap has read.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches, Subcommand};

use super::commands::{self, AnswerOptions, Request};

/// What may stand before a command, for lines that come from elsewhere.
const PROGRAM: &[u8] = b"larder";

/// A command that was read from a line.
#[derive(Debug)]
pub(crate) struct Typed {
    /// What is asked.
    pub(crate) request: Request,
    /// Whether the answer is to be JSON.
    pub(crate) json: bool,
}

/// Why a line is no command.
#[derive(Debug)]
pub(crate) enum NoCommand {
    /// It asked for help, which is this.
    Help(StyledStr),
    /// It is wrong, in this way.
    Wrong(String),
}

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Grammar {
    command: Command,
    /// The first line without options of each command and each number of words, as clap read it.
    firsts: HashMap<(Vec<u8>, usize), Request>,
}

impl Grammar {
    pub(crate) fn new() -> Self {
        let command = Request::augment_subcommands(Command::new("larder"));
        let command = commands::augment(command, AnswerOptions::augment_args);
        let command = command
            .no_binary_name(true)
            .subcommand_required(true)
            .arg_required_else_help(false)
            .help_template("{subcommands}");
        Self {
            command,
            firsts: HashMap::new(),
        }
    }

    /// The commands that there are.
    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// The command on a line; none where it is empty or a comment.
    pub(crate) fn read(&mut self, line: &[u8]) -> Result<Option<Typed>, NoCommand> {
        let words = words(line)?;
        let words = match words.split_first() {
            Some((first, rest)) if first == PROGRAM && !rest.is_empty() => rest,
            _ => &words[..],
        };
        if words.is_empty() {
            return Ok(None);
        }
        let is_plain = !words.iter().any(|word| word.starts_with(b"-"));
        let kind = (words[0].clone(), words.len());
        if is_plain && let Some(request) = self.firsts.get(&kind).and_then(|is| is.of_words(words))
        {
            let json = false;
            return Ok(Some(Typed { request, json }));
        }
        let given = words.iter().cloned().map(OsString::from_vec);
        let matches = self.command.try_get_matches_from_mut(given);
        let typed = matches.and_then(|matches| typed(&matches));
        if is_plain
            && let Ok(typed) = &typed
            && let Some(request) = typed.request.of_words(words)
        {
            self.firsts.insert(kind, request);
        }
        typed.map(Some).map_err(|error| self.no_command(&error))
    }

    fn no_command(&self, error: &Error) -> NoCommand {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                NoCommand::Help(error.render())
            }
            ErrorKind::InvalidSubcommand => {
                let why = in_one_line(error);
                let why = why.split("; usage: ").next().unwrap_or(&why);
                let names = self.command.get_subcommands().map(Command::get_name);
                let names: Vec<&str> = names.collect();
                NoCommand::Wrong(format!("{why}; accepted: {}", names.join(", ")))
            }
            _ => NoCommand::Wrong(in_one_line(error)),
        }
    }
}

/// The words of a line.
pub(crate) fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, NoCommand> {
    shlex::bytes::split(line).ok_or_else(|| {
        NoCommand::Wrong(
            "a quote is not closed, or a backslash stands at the end; accepted: words quoted as in a \
             shell, one command on each line"
                .to_owned(),
        )
    })
}

fn typed(matches: &ArgMatches) -> Result<Typed, Error> {
    let request = Request::from_arg_matches(matches)?;
    let (_, of_command) = matches.subcommand().expect("a command is required");
    let json = AnswerOptions::from_arg_matches(of_command)?.json;
    Ok(Typed { request, json })
}

/// What clap says in paragraphs, without the usage that it adds.
pub(crate) fn in_one_line(error: &Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.take_while(|line| !line.starts_with("For more information"));
    let mut sentence = String::new();
    for line in lines {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        let gap = match sentence.chars().last() {
            None => "",
            Some(':') => " ",
            Some(_) => "; ",
        };
        sentence += gap;
        sentence += line;
    }
    cut(&sentence.replacen("Usage: ", "usage: ", 1))
}

/// A sentence that quotes what was read: without what a terminal would take for an order, and not longer
/// than can be read.
fn cut(sentence: &str) -> String {
    // LIMIT: a line or three of a terminal.
    const CHARS_MAX: usize = 300;
    let is_plain = |c: char| !c.is_control() && c != char::REPLACEMENT_CHARACTER;
    let plain = sentence.chars().map(|c| if is_plain(c) { c } else { '?' });
    let mut plain: String = plain.take(CHARS_MAX + 1).collect();
    if plain.chars().count() > CHARS_MAX {
        plain.pop();
        plain += "...";
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Typed>, String> {
        Grammar::new().read(line.as_bytes()).map_err(|no| match no {
            NoCommand::Help(help) => format!("help: {help}"),
            NoCommand::Wrong(why) => why,
        })
    }

    #[test]
    fn words_are_quoted_as_in_a_shell() {
        for (line, expected) in [
            ("set k v", &["set", "k", "v"][..]),
            (
                "set 'a key' \"a \\\"value\\\"\"",
                &["set", "a key", "a \"value\""],
            ),
            ("get a\\ b   # the rest is a comment", &["get", "a b"]),
            ("set k ''", &["set", "k", ""]),
            ("  # nothing", &[]),
        ] {
            let words = words(line.as_bytes()).unwrap();
            let words: Vec<&str> = words.iter().map(|w| str::from_utf8(w).unwrap()).collect();
            assert_eq!(words, expected, "{line}");
        }
        assert_eq!(words(b"get \xff").unwrap()[1], b"\xff");
        assert!(
            read("get 'a")
                .unwrap_err()
                .contains("a quote is not closed")
        );
    }

    #[test]
    fn a_line_is_what_the_command_line_takes() {
        for line in ["get k", "larder get k", "  get   'k'  # now"] {
            let typed = read(line).unwrap().unwrap();
            assert!(matches!(typed.request, Request::Get(_)), "{line}");
        }
        assert!(read("get k --json").unwrap().unwrap().json);
        for line in ["", "   ", "# get k"] {
            assert!(read(line).unwrap().is_none(), "{line}");
        }
    }

    #[test]
    fn one_grammar_reads_line_after_line() {
        let mut grammar = Grammar::new();
        for number in 0..3 {
            let line = format!("touch k{number} --expire-in 1m");
            assert!(grammar.read(line.as_bytes()).unwrap().is_some());
            assert!(grammar.read(b"gte k").is_err());
        }
    }

    #[test]
    fn lines_of_one_kind_are_what_clap_makes_of_each() {
        let mut grammar = Grammar::new();
        for lines in [
            ["get a", "get b", "get 'b c'"],
            ["set a 1", "set b ''", "set c help"],
            ["delete a", "delete b", "delete help"],
            ["incr a", "incr b", "incr c"],
            ["incr a 1", "incr a 2", "incr b 3"],
            ["get a b", "get c d", "get e f"],
            ["set a - ", "set a -", "set b -"],
        ] {
            for line in lines {
                let again = grammar.read(line.as_bytes()).unwrap().unwrap();
                let anew = read(line).unwrap().unwrap();
                assert_eq!(format!("{again:?}"), format!("{anew:?}"), "{line}");
            }
        }
        // What is right for one key is not for another with more to it.
        assert!(grammar.read(b"set a").is_err());
        assert!(grammar.read(b"get").is_err());
        assert!(grammar.read(b"get a --json").unwrap().unwrap().json);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_what_would_be_right() {
        for (line, expected) in [
            ("scann", "a similar subcommand exists: 'scan'"),
            (
                "dance",
                "unrecognized subcommand 'dance'; accepted: get, set, touch, ",
            ),
            ("get", "required arguments were not provided: <KEY>"),
            ("get k --jsno", "a similar argument exists: '--json'"),
            (
                "set k v --expire-in 5",
                "accepted: a whole number with ms, s, m, h or d",
            ),
            ("serve", "unrecognized subcommand 'serve'"),
            ("larder", "unrecognized subcommand 'larder'"),
        ] {
            let why = read(line).unwrap_err();
            assert!(why.contains(expected) && !why.contains('\n'), "{why}");
        }
        let why = read(&format!("{} k", "\u{7}x".repeat(1000))).unwrap_err();
        assert!(why.chars().count() < 500 && !why.contains('\u{7}'), "{why}");
        assert!(read("get --help").unwrap_err().starts_with("help: "));
        assert!(read("help get").unwrap_err().starts_with("help: "));
    }
}
