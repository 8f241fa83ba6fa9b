//! A server that was found, and how it can be watched.

use super::connection::{Connection, Lost};
use super::generator::runtime;
use super::keys::Keyspace;
use super::owner;
use super::process::Watch;
use super::server::{Process, Server};
use super::start::{Patience, Started};
use super::target::{Place, Target};
use crate::cli::ending::Failure;
use crate::sync::Arc;

/// A server that was found, and how it can be watched.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) target: Target,
    pub(super) place: Place,
    /// Where the server's CPU and memory can be read, or why they cannot.
    pub(super) watch: Result<Watch, String>,
    /// The server's process, where it ends with the load.
    _started: Option<Started>,
}

impl Site {
    /// Finds the server, or starts it, and asks it who it is.
    pub(super) fn find(server: &Server, keyspace: &Arc<Keyspace>) -> Result<Self, Failure> {
        let target = &server.target;
        let mut started = match &server.process {
            Process::Started(command) => Some(Started::new(command)?),
            Process::Found | Process::Numbered(_) => None,
        };
        let named = match &server.process {
            Process::Numbered(pid) => {
                let watch = Watch::of(*pid);
                Some(watch.map_err(|why| Failure::usage(format!("--pid {pid}: {why}")))?)
            }
            Process::Started(_) | Process::Found => None,
        };
        let patience = Patience::begin();
        let (place, figures) = loop {
            match (ask(target, keyspace), &mut started) {
                (Ok(found), None) => break found,
                (Ok(found), Some(started)) => {
                    started.still_runs()?;
                    break found;
                }
                (Err(Lost::Io(error)), Some(started)) => {
                    started.not_yet(&patience, &error.to_string())?;
                }
                (Err(lost), _) => return Err(cannot_connect(target, &lost)),
            }
        };
        let watch = match (named, &started) {
            (Some(watch), _) => Ok(watch),
            (None, Some(started)) => Watch::of(started.pid()),
            _ if Watch::is_told(&figures) => Watch::find(place.is_local(), &figures),
            _ => owner::of(&place).and_then(Watch::of),
        };
        Ok(Self {
            target: target.clone(),
            place,
            watch,
            _started: started,
        })
    }
}

/// Connects and reads what the server says about itself.
fn ask(target: &Target, keyspace: &Arc<Keyspace>) -> Result<(Place, Vec<(String, String)>), Lost> {
    runtime()?.block_on(async {
        let place = target.resolve().await?;
        let mut connection = Connection::open(&place, target.protocol, keyspace).await?;
        let figures = connection.stats().await?;
        Ok((place, figures))
    })
}

/// A server that cannot be reached, or not with such a load.
pub(super) fn cannot_connect(target: &Target, lost: &Lost) -> Failure {
    match lost {
        Lost::Unfit(why) => Failure::usage(why),
        lost => Failure::unreachable(format!("cannot connect to {target}: {lost}")),
    }
}
