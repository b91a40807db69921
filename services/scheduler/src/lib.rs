//! Which attempt goes to which host, and what a silent host means.
//!
//! For: the server's actor and the simulator. One function owns every decision:
//! [`Scheduler::apply`]; around it events are carried in and effects out.
//! May depend on: `model`, nothing else.
//!
//! Architecture Invariant: pure. Time is a parameter, order is fixed, nothing is read, locked or drawn by lot:
//! the same events give the same effects.
//! Architecture Invariant: a cell is never held by two hosts unless the first was declared lost, lease and drift
//! after its last sync, or the matrix asks for several attempts at once; an attempt never is.
//! Architecture Invariant: a host is given nothing that asks for more processors or memory than it has beside what it
//! holds.
//! Architecture Invariant: nothing here panics on an event that makes no sense; it has no effect.
//! Architecture Invariant: a cell that was not begun costs nothing, unless it runs in rounds; a settled one a bit at most.

mod apply;
pub mod event;
mod explain;
mod host;
mod locality;
mod place;
mod queue;
mod reserve;
mod rounds;
mod run;
mod settled;
mod silence;
mod spread;
mod sync;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::{HostName, Incarnation, RunId};

pub use event::{Again, Effect, Event, Health, HostState, Moment, Next, Policy, Work};
pub use view::{Footprint, HostView, RunView};

use host::{Host, HostIndex};
use queue::Queue;
use run::{Run, RunIndex};
use silence::Silence;
use spread::Variety;

/// Most hosts that a scheduler knows; the syncs of further ones have no effect.
pub const HOSTS_MOST: usize = 100_000;

/// The times that decide. All in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a host may go on from a sync without another one.
    pub lease_ms: u64,
    /// How much longer than the lease the server waits, for clocks that differ.
    pub drift_ms: u64,
    /// Silence after which a host is suspect and gets nothing new. More than the interval of syncs and than the longest
    /// wait of a long poll, less than the lease.
    pub suspect_after_ms: u64,
    /// How long a rerun waits at most for a host that has not run its cell; for one on another rack two thirds of that,
    /// for one with other processors a third.
    pub avoid_ms: u64,
    /// How long a run that asks for processors or memory lets others pass before a host is reserved for it.
    pub reserve_after_ms: u64,
    /// How long hosts that were silent for too long are not taken for lost where more than a third of the fleet is
    /// silent at once: the server doubts itself first.
    pub doubt_ms: u64,
}

impl Config {
    /// The usual times for a lease: drift is 5% of it and a second, a host is suspect after two fifths of it, a rerun
    /// waits as long as that for another host, and a run waits for the length of the lease before it gets one reserved; doubt lasts for two leases.
    pub const fn with_lease(lease_ms: u64) -> Self {
        let suspect_after_ms = lease_ms / 5 * 2;
        let drift_ms = lease_ms / 20 + 1000;
        Self {
            lease_ms,
            drift_ms,
            suspect_after_ms,
            avoid_ms: suspect_after_ms,
            reserve_after_ms: lease_ms,
            doubt_ms: lease_ms * 2,
        }
    }

    /// Silence after which a host is lost.
    const fn lost_after_ms(&self) -> u64 {
        self.lease_ms.saturating_add(self.drift_ms)
    }
}

/// A lease of 30 seconds.
impl Default for Config {
    fn default() -> Self {
        Self::with_lease(30_000)
    }
}

/// What is known of the fleet when a server starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Hosts that may hold attempts of earlier lives of the server. Of runs that are not
    /// [`Work::fresh`], nothing is placed until all of these synced, or lease and drift passed.
    pub hosts: Vec<(HostName, Incarnation, Policy)>,
    /// Assignments get generations above this one. It should be above all that earlier lives of the server gave: the
    /// microseconds since 1970 will do.
    pub generation: u64,
}

/// All that is known of hosts and open runs, and every decision about them.
#[derive(Clone, Debug)]
pub struct Scheduler {
    config: Config,
    hosts: Vec<Host>,
    host_names: BTreeMap<HostName, HostIndex>,
    /// Hosts that are ready and active.
    able: BTreeSet<HostIndex>,
    /// Those of them that have room.
    idle: BTreeSet<HostIndex>,
    /// What racks and processors the able ones have.
    variety: Variety,
    /// When which host becomes suspect or lost.
    deadlines: BTreeSet<(Moment, HostIndex)>,
    runs: BTreeMap<RunIndex, Run>,
    run_ids: BTreeMap<RunId, RunIndex>,
    next_run: RunIndex,
    /// Runs that have something to place, the most urgent first.
    queue: Queue,
    generation: u64,
    /// Restored hosts that have not synced.
    unheard: BTreeSet<HostIndex>,
    /// The end of the time in which restored attempts may be taken up; set by the first event.
    adopt_until: Option<Moment>,
    /// Whether restored runs may be placed.
    open: bool,
    silence: Silence,
}

impl Scheduler {
    /// A scheduler that knows `restored` and no run yet.
    pub fn new(config: Config, restored: Restored) -> Self {
        let mut scheduler = Self {
            config,
            hosts: Vec::new(),
            host_names: BTreeMap::new(),
            able: BTreeSet::new(),
            idle: BTreeSet::new(),
            variety: Variety::default(),
            deadlines: BTreeSet::new(),
            runs: BTreeMap::new(),
            run_ids: BTreeMap::new(),
            next_run: 0,
            queue: Queue::default(),
            generation: restored.generation,
            unheard: BTreeSet::new(),
            adopt_until: None,
            open: restored.hosts.is_empty(),
            silence: Silence::default(),
        };
        for (name, incarnation, policy) in restored.hosts {
            if let Some(index) = scheduler.host_index(&name)
                && let Some(host) = scheduler.hosts.get_mut(index)
            {
                host.incarnation = incarnation;
                host.policy = policy;
                host.health = Health::Suspect;
                scheduler.unheard.insert(index);
            }
        }
        scheduler
    }

    /// Takes in what happened and says what is to be done, in order. `now` never goes back; where it does, the time
    /// stands still.
    pub fn apply(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.begin(now);
        match event {
            Event::Submitted { run, work } => self.submitted(now, run, &work, &mut effects),
            Event::Synced {
                host,
                incarnation,
                state,
            } => {
                self.synced(now, &host, incarnation, &state, &mut effects);
            }
            Event::Recorded { attempt, next } => self.recorded(now, &attempt, &next, &mut effects),
            Event::Rejudged { run, next } => self.rejudged(now, &run, &next, &mut effects),
            Event::Cancelled { run } => self.cancelled(&run, &mut effects),
            Event::PolicySet { host, policy } => self.policy_set(now, &host, policy, &mut effects),
            Event::Ticked => self.ticked(now, &mut effects),
        }
        effects
    }
}

impl Moment {
    /// This moment and so many milliseconds.
    const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}
