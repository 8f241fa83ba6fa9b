//! Servers side by side: the same load on each of them in turn, round after round, so that whatever
//! else the machine does in the meantime favours none.
//!
//! Every round gives each server one turn, and another server the first. A figure of a server is the
//! median over its rounds. Where more rounds are allowed than asked for, they go on until no median
//! that decides moves any more.

mod figure;
mod report;
mod standing;
mod statistics;

use self::report::Comparison;
use self::standing::Standing;
use super::generator::{self, Work};
use super::plan::{Contest, Form, Plan};
use super::plot::{self, Curve};
use super::progress::Progress;
use super::site::Site;
use super::stop::Stop;
use super::{load, prepare};
use crate::cli::ending::{Ending, Failure, print, say};

/// Compares the servers and reports.
pub(super) fn run(
    plan: &Plan,
    contest: Contest,
    work: Work,
    stop: &Stop,
    progress: Progress,
) -> Result<Ending, Failure> {
    let sites = plan
        .servers
        .iter()
        .map(|server| Site::find(server, plan, stop))
        .collect::<Result<Vec<_>, _>>()?;
    let mut standings: Vec<Standing> = plan
        .servers
        .iter()
        .map(|server| Standing::new(&server.name, &server.target))
        .collect();
    for (site, standing) in sites.iter().zip(&mut standings) {
        if let Some(prepared) = prepare(site, plan, stop, progress)? {
            standing.prepared(&prepared);
        }
    }
    let load = load(plan, work);
    let (mut is_stable, mut failure) = (false, None);
    'rounds: for round in 0..contest.rounds_max {
        if stop.is_asked() || is_stable {
            break;
        }
        for at in turns(round, sites.len()) {
            match generator::run(&sites[at], &load, stop, progress) {
                // A turn that was cut short says nothing about its server.
                Ok(_) if stop.is_asked() => {}
                Ok(outcome) => standings[at].add(&outcome),
                Err(why) => {
                    failure = Some(why);
                    break 'rounds;
                }
            }
        }
        let rounds = round + 1;
        is_stable =
            rounds >= contest.rounds && standings.iter().all(|server| server.is_stable(&load));
    }
    let failure = failure.filter(|_| !stop.is_asked());
    if standings.iter().any(Standing::is_empty) {
        return Err(failure.unwrap_or_else(|| Failure {
            ending: Ending::Done,
            sentence: "ended before every server had its turn".to_owned(),
            no_connection: false,
        }));
    }
    let complaints = standings.iter().flat_map(Standing::complaints);
    complaints.for_each(|complaint| say(&format!("larder bench: {complaint}")));
    let comparison = Comparison::new(plan, contest, &load, &standings);
    print(
        match plan.form {
            Form::Text => comparison.to_string(),
            Form::Json => comparison.to_json(),
        }
        .as_bytes(),
    )?;
    if let Some(path) = &plan.plot {
        let curves: Vec<Curve> = standings.iter().map(Standing::curve).collect();
        plot::draw(path, &curves)?;
    }
    // The rounds that were finished are told, and so is why there are no more.
    match failure {
        Some(why) => {
            say(&format!("larder bench: {why}"));
            Ok(why.ending)
        }
        None => Ok(ending(&standings, work)),
    }
}

/// The servers in the order of their turns in a round.
fn turns(round: usize, servers: usize) -> impl Iterator<Item = usize> {
    (0..servers).map(move |turn| (round + turn) % servers)
}

fn ending(standings: &[Standing], work: Work) -> Ending {
    let endings = standings.iter().map(|standing| standing.ending(work));
    endings
        .max_by_key(|ending| match ending {
            Ending::Done => 0,
            Ending::Unreachable => 2,
            _ => 1,
        })
        .unwrap_or(Ending::Done)
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn every_round_lets_another_server_begin() {
        let order = |round| turns(round, 3).collect::<Vec<_>>();
        assert_eq!(order(0), [0, 1, 2]);
        assert_eq!(order(1), [1, 2, 0]);
        assert_eq!(order(5), [2, 0, 1]);
    }
}
