//! The numbers that stand for closed sets of names in the database. They are a promise: a number is never given
//! another meaning. May not: know a table.

use regatta_model::run::RunState;
use regatta_model::{Blame, Outcome};

use crate::{Error, Policy};

/// Blames a host (2) for its attempts of a run (1) that are blamed on nobody or on the test, unless they were cancelled or
/// lost.
pub(crate) const DISTRUST: &str = "UPDATE attempts SET blame = 1 WHERE run = $1 AND host = $2 \
     AND (blame IS NULL OR blame = 0) AND outcome NOT IN (4, 7)";

/// Hides a run that is over (state 2 or 3); its client's key can be used again.
pub(crate) const PRUNE: &str =
    "UPDATE runs SET pruned = 1, idempotency_key = NULL WHERE id = $1 AND state >= 2";

/// What a search came to (1) and whether it goes on (2), for a run (3).
pub(crate) const BISECTION: &str =
    "UPDATE runs SET bisection = $1, bisecting = $2 WHERE id = $3 AND pruned = 0";

/// What earlier runs say of a cell (2) of a run (1), once.
pub(crate) const EARLIER: &str =
    "INSERT INTO earlier (run, cell, said) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

/// The same of all cells of a run.
pub(crate) const FORGET_EARLIER: &str = "DELETE FROM earlier WHERE run = $1";

/// How long the cases of a set (5) took in a shard (4) of cells (2) of a matrix (1) in a run (3), once.
pub(crate) const DURATIONS: &str = "INSERT INTO durations (matrix, cells, run, shard, case_set, said) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

/// Leaves what the newest runs (3: how many but one) said of these cells (2) of a matrix (1).
pub(crate) const KEEP_DURATIONS: &str = "DELETE FROM durations WHERE matrix = $1 AND cells = $2 AND run < \
     (SELECT DISTINCT run FROM durations WHERE matrix = $1 AND cells = $2 ORDER BY run DESC LIMIT 1 OFFSET $3)";

/// What a run said of durations.
pub(crate) const FORGET_DURATIONS: &str = "DELETE FROM durations WHERE run = $1";

pub(crate) fn of_outcome(outcome: Outcome) -> (i64, Option<i64>) {
    match outcome {
        // Of most attempts: a number that takes no room.
        Outcome::Exited { exit_code: 0 } => (0, None),
        Outcome::Exited { exit_code } => (0, Some(exit_code.into())),
        Outcome::Signaled { signal } => (1, Some(signal.into())),
        Outcome::TimedOut => (2, None),
        Outcome::OutOfMemory => (3, None),
        Outcome::Cancelled => (4, None),
        Outcome::ImageFailed => (5, None),
        Outcome::SetupFailed => (6, None),
        Outcome::HostLost => (7, None),
    }
}

pub(crate) fn outcome(code: i64, detail: Option<i64>) -> Result<Outcome, Error> {
    let detail = i32::try_from(detail.unwrap_or_default()).unwrap_or(i32::MAX);
    Ok(match code {
        0 => Outcome::Exited { exit_code: detail },
        1 => Outcome::Signaled { signal: detail },
        2 => Outcome::TimedOut,
        3 => Outcome::OutOfMemory,
        4 => Outcome::Cancelled,
        5 => Outcome::ImageFailed,
        6 => Outcome::SetupFailed,
        7 => Outcome::HostLost,
        other => {
            return Err(Error::Corrupt(format!(
                "an outcome with the number {other}"
            )));
        }
    })
}

pub(crate) fn of_blame(blame: Option<Blame>) -> Option<i64> {
    blame.map(|blame| match blame {
        Blame::Test => 0,
        Blame::Host => 1,
        Blame::Platform => 2,
    })
}

pub(crate) fn blame(code: Option<i64>) -> Result<Option<Blame>, Error> {
    Ok(match code {
        None => None,
        Some(0) => Some(Blame::Test),
        Some(1) => Some(Blame::Host),
        Some(2) => Some(Blame::Platform),
        Some(other) => return Err(Error::Corrupt(format!("a blame with the number {other}"))),
    })
}

pub(crate) fn of_state(state: RunState) -> i64 {
    match state {
        RunState::Queued => 0,
        RunState::Running => 1,
        RunState::Finished => 2,
        RunState::Cancelled => 3,
    }
}

pub(crate) fn state(code: i64) -> Result<RunState, Error> {
    Ok(match code {
        0 => RunState::Queued,
        1 => RunState::Running,
        2 => RunState::Finished,
        3 => RunState::Cancelled,
        other => {
            return Err(Error::Corrupt(format!(
                "a run's state with the number {other}"
            )));
        }
    })
}

pub(crate) fn of_policy(policy: Policy) -> i64 {
    match policy {
        Policy::Active => 0,
        Policy::Cordoned => 1,
        Policy::Draining => 2,
        Policy::Quarantined => 3,
    }
}

pub(crate) fn policy(code: i64) -> Result<Policy, Error> {
    Ok(match code {
        0 => Policy::Active,
        1 => Policy::Cordoned,
        2 => Policy::Draining,
        3 => Policy::Quarantined,
        other => {
            return Err(Error::Corrupt(format!(
                "a host's policy with the number {other}"
            )));
        }
    })
}

/// A number as the database keeps it; what is too large (nothing of ours is) is cut.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it was before [`to_sql`].
pub(crate) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
