//! What the tab key offers: commands, and the options of the command on the line.

use clap::Command;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

/// Completes lines from the grammar.
#[derive(Debug)]
pub(super) struct Completion {
    commands: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    names: Vec<String>,
    options: Vec<String>,
}

impl Completion {
    /// All commands of a grammar, and those that the shell has beside it.
    pub(super) fn new(grammar: &Command, beside: &[&str]) -> Self {
        let named = |command: &Command| Named {
            names: (command.get_all_aliases())
                .chain([command.get_name()])
                .map(str::to_owned)
                .collect(),
            options: (command.get_arguments())
                .filter_map(|option| Some(format!("--{}", option.get_long()?)))
                .chain(["--help".to_owned()])
                .collect(),
        };
        let mut commands: Vec<Named> = grammar.get_subcommands().map(named).collect();
        commands.extend(beside.iter().map(|name| Named {
            names: vec![(*name).to_owned()],
            options: Vec::new(),
        }));
        Self { commands }
    }

    /// Where the word begins that the cursor is behind, and what it could become.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (before, word) = line.split_at(start);
        let mut before = before.split_whitespace();
        let offered: Vec<&String> = match before.next() {
            None => self.names().collect(),
            Some("help") => self.names().collect(),
            Some(command) => {
                let is_it = |named: &&Named| named.names.iter().any(|name| name == command);
                let found = self.commands.iter().find(is_it);
                let options = found.into_iter().flat_map(|named| &named.options);
                // A key may be any word: only what begins as an option does is completed.
                options.filter(|_| word.starts_with('-')).collect()
            }
        };
        let fits = |offered: &&&String| offered.starts_with(word);
        let mut candidates: Vec<String> = (offered.iter().filter(fits))
            .map(|offered| format!("{offered} "))
            .collect();
        candidates.sort_unstable();
        (start, candidates)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.commands.iter().flat_map(|named| &named.names)
    }
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..position]))
    }
}

impl Helper for Completion {}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Hinter for Completion {
    type Hint = String;
}

#[cfg(test)]
mod tests {
    use super::Completion;
    use crate::cli::grammar::Grammar;

    #[test]
    fn commands_and_their_options_are_offered() {
        let grammar = Grammar::new();
        let completion = Completion::new(grammar.command(), &["help", "exit"]);
        for (line, start, expected) in [
            ("ge", 0, &["get "][..]),
            ("s", 0, &["scan ", "set ", "stats "]),
            ("ex", 0, &["exit "]),
            ("help fl", 5, &["flush "]),
            ("set k v --ex", 8, &["--expire-in "]),
            ("del k --js", 6, &["--json "]),
            ("get k", 4, &[]),
            ("dance --", 6, &[]),
        ] {
            let (at, candidates) = completion.candidates(line);
            assert_eq!(
                (at, &candidates[..]),
                (
                    start,
                    &expected.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()[..]
                ),
                "{line}"
            );
        }
        assert!(completion.candidates("").1.len() > 10);
    }
}
