//! Random histories, and what must hold in every one of them. The world here is small and unkind: syncs are lost and
//! stale, hosts die and are born again, runs are cancelled, attempts fail; in the end it calms down.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use regatta_model::matrix::Kinds;
use regatta_model::{Digest, Resources};

use super::locality::{digest, kind, repeating};
use super::resources::resources;
use super::*;

const SLOTS: u32 = 2;

/// What a host has: any attempt fits on some, and two big ones on none.
fn capacity(host: usize) -> Resources {
    resources(8, 2 + u64::try_from(host % 2).unwrap())
}

/// What a host has of the three images that there are.
fn ready(host: usize) -> Vec<Digest> {
    let names = ["x", "y", "z"];
    names
        .iter()
        .skip(host)
        .take(1)
        .map(|name| digest(name))
        .collect()
}

/// Cells of three images in turn, two by two; or of one.
fn kinds(cells: u64) -> Kinds {
    if cells.is_multiple_of(3) {
        return Kinds::one(kind("y"), cells);
    }
    repeating(&["x", "y", "z"], cells, 2)
}

/// A host as it really is.
#[derive(Clone, Default)]
struct Real {
    incarnation: u64,
    holding: BTreeMap<AttemptId, u64>,
    ended: BTreeMap<AttemptId, u64>,
    /// When its lease ends, by a clock that is as fast as the server's.
    lease_until: u64,
    /// What the server wants of it, until it hears of it.
    orders: BTreeMap<AttemptId, u64>,
    stops: BTreeSet<AttemptId>,
}

#[derive(Clone, Debug)]
enum Step {
    Sync {
        host: usize,
        heard: bool,
    },
    End {
        host: usize,
    },
    Reboot {
        host: usize,
    },
    /// The server ends and starts again: it knows what it recorded.
    Restart,
    Pass {
        millis: u64,
    },
    Submit {
        cells: u64,
        repeat: u32,
        priority: i32,
        parallel: Option<u32>,
        fail_fast: bool,
        owner: Option<u8>,
        weight: u32,
        gib: u64,
    },
    Cancel {
        run: usize,
    },
    Cordon {
        host: usize,
        policy: Policy,
    },
}

struct World {
    course: Course,
    hosts: Vec<Real>,
    runs: BTreeMap<RunId, Truth>,
    /// Every attempt that was ever assigned, and to whom.
    given: BTreeMap<AttemptId, HostName>,
    recorded: BTreeSet<AttemptId>,
    /// The highest generation that was given.
    generation: u64,
    log: Vec<Vec<Effect>>,
}

/// A run as the caller knows it.
#[derive(Clone, Default)]
struct Truth {
    cells: u64,
    repeat: u32,
    fail_fast: bool,
    gib: u64,
    ends: BTreeMap<u64, u32>,
    open: bool,
    stopped: bool,
    settled: BTreeSet<u64>,
}

fn name(index: usize) -> String {
    format!("h{index}")
}

