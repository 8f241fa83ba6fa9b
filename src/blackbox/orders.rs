//! What others than its thread write in a box: what the thread is to do, and what it was given.

use super::content::BlackBox;
use super::layout::{AVOID_AT, DRILL_AT, GIVEN_AT};

impl BlackBox {
    /// Has new connections go to others, or not any more.
    pub fn set_avoided(&self, is_avoided: bool) {
        self.set_figure(AVOID_AT, is_avoided.into());
    }

    /// Whether new connections are to go to others.
    pub fn is_avoided(&self) -> bool {
        self.figure(AVOID_AT) != 0
    }

    /// Asks for a drill, by its number; 0 is none.
    pub fn order_drill(&self, number: u64) {
        self.set_figure(DRILL_AT, number);
    }

    /// The drill that was asked for.
    pub fn ordered_drill(&self) -> Option<u64> {
        Some(self.figure(DRILL_AT)).filter(|number| *number != 0)
    }

    /// Says how many connections the thread was given, taken over or not. Only the thread that gives
    /// them calls this.
    pub(crate) fn set_given(&self, connections: u64) {
        self.set_figure(GIVEN_AT, connections);
    }
}
