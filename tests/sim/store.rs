//! The database, as far as a server can tell: what is committed lasts, a batch is whole or not there at all, and what a
//! deposed leader writes is refused. It can be away. May not: decide anything.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use regatta_model::matrix::Matrix;
use regatta_model::{
    AttemptId, Blame, CellNumber, HostName, Incarnation, Ordinal, Outcome, Owner, Resources, RunId,
};
use regatta_verdict::judge::{AttemptFacts, is_decisive};
use regatta_verdict::trust::Trust;

use crate::runs::Compared;

/// A run as it is recorded.
#[derive(Clone, Debug)]
pub struct RunRow {
    pub cells: u64,
    pub matrix: Arc<Matrix>,
    pub compared: Compared,
    /// Cells of each version.
    pub others: u64,
    pub repeat: u32,
    pub priority: i32,
    pub parallel: Option<u32>,
    pub owner: Option<Owner>,
    pub weight: u32,
    /// What a host must have free for each attempt.
    pub asked: Resources,
    pub cancelled: bool,
    pub over: bool,
}

impl RunRow {
    /// Whether its cells are compared.
    pub fn compares(&self) -> bool {
        self.compared != Compared::Not
    }
}

/// A recorded outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct EndRow {
    pub host: HostName,
    pub outcome: Outcome,
    pub blame: Option<Blame>,
    /// Names of the cases that failed.
    pub failing: Vec<String>,
}

impl EndRow {
    /// What verdicts are made from.
    pub fn facts(&self, ordinal: Ordinal) -> AttemptFacts {
        AttemptFacts {
            ordinal,
            host: self.host.clone(),
            outcome: self.outcome,
            blame: self.blame,
            passed: self.passed(),
            failing: self.failing.clone(),
            flaky: false,
        }
    }

    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Exited { exit_code: 0 }
    }

    /// Whether it may decide a verdict.
    pub fn is_decisive(&self) -> bool {
        is_decisive(self.outcome, self.blame)
    }

    /// Its host is to blame for it, though it ended by itself: it was taken back.
    pub fn is_taken_back(&self) -> bool {
        self.blame == Some(Blame::Host)
            && matches!(self.outcome, Outcome::Exited { .. } | Outcome::SetupFailed)
    }

    /// Its host is not trusted.
    pub fn distrust(&mut self) {
        if self.is_decisive() {
            self.blame = Some(Blame::Host);
        }
    }
}

/// A host as it is recorded.
#[derive(Clone, Copy, Debug)]
pub struct HostRow {
    /// The life that spoke last.
    pub incarnation: Incarnation,
    pub lost: bool,
    pub quarantined: bool,
    pub trust: Trust,
}

/// What one transaction writes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub runs: Vec<(RunId, RunRow)>,
    pub hosts: Vec<(HostName, HostRow)>,
    pub attempts: Vec<(AttemptId, EndRow)>,
    /// Hosts that decide nothing in these runs any more.
    pub distrusted: Vec<(RunId, HostName)>,
    pub cancelled: Vec<RunId>,
    pub over: Vec<RunId>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.hosts.is_empty()
            && self.attempts.is_empty()
            && self.distrusted.is_empty()
            && self.cancelled.is_empty()
            && self.over.is_empty()
    }
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Away,
    Deposed,
}

/// Attempts of one run that ended.
pub type Ends = BTreeMap<(CellNumber, Ordinal), EndRow>;

/// What lasts.
#[derive(Debug, Default)]
pub struct Db {
    pub away_until: u64,
    fenced: bool,
    epoch: u64,
    leader: Option<(usize, u64)>,
    lease_until: u64,
    pub runs: BTreeMap<RunId, RunRow>,
    pub ends: BTreeMap<RunId, Ends>,
    pub hosts: BTreeMap<HostName, HostRow>,
    /// Attempts that were recorded although they had been before.
    pub doubled: Vec<AttemptId>,
}

impl Db {
    /// An empty database; `fenced`: it refuses what a deposed leader writes.
    pub fn new(fenced: bool) -> Self {
        Self {
            fenced,
            ..Self::default()
        }
    }

    /// Takes or renews the lease for one life of a server; the epoch where it has the lease then.
    pub fn lead(
        &mut self,
        now: u64,
        candidate: (usize, u64),
        lease: u64,
    ) -> Result<Option<u64>, Refused> {
        if now < self.away_until {
            return Err(Refused::Away);
        }
        if self.leader != Some(candidate) {
            if now < self.lease_until {
                return Ok(None);
            }
            self.leader = Some(candidate);
            self.epoch += 1;
        }
        self.lease_until = now + lease;
        Ok(Some(self.epoch))
    }

    pub fn commit(&mut self, now: u64, epoch: u64, batch: &Batch) -> Result<(), Refused> {
        if now < self.away_until {
            return Err(Refused::Away);
        }
        if self.fenced && epoch != self.epoch {
            return Err(Refused::Deposed);
        }
        for (id, row) in &batch.runs {
            self.runs.entry(id.clone()).or_insert_with(|| row.clone());
        }
        for (host, row) in &batch.hosts {
            self.hosts.insert(host.clone(), *row);
        }
        for (attempt, row) in &batch.attempts {
            let ends = self.ends.entry(attempt.run.clone()).or_default();
            let key = (attempt.cell, attempt.ordinal);
            match ends.entry(key) {
                Entry::Occupied(_) => self.doubled.push(attempt.clone()),
                Entry::Vacant(free) => {
                    free.insert(row.clone());
                }
            }
        }
        for (id, host) in &batch.distrusted {
            let ends = self.ends.get_mut(id).into_iter().flatten();
            let theirs = ends.filter(|(_, row)| row.host == *host);
            theirs.for_each(|(_, row)| row.distrust());
        }
        for id in &batch.cancelled {
            if let Some(run) = self.runs.get_mut(id) {
                run.cancelled = true;
            }
        }
        for id in &batch.over {
            if let Some(run) = self.runs.get_mut(id) {
                run.over = true;
            }
        }
        Ok(())
    }

    /// All recorded attempts of these cells.
    pub fn attempts_of(&self, id: &RunId, cells: &[CellNumber]) -> Vec<(CellNumber, AttemptFacts)> {
        let of_cell = |cell: &CellNumber| {
            let cell = *cell;
            let rows = self.attempts(id, cell);
            rows.map(move |(ordinal, row)| (cell, row.facts(ordinal)))
        };
        cells.iter().flat_map(of_cell).collect()
    }

    /// What is recorded of a cell.
    pub fn attempts(
        &self,
        id: &RunId,
        cell: CellNumber,
    ) -> impl Iterator<Item = (Ordinal, &EndRow)> {
        let ends = self.ends.get(id).into_iter();
        let rows = ends.flat_map(move |ends| ends.range((cell, 0)..=(cell, Ordinal::MAX)));
        rows.map(|((_, ordinal), row)| (*ordinal, row))
    }

    /// Cells of a run that a host had a part in deciding.
    pub fn cells_of(&self, id: &RunId, host: &HostName) -> Vec<CellNumber> {
        let ends = self.ends.get(id).into_iter().flatten();
        let theirs = ends.filter(|(_, row)| row.host == *host && row.is_decisive());
        let cells: BTreeSet<CellNumber> = theirs.map(|((cell, _), _)| *cell).collect();
        cells.into_iter().collect()
    }

    /// Whether everything that was submitted is over.
    pub fn is_done(&self, submitted: &BTreeSet<RunId>) -> bool {
        submitted
            .iter()
            .all(|id| self.runs.get(id).is_some_and(|run| run.over))
    }
}
