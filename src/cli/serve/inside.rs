//! The process that serves: takes over what is handed to it, or opens it, and ends with a signal.

use std::io::{self, Write};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::log::Level;
use super::memory::{Memory, examine};
use super::reload::Source;
use super::{Refusal, ServeOptions, check, check_alone, units, warn_of_doubts};
use crate::blackbox::Boxes;
use crate::cli::settings::{Loaded, Loader, Origin};
use crate::server::{
    self, Address, Drainer, Entrance, Running, Server, Settings, StartError, Tongue,
};
use crate::supervisor::{BLACK_BOX, Handed, Watcher, die_with_supervisor};

/// What a process that a signal ends reports: 128 and the number of the signal.
const ENDED_BY_SIGNAL: i32 = 128;

/// Serves until a signal ends it.
pub(super) fn serve(
    loaded: &Loaded<ServeOptions>,
    level: Level,
    loader: Loader,
) -> Result<(), Refusal> {
    let options = &loaded.options;
    // Before anything is opened, or a number of these would be taken.
    let handed = Handed::take().map_err(Refusal::failed)?;
    // Signals next: one that comes during the start must not leave a half-made server behind.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Refusal::Failed(format!("cannot wait for signals: {error}")))?;
    let (mut settings, mut config) = check(options)?;
    config.hash_seed = handed.hash_seed;
    // A supervisor that has started this process has the same options, and has looked at them.
    let is_alone = handed.settings.is_none() && !options.examine;
    if is_alone {
        loaded.warn("serve");
        check_alone(options)?;
        warn_of_doubts(options, &settings);
    }
    if options.examine {
        return examine(options, &config, handed.memory.as_ref());
    }
    if handed.settings.is_some() {
        die_with_supervisor().map_err(Refusal::failed)?;
    }
    let watcher = Watcher::find().map_err(|error| {
        Refusal::Failed(format!(
            "whoever started this process cannot be told of it: NOTIFY_SOCKET leads nowhere: {error}"
        ))
    })?;
    if is_alone {
        // A watcher that is gone will have this process end, or cannot.
        let _ = watcher.starting(options.start_timeout);
    }
    raise_open_files(options, &mut settings)?;
    let workers = settings.workers;
    let entrances = match handed.entrances.is_empty() {
        true => settings.bind().map_err(StartError::from)?,
        false => {
            if is_alone {
                warn_of_unheard(loaded, &settings, &handed.entrances);
            }
            handed.entrances
        }
    };
    let memory = Memory::open(options, config, handed.memory, &watcher)?;
    let boxes = black_boxes(workers, &watcher)?;
    let running = Server::start_on(entrances, boxes, settings, memory.cache)?;
    let written = (!options.no_black_box).then(|| running.boxes().clone());
    let pulse = super::pulse::begin(written, watcher.clone());
    pulse.map_err(Refusal::failed)?;
    // A supervisor that is told twice ends this process itself. Where both are told at once, this one has
    // heard of it twice.
    let is_supervised = handed.settings.is_some();
    let source = Source::new(loader, handed.settings);
    obey_signals(
        (signals, is_supervised),
        running.drainer(),
        watcher.clone(),
        move |drainer| {
            source.apply(drainer, &level);
        },
    );
    let ready = ready_sentence(&running, workers, options.memory);
    // A watcher that is gone will have this process end, or cannot.
    let _ = watcher.ready(&ready, &memory.receipt);
    announce(ready);
    running.join().map_err(Refusal::failed)?;
    tracing::info!("ended");
    Ok(())
}

/// Makes room for the connections among the open files. What was asked for and is impossible is
/// refused; the default gives way.
pub(super) fn raise_open_files(
    options: &ServeOptions,
    settings: &mut Settings,
) -> Result<(), Refusal> {
    let wanted = settings.connections_max;
    match server::raise_open_files(wanted, settings.workers) {
        Ok(()) => Ok(()),
        Err(error) if options.connections_max.is_some() || error.possible == 0 => {
            Err(Refusal::of_setting("connections-max", error))
        }
        Err(error) => {
            tracing::info!(
                connections_max = error.possible,
                files_max = error.files_max,
                "fewer connections than usual, since the limit of open files is low"
            );
            settings.connections_max = error.possible;
            Ok(())
        }
    }
}

