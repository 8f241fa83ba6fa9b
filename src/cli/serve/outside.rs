//! The process outside: binds the sockets and supervises.

use std::process::ExitCode;

use super::{GAVE_UP, Refusal, ServeOptions, check};
use crate::cli::admin::{AdminAddress, usual_address};
use crate::server::{Address, Entrance, Listening, StartError};
use crate::supervisor::{Plan, SuperviseError, run};

/// Serves through worker processes, until one ends as it was told to.
pub(super) fn supervise(options: &ServeOptions) -> Result<ExitCode, Refusal> {
    let (settings, cache) = check(options)?;
    let entrances = settings.bind().map_err(StartError::from)?;
    let plan = Plan {
        arguments: std::env::args_os().collect(),
        admin: admin_socket(options, &entrances)?,
        entrances,
        cache,
        allow_drills: options.allow_drills,
        start_timeout: options.start_timeout,
        drain_timeout: options.drain_timeout,
        upgrade_timeout: options.upgrade_timeout,
    };
    match run(plan) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error @ SuperviseError::GaveUp { .. }) => {
            eprintln!("larder serve: {error}");
            Ok(ExitCode::from(GAVE_UP))
        }
        Err(error) => Err(Refusal::failed(error)),
    }
}

/// The socket of the admin endpoint. One that was asked for is insisted on; the usual one is done
/// without where it cannot be had.
fn admin_socket(
    options: &ServeOptions,
    entrances: &[Entrance],
) -> Result<Option<Listening>, Refusal> {
    let bind = |address: &Address| Listening::bind(address);
    match &options.admin {
        Some(AdminAddress::Nowhere) => Ok(None),
        Some(AdminAddress::At(address)) => {
            let socket = bind(address).map_err(StartError::from)?;
            Ok(Some(socket))
        }
        None => {
            let first = entrances.first();
            let usual = first.map(|first| usual_address(first.socket.address()));
            Ok(usual.and_then(|usual| {
                bind(&usual)
                    .inspect_err(|error| tracing::warn!("no admin endpoint: {error}"))
                    .ok()
            }))
        }
    }
}
