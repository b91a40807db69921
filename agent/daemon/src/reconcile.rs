//! What this host holds against what the server wants here: every decision of the agent. May not: do
//! I/O, read a clock, or know how an attempt is run; callers tell it the time and do what it answers.
//!
//! An attempt is *waiting* (for its image, its set-up or a place), *running*, *ending* (its container
//! ended, or was told to; its outcome is being put together), or *ended* (its outcome is on disk and waits
//! for the server's acknowledgement). The acknowledgement is what makes it go away.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::plan::AttemptPlan;
use regatta_model::wire::{Held, HeldState, SyncResponse};
use regatta_model::{AttemptId, Incarnation};

/// A moment of the caller's monotonic clock, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(pub u64);

/// Longest lease that is believed, in milliseconds: an hour.
pub const LEASE_MOST_MS: u64 = 3_600_000;

/// Most outcomes that wait for an acknowledgement before the host takes nothing new.
pub const UNACKNOWLEDGED_MOST: usize = 1024;

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make it ready and run it.
    Start {
        /// Which.
        attempt: AttemptId,
        /// The generation of its assignment.
        generation: u64,
        /// What to run.
        plan: Box<AttemptPlan>,
    },
    /// It waits and is held no longer; nothing of it ran.
    Drop {
        /// Which.
        attempt: AttemptId,
    },
    /// End its container; its outcome is reported.
    Stop {
        /// Which.
        attempt: AttemptId,
    },
    /// The server has its outcome: forget it.
    Acknowledged {
        /// Which.
        attempt: AttemptId,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Ending,
    Ended,
}

#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    stage: Stage,
}

/// What an agent holds. Clone it to look into the future in a test.
#[derive(Clone, Debug)]
pub struct Reconcile {
    slots: u32,
    queue: u32,
    open: bool,
    incarnation: Incarnation,
    lease_end: Moment,
    held: BTreeMap<AttemptId, Entry>,
}

impl Reconcile {
    /// Holds nothing, may hold `slots` at once, and has no lease yet.
    pub fn new(slots: u32, incarnation: Incarnation) -> Self {
        Self {
            slots,
            queue: 0,
            open: true,
            incarnation,
            lease_end: Moment(0),
            held: BTreeMap::new(),
        }
    }

    /// Which life of the executor the host is in.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How many attempts may run at once.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How many attempts may wait besides those that run.
    pub fn set_queue(&mut self, queue: u32) {
        self.queue = queue;
    }

    /// Takes nothing new from now on; what is held goes on.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// After a restart of the agent: this attempt's container runs.
    pub fn adopt(&mut self, attempt: AttemptId, generation: u64) {
        self.held.insert(
            attempt,
            Entry {
                generation,
                stage: Stage::Running,
            },
        );
    }

    /// After a restart of the agent: this attempt's outcome is on disk.
    pub fn adopt_ended(&mut self, attempt: AttemptId, generation: u64) {
        self.held.insert(
            attempt,
            Entry {
                generation,
                stage: Stage::Ended,
            },
        );
    }

    /// The containers that were adopted have this long to live, unless the server renews them.
    pub fn adopt_lease(&mut self, end: Moment) {
        self.lease_end = self.lease_end.max(end);
    }

    /// What everything held may count on, in milliseconds from `now`.
    pub fn lease_left_ms(&self, now: Moment) -> u64 {
        self.lease_end.0.saturating_sub(now.0)
    }

    /// A place is free for this attempt. Whether it may start: it is still held, and there is a lease. Without a lease it
    /// is held no longer, so that the server says it again.
    pub fn starting(&mut self, attempt: &AttemptId, now: Moment) -> bool {
        let lease = self.lease_end > now;
        match self.held.get_mut(attempt) {
            Some(entry) if entry.stage == Stage::Waiting => {
                entry.stage = Stage::Running;
                if !lease {
                    self.held.remove(attempt);
                }
                lease
            }
            _ => false,
        }
    }

    /// Its container ended, or it will never have one: its outcome is being put together. Whether it is
    /// still held.
    pub fn ending(&mut self, attempt: &AttemptId) -> bool {
        self.advance(attempt, Stage::Ending)
    }

    /// Its outcome is on disk. Gives the generation that the outcome belongs to, if it is still held.
    pub fn ended(&mut self, attempt: &AttemptId) -> Option<u64> {
        self.advance(attempt, Stage::Ended);
        self.generation(attempt)
    }

    /// The generation that it obeys.
    pub fn generation(&self, attempt: &AttemptId) -> Option<u64> {
        self.held.get(attempt).map(|entry| entry.generation)
    }

    fn advance(&mut self, attempt: &AttemptId, stage: Stage) -> bool {
        let entry = self.held.get_mut(attempt);
        entry.is_some_and(|entry| {
            if entry.stage != Stage::Ended {
                entry.stage = stage;
            }
            true
        })
    }

