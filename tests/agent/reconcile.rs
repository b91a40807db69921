//! The agent's decisions, without I/O: single cases, and a server and an agent that lose, double and delay
//! their messages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use regatta_daemon::reconcile::{Action, Moment, Reconcile};
use regatta_model::container::{Limits, Network};
use regatta_model::plan::{AttemptPlan, Command, Keep, StepPlan};
use regatta_model::wire::{Assignment, HeldState, Stop, SyncResponse};
use regatta_model::{AttemptId, Digest, Incarnation};

fn attempt(cell: u64) -> AttemptId {
    AttemptId {
        run: "r".parse().unwrap(),
        cell,
        ordinal: 1,
    }
}

fn plan() -> AttemptPlan {
    AttemptPlan {
        axes: BTreeMap::new(),
        image: Digest::of(b"image"),
        files: Vec::new(),
        setup: None,
        test: StepPlan {
            run: Command::Shell("true".into()),
            env: BTreeMap::new(),
            user: None,
            workdir: None,
            timeout_ms: 1000,
            network: Network::None,
        },
        volumes: Vec::new(),
        limits: Limits::default(),
        results: Vec::new(),
        artifacts: Vec::new(),
        keep: Keep::Never,
        shard: None,
    }
}

fn assignment(cell: u64, generation: u64) -> Assignment {
    Assignment {
        attempt: attempt(cell),
        generation,
        plan: plan(),
    }
}

fn answer(start: Vec<Assignment>) -> SyncResponse {
    SyncResponse {
        start,
        lease_ms: 1000,
        next_sync_ms: 300,
        ..SyncResponse::default()
    }
}

fn started(actions: &[Action]) -> Vec<u64> {
    let cell = |action: &Action| match action {
        Action::Start { attempt, .. } => Some(attempt.cell),
        _ => None,
    };
    actions.iter().filter_map(cell).collect()
}

#[test]
fn an_assignment_said_twice_starts_once() {
    let mut held = Reconcile::new(2, Incarnation(1));
    let said = answer(vec![assignment(1, 7)]);
    assert_eq!(started(&held.answered(Moment(0), said.clone())), [1]);
    assert_eq!(started(&held.answered(Moment(1), said.clone())), [0; 0]);
    assert!(held.starting(&attempt(1), Moment(2)));
    assert!(!held.starting(&attempt(1), Moment(2)), "it runs already");
    assert_eq!(started(&held.answered(Moment(3), said)), [0; 0]);
    let holding = held.holding(&BTreeSet::new());
    assert_eq!(holding.len(), 1);
    assert_eq!(
        (holding[0].generation, holding[0].state),
        (7, HeldState::Running)
    );
}

#[test]
fn no_more_is_held_than_there_is_room_for() {
    let mut held = Reconcile::new(2, Incarnation(1));
    let said = answer((0..10).map(|cell| assignment(cell, 1)).collect());
    assert_eq!(held.free(), 2);
    assert_eq!(started(&held.answered(Moment(0), said.clone())), [0, 1]);
    held.set_queue(3);
    assert_eq!(held.free(), 3);
    assert_eq!(started(&held.answered(Moment(1), said)), [2, 3, 4]);
    held.close();
    assert_eq!(held.free(), 0);
}

#[test]
fn what_finds_its_lease_over_when_a_place_is_free_is_not_held_for_ever() {
    let mut held = Reconcile::new(1, Incarnation(1));
    held.answered(Moment(100), answer(vec![assignment(1, 1)]));
    assert!(!held.starting(&attempt(1), Moment(1100)));
    assert_eq!(held.holding(&BTreeSet::new()), []);
    // The server says it again, and it starts.
    let said = held.answered(Moment(1200), answer(vec![assignment(1, 1)]));
    assert!(matches!(said[..], [Action::Start { .. }]), "{said:?}");
    assert!(held.starting(&attempt(1), Moment(1300)));
}

#[test]
fn without_a_lease_what_waits_is_dropped_and_nothing_starts() {
    let mut held = Reconcile::new(2, Incarnation(1));
    held.answered(
        Moment(100),
        answer(vec![assignment(1, 1), assignment(2, 1)]),
    );
    assert!(
        held.starting(&attempt(1), Moment(1099)),
        "the lease counts from when the sync was sent"
    );
    assert_eq!(held.lease_left_ms(Moment(600)), 500);
    assert_eq!(held.passed(Moment(1099)), []);
    assert_eq!(
        held.passed(Moment(1100)),
        [Action::Drop {
            attempt: attempt(2)
        }]
    );
    let holding = held.holding(&BTreeSet::new());
    assert_eq!(
        holding.len(),
        1,
        "what runs is the executor's to end: {holding:?}"
    );
}

