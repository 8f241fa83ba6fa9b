//! `larder shell`: commands typed one after the other, with a history and completion.
//!
//! It reads the same grammar as a batch. The connection is looked after by a thread of its own while the
//! shell waits for somebody to type, so that a server that drains is noticed at once.

mod completion;
mod history;

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use larder_client::Client;
use rustix::termios::{QueueSelector, tcflush};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use self::completion::Completion;
use super::batch;
use super::commands::{Answer, Form, Place, ServerOptions, Site, connect, form_on_stdout};
use super::ending::{Ending, Failure, conclude, print, say};
use super::grammar::{Grammar, NoCommand, Typed, words};
use super::style::{self, FAINT, HEADING, WRONG, painted};

const EXAMPLE: &str = "\
Examples:
  larder shell
  larder shell --server larder+unix:///run/larder.sock

The commands are those of the command line, without `larder` before them; tab completes them and their \
options, the arrows bring back what was typed before, Ctrl-C stops a command or drops a line, Ctrl-D or \
`exit` leaves. Several lines that are pasted are as many commands. What was typed is kept in ~/.local/state/larder/history, or LARDER_HISTORY, except for \
lines that begin with a space. Where standard input is no terminal, the lines are a batch that goes on \
after failures.";

/// Commands of the shell itself.
const LEAVE: &[&str] = &["exit", "quit"];

/// LIMIT: lines that the history keeps.
const HISTORY_LINES: usize = 1000;

/// LIMIT: lines that one command may take, where a quote goes over their ends.
const COMMAND_LINES_MAX: usize = 1000;

/// The options of `larder shell`.
#[derive(Debug, Args)]
#[command(about = "Type commands one after the other", after_help = EXAMPLE)]
pub(crate) struct ShellOptions {
    #[command(flatten)]
    server: ServerOptions,
}

/// Runs commands until their author leaves.
pub(crate) fn run(options: ShellOptions) -> ExitCode {
    if !io::stdin().is_terminal() {
        return batch::run(&batch::BatchOptions::of_a_shell(options.server));
    }
    conclude("shell", converse(&options.server))
}

struct Shell {
    runtime: tokio::runtime::Runtime,
    client: Client,
    grammar: Grammar,
    site: Site,
}

fn converse(server: &ServerOptions) -> Result<Ending, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::not_done(format!("cannot wait for events: {error}")))?;
    let client = runtime.block_on(connect(server, "shell"))?;
    let name = runtime.block_on(client.server())?.name;
    let mut shell = Shell {
        runtime,
        client,
        grammar: Grammar::new(),
        site: Site {
            form: form_on_stdout(false),
            place: Place::Shell,
        },
    };
    let greeting = format!(
        "{name} at {}. `help` lists the commands, Ctrl-D leaves.",
        server.server
    );
    say(&painted(FAINT, &greeting, style::on_stderr()));
    shell.talk(&prompt(server))
}

/// What stands before each line, without and with its style.
fn prompt(server: &ServerOptions) -> (String, String) {
    let url = server.server.to_string();
    let name = url.split_once("://").map_or(&url[..], |(_, name)| name);
    let bare = format!("{name}> ");
    let styled = format!("{}> ", painted(HEADING, name, true));
    (bare, styled)
}

