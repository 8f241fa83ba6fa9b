//! `larder batch`: many commands over one connection, one on each line.
//!
//! Lines are sent before the answers to those before them are there, and answered in their order. Commands
//! on one key are carried out one after the other: a line waits for the one before it that has its key.
//! What has no one key (many keys, a scan, a flush) or its own connection (files) is carried out alone.

mod lines;

use std::collections::{HashSet, VecDeque};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larder_client::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::lines::{Line, Lines};
use super::commands::{
    Answer, AnswerOptions, Form, Place, Request, STANDARD_INPUT, ServerOptions, Site,
    conclude_as_asked, connected, failure_as_json,
};
use super::ending::{Ending, Failure, print_on, say};
use super::grammar::{Grammar, NoCommand};

const EXAMPLE: &str = "\
Examples:
  larder batch < commands.txt
  larder batch commands.txt --keep-going
  printf 'set a 1\\nincr a\\nget a\\n' | larder batch
  larder batch --json < commands.txt       # an object for each line, with its number

Each line is a command as it stands after `larder`, quoted as in a shell; empty lines and comments (#) \
are skipped. Answers come in the order of the lines, and complaints, with the number of the line, on \
standard error. The batch ends at the first line that fails (a key that is not there is a failure as \
well), except for up to 128 lines that were on their way already, whose answers are printed. With \
--keep-going it goes on, but not without a server: where no connection could be made for --timeout, it ends \
and names the line that it came to. Its exit code is that of the first line that failed.";

/// LIMIT: lines whose answers are not there yet.
const LINES_ON_THEIR_WAY: usize = 128;

/// LIMIT: bytes of such lines.
const BYTES_ON_THEIR_WAY: usize = 16 << 20;

/// LIMIT: bytes that their answers take, if none is longer than the longest so far.
const ANSWER_BYTES: usize = 64 << 20;

/// LIMIT: answers are gathered up to here before they are written.
const OUTPUT_BYTES: usize = 64 << 10;

/// The options of `larder batch`.
#[derive(Debug, Args)]
#[command(about = "Run commands from standard input or a file", after_help = EXAMPLE)]
pub(crate) struct BatchOptions {
    /// The commands; - is standard input, as is no file
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Go on after a line that failed, unless no connection to the server could be made
    #[arg(short, long)]
    keep_going: bool,

    #[command(flatten)]
    answer: AnswerOptions,

    #[command(flatten)]
    server: ServerOptions,

    /// The command that was typed.
    #[arg(skip = "batch")]
    name: &'static str,
}

impl BatchOptions {
    /// The lines of a shell that nobody sits before.
    pub(super) fn of_a_shell(server: ServerOptions) -> Self {
        Self {
            file: None,
            keep_going: true,
            answer: AnswerOptions { json: false },
            server,
            name: "shell",
        }
    }
}

/// Runs the commands.
pub(crate) fn run(options: &BatchOptions) -> ExitCode {
    let site = Site {
        form: match options.answer.json {
            true => Form::Json,
            false => Form::Lines,
        },
        place: Place::Batch { line: 0 },
    };
    let file = options.file.as_deref();
    let file = file.filter(|path| path.as_os_str() != STANDARD_INPUT);
    if file.is_none() && io::stdin().is_terminal() {
        say(
            "Commands are read from this terminal, to the end of input (Ctrl-D); `larder shell` is \
             more comfortable.",
        );
    }
    let ended = connected(&options.server, options.name, async |client| {
        let lines = lines::read(file)?;
        Batch::new(client, site, options).run(lines).await
    });
    conclude_as_asked(options.name, options.answer.json, ended)
}

/// A line whose answer is not there yet.
struct Underway {
    line: u64,
    bytes: usize,
    key: Vec<u8>,
    form: Form,
    answer: JoinHandle<Result<Answer, Failure>>,
}

struct Batch<'c> {
    name: &'static str,
    client: &'c Client,
    site: Site,
    keep_going: bool,
    grammar: Grammar,
    underway: VecDeque<Underway>,
    /// The keys of those.
    keys: HashSet<Vec<u8>>,
    bytes_underway: usize,
    longest_answer: usize,
    output: Vec<u8>,
    tally: Tally,
}

