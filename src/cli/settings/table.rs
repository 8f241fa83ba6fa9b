//! The table of settings, as clap's definition of a command has them.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

/// The argument that names the file; no setting itself, since a file names no other.
pub(super) const FILE: &str = "config";

/// The variable that names the file where the argument does not.
pub(super) const FILE_VARIABLE: &str = "LARDER_CONFIG";

/// Arguments that say what a command is to print, and are no settings.
const NO_SETTINGS: &[&str] = &[FILE, "help", "version", "default", "json"];

/// What the name of each variable begins with.
const PREFIX: &str = "LARDER_";

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// clap's name for it.
    pub(crate) id: String,
    /// Its name on the command line and in the file.
    pub(crate) name: String,
    /// Its name in the environment.
    pub(crate) variable: String,
    /// What it means, as the help says it; what each accepted word means, where words are accepted.
    pub(crate) meaning: String,
    pub(crate) words: Vec<(String, String)>,
    /// What stands for a value: SIZE, DURATION.
    pub(crate) value_name: String,
    pub(crate) shape: Shape,
    pub(crate) defaults: Vec<String>,
}

/// What the values of a setting look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// True or false.
    Switch,
    /// One value.
    One,
    /// Any number of values.
    Many,
}

/// Makes the arguments of a command settings that a file and the environment can give: a switch may be
/// turned off again, and there is an argument that names the file.
pub(crate) fn prepare(command: Command) -> Command {
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .value_parser(clap::value_parser!(OsString))
        .help("Read settings from this TOML file; LARDER_CONFIG names it as well");
    command.mut_args(prepare_one).arg(file)
}

fn prepare_one(argument: Arg) -> Arg {
    if !is_setting(&argument) {
        return argument;
    }
    let id = argument.get_id().clone();
    match argument.get_action() {
        // The last one counts: whoever starts a server may have to add one to what others said.
        ArgAction::SetTrue => argument
            .overrides_with(id)
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("true|false")
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .value_parser(switch),
        // One variable of the environment names several.
        ArgAction::Append => argument.value_delimiter(','),
        _ => argument,
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!(
            "`{text}` is no switch; accepted: true or false (or yes, no, on, off, 1, 0)"
        )),
    }
}

fn is_setting(argument: &Arg) -> bool {
    argument.get_long().is_some()
        && !argument.is_hide_set()
        && !NO_SETTINGS.contains(&argument.get_id().as_str())
}

/// All settings of a prepared command.
pub(super) fn of(command: &Command) -> Vec<Setting> {
    let arguments = command
        .get_arguments()
        .filter(|argument| is_setting(argument));
    arguments.map(setting).collect()
}

fn setting(argument: &Arg) -> Setting {
    let name = argument.get_long().unwrap_or_default().to_owned();
    let value_name = argument.get_value_names().and_then(|names| names.first());
    let help =
        |help: Option<&clap::builder::StyledStr>| help.map(ToString::to_string).unwrap_or_default();
    let shape = match argument.get_action() {
        ArgAction::Append => Shape::Many,
        _ if value_name.is_some_and(|name| name == "true|false") => Shape::Switch,
        _ => Shape::One,
    };
    let words = argument.get_possible_values().into_iter();
    Setting {
        id: argument.get_id().to_string(),
        variable: PREFIX.to_owned() + &name.to_uppercase().replace('-', "_"),
        name,
        meaning: help(argument.get_help()),
        words: (words.filter(|_| shape != Shape::Switch))
            .map(|word| (word.get_name().to_owned(), help(word.get_help())))
            .collect(),
        value_name: value_name.map(ToString::to_string).unwrap_or_default(),
        shape,
        defaults: (argument.get_default_values().iter())
            .map(|value| value.to_string_lossy().into_owned())
            .collect(),
    }
}

/// What is wrong with a value, if anything is: what clap would say of it on the command line.
pub(super) fn mistake(command: &Command, setting: &Setting, text: &str) -> Option<String> {
    let command = command.clone().no_binary_name(true);
    let parsed = command.try_get_matches_from([format!("--{}={text}", setting.name)]);
    let error = parsed.err()?;
    match error.kind() {
        ErrorKind::ValueValidation => {
            // The parser's own words are behind clap's.
            let why = std::error::Error::source(&error).map(ToString::to_string);
            Some(why.unwrap_or_else(|| format!("`{text}` is not accepted")))
        }
        ErrorKind::InvalidValue => {
            let accepted = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => words.join(", "),
                _ => setting.value_name.clone(),
            };
            Some(format!("`{text}` is not accepted; accepted: {accepted}"))
        }
        // Anything else is about several settings, and told once all are known.
        _ => None,
    }
}

/// The name that is most like another, if one is like it at all.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // LIMIT: below this, two names have hardly more in common than some letters.
    const SIMILARITY_MIN: f64 = 0.75;
    let similarity = |known: &&str| strsim::jaro_winkler(&name.replace('_', "-"), known);
    known
        .map(|known| (similarity(&known), known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_one_that_could_be_meant() {
        let known = ["memory", "connections-max", "refuse-for", "idle-timeout"];
        for (name, expected) in [
            ("memroy", Some("memory")),
            ("max_connections", Some("connections-max")),
            ("timeout", Some("idle-timeout")),
            ("server", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
    }
}