impl Shell {
    fn talk(&mut self, prompt: &(String, String)) -> Result<Ending, Failure> {
        let unusable = |error| Failure::not_done(format!("this terminal cannot be used: {error}"));
        let mut editor = self.editor().map_err(unusable)?;
        let named = history::file();
        let history = named.as_deref().filter(|path| history::is_usable(path));
        if let Some(path) = named.as_deref().filter(|_| history.is_none()) {
            let path = path.display();
            complain(&format!("what is typed is not kept: {path} is no file"));
        }
        if let Some(path) = history {
            let _ = editor.load_history(path);
        }
        loop {
            match editor.readline(prompt) {
                Ok(text) => {
                    for line in commands(&text) {
                        if LEAVE.contains(&line.trim()) {
                            return Ok(Ending::Done);
                        }
                        if self.carry_out(line)?.is_break() {
                            break;
                        }
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    // The rest of such a line is not to be taken for another one.
                    let _ = tcflush(io::stdin(), QueueSelector::IFlush);
                    say("");
                    complain(
                        "what was typed or pasted is no UTF-8, and the line is dropped; `larder batch` \
                         takes any bytes",
                    );
                }
                Err(error) => return Err(unusable(error)),
            }
            if let Some(path) = history {
                // Where it cannot be kept, nothing is lost but the convenience.
                let _ = editor.append_history(path);
            }
        }
        Ok(Ending::Done)
    }

    fn editor(&self) -> rustyline::Result<Editor<Completion, FileHistory>> {
        let config = Config::builder()
            .max_history_size(HISTORY_LINES)?
            .history_ignore_space(true)
            .auto_add_history(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config)?;
        let beside = [&["help"], LEAVE].concat();
        editor.set_helper(Some(Completion::new(self.grammar.command(), &beside)));
        Ok(editor)
    }

    /// Carries out a line. Whatever comes of it, the shell goes on; only where nobody can see the
    /// answers it does not. What was pasted with a line that is stopped is not carried out either.
    fn carry_out(&mut self, line: &str) -> Result<ControlFlow<()>, Failure> {
        const ON: ControlFlow<()> = ControlFlow::Continue(());
        let typed = match self.grammar.read(line.as_bytes()) {
            Ok(None) => return Ok(ON),
            Ok(Some(typed)) => typed,
            Err(NoCommand::Help(help)) => {
                let help = match style::on_stdout() {
                    true => help.ansi().to_string(),
                    false => help.to_string(),
                };
                print(format!("{}\n", help.trim_end()).as_bytes())?;
                return Ok(ON);
            }
            Err(NoCommand::Wrong(why)) => {
                complain(&why);
                return Ok(ON);
            }
        };
        let form = match typed.json {
            true => Form::Json,
            false => self.site.form,
        };
        match self.ask(&typed, form) {
            None => {
                complain("stopped");
                return Ok(ControlFlow::Break(()));
            }
            Some(Ok(answer)) => {
                print(&answer.shown(form))?;
                if let Some(complaint) = answer.complaint.as_deref().filter(|_| !typed.json) {
                    complain(complaint);
                }
            }
            Some(Err(failure)) => complain(&failure.sentence),
        }
        Ok(ON)
    }

    /// Asks, until there is an answer; none where somebody has enough of waiting.
    fn ask(&self, typed: &Typed, form: Form) -> Option<Result<Answer, Failure>> {
        let site = Site { form, ..self.site };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                answer = typed.request.ask(&self.client, site) => Some(answer),
                _ = tokio::signal::ctrl_c() => None,
            }
        })
    }
}

fn complain(why: &str) {
    say(&painted(WRONG, why, style::on_stderr()));
}

/// The commands in what was typed, or pasted: one on each line, and on several where a quote goes over
/// their ends. Where none ends it, all that is left is one, and wrong.
fn commands(text: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let ends = rest.match_indices('\n').map(|(at, _)| at);
        let mut ends = ends.chain([rest.len()]).take(COMMAND_LINES_MAX);
        let end = ends.find(|&end| words(&rest.as_bytes()[..end]).is_ok());
        let (command, after) = rest.split_at(end.unwrap_or(rest.len()));
        commands.push(command);
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn what_is_pasted_is_a_command_on_each_line() {
        for (text, expected) in [
            ("", &[][..]),
            ("get a", &["get a"]),
            ("set a 1\nget a\n", &["set a 1", "get a"]),
            (
                "\n# it's a comment\n\nget a",
                &["", "# it's a comment", "", "get a"],
            ),
            ("set a 'one\ntwo'\nget a", &["set a 'one\ntwo'", "get a"]),
            ("set a \\\n  1\nget a", &["set a \\\n  1", "get a"]),
            (
                "get a\nset a 'one\nflush\n",
                &["get a", "set a 'one\nflush\n"],
            ),
        ] {
            assert_eq!(commands(text), expected, "{text:?}");
        }
    }
}
