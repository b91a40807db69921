//! Whose turn it is: the runs that have something to place, in the order in which a free place goes to them. May not:
//! know a host.
//!
//! The highest priority goes first. Within it, the owner whose runs weigh least goes first, and of his runs the one that
//! weighs least; of equal ones who got something longest ago, so that all have their turn even where there are fewer
//! places than runs. A run weighs the attempts that hosts hold of it, divided by its weight; an owner weighs what all
//! his runs weigh together. So an owner gets no more for having more runs, and twice as much where all of them have
//! twice the weight.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use regatta_model::{Owner, Resources};

use crate::event::Work;
use crate::run::RunIndex;

/// An owner's place in the order of appearance: the first of his open runs.
pub(crate) type OwnerIndex = RunIndex;

/// What an attempt of a run of weight 1 weighs: the least number that all weights up to 20 divide.
const WHOLE: u64 = 232_792_560;

/// The runs that have something to place, the first first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    owners: BTreeMap<OwnerIndex, Account>,
    names: BTreeMap<Option<Owner>, OwnerIndex>,
    turns: BTreeSet<Turn>,
    /// What its runs ask for, and how many of them ask for that: processors, and memory.
    cpus: BTreeMap<u64, u64>,
    memory: BTreeMap<u64, u64>,
}

/// When it is an owner's turn, at one priority. (Images and layers that a host has already will stand before the owner.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Turn {
    priority: Reverse<i32>,
    load: u64,
    last: u64,
    owner: OwnerIndex,
}

/// When it is a run's turn among those of its owner and priority.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    load: u64,
    last: u64,
    run: RunIndex,
}

/// What is kept of an owner while a run of his is open.
#[derive(Clone, Debug)]
struct Account {
    name: Option<Owner>,
    /// Open runs, those that have nothing to place included.
    runs: u64,
    /// What they weigh together.
    load: u64,
    /// The generation of the last assignment of one of them.
    last: u64,
    /// Those that have something to place; no priority without one.
    waiting: BTreeMap<Reverse<i32>, BTreeSet<Place>>,
}

impl Account {
    fn turns(&self, owner: OwnerIndex) -> impl Iterator<Item = Turn> {
        self.waiting.keys().map(move |priority| Turn {
            priority: *priority,
            load: self.load,
            last: self.last,
            owner,
        })
    }
}

/// What a run has and wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Attempts of it that hosts hold.
    pub(crate) held: u64,
    /// The generation of its last assignment.
    pub(crate) last: u64,
    /// Whether it has something to place.
    pub(crate) waits: bool,
}

/// What the queue knows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    owner: OwnerIndex,
    priority: Reverse<i32>,
    /// What each attempt weighs.
    each: u64,
    /// What a host must have free for each.
    asked: Resources,
    demand: Demand,
}

impl Standing {
    fn load(&self) -> u64 {
        self.each.saturating_mul(self.demand.held)
    }

    fn place(&self, run: RunIndex) -> Place {
        Place {
            load: self.load(),
            last: self.demand.last,
            run,
        }
    }
}

impl Queue {
    /// Takes up a run that holds nothing and places nothing yet.
    pub(crate) fn join(&mut self, run: RunIndex, work: &Work) -> Standing {
        let name = work.owner.clone();
        let owner = *self.names.entry(name.clone()).or_insert(run);
        let account = self.owners.entry(owner).or_insert(Account {
            name,
            runs: 0,
            load: 0,
            last: 0,
            waiting: BTreeMap::new(),
        });
        account.runs += 1;
        Standing {
            owner,
            priority: Reverse(work.priority),
            each: WHOLE / u64::from(work.weight.max(1)),
            asked: work.asked,
            demand: Demand::default(),
        }
    }

    /// Takes in what a run has and wants now. Takes time in proportion to the priorities at which its owner waits.
    pub(crate) fn update(&mut self, run: RunIndex, old: Standing, demand: Demand) -> Standing {
        let new = Standing { demand, ..old };
        let Some(account) = self.owners.get_mut(&old.owner).filter(|_| new != old) else {
            return old;
        };
        for turn in account.turns(old.owner) {
            self.turns.remove(&turn);
        }
        account.load = account.load - old.load() + new.load();
        account.last = account.last.max(demand.last);
        let places = account.waiting.entry(old.priority).or_default();
        if old.demand.waits {
            places.remove(&old.place(run));
        }
        if demand.waits {
            places.insert(new.place(run));
        } else if places.is_empty() {
            account.waiting.remove(&old.priority);
        }
        self.turns.extend(account.turns(old.owner));
        if new.demand.waits != old.demand.waits {
            count(&mut self.cpus, new.asked.cpu_millis, new.demand.waits);
            count(&mut self.memory, new.asked.memory_bytes, new.demand.waits);
        }
        new
    }

    /// The least of each that any of the runs asks for: what has less can be given nothing.
    pub(crate) fn least(&self) -> Resources {
        let first = |asked: &BTreeMap<u64, u64>| asked.keys().next().copied();
        Resources {
            cpu_millis: first(&self.cpus).unwrap_or(0),
            memory_bytes: first(&self.memory).unwrap_or(0),
        }
    }

    /// Lets a run go that is over.
    pub(crate) fn leave(&mut self, run: RunIndex, standing: Standing) {
        self.update(run, standing, Demand::default());
        let Some(account) = self.owners.get_mut(&standing.owner) else {
            return;
        };
        account.runs -= 1;
        if account.runs == 0 {
            self.names.remove(&account.name);
            self.owners.remove(&standing.owner);
        }
    }

    /// The runs, the first first.
    pub(crate) fn runs(&self) -> impl Iterator<Item = RunIndex> + '_ {
        self.turns.iter().flat_map(|turn| {
            let account = self.owners.get(&turn.owner);
            let places = account.and_then(|account| account.waiting.get(&turn.priority));
            places.into_iter().flatten().map(|place| place.run)
        })
    }

    /// How many owners are known.
    pub(crate) fn owners(&self) -> usize {
        self.names.len()
    }

    /// Whether nobody has anything to place.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

/// Counts one that asks for so much, or does no longer.
fn count(counts: &mut BTreeMap<u64, u64>, asked: u64, more: bool) {
    let count = counts.entry(asked).or_default();
    *count = if more { *count + 1 } else { *count - 1 };
    if *count == 0 {
        counts.remove(&asked);
    }
}
