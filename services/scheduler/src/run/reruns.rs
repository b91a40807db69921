//! How many reruns of a run may be under way, where all of them together have a limit. May not: know what an attempt tells.

use std::collections::BTreeSet;

use regatta_model::{CellNumber, Ordinal};

/// Of the reruns that are left, one in so many is under way at once, and [`TOGETHER_LEAST`] at least: as those cells go first
/// that were run again already, one after the other comes to an answer. Were all that are left begun at once, many cells would
/// get a few each, and none an answer.
const TOGETHER: u64 = 8;

/// See [`TOGETHER`].
const TOGETHER_LEAST: u64 = 2;

/// The reruns of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reruns {
    /// How many may still end; none: no limit.
    left: Option<u64>,
    /// Those that hosts hold; none are kept where there is no limit.
    held: BTreeSet<(CellNumber, Ordinal)>,
}

impl Reruns {
    pub(crate) const fn new(left: Option<u64>) -> Self {
        Self {
            left,
            held: BTreeSet::new(),
        }
    }

    /// Takes in how many are left now, where that is told.
    pub(crate) fn set_left(&mut self, left: Option<u64>) {
        if self.left.is_some() && left.is_some() {
            self.left = left;
        }
    }

    /// How many are left, where no further one may begin now.
    pub(crate) fn closed(&self) -> Option<u64> {
        let left = self.left?;
        let together = (left / TOGETHER).max(TOGETHER_LEAST).min(left);
        let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        (held >= together).then_some(left)
    }

    pub(crate) fn began(&mut self, cell: CellNumber, ordinal: Ordinal) {
        if self.left.is_some() {
            self.held.insert((cell, ordinal));
        }
    }

    pub(crate) fn ended(&mut self, cell: CellNumber, ordinal: Ordinal) {
        self.held.remove(&(cell, ordinal));
    }
}