impl World {
    fn new(hosts: usize) -> Self {
        Self {
            course: Course::new(),
            hosts: vec![
                Real {
                    incarnation: 1,
                    ..Real::default()
                };
                hosts
            ],
            runs: BTreeMap::new(),
            given: BTreeMap::new(),
            recorded: BTreeSet::new(),
            generation: 0,
            log: Vec::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        let effects = self.course.tell(event);
        self.log.push(effects.clone());
        for effect in effects {
            match effect {
                Effect::Assign {
                    host,
                    attempt,
                    generation,
                } => {
                    self.generation = self.generation.max(generation);
                    let owner = self
                        .given
                        .entry(attempt.clone())
                        .or_insert_with(|| host.clone());
                    assert_eq!(*owner, host, "{attempt} given to two hosts");
                    let truth = &self.runs[&attempt.run];
                    assert!(
                        truth.open && !truth.stopped,
                        "{attempt} of a run that is over"
                    );
                    let holder = self.course.scheduler.holder(&attempt);
                    assert_eq!(
                        holder.map(|(host, _, g)| (host, g)),
                        Some((host.clone(), generation))
                    );
                    let host = self.real(&host);
                    host.orders.insert(attempt, generation);
                }
                Effect::Revoke { host, attempt, .. } => {
                    self.real(&host).stops.insert(attempt);
                }
                Effect::Lost { attempt, host } => {
                    let now = self.course.now;
                    let index = Self::index(&host);
                    // The lease rule: whoever is declared lost does not run it any more.
                    let real = &mut self.hosts[index];
                    if real.lease_until <= now {
                        real.holding.clear();
                    }
                    assert!(
                        !real.holding.contains_key(&attempt),
                        "{attempt} lost while it runs"
                    );
                    self.recorded.insert(attempt.clone());
                    let (cell, run) = (attempt.cell, attempt.run.clone());
                    let over = self.runs[&run].settled.contains(&cell);
                    let next = if over || self.runs[&run].stopped {
                        Next::default()
                    } else {
                        Next {
                            again: vec![Again {
                                cell,
                                attempts: 1,
                                reruns: 1,
                                avoid: vec![host],
                            }],
                            ..Next::default()
                        }
                    };
                    self.tell(Event::Recorded { attempt, next });
                }
                Effect::Finish { run, .. } => {
                    let truth = self.runs.get_mut(&run).unwrap();
                    assert!(truth.open, "{run} finished twice");
                    assert!(truth.stopped || u64::try_from(truth.settled.len()) == Ok(truth.cells));
                    truth.open = false;
                }
                Effect::HealthChanged { .. } | Effect::Doubted { .. } => {}
            }
        }
        for view in self.course.scheduler.hosts() {
            let index = Self::index(&view.name);
            let ended = u32::try_from(self.hosts[index].ended.len()).unwrap();
            assert!(view.held <= SLOTS + ended, "{view:?} holds too much");
            assert_eq!(view.running, view.held.min(SLOTS), "{view:?}");
            assert!(
                view.capacity == Resources::default() || view.capacity.holds(&view.used),
                "{view:?} is given more than it has"
            );
        }
        let hosts = self.course.scheduler.hosts();
        let on_hosts: u32 = hosts.iter().map(|host| host.running).sum();
        let runs = self
            .runs
            .keys()
            .filter_map(|id| self.course.scheduler.run(id));
        assert_eq!(
            u64::from(on_hosts),
            runs.map(|run| run.running).sum::<u64>()
        );
    }

    fn index(name: &HostName) -> usize {
        name.as_str()[1..].parse().unwrap()
    }

    fn real(&mut self, name: &HostName) -> &mut Real {
        let index = Self::index(name);
        &mut self.hosts[index]
    }

    fn sync(&mut self, index: usize, heard: bool) {
        let now = self.course.now;
        let real = &mut self.hosts[index];
        if real.lease_until <= now {
            // Its own clock says that its lease is over: it kills what it runs, and tells so.
            for (attempt, generation) in std::mem::take(&mut real.holding) {
                real.ended.insert(attempt, generation);
            }
        }
        let list = |attempts: &BTreeMap<AttemptId, u64>| -> Vec<Held> {
            attempts
                .iter()
                .map(|(attempt, generation)| held(attempt, *generation))
                .collect()
        };
        let holding = list(&real.holding);
        let free = SLOTS.saturating_sub(u32::try_from(holding.len()).unwrap());
        let state = HostState {
            slots: SLOTS,
            free,
            holding,
            ended: list(&real.ended),
            capacity: capacity(index),
            ready: ready(index),
            ..HostState::default()
        };
        let incarnation = Incarnation(real.incarnation);
        (real.orders, real.stops) = Default::default();
        let ended: Vec<(AttemptId, u64)> = real.ended.clone().into_iter().collect();
        let host_name = host(&name(index));
        self.tell(Event::Synced {
            host: host_name.clone(),
            incarnation,
            state: Box::new(state),
        });
        for (attempt, generation) in ended {
            let holder = self.course.scheduler.holder(&attempt);
            if holder.is_some_and(|(host, _, g)| host == host_name && g == generation) {
                assert!(
                    self.recorded.insert(attempt.clone()),
                    "{attempt} recorded twice"
                );
                self.judge(attempt);
            }
        }
        let real = &mut self.hosts[index];
        if heard {
            real.lease_until = now + 30_000;
            real.ended.clear();
            let orders = std::mem::take(&mut real.orders);
            real.holding.extend(orders);
            for stop in std::mem::take(&mut real.stops) {
                if let Some(generation) = real.holding.remove(&stop) {
                    real.ended.insert(stop, generation);
                }
            }
            let all = real.holding.len();
            assert!(
                all <= usize::try_from(SLOTS).unwrap(),
                "{all} attempts run at once"
            );
            let asked = real
                .holding
                .keys()
                .map(|attempt| self.runs[&attempt.run].gib);
            let asked = resources(0, asked.sum());
            assert!(capacity(index).holds(&asked), "{asked} is too much");
        }
    }

    /// A cell settles after `repeat` ends; every seventh attempt wants one more.
    fn judge(&mut self, attempt: AttemptId) {
        let truth = self.runs.get_mut(&attempt.run).unwrap();
        let cell = attempt.cell;
        let ends = truth.ends.entry(cell).or_default();
        *ends += 1;
        let unlucky = (cell + u64::from(attempt.ordinal)) % 7 == 3;
        let missing = (truth.repeat + u32::from(unlucky)).saturating_sub(*ends);
        let next = if missing == 0 {
            let failed = cell % 5 == 4;
            truth.settled.insert(cell);
            truth.stopped |= failed && truth.fail_fast;
            Next {
                settled: true,
                failed,
                ..Next::default()
            }
        } else {
            Next {
                again: vec![Again {
                    cell,
                    attempts: missing,
                    reruns: 0,
                    avoid: Vec::new(),
                }],
                ..Next::default()
            }
        };
        self.tell(Event::Recorded { attempt, next });
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Sync { host, heard } => self.sync(host % self.hosts.len(), *heard),
            Step::End { host } => {
                let index = host % self.hosts.len();
                let real = &mut self.hosts[index];
                if let Some((attempt, generation)) = real.holding.pop_first() {
                    real.ended.insert(attempt, generation);
                }
            }
            Step::Reboot { host } => {
                let index = host % self.hosts.len();
                let real = &mut self.hosts[index];
                real.incarnation += 1;
                real.holding.clear();
            }
            Step::Restart => self.restart(),
            Step::Pass { millis } => {
                self.course.now += millis;
                self.tell(Event::Ticked);
            }
            Step::Submit {
                cells,
                repeat,
                priority,
                parallel,
                fail_fast,
                owner,
                weight,
                gib,
            } => {
                let id = run(&format!("r{}", self.runs.len()));
                let truth = Truth {
                    cells: *cells,
                    repeat: *repeat,
                    fail_fast: *fail_fast,
                    gib: *gib,
                    open: true,
                    ..Truth::default()
                };
                self.runs.insert(id.clone(), truth);
                let work = Work {
                    repeat: *repeat,
                    priority: *priority,
                    parallel: *parallel,
                    fail_fast: *fail_fast,
                    owner: owner.map(|owner| format!("o{owner}").parse().unwrap()),
                    weight: *weight,
                    asked: resources(0, *gib),
                    kinds: kinds(*cells),
                    ..work(*cells)
                };
                self.tell(Event::Submitted {
                    run: id,
                    work: Box::new(work),
                });
            }
            Step::Cancel { run: number } => {
                let id = run(&format!("r{number}"));
                if let Some(truth) = self.runs.get_mut(&id) {
                    truth.stopped = true;
                    self.tell(Event::Cancelled { run: id });
                }
            }
            Step::Cordon {
                host: index,
                policy,
            } => {
                let host = host(&name(index % self.hosts.len()));
                self.tell(Event::PolicySet {
                    host,
                    policy: *policy,
                });
            }
        }
    }