/// Tells which of the addresses that were asked for are none of the sockets that were handed over: those count
/// alone.
fn warn_of_unheard(loaded: &Loaded<ServeOptions>, settings: &Settings, handed: &[Entrance]) {
    for (name, tongue, wanted) in [
        ("listen", Tongue::Larder, &settings.listen),
        ("memcached", Tongue::Memcached, &settings.memcached),
    ] {
        let mut set = loaded.settings.iter();
        let set = set.find(|one| one.setting.name == name && one.origin != Origin::Default);
        let Some(set) = set else { continue };
        let is_heard = |address: &Address| {
            let mut handed = handed.iter().filter(|one| one.tongue == tongue);
            handed.any(|one| one.socket.address() == address)
        };
        for address in wanted.iter().filter(|wanted| !is_heard(wanted)) {
            tracing::warn!(
                "{}: nobody listens on {address} for it: the sockets were handed over, as systemd does, and this is \
                 none of them",
                set.place()
            );
        }
    }
}

/// Makes the black boxes, and leaves them to be read by whoever watches.
fn black_boxes(workers: usize, watcher: &Watcher) -> Result<Boxes, Refusal> {
    let refused = |error| Refusal::Failed(format!("the black boxes cannot be made: {error}"));
    let boxes = Server::boxes(workers).map_err(refused)?;
    for (name, black_box) in boxes.named() {
        let kept = watcher.keep(&format!("{BLACK_BOX}{name}"), black_box.memory());
        kept.map_err(refused)?;
    }
    Ok(boxes)
}

/// SIGHUP has the settings read anew. The first of the others drains the server, the second ends the
/// process where it stands, unless a supervisor does that.
fn obey_signals(
    (mut signals, is_supervised): (Signals, bool),
    drainer: Drainer,
    watcher: Watcher,
    reload: impl Fn(&Drainer) + Send + 'static,
) {
    let wait = move || {
        let mut draining = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload(&drainer);
                continue;
            }
            if draining && is_supervised {
                continue;
            }
            if draining {
                std::process::exit(ENDED_BY_SIGNAL + signal);
            }
            draining = true;
            tracing::info!(signal, "draining; another signal ends the process at once");
            let drain_timeout = drainer.drain_timeout();
            drainer.drain();
            // It learns of the end in any case.
            let _ = watcher.stopping(drain_timeout);
        }
    };
    if let Err(error) = std::thread::Builder::new()
        .name("larder-signals".to_owned())
        .spawn(wait)
    {
        tracing::error!(%error, "signals will end the process without a drain");
    }
}

/// That the server is ready, and where.
fn ready_sentence(running: &Running, workers: usize, memory_bytes: u64) -> String {
    let list = |addresses: &[Address]| {
        let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
        texts.join(", ")
    };
    let memcached = match running.memcached_addresses() {
        [] => String::new(),
        addresses => format!(", memcached on {}", list(addresses)),
    };
    format!(
        "larder {} ready on {}{memcached} ({workers} {}, {})",
        env!("CARGO_PKG_VERSION"),
        list(running.addresses()),
        if workers == 1 { "worker" } else { "workers" },
        units::size_text(memory_bytes),
    )
}

/// Says it in one line on standard output. Where nobody reads that, it may take for ever, and nobody waits for it.
fn announce(ready: String) {
    let say = move || {
        let mut stdout = io::stdout();
        // Whoever closed standard output does not wait for the line.
        let _ = writeln!(stdout, "{ready}").and_then(|()| stdout.flush());
    };
    let speaker = std::thread::Builder::new().name("larder-ready".to_owned());
    if let Err(error) = speaker.spawn(say) {
        tracing::error!(%error, "that the server is ready is not said on standard output");
    }
}
