//! Who may use whom, read from the sources: ARCHITECTURE.md as a test.
//!
//! The compiler keeps the engine from looking up (`cargo check --no-default-features`) and the
//! client from the root package; this keeps the rest: which part uses which other part, in which
//! part an outside crate has its place, and that the map shows what is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// LIMIT: lines of a file without its tests; past this it is split along its story.
const FILE_LINES_MAX: usize = 600;

/// A part of the house.
struct Part {
    /// A file, or a folder that ends in `/`.
    path: &'static str,
    /// Parts of the root package that it may use beside itself: the names after `crate::`.
    parts: &'static [&'static str],
    /// Crates from outside that have their place here, among others.
    crates: &'static [&'static str],
    /// What it must do without.
    never: &'static [&'static str],
}

/// What would give the engine threads, clocks, files and sockets of its own, or a second way to
/// share memory.
const BELOW_THE_SERVER: &[&str] = &[
    "std::sync::",
    "std::thread::",
    "std::time::",
    "std::net::",
    "std::fs::",
    "std::process::",
    "std::os::",
    "std::env::",
];

/// Names that every part may use, since every user of the library may.
const LIBRARY: &[&str] = &["Cache", "Session", "Guard", "Config"];

const PARTS: &[Part] = &[
    Part {
        path: "src/sync.rs",
        parts: &[],
        crates: &["parking_lot"],
        never: &["std::time::", "std::net::", "std::fs::"],
    },
    Part {
        path: "src/reclaim.rs",
        parts: &["sync"],
        crates: &["crossbeam_epoch"],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/arena.rs",
        parts: &["sync", "mapping", "pages"],
        crates: &[],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/arena/",
        parts: &["sync"],
        crates: &[],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/mapping/",
        parts: &["sync", "pages"],
        crates: &["libc", "rustix"],
        never: &["std::sync::", "std::thread::", "std::time::", "std::net::"],
    },
    Part {
        path: "src/pages.rs",
        parts: &[],
        crates: &["thiserror"],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/shape.rs",
        parts: &[],
        crates: &[],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/engine/",
        parts: &["engine", "sync", "reclaim", "arena", "pages", "shape"],
        crates: &["arrayvec", "crc32c", "thiserror", "xxhash_rust"],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/blackbox/",
        parts: &["blackbox", "sync", "arena", "shape"],
        crates: &["thiserror"],
        never: &[
            "std::sync::",
            "std::thread::",
            "std::fs::",
            "std::process::",
            "std::env::",
        ],
    },
    Part {
        path: "src/dialect/",
        parts: &["dialect", "engine"],
        crates: &[
            "base64",
            "bumpalo",
            "itoa",
            "larder_protocol",
            "memchr",
            "percent_encoding",
            "thiserror",
        ],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/execute/",
        parts: &["execute", "dialect", "engine", "blackbox"],
        crates: &["arrayvec", "larder_protocol"],
        never: BELOW_THE_SERVER,
    },
    Part {
        path: "src/embedded.rs",
        parts: &["server", "execute", "dialect", "engine", "blackbox", "sync"],
        crates: &["larder_client", "larder_protocol"],
        never: &["std::sync::atomic", "std::net::", "std::fs::"],
    },
    Part {
        path: "src/server/",
        parts: &["server", "execute", "dialect", "engine", "blackbox", "sync"],
        crates: &[
            "io_uring",
            "larder_protocol",
            "libc",
            "mio",
            "rustix",
            "slab",
            "socket2",
            "thiserror",
            "tracing",
        ],
        never: &["std::sync::"],
    },
    Part {
        path: "src/supervisor/",
        parts: &["supervisor", "blackbox", "server", "engine", "sync"],
        crates: &[
            "addr2line",
            "axum",
            "framehop",
            "humantime",
            "hyper",
            "hyper_util",
            "libc",
            "nix",
            "object",
            "prometheus_client",
            "rustix",
            "sd_notify",
            "serde",
            "serde_json",
            "signal_hook",
            "syscalls",
            "thiserror",
            "tokio",
            "tracing",
        ],
        never: &["std::sync::"],
    },
    Part {
        path: "src/cli/",
        parts: &["cli", "supervisor", "blackbox", "server", "engine", "sync"],
        crates: &[
            "anstream",
            "anstyle",
            "base64",
            "bytes",
            "clap",
            "clap_complete",
            "csv",
            "globset",
            "form_urlencoded",
            "hdrhistogram",
            "http_body_util",
            "hyper",
            "hyper_util",
            "indicatif",
            "itoa",
            "larder_client",
            "larder_protocol",
            "memchr",
            "mio",
            "plotters",
            "rand",
            "rand_distr",
            "regex_automata",
            "rustix",
            "rustyline",
            "ruzstd",
            "sd_notify",
            "serde",
            "serde_json",
            "shlex",
            "signal_hook",
            "strsim",
            "thiserror",
            "tokio",
            "toml",
            "tracing",
            "tracing_appender",
            "tracing_subscriber",
            "xxhash_rust",
        ],
        never: &["crate::engine::index", "crate::engine::log"],
    },
];

