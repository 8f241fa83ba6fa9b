//! The pulse that systemd's watchdog listens for: it stops where a worker does not come forward.
//!
//! Larder's own supervisor looks into the black boxes itself. systemd restarts what has not said for
//! `WatchdogSec` that it is alive; and what says so here is that each worker sleeps, or has done
//! something since it was last looked at. Without black boxes nobody can tell, and the pulse goes on for as
//! long as this process lives: or a server that is well would be killed.

use std::time::Duration;

use crate::blackbox::{Boxes, Phase};
use crate::supervisor::Watcher;

/// What is seen of a worker: its turns, and since when it does what it does.
type Seen = Option<(u64, u64)>;

/// Begins, if whoever watches listens. `None`: the workers write nothing down.
pub(super) fn begin(boxes: Option<Boxes>, watcher: Watcher) -> std::io::Result<()> {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return Ok(());
    };
    std::thread::Builder::new()
        .name("larder-pulse".to_owned())
        .spawn(move || beat(boxes.as_ref(), &watcher, patience / 3))?;
    Ok(())
}

/// Beats until nobody listens any more.
fn beat(boxes: Option<&Boxes>, watcher: &Watcher, every: Duration) {
    let mut seen: Vec<Seen> = vec![None; boxes.map_or(0, |boxes| boxes.workers.len())];
    loop {
        let is_alive = boxes.is_none_or(|boxes| come_forward(boxes, &mut seen));
        if is_alive && watcher.alive().is_err() {
            return;
        }
        std::thread::sleep(every);
    }
}

/// Whether all workers sleep, or have done something since they were last looked at.
fn come_forward(boxes: &Boxes, seen: &mut [Seen]) -> bool {
    let mut all = true;
    for (worker, seen) in boxes.workers.iter().zip(seen) {
        let now = worker.snapshot();
        let is_idle = matches!(now.phase, Some(Phase::Sleeping | Phase::Ended));
        let state = Some((now.turns, now.since_ns));
        all &= is_idle || *seen != state;
        *seen = state;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox::Pen;
    use crate::server::Server;
    use crate::sync::Arc;

    #[test]
    fn it_stops_where_a_worker_stays_where_it_is() {
        let boxes = Server::boxes(2).unwrap();
        let mut pens = boxes.workers.iter().map(|one| Pen::new(Arc::clone(one)));
        let (mut one, mut other) = (pens.next().unwrap(), pens.next().unwrap());
        let mut seen = vec![None; 2];
        one.tick(1);
        one.enter(Phase::Sleeping);
        other.enter(Phase::Executing);
        assert!(come_forward(&boxes, &mut seen), "seen for the first time");
        assert!(!come_forward(&boxes, &mut seen), "still at the same");
        other.count_turn();
        assert!(come_forward(&boxes, &mut seen));
        other.tick(2);
        other.enter(Phase::Sleeping);
        assert!(come_forward(&boxes, &mut seen));
        assert!(come_forward(&boxes, &mut seen), "sleep needs no excuse");
    }
}