    fn restart(&mut self) {
        let views = self.course.scheduler.hosts();
        let hosts = views
            .into_iter()
            .map(|view| (view.name, view.incarnation, view.policy));
        let generation = self.generation;
        let restored = Restored {
            hosts: hosts.collect(),
            generation,
        };
        self.course.scheduler = Scheduler::new(Config::default(), restored);
        self.given.clear();
        for (id, truth) in self
            .runs
            .clone()
            .into_iter()
            .filter(|(_, truth)| truth.open)
        {
            let mut tried: BTreeMap<u64, u32> = BTreeMap::new();
            for attempt in self.recorded.iter().filter(|attempt| attempt.run == id) {
                let last = tried.entry(attempt.cell).or_default();
                *last = attempt.ordinal.max(*last);
            }
            let work = Work {
                repeat: truth.repeat,
                fail_fast: truth.fail_fast,
                asked: resources(0, truth.gib),
                kinds: kinds(truth.cells),
                fresh: false,
                settled: truth.settled.iter().copied().collect(),
                tried,
                ..work(truth.cells)
            };
            self.tell(Event::Submitted {
                run: id.clone(),
                work: Box::new(work),
            });
            if truth.stopped && self.runs[&id].open {
                self.tell(Event::Cancelled { run: id });
            }
        }
    }