#[test]
fn a_stop_drops_what_waits_ends_what_runs_and_leaves_what_ended() {
    let mut held = Reconcile::new(3, Incarnation(1));
    held.answered(
        Moment(0),
        answer((1..4).map(|cell| assignment(cell, 1)).collect()),
    );
    assert!(held.starting(&attempt(2), Moment(1)));
    assert!(held.starting(&attempt(3), Moment(1)));
    assert!(held.ending(&attempt(3)));
    assert_eq!(held.ended(&attempt(3)), Some(1));
    let stop = |cell| Stop {
        attempt: attempt(cell),
        reason: "cancelled".into(),
    };
    let said = SyncResponse {
        stop: (1..5).map(stop).collect(),
        ..answer(Vec::new())
    };
    let actions = held.answered(Moment(2), said);
    assert_eq!(
        actions,
        [
            Action::Drop {
                attempt: attempt(1)
            },
            Action::Stop {
                attempt: attempt(2)
            }
        ]
    );
    assert!(!held.starting(&attempt(1), Moment(3)), "it was dropped");
    let holding = held.holding(&BTreeSet::new());
    assert_eq!(
        holding.iter().map(|h| h.attempt.cell).collect::<Vec<_>>(),
        [2, 3]
    );
}

#[test]
fn an_outcome_is_held_until_it_is_acknowledged_and_is_not_run_again() {
    let mut held = Reconcile::new(1, Incarnation(1));
    held.answered(Moment(0), answer(vec![assignment(1, 1)]));
    held.starting(&attempt(1), Moment(1));
    held.ending(&attempt(1));
    held.ended(&attempt(1));
    assert_eq!(held.free(), 1, "an outcome on disk takes no place");
    // The server has not heard of it yet and says the assignment again, even as a newer one.
    assert_eq!(held.answered(Moment(2), answer(vec![assignment(1, 2)])), []);
    let told = BTreeSet::from([attempt(1)]);
    assert_eq!(
        held.holding(&told),
        [],
        "what this sync reports is not held"
    );
    let said = SyncResponse {
        acknowledged: vec![attempt(1)],
        ..answer(vec![assignment(1, 1)])
    };
    assert_eq!(
        held.answered(Moment(3), said),
        [Action::Acknowledged {
            attempt: attempt(1)
        }]
    );
    assert!(held.is_empty());
}

#[test]
fn an_acknowledgement_of_what_has_not_ended_is_nothing() {
    let mut held = Reconcile::new(1, Incarnation(1));
    held.answered(Moment(0), answer(vec![assignment(1, 1)]));
    let said = SyncResponse {
        acknowledged: vec![attempt(1), attempt(9)],
        ..answer(Vec::new())
    };
    assert_eq!(held.answered(Moment(1), said), []);
    assert_eq!(held.busy(), 1);
}

#[test]
fn another_life_of_the_executor_drops_what_waited() {
    let mut held = Reconcile::new(2, Incarnation(1));
    held.answered(Moment(0), answer(vec![assignment(1, 1), assignment(2, 1)]));
    held.starting(&attempt(1), Moment(1));
    assert_eq!(held.reborn(Incarnation(1)), [], "the same life");
    assert_eq!(
        held.reborn(Incarnation(2)),
        [Action::Drop {
            attempt: attempt(2)
        }]
    );
    assert_eq!(held.incarnation(), Incarnation(2));
    assert_eq!(held.busy(), 1, "what ran ends by its own outcome");
}

/// What happens next in the world below.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A sync whose request is lost.
    RequestLost,
    /// A sync whose answer is lost.
    AnswerLost,
    /// A whole sync.
    Sync,
    /// So many milliseconds pass.
    Pass(u64),
    /// The first attempt that may start does.
    Start,
    /// The first attempt that runs ends.
    End,
    /// The server cancels the first attempt that it has not heard the end of.
    Cancel,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::RequestLost),
        1 => Just(Step::AnswerLost),
        4 => Just(Step::Sync),
        2 => (1..700_u64).prop_map(Step::Pass),
        4 => Just(Step::Start),
        4 => Just(Step::End),
        1 => Just(Step::Cancel),
    ];
    proptest::collection::vec(step, 1..200)
}

/// A server that wants `cells` run once each on one host, and an agent whose tasks do as they are told.
struct World {
    now: u64,
    held: Reconcile,
    /// The agent's tasks, and the outcomes on its disk.
    tasks: BTreeSet<AttemptId>,
    running: BTreeSet<AttemptId>,
    disk: BTreeSet<AttemptId>,
    starts: BTreeMap<AttemptId, u32>,
    /// The server's.
    wanted: BTreeSet<AttemptId>,
    recorded: BTreeSet<AttemptId>,
    cancelled: BTreeSet<AttemptId>,
}

const LEASE: u64 = 1000;

