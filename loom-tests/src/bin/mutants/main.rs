//! Weakens each site of the engine in turn and expects some model to fail.
//!
//! `mutants [--limit-s SECONDS] [--only TEXT] [--models TEXT]` lists the sites that the models reach,
//! runs every mutant as a child process of itself, and compares those that survive with
//! `survivors.txt`: one line each, `FILE FUNCTION OPERATION#OCCURRENCE KIND: reason`. A survivor
//! without a line fails the run, and so does a line without a survivor.
//!
//! `--only` and `--models` take texts, with commas between them: a run is of the mutants, and with the
//! models, whose names contain one. Then a line is stale if its mutant was killed, or if all models ran
//! and none reaches its site: `--only` something that no name contains looks for such lines alone.
//!
//! Built without debug assertions it refuses: some mutants are caught by those of the engine alone.
//!
//! A mutant meets the models that reach its site, until the first that fails: before the others those
//! that have killed a mutant of the same function, then those that have killed one of the same file or
//! that the file's ordering ledger names, and of equals the quickest.

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

/// LIMIT: one that is expected to survive gets this share (1/N) of it, which most of the models fit
/// in: a reason that holds no more is likely to be noticed, and a whole run stays short.
const EXPECTED_SHARE: u32 = 4;

struct Options {
    limit: Duration,
    only: Texts,
    models: Texts,
}

/// What names are to contain, one of them; none: all names will do.
#[derive(Default)]
struct Texts(Vec<String>);

impl Texts {
    fn of(list: &str) -> Self {
        Self(list.split(',').map(str::to_owned).collect())
    }

    fn are_in(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|text| name.contains(text.as_str()))
    }
}

struct Mutant {
    key: String,
    file: String,
    /// With its file.
    function: String,
    /// The value of `LARDER_MUTANT`.
    place: String,
    /// Those that the file names first, and of equals the quickest.
    models: Vec<String>,
    limit: Duration,
}

/// The models that have killed a mutant so far, by the function or the file that it was in.
#[derive(Default)]
struct Killers(HashMap<String, HashSet<String>>);

impl Killers {
    fn add(&mut self, mutant: &Mutant, model: &str) {
        for place in [&mutant.function, &mutant.file] {
            let known = self.0.entry(place.clone()).or_default();
            known.insert(model.to_owned());
        }
    }

    /// The mutant's models, the likeliest to kill it first.
    fn order<'m>(&self, mutant: &'m Mutant) -> Vec<&'m String> {
        let has = |place, model| (self.0.get(place)).is_some_and(|known| known.contains(model));
        let mut models: Vec<&String> = mutant.models.iter().collect();
        models.sort_by_key(|model| match () {
            () if has(&mutant.function, *model) => 0,
            () if has(&mutant.file, *model) => 1,
            () => 2,
        });
        models
    }
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
    let is_checked = match cfg!(debug_assertions) {
        true => Ok(()),
        false => {
            Err("built without debug assertions; accepted: a build for development".to_owned())
        }
    };
    match is_checked
        .and_then(|()| options(&arguments))
        .and_then(|options| drive(&options))
    {
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
        only: Texts::default(),
        models: Texts::default(),
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
            "--only" => options.only = Texts::of(value),
            "--models" => options.models = Texts::of(value),
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
    let explained = explained(&root.join("survivors.txt"))?;
    let (sites, durations) = list(&options.models)?;
    let sources = root.join("../src");
    let names = site::names(&sites, &sources, &durations).map_err(|e| e.to_string())?;
    let mut mutants = mutants(&sites, names, options.limit);
    let reached: HashSet<String> = mutants.iter().map(|mutant| mutant.key.clone()).collect();
    mutants.retain(|mutant| options.only.are_in(&mutant.key));
    for mutant in &mut mutants {
        if explained.contains_key(&mutant.key) {
            mutant.limit /= EXPECTED_SHARE;
        }
    }
    println!("{} sites, {} mutants", sites.len(), mutants.len());
    let fates = run_all(&mutants);
    // Without some of the models, a site may be there that none has reached.
    let is_there = |key: &str| !options.models.0.is_empty() || reached.contains(key);
    Ok(report(&mutants, &fates, &explained, is_there))
}

/// Runs every model whose name contains one of the texts, unweakened; learns the sites and how long each
/// model takes.
fn list(texts: &Texts) -> Result<(Vec<Site>, HashMap<String, u64>), String> {
    let names = models().map(|model| model.name);
    let names: Vec<&str> = names.filter(|name| texts.are_in(name)).collect();
    let listings = on_all_cores(&names, |name| list_one(name));
    let text = listings
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let mut durations = HashMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("model ")) {
        let name = line.split(':').next().unwrap_or_default();
        let ms = line
            .strip_suffix(" ms)")
            .and_then(|rest| rest.rsplit(' ').next()?.parse().ok());
        durations.insert(name.to_owned(), ms.unwrap_or(0));
    }
    Ok((site::parse_listing(&text), durations))
}

fn list_one(name: &str) -> Result<String, String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(exe)
        .args(["--child", name])
        .env("LARDER_SITES", "1")
        .env_remove("LARDER_MUTANT")
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let trace = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} fails without any mutant\n{text}\n{trace}"));
    }
    let said = text.lines().filter(|line| line.starts_with("model "));
    said.for_each(|line| println!("{line}"));
    Ok(text)
}

/// What `work` makes of each item, in order; on as many threads as there are cores.
fn on_all_cores<'i, I: Sync, T: Send>(items: &'i [I], work: impl Fn(&'i I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else {
                        break;
                    };
                    let made = work(item);
                    done.lock().expect("not poisoned").push((index, made));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("not poisoned");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, made)| made).collect()
}

fn mutants(sites: &[Site], names: Vec<site::Name>, limit: Duration) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (site, name) in sites.iter().zip(names) {
        let mutant = |kind: &Kind| Mutant {
            key: format!("{} {kind}", name.key),
            file: site.file.clone(),
            function: name.function.clone(),
            place: format!("{}:{}:{}:{kind}", site.file, site.line, site.column),
            models: name.models.clone(),
            limit,
        };
        mutants.extend(site.kinds.iter().map(mutant));
    }
    mutants
}

fn run_all(mutants: &[Mutant]) -> Vec<Fate> {
    let killers: Mutex<Killers> = Mutex::default();
    on_all_cores(mutants, |mutant| {
        let start = Instant::now();
        let models = killers.lock().expect("not poisoned").order(mutant);
        let fate = run(mutant, &models);
        let said = match &fate {
            Fate::Killed { by } => {
                killers.lock().expect("not poisoned").add(mutant, by);
                format!("killed by {by}")
            }
            Fate::Survived => "SURVIVED".to_owned(),
            Fate::TimedOut => "TIMED OUT".to_owned(),
        };
        let ms = start.elapsed().as_millis();
        println!("{} ({ms} ms): {said}", mutant.key);
        fate
    })
}

fn run(mutant: &Mutant, models: &[&String]) -> Fate {
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
        if start.elapsed() > mutant.limit {
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
    is_there: impl Fn(&str) -> bool,
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
    let is_stale = |key: &str| match mutants.iter().any(|mutant| mutant.key == key) {
        true => !alive.contains(&key),
        false => !is_there(key),
    };
    for key in explained.keys().filter(|key| is_stale(key)) {
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
