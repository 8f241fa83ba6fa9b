//! `larder config`: the settings that count, where each comes from and what it means.
//!
//! What is printed is itself a file that `--config` takes.

use std::process::ExitCode;

use clap::{Args, FromArgMatches};
use serde_json::{Map, Value, json};

use super::table::{Setting, Shape};
use super::{Effective, Loaded, Loader, Origin, SettingsError};
use crate::cli::commands::conclude_as_asked;
use crate::cli::ending::{Ending, Failure, print};

pub(crate) const EXAMPLE: &str = "\
Examples:
  larder config                                 # what `larder serve` would run with here
  larder config --config larder.toml --workers 8
  larder config --json
  larder config --default > larder.toml         # a file to begin with

It takes the options of `larder serve`, and prints TOML that --config reads. What a running server was \
told is in `larder stats settings`.";

/// LIMIT: the column in which origins stand, unless a value is longer.
const ORIGIN_COLUMN: usize = 40;

/// The options of `larder config`, beside those of the server, which the command line adds.
#[derive(Debug, Args)]
#[command(about = "Print the settings that count, and where they come from", after_help = EXAMPLE)]
pub(crate) struct ConfigOptions {
    /// Print the defaults, each in a comment, as a file to begin with
    #[arg(long)]
    default: bool,

    /// Print one JSON object, of a failure as well
    #[arg(long)]
    json: bool,
}

/// Prints the settings, and ends with why they cannot work, if they cannot.
pub(crate) fn run<T: FromArgMatches>(
    options: &ConfigOptions,
    loader: &Loader,
    check: impl Fn(&Loaded<T>) -> Result<(), String>,
) -> ExitCode {
    let loaded = match loader.load::<T>() {
        Ok(loaded) => Ok(loaded),
        Err(SettingsError::CommandLine(error)) => error.exit(),
        Err(error) => Err(Failure::usage(error.to_string())),
    };
    let ended = loaded.and_then(|loaded| {
        let checked = check(&loaded).map_err(Failure::usage);
        match (options.default, options.json) {
            (true, _) => list(options, &loaded),
            // Whoever reads JSON reads one object.
            (_, true) => checked.and_then(|()| list(options, &loaded)),
            _ => list(options, &loaded).and_then(|ending| checked.map(|()| ending)),
        }
    });
    conclude_as_asked("config", options.json, ended)
}

fn list<T>(options: &ConfigOptions, loaded: &Loaded<T>) -> Result<Ending, Failure> {
    loaded.warn("config");
    let text = match (options.default, options.json) {
        (false, false) => as_toml(&loaded.settings),
        (true, false) => defaults(&loaded.settings),
        (false, true) => as_json(&loaded.settings),
        (true, true) => {
            return Err(Failure::usage(
                "--default prints a TOML file; accepted: --default or --json",
            ));
        }
    };
    print(text.as_bytes()).map(|()| Ending::Done)
}

/// Settings as they count, with their origin beside them.
fn as_toml(settings: &[Effective]) -> String {
    let mut text =
        "# What `larder serve` would run with here. Behind each setting: where it comes from.\n"
            .to_owned();
    for effective in settings {
        let setting = &effective.setting;
        text += &explained(setting);
        let line = match &effective.values[..] {
            [] => format!("#{} =", setting.name),
            values => format!("{} = {}", setting.name, toml_value(setting, values)),
        };
        text += &format!("{line:ORIGIN_COLUMN$} # {}\n", effective.place());
    }
    text
}

/// All settings at their defaults, in comments.
fn defaults(settings: &[Effective]) -> String {
    let mut text = "# Settings of `larder serve --config FILE`. Each is shown with its default; to change one, remove\n\
                    # the # before it. One without a default is shown with what it takes (N, SIZE), which is to be\n\
                    # replaced by a value. Flags, and variables such as LARDER_MEMORY, count before what is said here.\n".to_owned();
    for Effective { setting, .. } in settings {
        text += &explained(setting);
        text += &match &setting.defaults[..] {
            [] if setting.shape == Shape::Many => format!("#{} = []\n", setting.name),
            [] => format!("#{} = \"{}\"\n", setting.name, setting.value_name),
            values => format!("#{} = {}\n", setting.name, toml_value(setting, values)),
        };
    }
    text
}

/// What a setting means, as comments.
fn explained(setting: &Setting) -> String {
    let mut text = format!("\n# {}\n", setting.meaning.replace('\n', "\n# "));
    for (word, meaning) in &setting.words {
        text += &format!("#   {word}: {meaning}\n");
    }
    text
}

fn toml_value(setting: &Setting, values: &[String]) -> String {
    let one = |value: &String| match (setting.shape, value.parse::<u32>()) {
        (Shape::Switch, _) => value.clone(),
        (Shape::One, Ok(number)) => number.to_string(),
        _ => toml::Value::from(value.as_str()).to_string(),
    };
    match (setting.shape, values) {
        (Shape::Many, values) => {
            let values: Vec<String> = values.iter().map(one).collect();
            format!("[{}]", values.join(", "))
        }
        (_, values) => values.first().map(one).unwrap_or_default(),
    }
}

fn as_json(settings: &[Effective]) -> String {
    let entry = |effective: &Effective| {
        let setting = &effective.setting;
        let value = match (setting.shape, &effective.values[..]) {
            (Shape::Many, values) => Value::from(values),
            (Shape::Switch, [value]) => Value::from(value == "true"),
            (_, [value]) => Value::from(value.as_str()),
            _ => Value::Null,
        };
        let from = match effective.origin {
            Origin::Flag => "flag",
            Origin::Variable => "environment",
            Origin::File { .. } => "file",
            Origin::Default => "default",
        };
        let object = json!({
            "value": value,
            "from": from,
            "place": effective.place(),
            "variable": setting.variable,
            "meaning": setting.meaning,
        });
        (setting.name.clone(), object)
    };
    let object: Map<String, Value> = settings.iter().map(entry).collect();
    format!("{}\n", Value::Object(object))
}