impl World {
    fn new(slots: u32, cells: u64) -> Self {
        Self {
            now: 0,
            held: Reconcile::new(slots, Incarnation(1)),
            tasks: BTreeSet::new(),
            running: BTreeSet::new(),
            disk: BTreeSet::new(),
            starts: BTreeMap::new(),
            wanted: (0..cells).map(attempt).collect(),
            recorded: BTreeSet::new(),
            cancelled: BTreeSet::new(),
        }
    }

    fn sync(&mut self, request_arrives: bool, answer_arrives: bool) {
        let told = self.disk.clone();
        let holding: BTreeSet<AttemptId> = self
            .held
            .holding(&told)
            .into_iter()
            .map(|held| held.attempt)
            .collect();
        for attempt in &self.disk {
            assert!(
                told.contains(attempt) || holding.contains(attempt),
                "forgotten: {attempt}"
            );
        }
        if !request_arrives {
            return;
        }
        for attempt in &told {
            self.recorded.insert(attempt.clone());
            self.wanted.remove(attempt);
        }
        let open = self.wanted.iter().filter(|a| !holding.contains(*a));
        let free = usize::try_from(self.held.free()).unwrap();
        let start = open.take(free).map(|attempt| Assignment {
            attempt: attempt.clone(),
            generation: 1,
            plan: plan(),
        });
        let stop = holding
            .iter()
            .filter(|a| self.cancelled.contains(*a))
            .map(|attempt| Stop {
                attempt: attempt.clone(),
                reason: "cancelled".into(),
            });
        let said = SyncResponse {
            acknowledged: told.iter().cloned().collect(),
            start: start.collect(),
            stop: stop.collect(),
            lease_ms: LEASE,
            next_sync_ms: 300,
            ..SyncResponse::default()
        };
        if answer_arrives {
            let actions = self.held.answered(Moment(self.now), said);
            self.carry_out(actions);
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { attempt, .. } => {
                    assert!(
                        self.tasks.insert(attempt.clone()),
                        "{attempt} has a task already"
                    );
                    assert!(!self.disk.contains(&attempt), "{attempt} ended already");
                }
                Action::Drop { attempt } => {
                    assert!(!self.running.contains(&attempt), "{attempt} runs");
                    assert!(self.tasks.remove(&attempt), "{attempt} has no task");
                }
                Action::Stop { attempt } => {
                    assert!(self.running.contains(&attempt));
                    self.end(&attempt);
                }
                Action::Acknowledged { attempt } => {
                    assert!(self.disk.remove(&attempt), "{attempt} has no outcome");
                    assert!(self.recorded.contains(&attempt));
                }
            }
        }
    }

    fn end(&mut self, attempt: &AttemptId) {
        self.running.remove(attempt);
        self.tasks.remove(attempt);
        assert!(self.held.ending(attempt));
        self.disk.insert(attempt.clone());
        assert!(self.held.ended(attempt).is_some());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::RequestLost => self.sync(false, false),
            Step::AnswerLost => self.sync(true, false),
            Step::Sync => self.sync(true, true),
            Step::Pass(ms) => {
                self.now += ms;
                let actions = self.held.passed(Moment(self.now));
                self.carry_out(actions);
            }
            Step::Start => {
                let waits = self
                    .tasks
                    .iter()
                    .find(|a| !self.running.contains(*a))
                    .cloned();
                let Some(attempt) = waits else { return };
                if self.held.starting(&attempt, Moment(self.now)) {
                    assert!(self.held.lease_left_ms(Moment(self.now)) > 0);
                    self.running.insert(attempt.clone());
                    *self.starts.entry(attempt).or_default() += 1;
                }
            }
            Step::End => {
                if let Some(attempt) = self.running.first().cloned() {
                    self.end(&attempt);
                }
            }
            Step::Cancel => {
                if let Some(attempt) = self.wanted.pop_first() {
                    self.cancelled.insert(attempt);
                }
            }
        }
        let busy = self.held.busy();
        assert!(
            busy <= usize::try_from(self.held.slots()).unwrap(),
            "{busy} held"
        );
        assert_eq!(busy, self.tasks.len(), "each busy attempt has one task");
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_each_cell_runs_once_and_is_recorded(
        steps in steps(), slots in 1..4_u32, cells in 1..8_u64,
    ) {
        let mut world = World::new(slots, cells);
        for step in steps {
            world.step(step);
        }
        // The network mends.
        for _ in 0..cells * 3 + 3 {
            for step in [Step::Sync, Step::Start, Step::Start, Step::Start, Step::End, Step::End, Step::End] {
                world.step(step);
            }
        }
        world.step(Step::Sync);
        prop_assert!(world.wanted.is_empty(), "never recorded: {:?}", world.wanted);
        prop_assert!(world.held.is_empty(), "still held: {:?}", world.held);
        for (attempt, starts) in &world.starts {
            prop_assert_eq!(*starts, 1, "{} started more than once", attempt);
        }
    }
}
