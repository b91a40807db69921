//! What is wanted of a run's cells after an attempt was judged: the words between whoever judges and whoever places. May
//! not: judge or place.

use crate::{CellNumber, HostName};

/// What is wanted after an attempt was judged. A cell that is not settled has an attempt under way or in `again`, or waits
/// for those of another cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Next {
    /// Whether the attempt's cell has its verdict now.
    pub settled: bool,
    /// Other cells that have their verdict now: they waited for what this one says.
    pub settles: Vec<CellNumber>,
    /// Whether any of these counts as failed (for fail-fast).
    pub failed: bool,
    /// Further attempts, of this cell or of others (its baseline). A cell that was settled is open again.
    pub again: Vec<Again>,
    /// How many reruns all cells of the run may still take together; none: no limit, or no news of it.
    pub reruns_left: Option<u64>,
}

/// Further attempts of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// Which cell.
    pub cell: CellNumber,
    /// How many more it should get, those under way or waiting included: saying it twice adds nothing.
    pub attempts: u32,
    /// How many of them are beyond what the matrix asks for.
    pub reruns: u32,
    /// Hosts that are to be avoided where another one can run it, and so are, less urgently, their racks and their models
    /// of processors.
    pub avoid: Vec<HostName>,
}
