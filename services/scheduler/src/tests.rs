//! Histories told to the scheduler, and what it answers: the words in which they are told.

mod explained;
mod invariants;
mod locality;
mod resources;
mod rounds;
mod shares;
mod silence;
mod spread;
mod stories;

use std::collections::BTreeMap;

use regatta_model::wire::{Held, HeldState};
use regatta_model::{AttemptId, HostName, Incarnation, RunId};

use super::*;

/// A scheduler with its clock, told of things in short words.
struct Course {
    scheduler: Scheduler,
    now: u64,
}

fn run(id: &str) -> RunId {
    id.parse().unwrap()
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn attempt(id: &str, cell: u64, ordinal: u32) -> AttemptId {
    AttemptId {
        run: run(id),
        cell,
        ordinal,
    }
}

fn held(attempt: &AttemptId, generation: u64) -> Held {
    Held {
        attempt: attempt.clone(),
        generation,
        state: HeldState::Running,
    }
}

fn work(cells: u64) -> Work {
    Work {
        cells,
        repeat: 1,
        fresh: true,
        ..Work::default()
    }
}

fn state(slots: u32, holding: &[Held]) -> HostState {
    let free = slots.saturating_sub(u32::try_from(holding.len()).unwrap());
    HostState {
        slots,
        free,
        holding: holding.to_vec(),
        ..HostState::default()
    }
}

fn assign(name: &str, id: &str, cell: u64, ordinal: u32, generation: u64) -> Effect {
    Effect::Assign {
        host: host(name),
        attempt: attempt(id, cell, ordinal),
        generation,
    }
}

fn revoke(name: &str, attempt: AttemptId, reason: &'static str) -> Effect {
    Effect::Revoke {
        host: host(name),
        attempt,
        reason,
    }
}

fn health(name: &str, health: Health) -> Effect {
    Effect::HealthChanged {
        host: host(name),
        health,
    }
}

fn finish(id: &str) -> Effect {
    Effect::Finish {
        run: run(id),
        cancelled: false,
    }
}

fn settled() -> Next {
    Next {
        settled: true,
        ..Next::default()
    }
}

fn again(cell: u64, attempts: u32, avoid: &[&str]) -> Next {
    let avoid = avoid.iter().map(|name| host(name)).collect();
    Next {
        again: vec![Again {
            cell,
            attempts,
            reruns: attempts,
            avoid,
        }],
        ..Next::default()
    }
}

impl Course {
    fn new() -> Self {
        Self::restored(&[])
    }

    fn restored(hosts: &[&str]) -> Self {
        let hosts = hosts
            .iter()
            .map(|name| (host(name), Incarnation(1), Policy::Active))
            .collect();
        let restored = Restored {
            hosts,
            generation: 0,
        };
        Self {
            scheduler: Scheduler::new(Config::default(), restored),
            now: 1000,
        }
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.scheduler.apply(Moment(self.now), event)
    }

    fn submit(&mut self, id: &str, work: Work) -> Vec<Effect> {
        self.tell(Event::Submitted {
            run: run(id),
            work: Box::new(work),
        })
    }

    fn sync(&mut self, name: &str, state: HostState) -> Vec<Effect> {
        self.sync_as(name, 1, state)
    }

    fn sync_as(&mut self, name: &str, incarnation: u64, state: HostState) -> Vec<Effect> {
        let incarnation = Incarnation(incarnation);
        self.tell(Event::Synced {
            host: host(name),
            incarnation,
            state: Box::new(state),
        })
    }

    fn record(&mut self, attempt: &AttemptId, next: Next) -> Vec<Effect> {
        self.tell(Event::Recorded {
            attempt: attempt.clone(),
            next,
        })
    }

    fn tick(&mut self, millis: u64) -> Vec<Effect> {
        self.now += millis;
        self.tell(Event::Ticked)
    }
}
