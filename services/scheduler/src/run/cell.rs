//! What is known of a cell that has no verdict, and what is wanted of it. May not: place it.

use std::cmp::Reverse;

use regatta_model::{CellNumber, Ordinal};

use crate::event::Moment;
use crate::host::HostIndex;

/// A cell that is begun or wanted, and has no verdict.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// The highest ordinal that was given out.
    pub(super) last: Ordinal,
    /// Ordinals up to this one were recorded in earlier lives of the server.
    pub(super) floor: Ordinal,
    /// Ordinals given out or taken up since.
    pub(super) given: Vec<Ordinal>,
    /// Those that hosts were told to give up when it had its verdict: they may go without a word, and count for nothing.
    pub(super) leaving: Vec<Ordinal>,
    /// Its entries in the run's wants.
    pub(super) wants: Vec<WantKey>,
}

/// A further attempt's place in the order of its run: cells that had most attempts go first, so that what was begun comes to
/// its end before the reruns of others begin; among equals, what was asked for first.
pub(crate) type WantKey = (Reverse<Ordinal>, u64);

/// One more attempt of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) cell: CellNumber,
    pub(crate) avoid: Vec<HostIndex>,
    /// Whether it is beyond what the matrix asks for.
    pub(crate) rerun: bool,
    pub(crate) since: Moment,
}

/// What a run would place next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// This further attempt.
    Want(WantKey),
    /// This cell's first attempt.
    Fresh(CellNumber),
}
