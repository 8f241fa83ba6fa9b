//! `larder completions`: scripts with which a shell completes the command line.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::ending::{Ending, conclude, print};

const EXAMPLE: &str = "\
Examples:
  larder completions bash > ~/.local/share/bash-completion/completions/larder
  larder completions zsh > ~/.zfunc/_larder       # with ~/.zfunc in fpath
  larder completions fish > ~/.config/fish/completions/larder.fish
  source <(larder completions bash)               # for this shell alone";

/// The options of `larder completions`.
#[derive(Debug, Args)]
#[command(about = "Print a script with which a shell completes commands", after_help = EXAMPLE)]
pub(crate) struct CompletionsOptions {
    /// The shell
    shell: Shell,
}

/// Prints the script for this command line.
pub(crate) fn run(options: &CompletionsOptions, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "larder", &mut script);
    conclude("completions", print(&script).map(|()| Ending::Done))
}
