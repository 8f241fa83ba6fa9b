//! What can be seen of a drill from outside: when it was noticed, as what, and when it was over.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::probe::Probe;
use super::{Begun, DrillOptions, LOOK_TIMEOUT, look};
use crate::cli::admin::ask::ask_beside;
use crate::cli::admin::seen::Seen;
use crate::cli::ending::Failure;
use crate::server::{Address, Drill};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// LIMIT: how much longer than its drill a worker may take before nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// The verdict on a thread that goes on, or has nothing to do.
const HEALTHY: &str = "healthy";

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// When it was noticed, after it had begun.
    pub(super) noticed_after: Option<Duration>,
    /// As what, in the words of who noticed it.
    pub(super) named: Option<String>,
    /// Whether that is what it was.
    pub(super) is_named_correctly: bool,
    /// Worker processes that died meanwhile.
    pub(super) deaths: u64,
    /// From its beginning until each connection of the probe was served again.
    pub(super) recovered_after: Option<Duration>,
    /// The same from its end on.
    pub(super) recovered_after_end: Option<Duration>,
}

/// Watches until all is as before, or does not become so.
pub(super) async fn until_over(
    options: &DrillOptions,
    admin: &Address,
    before: &Seen,
    begun: &Begun,
    probe: &Probe,
) -> Result<Watched, Failure> {
    let start = Instant::now();
    let mut watched = Watched::default();
    let mut over_at = None;
    loop {
        let now = look(admin).await?;
        watched.deaths = now.deaths - before.deaths.min(now.deaths);
        if !watched.is_named_correctly
            && let Some(notice) = notice(options, admin, before, &now).await
        {
            watched
                .noticed_after
                .get_or_insert_with(|| match notice.at_ms {
                    Some(at_ms) => Duration::from_millis(at_ms.saturating_sub(begun.at_ms)),
                    None => start.elapsed(),
                });
            watched.is_named_correctly = notice.is_right;
            watched.named = Some(notice.sentence);
        }
        let is_noticed = watched.noticed_after.is_some();
        if over_at.is_none() && is_over(options, &watched, &now, start.elapsed(), is_noticed) {
            over_at = Some(Instant::now());
            probe.ask_for_answers();
        }
        if let Some(over_at) = over_at {
            if probe.all_are_answered() {
                watched.recovered_after = Some(start.elapsed());
                watched.recovered_after_end = Some(over_at.elapsed());
                return Ok(watched);
            }
            if over_at.elapsed() >= PATIENCE {
                return Ok(watched);
            }
        }
        if over_at.is_none() && start.elapsed() >= options.lasts + PATIENCE {
            return Ok(watched);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the drill itself is over.
fn is_over(
    options: &DrillOptions,
    watched: &Watched,
    now: &Seen,
    since: Duration,
    is_noticed: bool,
) -> bool {
    match options.drill.lasts() {
        // A watchdog may have ended it before.
        true => since >= options.lasts || watched.deaths > 0 && now.is_serving(),
        false => is_noticed && now.is_serving(),
    }
}

/// That something was noticed.
struct Notice {
    sentence: String,
    is_right: bool,
    /// When, in milliseconds since the Unix epoch, where that is told.
    at_ms: Option<u64>,
}

async fn notice(
    options: &DrillOptions,
    admin: &Address,
    before: &Seen,
    now: &Seen,
) -> Option<Notice> {
    match options.drill {
        Drill::Hang | Drill::Spin | Drill::SlowIo => {
            // A watchdog that kills may have come to it just before, and has kept it.
            let has_died = now.deaths > before.deaths;
            verdict(options, admin, has_died).await
        }
        Drill::Panic => counted(before, now, "panics", "ended by a panic"),
        Drill::DenyMemory => counted(
            before,
            now,
            "refused_overloaded",
            "refused, as there was no memory to hold them",
        ),
        Drill::Abort => death(before, now, &["SIGABRT"]),
        Drill::Segfault => death(before, now, &["SIGSEGV", "SIGBUS"]),
        // As the program ends itself, or as the system ends it.
        Drill::Oom => death(before, now, &["SIGABRT", "SIGKILL"]),
    }
}

/// A count that has grown.
fn counted(before: &Seen, now: &Seen, name: &str, what: &str) -> Option<Notice> {
    let more = now.count(name).saturating_sub(before.count(name));
    (more > 0).then(|| Notice {
        sentence: format!("{more} {what}"),
        is_right: now.deaths == before.deaths,
        at_ms: None,
    })
}

/// A death in the journal.
fn death(before: &Seen, now: &Seen, signals: &[&str]) -> Option<Notice> {
    let last = now
        .last_deaths
        .last()
        .filter(|_| now.deaths > before.deaths)?;
    Some(Notice {
        sentence: format!("the worker process {}", last.how),
        is_right: signals.iter().any(|signal| last.how.contains(signal)),
        at_ms: Some(last.at_ms),
    })
}

/// What the watchdog says of the worker, or said of it when its process was ended.
async fn verdict(options: &DrillOptions, admin: &Address, has_died: bool) -> Option<Notice> {
    let path = match has_died {
        true => "/postmortem.json",
        false => "/why.json",
    };
    let told = ask_beside(admin, "GET", path, LOOK_TIMEOUT).await;
    let told = told.ok().filter(|told| told.is_done)?;
    let findings = match has_died {
        true => {
            serde_json::from_str::<Postmortem>(&told.text)
                .ok()?
                .findings
        }
        false => serde_json::from_str::<Why>(&told.text).ok()?.threads,
    };
    let thread = format!("worker-{}", options.worker);
    let finding = findings.into_iter().find(|one| one.thread == thread)?;
    finding.into_notice(options.drill)
}

/// `/why.json`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Why {
    threads: Vec<Finding>,
}

/// `/postmortem.json`, likewise.
#[derive(Debug, Deserialize)]
struct Postmortem {
    findings: Vec<Finding>,
}

/// What is found of one thread.
#[derive(Debug, Deserialize)]
struct Finding {
    thread: String,
    verdict: String,
    /// The system call that it waits in.
    #[serde(default)]
    call: String,
    sentence: String,
}

impl Finding {
    /// Whether something is wrong with the thread, and whether that is what the drill does.
    fn into_notice(self, drill: Drill) -> Option<Notice> {
        if self.verdict == HEALTHY {
            return None;
        }
        let is_right = match drill {
            Drill::Spin => self.verdict == "spinning",
            Drill::Hang => self.verdict == "blocked" && self.call.ends_with("nanosleep"),
            Drill::SlowIo => self.verdict == "blocked" && self.call == "write",
            _ => false,
        };
        Some(Notice {
            sentence: self.sentence,
            is_right,
            at_ms: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: &str, call: &str) -> Finding {
        Finding {
            thread: "worker-0".to_owned(),
            verdict: verdict.to_owned(),
            call: call.to_owned(),
            sentence: "a sentence".to_owned(),
        }
    }

    #[test]
    fn a_verdict_is_right_only_for_what_the_drill_does() {
        for (drill, verdict, call, expected) in [
            (Drill::Hang, "healthy", "", None),
            (Drill::Hang, "blocked", "clock_nanosleep", Some(true)),
            (Drill::Hang, "blocked", "write", Some(false)),
            (Drill::Hang, "spinning", "", Some(false)),
            (Drill::Spin, "spinning", "", Some(true)),
            (Drill::Spin, "starved", "", Some(false)),
            (Drill::SlowIo, "blocked", "write", Some(true)),
            (Drill::SlowIo, "blocked", "clock_nanosleep", Some(false)),
        ] {
            let notice = finding(verdict, call).into_notice(drill);
            let is_right = notice.map(|notice| notice.is_right);
            assert_eq!(is_right, expected, "{drill:?} {verdict} {call}");
        }
    }
}