/// What came of the lines so far.
#[derive(Debug, Default)]
struct Tally {
    commands: u64,
    failed: u64,
    /// The first line that failed, and how.
    first: Option<(u64, Ending)>,
    /// The first line for which no connection could be made.
    unconnected: Option<u64>,
    /// One behind that, on its way already, had one all the same.
    connected_again: bool,
    /// Nobody reads the answers any more.
    unread: bool,
}

impl<'c> Batch<'c> {
    fn new(client: &'c Client, site: Site, options: &BatchOptions) -> Self {
        Self {
            name: options.name,
            client,
            site,
            keep_going: options.keep_going,
            grammar: Grammar::new(),
            underway: VecDeque::new(),
            keys: HashSet::new(),
            bytes_underway: 0,
            longest_answer: 0,
            output: Vec::new(),
            tally: Tally::default(),
        }
    }

    async fn run(mut self, mut lines: Lines) -> Result<Ending, Failure> {
        loop {
            if self.is_over() {
                break;
            }
            let (has_room, has_some) = (self.has_room(), !self.underway.is_empty());
            tokio::select! {
                biased;
                line = lines.next(), if has_room => match line {
                    Some(line) => self.begin(line).await?,
                    None => break,
                },
                answer = first(&mut self.underway), if has_some => self.settle_first(answer)?,
            }
        }
        self.settle_all().await?;
        self.write()?;
        let last = match self.tally.unconnected {
            Some(_) => lines.last().await,
            None => None,
        };
        Ok(self.tally.conclude(self.name, self.keep_going, last))
    }

    fn is_over(&self) -> bool {
        let Tally {
            first,
            unconnected,
            unread,
            ..
        } = &self.tally;
        *unread || unconnected.is_some() || (first.is_some() && !self.keep_going)
    }

    fn has_room(&self) -> bool {
        let answers = ANSWER_BYTES / self.longest_answer.max(1);
        self.underway.len() < LINES_ON_THEIR_WAY.min(answers.max(1))
            && self.bytes_underway < BYTES_ON_THEIR_WAY
    }

    /// Sends a command, or carries it out where it has to be alone.
    async fn begin(&mut self, line: Result<Line, Failure>) -> Result<(), Failure> {
        let line = match line {
            Ok(line) => line,
            Err(failure) => {
                self.settle_all().await?;
                self.write()?;
                return Err(failure);
            }
        };
        let typed = match self.grammar.read(&line.text) {
            Ok(None) => return Ok(()),
            Ok(Some(typed)) => typed,
            Err(no_command) => {
                self.settle_all().await?;
                if !self.is_over() {
                    self.tally.commands += 1;
                    self.refuse(line.number, no_command)?;
                }
                return Ok(());
            }
        };
        let form = match typed.json {
            true => Form::Json,
            false => self.site.form,
        };
        let place = Place::Batch { line: line.number };
        let site = Site { form, place };
        let Some(key) = typed.request.its_one_key().map(<[u8]>::to_vec) else {
            self.settle_all().await?;
            self.write()?;
            if !self.is_over() {
                self.tally.commands += 1;
                let answer = typed.request.ask(self.client, site).await;
                self.settle(line.number, form, answer)?;
            }
            return Ok(());
        };
        while self.keys.contains(&key) {
            let answer = first(&mut self.underway).await;
            self.settle_first(answer)?;
        }
        if !self.is_over() {
            self.tally.commands += 1;
            self.send(typed.request, key, &line, site);
        }
        Ok(())
    }

    fn send(&mut self, request: Request, key: Vec<u8>, line: &Line, site: Site) {
        let client = self.client.clone();
        let answer = tokio::spawn(async move { request.ask(&client, site).await });
        self.keys.insert(key.clone());
        self.bytes_underway += line.text.len();
        self.underway.push_back(Underway {
            line: line.number,
            bytes: line.text.len(),
            key,
            form: site.form,
            answer,
        });
    }

    /// Waits for all answers.
    async fn settle_all(&mut self) -> Result<(), Failure> {
        while !self.underway.is_empty() {
            let answer = first(&mut self.underway).await;
            self.settle_first(answer)?;
        }
        Ok(())
    }