/// The two crates beside the root: what they may depend on, and what their sources must not name.
const SIBLINGS: &[(&str, &[&str], &[&str])] = &[
    (
        "protocol",
        &["thiserror"],
        &[
            "std::io::",
            "std::net::",
            "std::time::",
            "std::thread::",
            "std::sync::",
        ],
    ),
    (
        "client",
        &[
            "bytes",
            "futures-util",
            "hdrhistogram",
            "larder-protocol",
            "md-5",
            "parking_lot",
            "postcard",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
        &["larder::", "mio::"],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust files under a path of the repository, as paths from its root, without those that cargo
/// has built.
fn sources(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root().join(path)];
    while let Some(path) = open.pop() {
        if path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let path = path.strip_prefix(root()).expect("below the root");
            found.push(path.to_str().expect("a readable name").to_owned());
        }
    }
    found.sort();
    found
}

/// The code of a file, without comments and without its tests at the end.
fn code(path: &str) -> Vec<String> {
    let text = read(&root().join(path));
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    let without = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    lines.map(without).collect()
}

/// Whether a line names something by a path that begins with `head`, such as `std::net::`.
fn names(line: &str, head: &str) -> bool {
    let is_part_of_a_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(head)
        .any(|(at, _)| !line[..at].ends_with(is_part_of_a_name))
}

/// The names that follow `crate::` in a line.
fn parts_named(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(at, head)| {
        let rest = &line[at + head.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The keys of a table of a manifest.
fn manifest_keys(manifest: &Path, table: &str) -> Vec<String> {
    let text = read(manifest);
    let lines = text.lines().skip_while(|line| *line != table).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let key = |line: &str| Some(line.split_once(['=', '.'])?.0.trim().to_owned());
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(key)
        .collect()
}

fn part_of(path: &str) -> Option<&'static Part> {
    let holds = |part: &&Part| match part.path.ends_with('/') {
        true => path.starts_with(part.path),
        false => path == part.path,
    };
    PARTS.iter().find(holds)
}

#[test]
fn every_file_belongs_to_a_part_of_the_house() {
    for path in sources("src") {
        let is_the_roof = ["src/lib.rs", "src/main.rs"].contains(&&path[..]);
        assert!(is_the_roof || part_of(&path).is_some(), "{path}");
    }
}

#[test]
fn a_part_uses_only_what_it_may_know() {
    for path in sources("src") {
        let Some(part) = part_of(&path) else { continue };
        for (line, number) in code(&path).iter().zip(1..) {
            for name in parts_named(line) {
                let may = part.parts.contains(&name) || LIBRARY.contains(&name);
                assert!(may, "{path}:{number} uses crate::{name}");
            }
            for never in part.never {
                assert!(!names(line, never), "{path}:{number} uses {never}");
            }
        }
    }
}

#[test]
fn every_outside_crate_has_its_place() {
    let crates = manifest_keys(&root().join("Cargo.toml"), "[dependencies]");
    assert!(crates.len() > 10, "{crates:?}");
    let mut used = BTreeSet::new();
    for path in sources("src") {
        let Some(part) = part_of(&path) else { continue };
        for (line, number) in code(&path).iter().zip(1..) {
            for name in crates.iter().map(|name| name.replace('-', "_")) {
                if names(line, &format!("{name}::")) {
                    let may = part.crates.contains(&&name[..]);
                    assert!(may, "{path}:{number} uses {name}");
                    used.insert(name);
                }
            }
        }
    }
    let unused = crates
        .iter()
        .filter(|name| !used.contains(&name.replace('-', "_")));
    assert_eq!(
        unused.collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "used nowhere"
    );
}

#[test]
fn atomics_are_reached_through_one_door() {
    for path in ["src", "protocol/src", "client/src"]
        .into_iter()
        .flat_map(sources)
    {
        for (line, number) in code(&path).iter().zip(1..) {
            let atomics = ["sync::atomic", "core::sync"]
                .iter()
                .any(|a| line.contains(a));
            // The client's is a hint beside a lock, and decides nothing.
            let is_door = ["src/sync.rs", "client/src/link.rs"].contains(&&path[..]);
            assert!(!atomics || is_door, "{path}:{number}: {line}");
        }
    }
}

#[test]
fn the_siblings_depend_on_nothing_above_them() {
    for (sibling, dependencies, never) in SIBLINGS {
        let manifest = root().join(sibling).join("Cargo.toml");
        for dependency in manifest_keys(&manifest, "[dependencies]") {
            assert!(
                dependencies.contains(&&dependency[..]),
                "{sibling}: {dependency}"
            );
        }
        for path in sources(&format!("{sibling}/src")) {
            for (line, number) in code(&path).iter().zip(1..) {
                for never in *never {
                    assert!(!names(line, never), "{path}:{number} uses {never}");
                }
            }
        }
    }
}

#[test]
fn every_path_on_the_map_exists() {
    for map in ["ARCHITECTURE.md", "README.md"] {
        let text = read(&root().join(map));
        let quoted = text.split('`').skip(1).step_by(2);
        let is_path = |quoted: &&str| {
            let is_word = !quoted.is_empty() && !quoted.contains([' ', ':', '<', '\n', '\\']);
            let extensions = [".rs", ".md", ".toml", ".txt"];
            let is_named = extensions
                .iter()
                .any(|extension| quoted.ends_with(extension));
            is_word && (quoted.contains('/') || is_named) && !quoted.starts_with(['/', '-', '~'])
        };
        let paths: BTreeSet<_> = quoted.filter(is_path).collect();
        let missing: Vec<_> = (paths.iter())
            .filter(|path| !root().join(path).exists())
            .collect();
        assert_eq!(
            missing,
            Vec::<&&str>::new(),
            "named in {map}, and not there"
        );
        assert!(map != "ARCHITECTURE.md" || paths.len() > 10, "{paths:?}");
    }
}

/// All Rust files of the repository.
fn all_sources() -> Vec<String> {
    let folders = [
        "src",
        "protocol",
        "client",
        "tests",
        "loom-tests",
        "crash-points",
        "benches",
        "examples",
        "fuzz/fuzz_targets",
    ];
    let present = folders
        .into_iter()
        .filter(|folder| root().join(folder).exists());
    present.flat_map(sources).collect()
}

#[test]
fn no_file_is_too_long_to_read() {
    for path in all_sources() {
        let lines = read(&root().join(&path));
        let lines = lines
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{path} has {lines} lines without its tests"
        );
    }
}

#[test]
fn every_name_of_a_file_says_something() {
    let says_nothing = [
        "base", "common", "helper", "helpers", "internal", "misc", "util", "utils",
    ];
    for path in all_sources() {
        let parts = PathBuf::from(&path);
        for part in parts.iter().filter_map(|part| part.to_str()) {
            let name = part.trim_end_matches(".rs");
            assert!(!says_nothing.contains(&name), "{path}");
        }
    }
}
