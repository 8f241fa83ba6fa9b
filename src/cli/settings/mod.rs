//! The settings of the server: as flags, as variables of the environment, and in a file, in that order of
//! precedence.
//!
//! There is one table of settings, clap's definition of `larder serve`: names, meanings, defaults and what
//! is accepted are read from it. A setting `--buffer-memory` is `LARDER_BUFFER_MEMORY` in the environment
//! and `buffer-memory` in the file. The way of a value:
//!
//! 1. the file is read and each of its values tried alone, so that what is wrong is told with its line;
//! 2. the environment likewise, with the variable;
//! 3. what the file says becomes clap's default, what the environment says clap's `env`, and the command
//!    line is parsed once more. Where each value came from is what clap says (`value_source`), and for
//!    defaults whether the file has it.
//!
//! A [`Loader`] can do so again, for a server that is told to read its file anew.

mod environment;
mod file;
mod listing;
mod table;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::ending::say;

use self::file::File;
use self::table::Setting;

pub(crate) use self::listing::{ConfigOptions, run};
pub(crate) use self::table::prepare;

/// What the help of `larder serve` says about other ways to say the same.
pub(crate) const OTHER_WAYS: &str = "\
Each option is also a variable (--memory: LARDER_MEMORY) and a line of the file that --config names \
(memory = \"4GiB\"); a flag counts before a variable, and that before the file. `larder config` tells what \
counts and where it comes from, `larder config --default > larder.toml` writes such a file.";

/// Settings that cannot work: where the mistake is, what it is, and what would be right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A mistake in the file or the environment.
    #[error("{0}")]
    Elsewhere(String),
    /// A mistake on the command line, in clap's words.
    #[error("{0}")]
    CommandLine(Box<clap::Error>),
}

/// Reads settings, as often as needed.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    command_line: Command,
    /// The command whose settings they are.
    subcommand: &'static str,
    arguments: Vec<OsString>,
}

/// Settings as they were read.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    /// For whoever they are meant.
    pub(crate) options: T,
    /// One by one, for whoever wants to know where they come from.
    pub(crate) settings: Vec<Effective>,
    /// What looks like a mistake, and may be none.
    pub(crate) warnings: Vec<String>,
}

/// A setting as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    pub(crate) setting: Setting,
    /// Its values as they were written; none where it has no value and no default.
    pub(crate) values: Vec<String>,
    pub(crate) origin: Origin,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Variable,
    /// The file, in this line.
    File { path: PathBuf, line: usize },
    /// Nowhere.
    Default,
}

impl Loader {
    /// Reads settings for a subcommand of a command line, whose settings were [prepared](prepare), from
    /// the arguments of this process.
    pub(crate) fn new(command_line: Command, subcommand: &'static str) -> Self {
        Self {
            command_line,
            subcommand,
            arguments: std::env::args_os().collect(),
        }
    }

    /// The same for other arguments.
    pub(crate) fn with_arguments(&self, arguments: Vec<OsString>) -> Self {
        Self {
            arguments,
            ..self.clone()
        }
    }

    /// Reads them.
    pub(crate) fn load<T: FromArgMatches>(&self) -> Result<Loaded<T>, SettingsError> {
        let table = table::of(self.subcommand());
        let file = match self.file()? {
            Some(path) => file::read(&path, self.subcommand(), &table)?,
            None => File::default(),
        };
        environment::check(self.subcommand(), &table)?;
        let whole = self.command_line.clone();
        let whole = whole.mut_subcommand(self.subcommand, |command| {
            command.mut_args(|argument| with_sources(argument, &table, &file))
        });
        let matches = parse(whole, &self.arguments)?;
        let (_, matches) = matches.subcommand().expect("it was there before");
        let options = T::from_arg_matches(matches);
        Ok(Loaded {
            options: options.map_err(|error| SettingsError::CommandLine(Box::new(error)))?,
            settings: effective(table, matches, &file),
            warnings: environment::warnings(&table::of(self.subcommand())),
        })
    }

    fn subcommand(&self) -> &Command {
        let found = self.command_line.find_subcommand(self.subcommand);
        found.expect("a subcommand of this command line")
    }

    /// The file, if one is named.
    fn file(&self) -> Result<Option<PathBuf>, SettingsError> {
        let matches = parse(self.command_line.clone(), &self.arguments)?;
        let (_, matches) = matches
            .subcommand()
            .expect("settings belong to a subcommand");
        let named = matches.get_one::<OsString>(table::FILE).cloned();
        let named = named.or_else(|| std::env::var_os(table::FILE_VARIABLE));
        // An empty name says that there is none.
        let named = named.filter(|path| !path.is_empty());
        Ok(named.map(PathBuf::from))
    }
}

fn parse(command_line: Command, arguments: &[OsString]) -> Result<ArgMatches, SettingsError> {
    let parsed = command_line.try_get_matches_from(arguments);
    parsed.map_err(|error| SettingsError::CommandLine(Box::new(error)))
}

/// An argument that the environment and the file may give as well.
fn with_sources(argument: Arg, table: &[Setting], file: &File) -> Arg {
    let id = argument.get_id().as_str();
    let Some(setting) = table.iter().find(|setting| setting.id == id) else {
        return argument;
    };
    let argument = match file.value(&setting.name) {
        Some(value) => argument.default_values(value.texts.clone()),
        None => argument,
    };
    argument.env(setting.variable.clone())
}

fn effective(table: Vec<Setting>, matches: &ArgMatches, file: &File) -> Vec<Effective> {
    let effective = |setting: Setting| {
        let raw = matches.get_raw(&setting.id).into_iter().flatten();
        let values = raw
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let origin = match (matches.value_source(&setting.id), file.value(&setting.name)) {
            (Some(ValueSource::CommandLine), _) => Origin::Flag,
            (Some(ValueSource::EnvVariable), _) => Origin::Variable,
            (_, Some(value)) => Origin::File {
                path: file.path.clone(),
                line: value.line,
            },
            _ => Origin::Default,
        };
        Effective {
            setting,
            values,
            origin,
        }
    };
    table.into_iter().map(effective).collect()
}

impl<T> Loaded<T> {
    /// Tells somebody who typed a command what looks like a mistake.
    pub(crate) fn warn(&self, command: &str) {
        for warning in &self.warnings {
            say(&format!("larder {command}: {warning}"));
        }
    }

    /// A command line that says the same, whatever becomes of the file: for a process that is to have the
    /// same settings later. What nobody has set stays unsaid.
    pub(crate) fn as_arguments(&self) -> Vec<OsString> {
        let no_file = format!("--{}=", table::FILE);
        let set = self
            .settings
            .iter()
            .filter(|effective| effective.origin != Origin::Default);
        let flags = set.flat_map(
            |Effective {
                 setting, values, ..
             }| {
                values
                    .iter()
                    .map(|value| format!("--{}={value}", setting.name))
            },
        );
        [no_file]
            .into_iter()
            .chain(flags)
            .map(OsString::from)
            .collect()
    }
}

impl Effective {
    /// Where it comes from, for people.
    pub(crate) fn place(&self) -> String {
        match &self.origin {
            Origin::Flag => format!("--{}", self.setting.name),
            Origin::Variable => self.setting.variable.clone(),
            Origin::File { path, line } => Place { path, line: *line }.to_string(),
            Origin::Default => "default".to_owned(),
        }
    }
}

/// A line of a file.
struct Place<'p> {
    path: &'p Path,
    line: usize,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.path.display(), self.line)
    }
}
