//! Weakens each site of the engine in turn and expects some model to fail.
//!
//! `mutants [--limit-s SECONDS] [--only TEXT]` lists the sites that the models reach, runs every
//! mutant as a child process of itself, and compares those that survive with `survivors.txt`: one
//! line each, `FILE FUNCTION OPERATION#OCCURRENCE KIND: reason`. A survivor without a line fails
//! the run, and so does a line without a survivor.

mod site;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder_loom_tests::{Kind, models};
use site::Site;

/// LIMIT: a mutant that no model has failed by then counts as a survivor.
const LIMIT_S_DEFAULT: u64 = 120;

struct Options {
    limit: Duration,
    only: Option<String>,
}

struct Mutant {
    key: String,
    file: String,
    /// The value of `LARDER_MUTANT`.
    place: String,
    /// Fastest first.
    models: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Killed { by: String },
    Survived,
    TimedOut,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--child") {
        run_models(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    match options(&arguments).and_then(|options| drive(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("mutants: {message}");
            ExitCode::from(2)
        }
    }
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        limit: Duration::from_secs(LIMIT_S_DEFAULT),
        only: None,
    };
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{name} takes a value"))?;
        match name.as_str() {
            "--limit-s" => {
                let seconds = value
                    .parse()
                    .map_err(|_| format!("{value}: not a number"))?;
                options.limit = Duration::from_secs(seconds);
            }
            "--only" => options.only = Some(value.clone()),
            _ => return Err(format!("no such option: {name}")),
        }
    }
    Ok(options)
}

/// The child's part: runs the named models, or all of them, each announced.
fn run_models(names: &[String]) {
    if names.is_empty() {
        models().for_each(|model| {
            model.check();
        });
    }
    for name in names {
        let model = models().find(|model| model.name == name);
        println!("run\t{name}");
        model.expect("the driver names models that exist").check();
    }
}

fn drive(options: &Options) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (sites, durations) = list()?;
    let keys = site::keys(&sites, &root.join("../src/engine")).map_err(|e| e.to_string())?;
    let mut mutants = mutants(&sites, &keys, &durations);
    if let Some(only) = &options.only {
        mutants.retain(|mutant| mutant.key.contains(only.as_str()));
    }
    println!("{} sites, {} mutants", sites.len(), mutants.len());
    let fates = run_all(&mutants, options.limit);
    let explained = explained(&root.join("survivors.txt"))?;
    Ok(report(&mutants, &fates, &explained, options.only.is_none()))
}

/// Runs every model unweakened; learns the sites and how long each model takes.
fn list() -> Result<(Vec<Site>, HashMap<String, u64>), String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(exe)
        .arg("--child")
        .env("LARDER_SITES", "1")
        .env_remove("LARDER_MUTANT")
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let trace = String::from_utf8_lossy(&output.stderr);
        return Err(format!("a model fails without any mutant\n{text}\n{trace}"));
    }
    let mut durations = HashMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("model ")) {
        println!("model {line}");
        let name = line.split(':').next().unwrap_or_default();
        let ms = line
            .strip_suffix(" ms)")
            .and_then(|rest| rest.rsplit(' ').next()?.parse().ok());
        durations.insert(name.to_owned(), ms.unwrap_or(0));
    }
    Ok((site::parse_listing(&text), durations))
}

fn mutants(sites: &[Site], keys: &[String], durations: &HashMap<String, u64>) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (site, key) in sites.iter().zip(keys) {
        let mut models: Vec<String> = site.models.iter().cloned().collect();
        models.sort_by_key(|model| durations.get(model).copied().unwrap_or(0));
        let mut add = |kind: &Kind| {
            mutants.push(Mutant {
                key: format!("{key} {kind}"),
                file: site.file.clone(),
                place: format!("{}:{}:{}:{kind}", site.file, site.line, site.column),
                models: models.clone(),
            });
        };
        site.kinds.iter().for_each(&mut add);
    }
    mutants
}

