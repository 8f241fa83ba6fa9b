//! The black boxes of a worker process, as the supervisor has attached to them: they can be read while
//! their threads run, hang, or are dead.

use rustix::process::Pid;

use crate::blackbox::{BlackBox, Kind};
use crate::supervisor::kept::Kept;

/// A thread's box.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) kind: Kind,
    pub(super) black_box: BlackBox,
}

/// The boxes of one worker process, workers first and in their order.
#[derive(Debug, Default)]
pub(super) struct Boxes(Vec<Attached>);

impl Boxes {
    /// Attaches to those boxes among what is kept that threads of this process write to, or will. A box that
    /// cannot be read is left out: what it would tell is not known, whatever is done.
    pub(super) fn of_process(pid: Pid, kept: &Kept) -> Self {
        let attached = kept.black_boxes().filter_map(|(_, memory)| {
            let memory = memory.try_clone_to_owned().ok()?;
            Attached::to(BlackBox::attach(memory).ok()?)
        });
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        // A thread that has not begun yet has not said whose it is.
        let is_of_process =
            |one: &Attached| [0, number].contains(&one.black_box.snapshot().process);
        Self::of(attached.filter(is_of_process).collect())
    }

    /// Puts boxes in their order.
    pub(super) fn of(mut boxes: Vec<Attached>) -> Self {
        boxes.sort_by_key(|one| (one.kind as u8, one.black_box.number()));
        Self(boxes)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Attached> {
        self.0.iter()
    }

    /// Those of workers alone.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Attached> {
        self.iter().filter(|one| one.kind == Kind::Worker)
    }
}

impl Attached {
    /// `None`, if it does not say whose it is.
    pub(super) fn to(black_box: BlackBox) -> Option<Self> {
        let kind = black_box.kind()?;
        Some(Self { kind, black_box })
    }
}