    /// The answer to the first line that is on its way is there.
    fn settle_first(&mut self, answer: Result<Answer, Failure>) -> Result<(), Failure> {
        let settled = self.underway.pop_front().expect("it was waited for");
        self.keys.remove(&settled.key);
        self.bytes_underway -= settled.bytes;
        self.settle(settled.line, settled.form, answer)?;
        let more_is_there = self.underway.front();
        if !more_is_there.is_some_and(|next| next.answer.is_finished()) {
            self.write()?;
        }
        Ok(())
    }

    /// Shows an answer, or what stands in its place.
    fn settle(
        &mut self,
        line: u64,
        form: Form,
        answer: Result<Answer, Failure>,
    ) -> Result<(), Failure> {
        let is_connected = !answer.as_ref().is_err_and(|failure| failure.no_connection);
        self.tally.connected_again |= is_connected && self.tally.unconnected.is_some();
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return self.fail(line, form, &failure),
        };
        let (ending, complaint) = (answer.ending, answer.complaint.clone());
        if ending != Ending::Done {
            self.tally.fail(line, ending);
        }
        if form == Form::Json {
            if let Some(object) = answer.into_json() {
                self.show_object(line, object);
            }
        } else {
            let shown = answer.shown(form);
            self.longest_answer = self.longest_answer.max(shown.len());
            self.output.extend_from_slice(&shown);
            if let Some(complaint) = complaint {
                self.complain(line, &complaint)?;
            }
        }
        self.write_if_much()
    }

    /// A line that is no command: help that was asked for, or a mistake.
    fn refuse(&mut self, line: u64, no_command: NoCommand) -> Result<(), Failure> {
        match no_command {
            NoCommand::Help(help) => {
                self.output.extend_from_slice(help.to_string().as_bytes());
                Ok(())
            }
            NoCommand::Wrong(why) => self.fail(line, self.site.form, &Failure::usage(why)),
        }
    }

    fn fail(&mut self, line: u64, form: Form, failure: &Failure) -> Result<(), Failure> {
        self.tally.fail(line, failure.ending);
        // Those behind the first would say the same, each for itself.
        if failure.no_connection {
            match self.tally.unconnected {
                None => self.tally.unconnected = Some(line),
                Some(_) => return Ok(()),
            }
        }
        if form == Form::Json {
            self.show_object(line, failure_as_json(failure));
            return Ok(());
        }
        self.complain(line, &failure.sentence)
    }

    fn show_object(&mut self, line: u64, mut object: Value) {
        object["line"] = json!(line);
        self.output
            .extend_from_slice(format!("{object}\n").as_bytes());
    }

    /// Complains about a line, after the answers to those before it.
    fn complain(&mut self, line: u64, why: &str) -> Result<(), Failure> {
        self.write()?;
        say(&format!("larder {}: line {line}: {why}", self.name));
        Ok(())
    }

    fn write_if_much(&mut self) -> Result<(), Failure> {
        match self.output.len() {
            OUTPUT_BYTES.. => self.write(),
            _ => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        if !self.output.is_empty() {
            self.tally.unread |= print_on(&self.output)?.is_break();
            self.output.clear();
        }
        Ok(())
    }
}

/// Waits for the answer to the first line that is on its way.
async fn first(underway: &mut VecDeque<Underway>) -> Result<Answer, Failure> {
    let first = underway.front_mut().expect("there is one");
    (&mut first.answer)
        .await
        .unwrap_or_else(|error| Err(Failure::unreachable(format!("it was given up: {error}"))))
}

impl Tally {
    fn fail(&mut self, line: u64, ending: Ending) {
        self.failed += 1;
        self.first.get_or_insert((line, ending));
    }

    /// Says what the failures come to.
    fn conclude(self, name: &str, keep_going: bool, last: Option<u64>) -> Ending {
        let Some((line, ending)) = self.first else {
            return Ending::Done;
        };
        let Self {
            failed, commands, ..
        } = self;
        let mut end = format!("larder {name}: {failed} of {commands} commands failed");
        if let Some(from) = self.unconnected {
            let undone = match last {
                _ if self.connected_again => format!("line {from} and others behind it"),
                Some(last) => format!("lines {from} to {last}"),
                None => format!("line {from} and those behind it"),
            };
            end += &format!(
                ", first line {line}; without a connection, {undone} were not carried out"
            );
        } else if !keep_going {
            end += &format!(", first line {line}; nothing more was sent (--keep-going goes on)");
        }
        say(&end);
        ending
    }
}