/// Runs the mutants on as many processes as there are cores. A model that has killed a mutant of the
/// same file comes before those that have not.
fn run_all(mutants: &[Mutant], limit: Duration) -> Vec<Fate> {
    let next = AtomicUsize::new(0);
    let fates = Mutex::new(vec![Fate::Survived; mutants.len()]);
    let killers: Mutex<HashMap<&str, HashSet<String>>> = Mutex::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((index, mutant)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    mutants.get(index).map(|mutant| (index, mutant))
                } {
                    let start = Instant::now();
                    let known = killers.lock().expect("not poisoned");
                    let first = known.get(mutant.file.as_str()).cloned();
                    drop(known);
                    let fate = run(mutant, &first.unwrap_or_default(), limit);
                    if let Fate::Killed { by } = &fate {
                        let mut known = killers.lock().expect("not poisoned");
                        known.entry(&mutant.file).or_default().insert(by.clone());
                    }
                    let said = match &fate {
                        Fate::Killed { by } => format!("killed by {by}"),
                        Fate::Survived => "SURVIVED".to_owned(),
                        Fate::TimedOut => "TIMED OUT".to_owned(),
                    };
                    println!(
                        "{} ({} ms): {said}",
                        mutant.key,
                        start.elapsed().as_millis()
                    );
                    fates.lock().expect("not poisoned")[index] = fate;
                }
            });
        }
    });
    fates.into_inner().expect("not poisoned")
}

fn run(mutant: &Mutant, first: &HashSet<String>, limit: Duration) -> Fate {
    let mut models: Vec<&String> = mutant.models.iter().collect();
    models.sort_by_key(|model| !first.contains(*model));
    let exe = std::env::current_exe().expect("the running program has a path");
    let child = Command::new(exe)
        .arg("--child")
        .args(models)
        .env("LARDER_MUTANT", &mutant.place)
        .env("RUST_BACKTRACE", "0")
        .env_remove("LARDER_SITES")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("the running program can be started again");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if start.elapsed() > limit {
            child.kill().ok();
            child.wait().ok();
            return Fate::TimedOut;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if status.success() {
        return Fate::Survived;
    }
    let output = child
        .wait_with_output()
        .expect("a finished child has output");
    let text = String::from_utf8_lossy(&output.stdout);
    let by = text
        .lines()
        .filter_map(|line| line.strip_prefix("run\t"))
        .next_back();
    Fate::Killed {
        by: by.unwrap_or("?").to_owned(),
    }
}

/// The survivors with their reasons.
fn explained(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut explained = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        // The key itself may hold `::`, but never a colon before a blank.
        let (key, reason) = line
            .split_once(": ")
            .ok_or_else(|| format!("survivors.txt: no reason in: {line}"))?;
        explained.insert(key.to_owned(), reason.to_owned());
    }
    Ok(explained)
}

fn report(
    mutants: &[Mutant],
    fates: &[Fate],
    explained: &BTreeMap<String, String>,
    complete: bool,
) -> bool {
    let (mut killed, mut reasoned, mut good) = (0, 0, true);
    let mut alive = Vec::new();
    for (mutant, fate) in mutants.iter().zip(fates) {
        if matches!(fate, Fate::Killed { .. }) {
            killed += 1;
            continue;
        }
        alive.push(mutant.key.as_str());
        if explained.contains_key(&mutant.key) {
            reasoned += 1;
        } else {
            good = false;
            println!("unexplained: {} ({fate:?})", mutant.key);
        }
    }
    let stale = explained
        .keys()
        .filter(|key| !alive.contains(&key.as_str()));
    for key in stale.filter(|_| complete) {
        good = false;
        println!("stale in survivors.txt: {key}");
    }
    println!(
        "{} mutants: {killed} killed, {reasoned} explained, {} unexplained",
        mutants.len(),
        alive.len() - reasoned
    );
    good
}
