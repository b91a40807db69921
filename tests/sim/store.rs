//! The database, as far as a server can tell: what is committed lasts, a batch is whole or not there at all, and what a
//! deposed leader writes is refused. It can be away. May not: decide anything.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use regatta_model::{
    AttemptId, Blame, CellNumber, HostName, Incarnation, Ordinal, Outcome, Owner, Resources, RunId,
};

/// A run as it is recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRow {
    pub cells: u64,
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

/// A recorded outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct EndRow {
    pub host: HostName,
    pub outcome: Outcome,
    pub blame: Option<Blame>,
}

/// What one transaction writes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub runs: Vec<(RunId, RunRow)>,
    pub hosts: Vec<(HostName, Incarnation, bool)>,
    pub attempts: Vec<(AttemptId, EndRow)>,
    pub cancelled: Vec<RunId>,
    pub over: Vec<RunId>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.hosts.is_empty()
            && self.attempts.is_empty()
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
    /// The life of each host that spoke last, and whether it was lost.
    pub hosts: BTreeMap<HostName, (Incarnation, bool)>,
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
        for (host, incarnation, lost) in &batch.hosts {
            self.hosts.insert(host.clone(), (*incarnation, *lost));
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

    /// Whether everything that was submitted is over.
    pub fn is_done(&self, submitted: &BTreeSet<RunId>) -> bool {
        submitted
            .iter()
            .all(|id| self.runs.get(id).is_some_and(|run| run.over))
    }
}