    /// No attempt runs in two places, whoever believes what.
    fn check_leases(&self) {
        let mut running = BTreeSet::new();
        for real in self
            .hosts
            .iter()
            .filter(|real| real.lease_until > self.course.now)
        {
            for attempt in real.holding.keys() {
                assert!(running.insert(attempt), "{attempt} runs on two hosts");
            }
        }
    }

    /// All hosts are well, and everything ends.
    fn calm_down(&mut self) {
        for index in 0..self.hosts.len() {
            let host = host(&name(index));
            self.tell(Event::PolicySet {
                host,
                policy: Policy::Active,
            });
        }
        for _ in 0..500 {
            self.course.now += 1000;
            self.tell(Event::Ticked);
            for index in 0..self.hosts.len() {
                self.sync(index, true);
                let real = &mut self.hosts[index];
                real.ended.append(&mut real.holding);
            }
            if self.runs.values().all(|truth| !truth.open) {
                return;
            }
        }
        panic!("does not settle: {:?}", self.course.scheduler);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let host = 0_usize..4;
    let policy = prop_oneof![
        Just(Policy::Active),
        Just(Policy::Cordoned),
        Just(Policy::Quarantined)
    ];
    let step = prop_oneof![
        10 => (host.clone(), prop::bool::weighted(0.8)).prop_map(|(host, heard)| Step::Sync { host, heard }),
        8 => host.clone().prop_map(|host| Step::End { host }),
        1 => host.clone().prop_map(|host| Step::Reboot { host }),
        1 => Just(Step::Restart),
        4 => prop_oneof![0_u64..3000, 9000_u64..40_000].prop_map(|millis| Step::Pass { millis }),
        2 => (
            (1_u64..12, 1_u32..4, -1_i32..2, prop::option::of(1_u32..4), any::<bool>()),
            (prop::option::of(0_u8..2), 1_u32..4, 0_u64..3),
        ).prop_map(
            |((cells, repeat, priority, parallel, fail_fast), (owner, weight, gib))| {
                Step::Submit { cells, repeat, priority, parallel, fail_fast, owner, weight, gib }
            }
        ),
        1 => (0_usize..6).prop_map(|run| Step::Cancel { run }),
        1 => (host, policy).prop_map(|(host, policy)| Step::Cordon { host, policy }),
    ];
    prop::collection::vec(step, 0..120)
}

fn play(steps: &[Step]) -> World {
    let mut world = World::new(4);
    for step in steps {
        world.step(step);
        world.check_leases();
    }
    world.calm_down();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn invariants_hold_in_every_history_and_every_cell_settles_in_the_end(steps in steps()) {
        play(&steps);
    }

    #[test]
    fn the_same_events_have_the_same_effects(steps in steps()) {
        prop_assert_eq!(play(&steps).log, play(&steps).log);
    }
}
