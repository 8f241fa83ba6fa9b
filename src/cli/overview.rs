//! `larder --help`: the commands in groups, as people look for them.
//!
//! clap lists commands one below the other; what each is about is still what its own definition says.

use std::fmt::Write;

use clap::Command;
use clap::builder::StyledStr;

use super::ending::EXIT_CODES;
use super::{DEFAULT_URL, SERVER_VARIABLE};

/// Which command is found where.
const GROUPS: &[(&str, &[&str])] = &[
    ("Items", &["get", "set", "touch", "delete", "incr", "scan"]),
    ("Many commands", &["batch", "shell"]),
    (
        "A server",
        &["serve", "config", "ping", "stats", "flush", "upgrade"],
    ),
    ("How it is", &["status", "why", "postmortem", "drill"]),
    ("Measuring", &["bench", "replay"]),
    ("This program", &["completions", "help"]),
];

const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}{after-help}";

/// Gives a command line a help that shows its commands in groups.
pub(crate) fn in_groups(command: Command) -> Command {
    let header = *command.get_styles().get_header();
    let literal = *command.get_styles().get_literal();
    let mut help = String::new();
    let width = GROUPS.iter().flat_map(|(_, names)| *names);
    let width = width.map(|name| name.len()).max().unwrap_or(0);
    for (heading, names) in GROUPS {
        let gap = if help.is_empty() { "" } else { "\n" };
        let _ = writeln!(help, "{gap}{header}{heading}:{header:#}");
        for name in *names {
            let about = about(&command, name);
            let _ = writeln!(help, "  {literal}{name:width$}{literal:#}  {about}");
        }
    }
    let _ = write!(
        help,
        "\n`larder help COMMAND` tells its options, with examples. Commands ask the server at --server \
         or {SERVER_VARIABLE}, and without them {DEFAULT_URL}.\n\n{EXIT_CODES}"
    );
    command
        .help_template(TEMPLATE)
        .after_help(StyledStr::from(help))
        .disable_help_subcommand(false)
}

fn about(command: &Command, name: &str) -> String {
    let found = command.find_subcommand(name);
    let about = found.and_then(Command::get_about).map(ToString::to_string);
    about.unwrap_or_else(|| "Tell more about a command".to_owned())
}

#[cfg(test)]
mod tests {
    use super::GROUPS;

    /// clap breaks lines that are too long, and leaves the breaks that are there: both together look torn.
    #[test]
    fn helps_have_no_line_that_is_broken_twice() {
        // LIMIT: where clap breaks lines that go to no terminal.
        const COLUMNS: usize = 100;
        let command = crate::cli::command_line();
        for of in command.get_subcommands() {
            let after = of.get_after_help().map(ToString::to_string);
            let long_about = of.get_long_about().map(ToString::to_string);
            for text in [after, long_about].into_iter().flatten() {
                let lines: Vec<&str> = text.lines().collect();
                for pair in lines.windows(2).filter(|pair| !pair[1].is_empty()) {
                    let name = of.get_name();
                    assert!(pair[0].chars().count() <= COLUMNS, "{name}: {}", pair[0]);
                }
            }
        }
    }

    #[test]
    fn every_command_is_in_one_group() {
        let command = crate::cli::command_line();
        let mut listed: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        listed.sort_unstable();
        let mut commands: Vec<&str> = (command.get_subcommands())
            .map(clap::Command::get_name)
            .chain(["help"])
            .collect();
        commands.sort_unstable();
        assert_eq!(listed, commands);
    }
}
