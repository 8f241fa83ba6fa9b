//! Why there is no server, or no longer; of a setting that cannot work, also who has set it.

use crate::cli::settings::{Effective, Origin};
use crate::engine::ConfigError;
use crate::server::{SettingError, StartError};

/// Why there is no server, or no longer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The options cannot work.
    Usage(String),
    /// Some of the settings cannot work together, by their names: to blame is the first that somebody has set.
    Settings(Vec<&'static str>, String),
    /// The system, or the server itself, failed.
    Failed(String),
    /// Worker processes died again and again.
    GaveUp(String),
}

impl Refusal {
    pub(super) fn failed(sentence: impl ToString) -> Self {
        Self::Failed(sentence.to_string())
    }

    /// A setting that cannot work, and why.
    pub(super) fn of_setting(name: &'static str, sentence: impl ToString) -> Self {
        Self::Settings(vec![name], sentence.to_string())
    }

    /// With the place of the setting, where that is a variable or a line of a file. A flag is what somebody has
    /// just typed.
    pub(super) fn with_place(self, settings: &[Effective]) -> Self {
        let Self::Settings(names, sentence) = self else {
            return self;
        };
        let set = names.iter().find_map(|name| {
            let mut set = settings.iter().filter(|one| one.origin != Origin::Default);
            set.find(|one| one.setting.name == *name)
        });
        Self::Usage(match set {
            Some(set) if set.origin != Origin::Flag => format!("{}: {sentence}", set.place()),
            _ => sentence,
        })
    }

    /// What it says.
    pub(super) fn into_sentence(self) -> String {
        match self {
            Self::Usage(sentence)
            | Self::Settings(_, sentence)
            | Self::Failed(sentence)
            | Self::GaveUp(sentence) => sentence,
        }
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        match error {
            StartError::System { .. } => Self::Failed(error.to_string()),
            StartError::Setting(error) => error.into(),
            _ => Self::Usage(error.to_string()),
        }
    }
}

impl From<SettingError> for Refusal {
    fn from(error: SettingError) -> Self {
        let sentence = error.to_string();
        let names = match error {
            SettingError::NoAddress => vec!["listen"],
            SettingError::Workers(_) => vec!["workers"],
            SettingError::BusyPoll(_) => vec!["busy-poll"],
            SettingError::Uring(_) => vec!["io"],
            SettingError::Connections(_) => vec!["connections-max"],
            SettingError::Frame(_) => vec!["frame-bytes-max", "key-bytes-max", "value-bytes-max"],
            SettingError::Values(_) => vec!["value-bytes-max"],
            SettingError::Buffers { .. } => {
                vec!["buffer-memory", "frame-bytes-max", "key-bytes-max"]
            }
            SettingError::Timeout { name } => ["idle-timeout", "frame-timeout", "write-timeout"]
                .into_iter()
                .filter(|setting| setting.replace('-', " ") == name)
                .collect(),
            SettingError::Quarantine(_) => Vec::new(),
        };
        Self::Settings(names, sentence)
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        let names = match &error {
            ConfigError::Memory { .. } | ConfigError::System { .. } => vec!["memory"],
            ConfigError::KeyBytes { .. } => vec!["key-bytes-max", "memory"],
            ConfigError::ValueBytes { .. } => vec!["value-bytes-max", "memory"],
            ConfigError::Sessions { .. } => vec!["workers", "memory"],
            ConfigError::Pages(_) => vec!["huge-pages", "prefault"],
        };
        Self::Settings(names, error.to_string())
    }
}
