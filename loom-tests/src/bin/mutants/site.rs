//! Names for sites that survive edits elsewhere: file, function, operation and occurrence.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use larder_loom_tests::Kind;

/// Where the black box has its files, which are named with it; all others are the engine's.
const BLACK_BOX: &str = "blackbox/";

/// A call of the `sync` or `reclaim` door, as the models reached it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Below `src/engine`, or `blackbox` and a file below that.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: u32,
    /// From 1.
    pub(crate) column: u32,
    /// `load`, `store`, `modify`, `exchange`, `lock`, `pin` or `defer`.
    pub(crate) operation: String,
    /// The weakenings that apply.
    pub(crate) kinds: Vec<Kind>,
    /// The models that reach it.
    pub(crate) models: BTreeSet<String>,
}

/// Reads the `site` lines that a run with `LARDER_SITES=1` printed.
pub(crate) fn parse_listing(text: &str) -> Vec<Site> {
    let mut sites: BTreeMap<(String, u32, u32), Site> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let ["site", model, file, line, column, operation, kinds] = fields[..] else {
            continue;
        };
        let (Ok(line), Ok(column)) = (line.parse(), column.parse()) else {
            continue;
        };
        let site = sites
            .entry((file.to_owned(), line, column))
            .or_insert_with(|| Site {
                file: file.to_owned(),
                line,
                column,
                operation: operation.to_owned(),
                kinds: kinds
                    .split(',')
                    .filter_map(|kind| kind.parse().ok())
                    .collect(),
                models: BTreeSet::new(),
            });
        site.models.insert(model.to_owned());
    }
    sites.into_values().collect()
}

/// What a site is called, and which models look at it.
pub(crate) struct Name {
    /// `FILE FUNCTION OPERATION#OCCURRENCE`.
    pub(crate) key: String,
    /// `FILE FUNCTION`.
    pub(crate) function: String,
    /// Those that reach it: first those that its file names, and of equals the quickest.
    pub(crate) models: Vec<String>,
}

/// Names each site, from the files below `sources`; `durations` are the models'.
///
/// # Errors
///
/// When a source file cannot be read.
pub(crate) fn names(
    sites: &[Site],
    sources: &Path,
    durations: &HashMap<String, u64>,
) -> std::io::Result<Vec<Name>> {
    let mut texts: HashMap<&str, Vec<String>> = HashMap::new();
    let mut occurrences: HashMap<String, u32> = HashMap::new();
    let mut names = Vec::with_capacity(sites.len());
    for site in sites {
        if !texts.contains_key(site.file.as_str()) {
            let folder = match site.file.starts_with(BLACK_BOX) {
                true => sources.to_path_buf(),
                false => sources.join("engine"),
            };
            let text = std::fs::read_to_string(folder.join(&site.file))?;
            texts.insert(&site.file, text.lines().map(str::to_owned).collect());
        }
        let source = &texts[site.file.as_str()];
        let function = format!("{} {}", site.file, enclosing(source, site.line as usize));
        let stem = format!("{function} {}", site.operation);
        let occurrence = occurrences.entry(stem.clone()).or_default();
        *occurrence += 1;
        let is_named = |model: &str| {
            source
                .iter()
                .any(|line| line.contains(&format!("`{model}`")))
        };
        let mut models: Vec<String> = site.models.iter().cloned().collect();
        models.sort_by_cached_key(|model| {
            let ms = durations.get(model).copied().unwrap_or(0);
            (!is_named(model), ms)
        });
        names.push(Name {
            key: format!("{stem}#{occurrence}"),
            function,
            models,
        });
    }
    Ok(names)
}

/// The function around a line (from 1), with the type that it belongs to: found by indentation,
/// which rustfmt keeps honest.
fn enclosing(lines: &[String], line: usize) -> String {
    let mut function = None;
    let mut indent = usize::MAX;
    for text in lines[..line.min(lines.len())].iter().rev() {
        let trimmed = text.trim_start();
        let depth = text.len() - trimmed.len();
        if trimmed.is_empty() || trimmed.starts_with("//") || depth >= indent {
            continue;
        }
        // The last line of a long signature: its first line stands at the same depth.
        let tail = trimmed.starts_with([')', '{', '}']) || trimmed.starts_with("where");
        indent = if tail { depth + 1 } else { depth };
        if function.is_none() {
            function = function_name(trimmed);
        } else if let Some(owner) = implemented(trimmed) {
            return format!("{owner}::{}", function.unwrap_or_default());
        }
    }
    function.unwrap_or_else(|| "?".to_owned())
}

fn function_name(line: &str) -> Option<String> {
    let start = if line.starts_with("fn ") {
        3
    } else {
        line.find(" fn ")? + 4
    };
    Some(identifier(&line[start..]))
}

fn implemented(line: &str) -> Option<String> {
    let rest = line
        .strip_prefix("unsafe ")
        .unwrap_or(line)
        .strip_prefix("impl")?;
    let of = rest.rfind(" for ").map_or_else(
        || after_generics(rest),
        |position| &rest[position + " for ".len()..],
    );
    Some(identifier(of.trim_start_matches('&')))
}

fn after_generics(text: &str) -> &str {
    let mut depth = 0;
    for (position, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' => depth -= 1,
            ' ' if depth == 0 => return text[position..].trim_start(),
            _ => {}
        }
    }
    text
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{enclosing, parse_listing};

    const SOURCE: &str = "\
impl<'a, T: Into<u8>> Bucket<'a, T> {
    fn first(&self) {
        self.word.load(Relaxed)
    }

    pub(crate) fn second<F>(
        &self,
        f: F,
    ) -> u64
    where
        F: Fn(),
    {
        if true {
            self.word.store(1, Release);
        } else {
            self.word
                .store(2, Release);
        }
    }
}

fn alone() {
    lock();
}
";

    #[test]
    fn a_site_is_named_by_its_function_and_type() {
        let lines: Vec<String> = SOURCE.lines().map(str::to_owned).collect();
        let at = |text: &str| {
            lines
                .iter()
                .position(|line| line.contains(text))
                .expect(text)
                + 1
        };
        assert_eq!(enclosing(&lines, at("load")), "Bucket::first");
        assert_eq!(enclosing(&lines, at("store(1")), "Bucket::second");
        assert_eq!(enclosing(&lines, at("store(2")), "Bucket::second");
        assert_eq!(enclosing(&lines, at("lock()")), "alone");
    }

    #[test]
    fn a_site_that_two_models_reach_is_listed_once() {
        let sites = parse_listing(
            "site\tone\tindex.rs\t3\t9\tload\trelax\nnoise\nsite\ttwo\tindex.rs\t3\t9\tload\trelax\n",
        );
        assert_eq!(sites.len(), 1);
        assert_eq!(sites[0].models.len(), 2);
    }
}
