//! What others may see of the scheduler's state: for pages, metrics, and whether an outcome counts. May not: change it.

use regatta_model::{AttemptId, HostName, Incarnation, Resources, RunId};

use crate::Scheduler;
use crate::event::{Health, Moment, Policy};
use crate::host::{Host, Key};
use crate::settled::BLOCK;

/// A host, as it is seen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its name.
    pub name: HostName,
    /// Its incarnation; 0 where it never spoke.
    pub incarnation: Incarnation,
    /// What is observed.
    pub health: Health,
    /// What is willed.
    pub policy: Policy,
    /// Attempts that it can run at once.
    pub slots: u32,
    /// How many it can be given now; more than its places where it fetches short attempts ahead.
    pub free: u32,
    /// Attempts that it should hold.
    pub held: u32,
    /// Those of them that have a place; the others wait there for one.
    pub running: u32,
    /// Processors and memory that its attempts can have together.
    pub capacity: Resources,
    /// What the attempts that it holds ask for.
    pub used: Resources,
    /// When it last spoke.
    pub last_sync: Moment,
}

/// Where an open run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunView {
    /// All cells.
    pub cells: u64,
    /// Cells with a verdict.
    pub settled: u64,
    /// Cells that were never begun.
    pub fresh: u64,
    /// Attempts that hosts hold.
    pub held: u64,
    /// Those of them that have a place on their host; the others wait there for one.
    pub running: u64,
    /// Further attempts of begun cells that wait for a host.
    pub waiting: u64,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// Whether nothing of it is placed yet, because hosts that may hold attempts of it have not spoken since the
    /// server's start.
    pub adopting: bool,
}

/// How many things a scheduler keeps, in numbers: its memory grows with these and with nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Hosts that were ever heard of.
    pub hosts: u64,
    /// Runs that are not over.
    pub runs: u64,
    /// Owners of such runs.
    pub owners: u64,
    /// Cells that were begun and have no verdict, of runs that go on.
    pub open: u64,
    /// Attempts that hosts hold.
    pub held: u64,
    /// Further attempts that wait.
    pub waiting: u64,
    /// Bits of settled cells behind the first that is not settled, in blocks of 4,096.
    pub blocks: u64,
    /// Cells of open runs, in such blocks.
    pub blocks_most: u64,
}

impl Footprint {
    /// Whether it is what it should be: an open cell has an attempt under way or one that waits, but for so many that
    /// wait for what another cell says; settled cells are bits, and who has no run is forgotten.
    pub fn is_within_formula(&self, waits_for_others: u64) -> bool {
        self.open <= self.held + self.waiting + waits_for_others
            && self.blocks <= self.blocks_most
            && self.owners <= self.runs
    }
}

fn view(host: &Host) -> HostView {
    HostView {
        name: host.name.clone(),
        incarnation: host.incarnation,
        health: host.health,
        policy: host.policy,
        slots: host.slots,
        free: host.room,
        held: u32::try_from(host.held.len()).unwrap_or(u32::MAX),
        running: host.placed,
        capacity: host.capacity,
        used: host.used,
        last_sync: host.last_sync,
    }
}

impl Scheduler {
    /// All hosts, by name.
    pub fn hosts(&self) -> Vec<HostView> {
        self.host_names
            .values()
            .filter_map(|index| self.hosts.get(*index))
            .map(view)
            .collect()
    }

    /// One host.
    pub fn host(&self, name: &HostName) -> Option<HostView> {
        self.host_names
            .get(name)
            .and_then(|index| self.hosts.get(*index))
            .map(view)
    }

    /// An open run; none once it is finished.
    pub fn run(&self, id: &RunId) -> Option<RunView> {
        let run = self
            .run_ids
            .get(id)
            .and_then(|index| self.runs.get(index))?;
        Some(RunView {
            cells: run.cells,
            settled: run.settled,
            fresh: run
                .cells
                .saturating_sub(run.settled)
                .saturating_sub(run.kept().0),
            held: run.held_count(),
            running: run.placed,
            waiting: u64::try_from(run.wants.len()).unwrap_or(u64::MAX),
            cancelled: run.stopped.is_some_and(|(_, cancelled)| cancelled),
            adopting: !run.fresh && !self.open,
        })
    }

    /// What is kept. Takes time in proportion to runs and hosts.
    pub fn footprint(&self) -> Footprint {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let mut footprint = Footprint {
            hosts: count(self.hosts.len()),
            runs: count(self.runs.len()),
            owners: count(self.queue.owners()),
            ..Footprint::default()
        };
        for run in self.runs.values() {
            let (open, blocks) = run.kept();
            footprint.open += if run.stopped.is_none() { open } else { 0 };
            footprint.held += run.held_count();
            footprint.waiting += count(run.wants.len());
            footprint.blocks += blocks;
            footprint.blocks_most += run.cells.div_ceil(BLOCK);
        }
        footprint
    }

    /// Who may tell this attempt's outcome: the host, the incarnation that it was given to (this one or a later one
    /// may tell), and the generation. None: nobody; whoever tells it is acknowledged, and it does not count.
    pub fn holder(&self, attempt: &AttemptId) -> Option<(HostName, Incarnation, u64)> {
        let run_index = *self.run_ids.get(&attempt.run)?;
        let (cell, ordinal) = (attempt.cell, attempt.ordinal);
        let host = self
            .hosts
            .get(*self.runs.get(&run_index)?.held.get(&(cell, ordinal))?)?;
        let hold = host.held.get(&Key {
            run: run_index,
            cell,
            ordinal,
        })?;
        Some((host.name.clone(), hold.incarnation, hold.generation))
    }
}
