//! The process outside: binds the sockets and supervises.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::inside::raise_open_files;
use super::log::Level;
use super::{Refusal, ServeOptions, check, check_evidence, warn_of_doubts};
use crate::cli::admin::{
    AdminAddress, EvidencePlace, second_address, usual_address, usual_evidence,
};
use crate::cli::settings::{Loaded, Loader};
use crate::engine::Config;
use crate::server::{Address, Entrance, Listening, StartError, Tongue, use_all_open_files};
use crate::supervisor::{DeathLimits, Ears, Plan, Reread, StallLimits, SuperviseError, Terms, run};

/// Serves through worker processes, until one ends as it was told to.
pub(super) fn supervise(
    loaded: &Loaded<ServeOptions>,
    level: Level,
    loader: Loader,
) -> Result<ExitCode, Refusal> {
    // First: a signal that comes during the start must not leave the files of sockets behind.
    let ears = Ears::open().map_err(Refusal::failed)?;
    let options = &loaded.options;
    loaded.warn("serve");
    // Each start of a worker process needs some, however many connections the admin endpoint has.
    use_all_open_files();
    let (mut settings, config) = check(options)?;
    if options.connections_max.is_some() {
        // Here it is known who has set it.
        raise_open_files(options, &mut settings)?;
    }
    let workers = settings.workers;
    check_evidence(options)?;
    warn_of_doubts(options, &settings);
    let entrances = settings.bind().map_err(StartError::from)?;
    let recent_log = level.recent.clone();
    let reread = move || {
        let mut loaded: Loaded<ServeOptions> = loader.load().map_err(|error| error.to_string())?;
        let is_counted = loaded.options.workers.is_none();
        loaded.options.workers.get_or_insert(workers);
        let checked = check(&loaded.options);
        let checked =
            checked.map_err(|refusal| refusal.with_place(&loaded.settings).into_sentence());
        let (mut settings, config) = checked?;
        if loaded.options.connections_max.is_some() {
            // Or the next process would not start. What each process does with the default, it says itself.
            let raised = raise_open_files(&loaded.options, &mut settings);
            raised.map_err(|refusal| refusal.with_place(&loaded.settings).into_sentence())?;
        }
        level.set(loaded.options.log_level);
        Ok(terms(&loaded, config, is_counted.then_some(workers)))
    };
    let counted = options.workers.is_none().then_some(workers);
    let admin = admin_sockets(options, &entrances)?;
    let plan = Plan {
        terms: terms(loaded, config, counted),
        reread: Reread(Box::new(reread)),
        evidence: evidence(options, &entrances, &admin),
        admin,
        recent_log,
        entrances,
        allow_drills: options.allow_drills,
    };
    match run(plan, ears) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error @ SuperviseError::GaveUp { .. }) => Err(Refusal::GaveUp(error.to_string())),
        Err(error) => Err(Refusal::failed(error)),
    }
}

/// What the supervisor works by. Where the number of workers is that of the cores that were `counted` once, processes
/// are told of it: the memory depends on it, and cores may come and go.
fn terms(loaded: &Loaded<ServeOptions>, config: Config, counted: Option<usize>) -> Terms {
    let options = &loaded.options;
    let mut arguments = command_line(loaded.as_arguments());
    arguments.extend(counted.map(|workers| format!("--workers={workers}").into()));
    Terms {
        arguments,
        config,
        start_timeout: options.start_timeout,
        drain_timeout: options.drain_timeout,
        refuse_for: options.refuse_for,
        upgrade_timeout: options.upgrade_timeout,
        stalls: StallLimits {
            warn: options.stall_warn,
            kill: options.stall_kill,
        },
        deaths: DeathLimits {
            cold_from: options.cold_after_deaths,
            end_from: options.end_after_deaths,
            delay_max: options.restart_delay_max,
        },
    }
}

/// The command line of this server, its settings spelled out.
fn command_line(arguments: Vec<OsString>) -> Vec<OsString> {
    let program = std::env::args_os().next();
    let program = program.unwrap_or_else(|| "larder".into());
    [program, "serve".into()]
        .into_iter()
        .chain(arguments)
        .collect()
}

/// The folder for evidence, if there is to be one.
fn evidence(
    options: &ServeOptions,
    entrances: &[Entrance],
    admin: &[Listening],
) -> Option<PathBuf> {
    match &options.evidence {
        Some(EvidencePlace::Nowhere) => None,
        Some(EvidencePlace::In(folder)) => Some(folder.clone()),
        None => {
            let first = entrances.first()?.socket.address();
            let admin: Vec<_> = admin.iter().map(|one| one.address().clone()).collect();
            Some(usual_evidence(first, &admin))
        }
    }
}

/// The sockets of the admin endpoint. One that was asked for is insisted on; the usual ones, beside each
/// entrance so that whoever knows that finds them, are done without where they cannot be had.
fn admin_sockets(
    options: &ServeOptions,
    entrances: &[Entrance],
) -> Result<Vec<Listening>, Refusal> {
    let asked_for = |address| Listening::bind(address).map_err(StartError::from);
    match &options.admin {
        Some(AdminAddress::Nowhere) => Ok(Vec::new()),
        Some(AdminAddress::At(address @ Address::Unix(_))) => Ok(vec![asked_for(address)?]),
        // What changes something needs a Unix socket as well.
        Some(AdminAddress::At(address @ Address::Tcp(_))) => {
            let socket = asked_for(address)?;
            Ok([socket]
                .into_iter()
                .chain(usual_sockets(entrances))
                .collect())
        }
        None => Ok(usual_sockets(entrances)),
    }
}

fn usual_sockets(entrances: &[Entrance]) -> Vec<Listening> {
    let larder = entrances.iter();
    let larder = larder.filter(|entrance| entrance.tongue == Tongue::Larder);
    let mut sockets: Vec<Listening> = Vec::new();
    for listens in larder.map(|entrance| entrance.socket.address()) {
        let usual = usual_address(listens);
        if sockets.iter().any(|socket| *socket.address() == usual) {
            continue;
        }
        match Listening::bind(&usual) {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                tracing::warn!("no admin endpoint there: {error}");
                // Another server has it, at the same port of another address.
                let second = second_address(listens).map(|second| Listening::bind(&second));
                match second {
                    Some(Ok(socket)) => {
                        tracing::info!("the admin endpoint is {} instead", socket.address());
                        sockets.push(socket);
                    }
                    Some(Err(error)) => tracing::warn!("nor there: {error}"),
                    None => {}
                }
            }
        }
    }
    if sockets.is_empty() {
        tracing::warn!("there is no admin endpoint; --admin says where one is to be");
    }
    sockets
}
