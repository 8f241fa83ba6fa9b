//! The commands that the documents show, run as they stand there, one after the other, against a scratch
//! server; and what they are shown to print.
//!
//! What cannot run here is in a list, with the reason, and what runs in its place if anything can. The
//! programs in Rust that the documents show are run by `tests/guide.rs`.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use process::{ServerProcess, end_of, larder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A command that does not run as it stands, what runs instead, and why.
struct Exception {
    shown: &'static str,
    instead: Option<&'static str>,
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        shown: "cargo run --release -- serve",
        instead: None,
        why: "builds a release; the server of these tests is the same program",
    },
    Exception {
        shown: "cargo test --workspace",
        instead: None,
        why: "this test is a part of it",
    },
    Exception {
        shown: "PATH=$PWD/target/release:$PATH",
        instead: None,
        why: "there may be no release build; the program under test is in the path",
    },
    Exception {
        shown: "larder stats --watch",
        instead: Some("larder stats --watch 10ms | head -n 200 >/dev/null"),
        why: "has no end; tests/cli_watch.rs interrupts it",
    },
    Exception {
        shown: "larder bench --duration 5s",
        instead: Some("larder bench --duration 50ms --keys 1k"),
        why: "takes five seconds",
    },
    Exception {
        shown: "larder bench --load --compare larder://127.0.0.1:5273 --compare memcached://127.0.0.1:11211",
        instead: None,
        why: "needs a memcached; tests/cli_bench_compare.rs compares with a double",
    },
];

/// A folder with what the documents speak of, and the program in the path; removed with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("larder-test-{}-readme", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("bin")).unwrap();
        let program = env!("CARGO_BIN_EXE_larder");
        std::os::unix::fs::symlink(program, path.join("bin/larder")).unwrap();
        std::fs::write(path.join("backup.tar"), vec![7; 3_000_000]).unwrap();
        std::fs::write(path.join("user.json"), "{\"name\": \"Ada\"}").unwrap();
        let trace = "time,key,size\n0,apple,80\n1,pear,120\n2,apple,80\n";
        let trace = compress_to_vec(trace.as_bytes(), CompressionLevel::Fastest);
        std::fs::write(path.join("trace.csv.zst"), trace).unwrap();
        Self(path)
    }

    /// Runs a line in a shell; returns the exit code and all that was printed.
    fn run(&self, line: &str, server: &ServerProcess) -> (Option<i32>, String) {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec 2>&1\n{line}")])
            .current_dir(&self.0)
            .env("PATH", format!("{}:{path}", self.0.join("bin").display()))
            .env("LARDER_SERVER", server.url());
        let ended = end_of(&mut shell, b"");
        (ended.code, ended.stdout)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command of a document, and the lines that it is shown to print.
#[derive(Debug)]
struct Shown {
    command: String,
    output: Vec<String>,
}

/// The documents whose commands run.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md")];
    if let Ok(folder) = std::fs::read_dir(root.join("docs")) {
        paths.extend(folder.map(|entry| entry.unwrap().path()));
    }
    paths.sort();
    let is_text = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "md");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.file_name().unwrap().display().to_string(), text)
    };
    paths.into_iter().filter(is_text).map(read).collect()
}

/// The fenced blocks of a document, each with its language.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) if !inside => {
                blocks.push((language.to_owned(), Vec::new()));
                inside = true;
            }
            Some(_) => inside = false,
            None if inside => blocks.last_mut().unwrap().1.push(line.to_owned()),
            None => {}
        }
    }
    assert!(!inside, "a block has no end");
    blocks
}

fn shown(text: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for (language, lines) in blocks(text) {
        if language != "console" {
            continue;
        }
        for line in lines {
            match line.strip_prefix("$ ") {
                Some(command) => all.push(Shown {
                    command: command.to_owned(),
                    output: Vec::new(),
                }),
                None => all.last_mut().expect("a command first").output.push(line),
            }
        }
    }
    all
}

/// A command without the comment behind it.
fn bare(command: &str) -> &str {
    command.split("  #").next().unwrap().trim_end()
}

#[test]
fn every_command_that_is_shown_does_what_is_shown() {
    let (server, scratch) = (ServerProcess::start(), Scratch::new());
    let mut used = BTreeSet::new();
    for (document, text) in documents() {
        for Shown { command, output } in shown(&text) {
            let exception = EXCEPTIONS.iter().find(|e| e.shown == bare(&command));
            if let Some(exception) = exception {
                used.insert(exception.shown);
                assert!(!exception.why.is_empty());
            }
            let line = match exception {
                None => &command[..],
                Some(Exception {
                    instead: Some(line),
                    ..
                }) => line,
                Some(_) => continue,
            };
            let (code, printed) = scratch.run(line, &server);
            assert_eq!(code, Some(0), "{document}: {line}: {printed}");
            if !output.is_empty() {
                let printed: Vec<&str> = printed.lines().collect();
                assert_eq!(printed, output, "{document}: {line}");
            }
        }
    }
    let all: BTreeSet<&str> = EXCEPTIONS.iter().map(|e| e.shown).collect();
    assert_eq!(used, all, "exceptions that no document needs");
    let written = std::fs::read(scratch.0.join("copy.tar")).unwrap();
    assert_eq!(
        written,
        std::fs::read(scratch.0.join("backup.tar")).unwrap()
    );
}

#[test]
fn every_block_has_a_language_that_somebody_checks() {
    for (document, text) in documents() {
        for (language, lines) in blocks(&text) {
            let checked = ["console", "rust", "toml", "text"].contains(&&language[..]);
            assert!(checked, "{document}: ```{language}\n{}", lines.join("\n"));
        }
    }
}

/// The pieces of a text in backticks that are commands of this program.
fn commands_in_the_text(text: &str) -> Vec<String> {
    let pieces = text.split('`').skip(1).step_by(2);
    let one_line = |piece: &str| piece.split_whitespace().collect::<Vec<_>>().join(" ");
    let commands = pieces
        .map(one_line)
        .filter(|piece| piece.starts_with("larder "));
    commands.collect()
}

#[test]
fn every_command_in_the_text_exists_with_its_options() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = documents();
    for name in ["CHANGELOG.md", "ARCHITECTURE.md", "BENCHMARKS.md"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        documents.push((name.to_owned(), text));
    }
    let mut seen = 0;
    for (document, text) in documents {
        // Blocks have backticks of their own.
        for command in commands_in_the_text(&text.replace("```", "")) {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            if words[0].starts_with('-') || words[0] == "help" {
                assert_eq!(end_of(&mut larder(&["--help"]), b"").code, Some(0));
                continue;
            }
            let help = end_of(&mut larder(&[words[0], "--help"]), b"");
            assert_eq!(help.code, Some(0), "{document}: {command}");
            for word in words.iter().filter(|word| word.starts_with("--")) {
                let option = word.split('=').next().unwrap();
                assert!(
                    help.stdout.contains(option),
                    "{document}: {command}: {option}"
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
