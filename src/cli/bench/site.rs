//! A server that was found, and how it can be watched.

use std::io;

use super::connection::{Connection, Lost};
use super::generator::runtime;
use super::owner;
use super::plan::Plan;
use super::process::Watch;
use super::server::{Process, Server};
use super::start::{Patience, Started};
use super::stop::Stop;
use super::target::{Place, Protocol, Target};
use crate::cli::commands::is_it_running;
use crate::cli::ending::Failure;

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
    pub(super) fn find(server: &Server, plan: &Plan, stop: &Stop) -> Result<Self, Failure> {
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
            let Some(asked) = ask(target, plan, stop)? else {
                return Err(Stop::early());
            };
            match (asked, &mut started) {
                (Ok(found), None) => break found,
                (Ok(found), Some(started)) => {
                    started.still_runs()?;
                    break found;
                }
                (Err(lost @ (Lost::Io(_) | Lost::TooLong(_) | Lost::Silent(_))), Some(started)) => {
                    started.not_yet(&patience, &lost.to_string())?;
                }
                (Err(lost), _) => {
                    let mut failure = cannot_connect(target, &lost);
                    failure.sentence += &hint(target, plan, &lost);
                    return Err(failure);
                }
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

/// Where a server is, and what it says about itself.
type Found = (Place, Vec<(String, String)>);

/// Connects and reads what the server says about itself; nothing where an early end was asked for.
fn ask(target: &Target, plan: &Plan, stop: &Stop) -> io::Result<Option<Result<Found, Lost>>> {
    let Plan {
        keyspace, timeout, ..
    } = plan;
    let asked = async {
        let places = tokio::time::timeout(*timeout, target.resolve()).await;
        let places = places.map_err(|_| Lost::TooLong(*timeout))??;
        let open = async |place: &Place| {
            Connection::open(place, target.protocol, keyspace, *timeout).await
        };
        let (place, mut connection) = first_of(places, open).await?;
        let figures = connection.stats(*timeout).await?;
        Ok((place, figures))
    };
    let runtime = runtime()?;
    let asked = runtime.block_on(async {
        tokio::select! {
            asked = asked => Some(asked),
            () = stop.wait() => None,
        }
    });
    // The system may still look for the name, and cannot be told to leave it.
    runtime.shutdown_background();
    Ok(asked)
}

/// The first of the places of a server where somebody takes a connection, or what was said at the last: a name
/// often leads to more addresses than the server listens at.
async fn first_of(
    places: Vec<Place>,
    open: impl AsyncFn(&Place) -> Result<Connection, Lost>,
) -> Result<(Place, Connection), Lost> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address").into();
    for place in places {
        match open(&place).await {
            Ok(connection) => return Ok((place, connection)),
            Err(lost @ (Lost::Io(_) | Lost::TooLong(_))) => last = lost,
            Err(lost) => return Err(lost),
        }
    }
    Err(last)
}

/// What is said besides where nobody listens.
fn hint(target: &Target, plan: &Plan, lost: &Lost) -> String {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let nobody_listens = matches!(
        lost, Lost::Io(error) if matches!(error.kind(), ConnectionRefused | NotFound)
    );
    match (nobody_listens, target.protocol, plan.contest) {
        (false, ..) => String::new(),
        (true, Protocol::Larder, None) => format!("; {}", is_it_running()),
        (true, ..) => "; is it running?".to_owned(),
    }
}

/// A server that cannot be reached, or not with such a load.
pub(super) fn cannot_connect(target: &Target, lost: &Lost) -> Failure {
    match lost {
        Lost::Unfit(why) => Failure::usage(why),
        lost => Failure::unreachable(format!("cannot connect to {target}: {lost}")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::keys::Keyspace;
    use crate::cli::bench::sizes::Sizes;
    use crate::sync::Arc;

    #[test]
    fn of_several_addresses_the_one_that_listens_is_taken() {
        let keyspace = Arc::new(Keyspace {
            keys: 1,
            key_bytes: 5,
            sizes: Sizes::fixed(1),
            expire_in: None,
            seed: 1,
        });
        let open = async |place: &Place| {
            let timeout = Duration::from_secs(10);
            Connection::open(place, Protocol::Memcached, &keyspace, timeout).await
        };
        let found = |places: &[&Place]| {
            let places = places.iter().map(|&place| place.clone()).collect();
            let found = runtime().unwrap().block_on(first_of(places, open));
            found
                .map(|(place, _)| place)
                .map_err(|lost| lost.to_string())
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listens = Place::Tcp(listener.local_addr().unwrap());
        let absent = Place::Unix("/nowhere/at-all".into());
        assert_eq!(found(&[&absent, &listens]), Ok(listens.clone()));
        assert_eq!(found(&[&listens, &absent]), Ok(listens));
        let nobody = found(&[&absent]).unwrap_err();
        assert!(nobody.starts_with("No such file"), "{nobody}");
        assert_eq!(found(&[]), Err("the host has no address".to_owned()));
    }
}
