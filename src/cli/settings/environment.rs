//! Settings in the environment.

use std::env;

use clap::Command;

use super::SettingsError;
use super::table::{self, FILE_VARIABLE, Setting, Shape};

/// Variables that are read elsewhere.
const OTHERS: &[&str] = &[FILE_VARIABLE, "LARDER_SERVER", "LARDER_HISTORY"];

/// LIMIT: letters by which a variable may differ from a setting's and still be meant for it. Services
/// named larder give variables of their own to all that run beside them, in Kubernetes for one.
const DISTANCE_MAX: usize = 2;

/// Tries each value that the environment has.
pub(super) fn check(command: &Command, table: &[Setting]) -> Result<(), SettingsError> {
    for setting in table {
        let Some(text) = env::var_os(&setting.variable) else {
            continue;
        };
        let variable = &setting.variable;
        let text = text.into_string().map_err(|text| {
            let text = text.display();
            SettingsError::Elsewhere(format!("{variable}: `{text}` is not UTF-8"))
        })?;
        let values: Vec<&str> = match setting.shape {
            Shape::Many => text.split(',').collect(),
            _ => vec![&text],
        };
        let mut mistakes = values
            .iter()
            .filter_map(|value| table::mistake(command, setting, value));
        if let Some(mistake) = mistakes.next() {
            return Err(SettingsError::Elsewhere(format!("{variable}: {mistake}")));
        }
    }
    Ok(())
}

/// Variables that name no setting and look as if they should.
pub(super) fn warnings(table: &[Setting]) -> Vec<String> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let known = || {
        table
            .iter()
            .map(|setting| &setting.variable[..])
            .chain(OTHERS.iter().copied())
    };
    names.filter_map(|name| warning(&name, known())).collect()
}

fn warning<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let nearest = known.min_by_key(|known| strsim::osa_distance(name, known))?;
    let distance = strsim::osa_distance(name, nearest);
    (1..=DISTANCE_MAX)
        .contains(&distance)
        .then(|| format!("the variable {name} names no setting; did you mean {nearest}?"))
}

#[cfg(test)]
mod tests {
    use super::warning;

    #[test]
    fn a_variable_that_is_nearly_a_setting_is_told() {
        let known = || ["LARDER_MEMORY", "LARDER_LISTEN"].into_iter();
        for name in ["LARDER_MEMROY", "LARDER_MEMORYS", "LADER_LISTEN"] {
            assert!(warning(name, known()).is_some(), "{name}");
        }
        for name in [
            "LARDER_MEMORY",
            "LARDER_PORT",
            "LARDER_SERVICE_HOST",
            "HOME",
        ] {
            assert_eq!(warning(name, known()), None, "{name}");
        }
    }
}