    /// Everything held but the outcomes in `told`, which this sync carries.
    pub fn holding(&self, told: &BTreeSet<AttemptId>) -> Vec<Held> {
        let held = self
            .held
            .iter()
            .filter(|(attempt, _)| !told.contains(attempt));
        let say = |(attempt, entry): (&AttemptId, &Entry)| Held {
            attempt: attempt.clone(),
            generation: entry.generation,
            state: match entry.stage {
                Stage::Waiting => HeldState::Waiting,
                Stage::Running | Stage::Ending | Stage::Ended => HeldState::Running,
            },
        };
        held.map(say).collect()
    }

    /// How many more attempts it takes now.
    pub fn free(&self) -> u32 {
        let ended = self
            .held
            .values()
            .filter(|entry| entry.stage == Stage::Ended)
            .count();
        if !self.open || ended >= UNACKNOWLEDGED_MOST {
            return 0;
        }
        let busy = u32::try_from(self.held.len() - ended).unwrap_or(u32::MAX);
        self.slots.saturating_add(self.queue).saturating_sub(busy)
    }

    /// How many attempts wait.
    pub fn waiting(&self) -> usize {
        self.held
            .values()
            .filter(|entry| entry.stage == Stage::Waiting)
            .count()
    }

    /// How many attempts are held whose outcome is not on disk yet.
    pub fn busy(&self) -> usize {
        self.held
            .values()
            .filter(|entry| entry.stage != Stage::Ended)
            .count()
    }

    /// Whether nothing is held at all.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What runs and is to be renewed.
    pub fn running(&self) -> Vec<AttemptId> {
        let running = self
            .held
            .iter()
            .filter(|(_, entry)| entry.stage == Stage::Running);
        running.map(|(attempt, _)| attempt.clone()).collect()
    }

    /// The server answered a sync that was sent at `sent`.
    pub fn answered(&mut self, sent: Moment, answer: SyncResponse) -> Vec<Action> {
        let lease = answer.lease_ms.min(LEASE_MOST_MS);
        self.lease_end = Moment(sent.0.saturating_add(lease));
        let mut actions = Vec::new();
        let mut acknowledged = BTreeSet::new();
        for attempt in answer.acknowledged {
            if self
                .held
                .get(&attempt)
                .is_some_and(|entry| entry.stage == Stage::Ended)
            {
                self.held.remove(&attempt);
                actions.push(Action::Acknowledged {
                    attempt: attempt.clone(),
                });
            }
            acknowledged.insert(attempt);
        }
        for stop in answer.stop {
            match self.held.get_mut(&stop.attempt) {
                Some(entry) if entry.stage == Stage::Waiting => {
                    self.held.remove(&stop.attempt);
                    actions.push(Action::Drop {
                        attempt: stop.attempt,
                    });
                }
                Some(entry) if entry.stage == Stage::Running => {
                    actions.push(Action::Stop {
                        attempt: stop.attempt,
                    });
                }
                _ => {}
            }
        }
        for assignment in answer.start {
            if acknowledged.contains(&assignment.attempt) {
                continue;
            }
            if let Some(entry) = self.held.get_mut(&assignment.attempt) {
                // The same assignment said again, or a newer one of what is here already. An outcome keeps
                // the generation that it was made under: the server acknowledges it first.
                if entry.stage != Stage::Ended {
                    entry.generation = entry.generation.max(assignment.generation);
                }
            } else if self.free() > 0 {
                let entry = Entry {
                    generation: assignment.generation,
                    stage: Stage::Waiting,
                };
                self.held.insert(assignment.attempt.clone(), entry);
                actions.push(Action::Start {
                    attempt: assignment.attempt,
                    generation: assignment.generation,
                    plan: Box::new(assignment.plan),
                });
            }
        }
        actions
    }

    /// Time passed: without a lease, what waits is dropped. (The executor itself ends what runs.)
    pub fn passed(&mut self, now: Moment) -> Vec<Action> {
        if self.lease_end > now {
            Vec::new()
        } else {
            self.drop_waiting()
        }
    }

    /// The executor died and another one lives: what waited was assigned to the former life and is
    /// dropped. What ran ends as `host_lost`, each by its own `ended`.
    pub fn reborn(&mut self, incarnation: Incarnation) -> Vec<Action> {
        if incarnation == self.incarnation {
            return Vec::new();
        }
        self.incarnation = incarnation;
        self.drop_waiting()
    }

    fn drop_waiting(&mut self) -> Vec<Action> {
        let waits = |(attempt, entry): (&AttemptId, &Entry)| {
            (entry.stage == Stage::Waiting).then(|| attempt.clone())
        };
        let waiting: Vec<AttemptId> = self.held.iter().filter_map(waits).collect();
        for attempt in &waiting {
            self.held.remove(attempt);
        }
        waiting
            .into_iter()
            .map(|attempt| Action::Drop { attempt })
            .collect()
    }
}
