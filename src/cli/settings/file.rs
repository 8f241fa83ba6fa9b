//! Settings in a file: TOML, each setting by its name, at the top.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Command;
use toml::de::{DeTable, DeValue};

use super::table::{self, Setting, Shape};
use super::{Place, SettingsError};

/// LIMIT: the longest file; all settings with their explanations take a hundredth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) path: PathBuf,
    values: Vec<Value>,
}

/// What it says about one setting.
#[derive(Debug)]
pub(super) struct Value {
    name: String,
    /// As they would be written on a command line.
    pub(super) texts: Vec<String>,
    /// Counted from 1.
    pub(super) line: usize,
}

impl File {
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.name == name)
    }
}

/// Reads a file, and tries each of its values.
pub(super) fn read(
    path: &Path,
    command: &Command,
    table: &[Setting],
) -> Result<File, SettingsError> {
    let text = text(path)?;
    let refuse = |line: usize, why: &str| {
        let place = Place { path, line };
        SettingsError::Elsewhere(format!("{place}: {why}"))
    };
    let parsed = DeTable::parse(&text).map_err(|error| {
        let line = line_of(&text, error.span());
        refuse(line, error.message())
    })?;
    let mut values = Vec::new();
    for (key, value) in parsed.get_ref() {
        let line = line_of(&text, Some(key.span()));
        let name: &str = key.get_ref();
        let Some(setting) = table.iter().find(|setting| setting.name == name) else {
            return Err(refuse(line, &unknown(name, value.get_ref(), table)));
        };
        let texts = texts(value.get_ref(), setting).map_err(|why| refuse(line, &why))?;
        for text in &texts {
            if let Some(mistake) = table::mistake(command, setting, text) {
                return Err(refuse(line, &format!("{name}: {mistake}")));
            }
        }
        let name = name.to_owned();
        values.push(Value { name, texts, line });
    }
    let path = path.to_owned();
    Ok(File { path, values })
}

fn text(path: &Path) -> Result<String, SettingsError> {
    let refuse = |why: String| {
        SettingsError::Elsewhere(format!(
            "cannot read the settings in {}: {why}",
            path.display()
        ))
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    if read.map_err(|error| refuse(error.to_string()))? as u64 > FILE_BYTES_MAX {
        return Err(refuse("it has more than 1 MiB".to_owned()));
    }
    Ok(text)
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start.min(text.len()));
    text.as_bytes()[..start]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn unknown(name: &str, value: &DeValue<'_>, table: &[Setting]) -> String {
    if matches!(value, DeValue::Table(_)) {
        return format!("`{name}` is a table; accepted: settings alone, such as memory = \"4GiB\"");
    }
    let names = || table.iter().map(|setting| &setting.name[..]);
    match table::nearest(name, names()) {
        Some(nearest) => format!("there is no setting `{name}`; did you mean `{nearest}`?"),
        None => {
            let names: Vec<&str> = names().collect();
            format!(
                "there is no setting `{name}`; accepted: {}",
                names.join(", ")
            )
        }
    }
}

/// The values of a setting, as they would be written on a command line.
fn texts(value: &DeValue<'_>, setting: &Setting) -> Result<Vec<String>, String> {
    let name = &setting.name;
    match (value, setting.shape) {
        (DeValue::Array(values), Shape::Many) => (values.iter())
            .map(|value| {
                text_of(value.get_ref()).ok_or_else(|| {
                    format!("{name}: one of its values is no text; accepted: [\"...\", \"...\"]")
                })
            })
            .collect(),
        (DeValue::Array(_), _) => Err(format!("{name}: it takes one value, and this is a list")),
        (value, _) => {
            let text = text_of(value).ok_or_else(|| {
                format!("{name}: this is neither text nor number; accepted: {name} = \"...\"")
            })?;
            Ok(vec![text])
        }
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
