//! A server: the leader's lease, and turns of decide, commit and publish around the real scheduler and the real judge,
//! as the server's actor has them. It can be killed at each step, stopped, or be one of two that believe that they lead.
//! May not: decide what the scheduler decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use regatta_model::report::Verdict;
use regatta_model::wire::{Assignment, Held, HeldState, Stop, SyncResponse};
use regatta_model::{AttemptId, Blame, HostName, Incarnation, Outcome, RunId};
use regatta_scheduler::{
    Again, Config, Effect, Event, Health, HostState, Moment, Next, Restored, RunView, Scheduler,
    Work,
};
use regatta_verdict::judge::{self, AttemptFacts};

use crate::check::Invariant;
use crate::setup::Plant;
use crate::store::{Batch, EndRow, Ends, Refused, RunRow};
use crate::{Ev, LEADER_MS, LEASE_MS, Request, Wish, World};

const TICK_MS: u64 = 250;
const BATCH_MOST: usize = 1024;
/// A sync that is older than the last is passed over for so long.
const OVERTAKEN_MS: u64 = 1_000;

/// A step of a turn, at which a server can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Decided,
    Committed,
    Published,
}

/// A server's process.
#[derive(Default)]
pub struct Server {
    up: bool,
    life: u64,
    paused_until: u64,
    dies_at: Option<Step>,
    leading: Option<Box<Leading>>,
}

/// What a leader knows.
struct Leading {
    epoch: u64,
    /// When its lease is over, by what it was told.
    until: u64,
    begun: u64,
    /// Time in which nothing could be recorded.
    stalled: u64,
    tried: u64,
    scheduler: Scheduler,
    runs: BTreeMap<RunId, Book>,
    hosts: BTreeMap<HostName, Known>,
    waiting: BTreeMap<usize, Waiting>,
    /// Until when each of them waits.
    deadlines: BTreeSet<(u64, usize)>,
    inbox: VecDeque<Message>,
    todo: VecDeque<Todo>,
    turn: Turn,
    busy: bool,
    ticked: u64,
    generation: u64,
}

enum Message {
    Sync(Box<Request>),
    Wish(Wish),
}

enum Todo {
    Effect(Effect),
    Ended(AttemptId, EndRow),
}

/// An open run.
struct Book {
    row: RunRow,
    /// Facts of cells that did not simply pass.
    facts: BTreeMap<u64, Vec<AttemptFacts>>,
}

#[derive(Default)]
struct Known {
    incarnation: Incarnation,
    sequence: u64,
    heard: u64,
    lost: bool,
}

struct Waiting {
    life: u64,
    exchange: u64,
    deadline: u64,
}

#[derive(Default)]
struct Outgoing {
    acknowledged: Vec<AttemptId>,
    start: BTreeMap<AttemptId, u64>,
    stop: BTreeMap<AttemptId, &'static str>,
}

#[derive(Default)]
struct Turn {
    batch: Batch,
    hosts: BTreeSet<HostName>,
    outgoing: BTreeMap<HostName, Outgoing>,
    granted: Vec<Wish>,
}

impl Server {
    pub fn view(&self, run: &RunId) -> Option<RunView> {
        self.leading.as_ref()?.scheduler.run(run)
    }
}

/// What is known of an ended attempt, as far as the judge asks.
fn facts_of(ordinal: u32, row: &EndRow) -> AttemptFacts {
    AttemptFacts::new(
        ordinal,
        row.host.clone(),
        row.outcome,
        row.blame,
        &Default::default(),
    )
}

fn host_index(name: &HostName) -> usize {
    name.as_str()[1..].parse().expect("a host of this world")
}

impl Leading {
    fn now(&self, now: u64) -> Moment {
        Moment(now.saturating_sub(self.begun).saturating_sub(self.stalled))
    }
}

impl World {
    pub(crate) fn start_server(&mut self, server: usize) {
        let this = &mut self.servers[server];
        this.up = true;
        this.life += 1;
        let life = this.life;
        let after = self.chance.within(1, 200);
        self.at(after, Ev::Lead { server, life });
        self.at(TICK_MS, Ev::Tick { server, life });
    }

    fn is_running(&self, server: usize, life: u64) -> bool {
        self.servers[server].up && self.servers[server].life == life
    }

    /// Puts an event of a stopped process off until it goes on.
    fn stops(&mut self, server: usize, ev: Ev) -> bool {
        let until = self.servers[server].paused_until;
        if until > self.now {
            self.at(until - self.now, ev);
        }
        until > self.now
    }

    pub(crate) fn crash(&mut self, server: usize) {
        if !self.servers[server].up {
            return;
        }
        self.trace
            .say(self.now, || format!("server {server} is killed"));
        let this = &mut self.servers[server];
        this.up = false;
        this.paused_until = 0;
        this.dies_at = None;
        this.leading = None;
        let after = self.chance.within(100, 5_000);
        self.at(after, Ev::Restart { server });
    }

    pub(crate) fn crash_at(&mut self, server: usize, step: Step) {
        self.servers[server].dies_at = Some(step);
    }

    pub(crate) fn pause(&mut self, server: usize, millis: u64) {
        if self.servers[server].up {
            self.trace.say(self.now, || {
                format!("server {server} is stopped for {millis} ms")
            });
            self.servers[server].paused_until = self.now + millis;
        }
    }

    /// Whether the server dies at this step.
    fn dies(&mut self, server: usize, step: Step) -> bool {
        let dies = self.servers[server].dies_at == Some(step) && !self.calm;
        if dies {
            self.trace
                .say(self.now, || format!("... when it had {step:?}:"));
            self.crash(server);
        }
        dies
    }

    fn step_down(&mut self, server: usize, why: &str) {
        self.trace
            .say(self.now, || format!("server {server} leads no more: {why}"));
        self.servers[server].leading = None;
    }

    /// Takes the lead or keeps it, where the database says so.
    pub(crate) fn lead(&mut self, server: usize, life: u64) {
        if !self.is_running(server, life) || self.stops(server, Ev::Lead { server, life }) {
            return;
        }
        self.at(LEADER_MS / 3, Ev::Lead { server, life });
        let now = self.now;
        let led = self.db.lead(now, (server, life), LEADER_MS);
        let leading = &mut self.servers[server].leading;
        match (led, leading) {
            (Ok(Some(epoch)), Some(leading)) if leading.epoch == epoch => {
                leading.until = now + LEADER_MS
            }
            (Ok(Some(epoch)), _) => self.take_over(server, epoch),
            (Ok(None), Some(_)) if self.setup.plant != Some(Plant::NoFencing) => {
                self.step_down(server, "another one has the lease");
            }
            _ => {}
        }
    }

    /// Becomes the leader: takes up what is recorded.
    fn take_over(&mut self, server: usize, epoch: u64) {
        let now = self.now;
        self.takeovers += 1;
        self.trace
            .say(now, || format!("server {server} leads, epoch {epoch}"));
        let open: Vec<(RunId, RunRow)> = self
            .db
            .runs
            .iter()
            .filter(|(_, run)| !run.over)
            .map(|(id, run)| (id.clone(), run.clone()))
            .collect();
        let hosts = self
            .db
            .hosts
            .iter()
            .filter(|(_, (_, lost))| !lost && !open.is_empty());
        let generation = (now + 1) * 1000;
        let restored = Restored {
            hosts: hosts
                .map(|(name, (incarnation, _))| (name.clone(), *incarnation, Default::default()))
                .collect(),
            generation,
        };
        let known = self.db.hosts.iter().map(|(name, (incarnation, lost))| {
            let known = Known {
                incarnation: *incarnation,
                lost: *lost,
                ..Known::default()
            };
            (name.clone(), known)
        });
        let mut config = Config::with_lease(LEASE_MS);
        if self.setup.plant == Some(Plant::LeaseNotWaited) {
            config = Config::with_lease(LEASE_MS / 3);
        }
        let mut leading = Leading {
            epoch,
            until: now + LEADER_MS,
            begun: now,
            stalled: 0,
            tried: 0,
            scheduler: Scheduler::new(config, restored),
            runs: BTreeMap::new(),
            hosts: known.collect(),
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            inbox: VecDeque::new(),
            todo: VecDeque::new(),
            turn: Turn::default(),
            busy: true,
            ticked: now,
            generation,
        };
        for (id, row) in open {
            self.take_up(&mut leading, id, row);
        }
        self.carry_out(&mut leading);
        self.servers[server].leading = Some(Box::new(leading));
        let life = self.servers[server].life;
        self.at(1, Ev::Turn { server, life });
    }

    fn take_up(&mut self, leading: &mut Leading, id: RunId, row: RunRow) {
        let mut book = Book {
            row: row.clone(),
            facts: BTreeMap::new(),
        };
        let mut work = Work {
            fresh: false,
            ..work(&row)
        };
        let none = Ends::new();
        let ends: Vec<_> = self.db.ends.get(&id).unwrap_or(&none).iter().collect();
        for ends in ends.chunk_by(|one, other| one.0.0 == other.0.0) {
            let cell = ends[0].0.0;
            let last = ends[ends.len() - 1].0.1;
            let facts: Vec<_> = ends.iter().map(|(key, row)| facts_of(key.1, row)).collect();
            let decision = judge::next(&facts, None, &policy(&row));
            if decision.verdict.is_some() {
                work.settled.push(cell);
            } else {
                work.again.push(again(cell, decision.again, &facts));
            }
            if last != row.repeat || decision.verdict.is_none() {
                work.tried.insert(cell, last);
            }
            if decision.verdict != Some(Verdict::Passed) {
                book.facts.insert(cell, facts);
            }
        }
        leading.runs.insert(id.clone(), book);
        let submitted = Event::Submitted {
            run: id.clone(),
            work: Box::new(work),
        };
        self.apply(leading, submitted);
        if row.cancelled && self.setup.plant != Some(Plant::CancelForgotten) {
            self.apply(leading, Event::Cancelled { run: id });
        }
    }

    pub(crate) fn tick(&mut self, server: usize, life: u64) {
        if !self.is_running(server, life) || self.stops(server, Ev::Tick { server, life }) {
            return;
        }
        self.at(TICK_MS, Ev::Tick { server, life });
        self.soon(server);
    }

    /// Sees to it that the leader has a turn.
    fn soon(&mut self, server: usize) {
        let life = self.servers[server].life;
        if let Some(leading) = &mut self.servers[server].leading
            && !leading.busy
        {
            leading.busy = true;
            self.at(1, Ev::Turn { server, life });
        }
    }

    pub(crate) fn request_arrives(&mut self, server: usize, request: Request) {
        if !self.servers[server].up || self.servers[server].leading.is_none() {
            let Request {
                host,
                life,
                exchange,
                ..
            } = request;
            let after = self.delay();
            self.at(
                after,
                Ev::Refused {
                    host,
                    life,
                    exchange,
                },
            );
        } else {
            self.put(server, Message::Sync(Box::new(request)));
        }
    }

    pub(crate) fn wish_arrives(&mut self, server: usize, wish: Wish) {
        // Who does not lead says so, and the client asks again.
        if self.servers[server].up && self.servers[server].leading.is_some() {
            self.put(server, Message::Wish(wish));
        }
    }

    fn put(&mut self, server: usize, message: Message) {
        if let Some(leading) = &mut self.servers[server].leading {
            leading.inbox.push_back(message);
        }
        self.soon(server);
    }

    /// Whether the leader's lease is over, by its own clock.
    fn is_deposed(&self, leading: &Leading) -> bool {
        self.now >= leading.until && self.setup.plant != Some(Plant::NoFencing)
    }

    /// Decides about all that arrived.
    pub(crate) fn turn(&mut self, server: usize, life: u64) {
        if !self.is_running(server, life) || self.stops(server, Ev::Turn { server, life }) {
            return;
        }
        let Some(mut leading) = self.servers[server].leading.take() else {
            return;
        };
        if self.is_deposed(&leading) {
            return self.step_down(server, "its lease is over");
        }
        leading.busy = true;
        for _ in 0..BATCH_MOST {
            match leading.inbox.pop_front() {
                Some(Message::Sync(request)) => self.synced(&mut leading, *request),
                Some(Message::Wish(wish)) => self.wished(&mut leading, wish),
                None => break,
            }
        }
        if self.now >= leading.ticked + TICK_MS {
            leading.ticked = self.now;
            self.apply(&mut leading, Event::Ticked);
        }
        for name in std::mem::take(&mut leading.turn.hosts) {
            if let Some(known) = leading.hosts.get(&name) {
                leading
                    .turn
                    .batch
                    .hosts
                    .push((name, known.incarnation, known.lost));
            }
        }
        self.check_footprint(&leading);
        let empty = leading.turn.batch.is_empty();
        leading.tried = self.now;
        self.servers[server].leading = Some(leading);
        if self.dies(server, Step::Decided) {
            return;
        }
        if empty {
            self.publish(server, life);
        } else {
            let after = self.chance.within(1, 8);
            self.at(after, Ev::Commit { server, life });
        }
    }

    pub(crate) fn commit(&mut self, server: usize, life: u64) {
        if !self.is_running(server, life) || self.stops(server, Ev::Commit { server, life }) {
            return;
        }
        let Some(leading) = &mut self.servers[server].leading else {
            return;
        };
        match self.db.commit(self.now, leading.epoch, &leading.turn.batch) {
            Ok(()) => {
                let hosts = &self.hosts;
                let is_awake = |host: usize| !hosts[host].hangs_at(self.now);
                self.checker
                    .committed(&self.db, &leading.turn.batch, is_awake);
            }
            Err(Refused::Away) => {
                leading.stalled += self.now - leading.tried;
                leading.tried = self.now;
                return self.at(250, Ev::Commit { server, life });
            }
            Err(Refused::Deposed) => return self.step_down(server, "the database says so"),
        }
        if self.dies(server, Step::Committed) {
            return;
        }
        let after = self.chance.within(0, 2);
        self.at(after, Ev::Publish { server, life });
    }

    /// Says what was decided, now that it is recorded.
    pub(crate) fn publish(&mut self, server: usize, life: u64) {
        if !self.is_running(server, life) || self.stops(server, Ev::Publish { server, life }) {
            return;
        }
        let Some(mut leading) = self.servers[server].leading.take() else {
            return;
        };
        if self.is_deposed(&leading) {
            return self.step_down(server, "its lease is over");
        }
        let turn = std::mem::take(&mut leading.turn);
        for wish in turn.granted {
            self.granted(wish);
        }
        for (name, outgoing) in turn.outgoing {
            for attempt in outgoing.start.keys() {
                self.checker
                    .published(attempt, self.db.runs.get(&attempt.run));
            }
            let empty = outgoing.acknowledged.is_empty()
                && outgoing.start.is_empty()
                && outgoing.stop.is_empty();
            if !empty {
                self.answer(&mut leading, host_index(&name), outgoing);
            }
        }
        while let Some(&(deadline, host)) = leading.deadlines.first()
            && deadline <= self.now
        {
            self.answer(&mut leading, host, Outgoing::default());
        }
        leading.busy = false;
        let more = !leading.inbox.is_empty();
        self.servers[server].leading = Some(leading);
        if self.dies(server, Step::Published) {
            return;
        }
        if more {
            self.soon(server);
        }
    }

    fn answer(&mut self, leading: &mut Leading, host: usize, outgoing: Outgoing) {
        let Some(waiting) = leading.waiting.remove(&host) else {
            return;
        };
        let Waiting {
            life,
            exchange,
            deadline,
        } = waiting;
        leading.deadlines.remove(&(deadline, host));
        let start = outgoing.start.into_iter();
        let start: Vec<Assignment> = start
            .map(|(attempt, generation)| crate::hosts::assignment(attempt, generation))
            .collect();
        let stop = outgoing.stop.into_iter().map(|(attempt, reason)| Stop {
            attempt,
            reason: reason.to_owned(),
        });
        let answer = SyncResponse {
            acknowledged: outgoing.acknowledged,
            start,
            stop: stop.collect(),
            lease_ms: LEASE_MS,
            next_sync_ms: LEASE_MS / 5,
            refused: String::new(),
        };
        self.send(host, life, exchange, answer);
    }

    fn send(&mut self, host: usize, life: u64, exchange: u64, answer: SyncResponse) {
        let after = self.delay();
        if !self.is_lost() {
            let answer = Box::new(answer);
            self.at(
                after,
                Ev::Answer {
                    host,
                    life,
                    exchange,
                    answer,
                },
            );
        }
    }

    fn wished(&mut self, leading: &mut Leading, wish: Wish) {
        let (Wish::Submit(index) | Wish::Cancel(index)) = wish;
        let id = self.planned[index].id.clone();
        if matches!(wish, Wish::Submit(_)) {
            let new = !self.db.runs.contains_key(&id) && !leading.runs.contains_key(&id);
            if new {
                let row = self.planned[index].row.clone();
                leading.turn.batch.runs.push((id.clone(), row.clone()));
                let mut work = work(&row);
                if self.setup.plant == Some(Plant::ShareIgnored) && index == 0 {
                    work.priority += 1;
                }
                let book = Book {
                    row,
                    facts: BTreeMap::new(),
                };
                leading.runs.insert(id.clone(), book);
                let work = Box::new(work);
                self.apply(leading, Event::Submitted { run: id, work });
            }
        } else if leading.runs.contains_key(&id) {
            leading.turn.batch.cancelled.push(id.clone());
            self.apply(leading, Event::Cancelled { run: id });
        }
        if self.setup.plant == Some(Plant::AckBeforeCommit) {
            self.granted(wish);
        } else {
            leading.turn.granted.push(wish);
        }
    }

    /// As the actor takes a sync.
    fn synced(&mut self, leading: &mut Leading, request: Request) {
        let Request {
            host: index,
            life,
            exchange,
            body,
        } = request;
        let host = body.host.clone();
        let mut incarnation = body.incarnation;
        if self.setup.plant == Some(Plant::IncarnationIgnored) {
            incarnation = Incarnation(1);
        }
        if leading.waiting.contains_key(&index) {
            self.answer(leading, index, Outgoing::default());
        }
        if let Some(known) = leading.hosts.get(&host) {
            if incarnation < known.incarnation {
                let stop = body.holding.iter().map(|held| Stop {
                    attempt: held.attempt.clone(),
                    reason: "a later life has spoken".into(),
                });
                let answer = SyncResponse {
                    stop: stop.collect(),
                    next_sync_ms: 5_000,
                    ..SyncResponse::default()
                };
                return self.send(index, life, exchange, answer);
            }
            let recent = known.heard > 0 && self.now - known.heard < OVERTAKEN_MS;
            if incarnation == known.incarnation && body.sequence < known.sequence && recent {
                let answer = SyncResponse {
                    lease_ms: LEASE_MS,
                    next_sync_ms: LEASE_MS / 5,
                    ..SyncResponse::default()
                };
                return self.send(index, life, exchange, answer);
            }
        }
        let known = leading.hosts.entry(host.clone()).or_insert(Known {
            lost: true,
            ..Known::default()
        });
        let reborn = known.incarnation != incarnation;
        (known.incarnation, known.sequence, known.heard) = (incarnation, body.sequence, self.now);
        if reborn {
            leading.turn.hosts.insert(host.clone());
        }
        let acknowledged: Vec<AttemptId> =
            body.ended.iter().map(|end| end.attempt.clone()).collect();
        let ends = body.ended.into_iter().map(|end| {
            let row = EndRow {
                host: host.clone(),
                outcome: end.outcome,
                blame: end.blame,
            };
            (end.attempt, end.generation, end.incarnation, row)
        });
        let (held, unknown): (Vec<_>, Vec<_>) =
            ends.partition(|end| !reborn && counts(leading, &host, &end.0, end.1, end.2));
        for (attempt, _, _, row) in held {
            leading.todo.push_back(Todo::Ended(attempt, row));
            self.carry_out(leading);
        }
        let told = unknown.iter().map(|(attempt, generation, ..)| Held {
            attempt: attempt.clone(),
            generation: *generation,
            state: HeldState::Running,
        });
        let uncounted = self.setup.plant == Some(Plant::PlacesUncounted);
        let state = HostState {
            slots: body.slots,
            free: if uncounted { 100 } else { body.free },
            holding: body.holding,
            ended: told.collect(),
            ..HostState::default()
        };
        let synced = Event::Synced {
            host: host.clone(),
            incarnation,
            state: Box::new(state),
        };
        self.apply(leading, synced);
        for (attempt, generation, incarnation, row) in unknown {
            if counts(leading, &host, &attempt, generation, incarnation) {
                leading.todo.push_back(Todo::Ended(attempt, row));
                self.carry_out(leading);
            }
        }
        leading
            .turn
            .outgoing
            .entry(host)
            .or_default()
            .acknowledged
            .extend(acknowledged);
        let deadline = self.now + body.wait_ms;
        leading.deadlines.insert((deadline, index));
        leading.waiting.insert(
            index,
            Waiting {
                life,
                exchange,
                deadline,
            },
        );
    }

    /// Tells the scheduler, and does what it answers.
    fn apply(&mut self, leading: &mut Leading, event: Event) {
        let effects = self.decide(leading, event);
        leading.todo.extend(effects.into_iter().map(Todo::Effect));
        self.carry_out(leading);
    }

    fn decide(&mut self, leading: &mut Leading, event: Event) -> Vec<Effect> {
        let now = leading.now(self.now);
        let effects = leading.scheduler.apply(now, event);
        if self.setup.check_shares {
            self.check_shares(leading, &effects);
        }
        effects
    }

    fn carry_out(&mut self, leading: &mut Leading) {
        while let Some(todo) = leading.todo.pop_front() {
            match todo {
                Todo::Ended(attempt, row) => self.ended(leading, attempt, row),
                Todo::Effect(effect) => self.effect(leading, effect),
            }
        }
    }

    fn effect(&mut self, leading: &mut Leading, effect: Effect) {
        match effect {
            Effect::Assign {
                host,
                attempt,
                generation,
            } => {
                leading
                    .turn
                    .outgoing
                    .entry(host)
                    .or_default()
                    .start
                    .insert(attempt, generation);
            }
            Effect::Revoke {
                host,
                attempt,
                reason,
            } => {
                let outgoing = leading.turn.outgoing.entry(host).or_default();
                outgoing.start.remove(&attempt);
                outgoing.stop.insert(attempt, reason);
            }
            Effect::Lost { attempt, host } => {
                self.trace
                    .say(self.now, || format!("{attempt} is lost with {host}"));
                let row = EndRow {
                    host,
                    outcome: Outcome::HostLost,
                    blame: Some(Blame::Host),
                };
                leading.todo.push_back(Todo::Ended(attempt, row));
            }
            Effect::Finish { run, .. } => {
                leading.runs.remove(&run);
                leading.turn.batch.over.push(run);
            }
            Effect::HealthChanged { host, health } => {
                if let Some(known) = leading.hosts.get_mut(&host) {
                    known.lost = health == Health::Lost;
                    if health != Health::Suspect {
                        leading.turn.hosts.insert(host);
                    }
                }
            }
        }
    }

    /// An attempt ended and its outcome counts: it is judged.
    fn ended(&mut self, leading: &mut Leading, attempt: AttemptId, mut row: EndRow) {
        let plant = self.setup.plant;
        if let Some(outgoing) = leading.turn.outgoing.get_mut(&row.host) {
            outgoing.start.remove(&attempt);
        }
        let Some(book) = leading.runs.get_mut(&attempt.run) else {
            return;
        };
        let lost = row.outcome == Outcome::HostLost;
        if plant == Some(Plant::BlameIgnored) && lost {
            row.outcome = Outcome::Exited { exit_code: 1 };
            row.blame = Some(Blame::Test);
        }
        // What a cell that passed was judged by is in the database only, or still on its way there.
        let recorded = self.db.ends.get(&attempt.run);
        let facts = book.facts.entry(attempt.cell).or_insert_with(|| {
            let cell = (attempt.cell, 0)..=(attempt.cell, u32::MAX);
            let known = recorded
                .into_iter()
                .flat_map(|ends| ends.range(cell.clone()));
            let waiting = leading.turn.batch.attempts.iter();
            let waiting =
                waiting.filter(|(id, _)| (&id.run, id.cell) == (&attempt.run, attempt.cell));
            known
                .map(|(key, row)| facts_of(key.1, row))
                .chain(waiting.map(|(id, row)| facts_of(id.ordinal, row)))
                .collect()
        });
        facts.push(facts_of(attempt.ordinal, &row));
        let decision = judge::next(facts, None, &policy(&book.row));
        let mut next = Next {
            settled: decision.verdict.is_some(),
            failed: decision.verdict == Some(Verdict::Failed),
            again: Vec::new(),
        };
        if decision.again > 0 {
            next.again.push(again(attempt.cell, decision.again, facts));
        }
        let passed = decision.verdict == Some(Verdict::Passed);
        match plant {
            Some(Plant::SettledKept) if passed => next.settled = false,
            Some(Plant::BudgetIgnored) if facts.iter().any(|facts| !facts.passed) => {
                next.settled = false;
                next.again = vec![again(attempt.cell, 1, facts)];
            }
            _ => {}
        }
        if let Some(verdict) = decision.verdict {
            self.checker
                .judged(&attempt.run, attempt.cell, verdict, facts);
        }
        if passed {
            book.facts.remove(&attempt.cell);
        }
        leading.turn.batch.attempts.push((attempt.clone(), row));
        let verdict = decision.verdict;
        self.trace.say(self.now, || {
            format!("{attempt} is judged: {verdict:?}, {} more", decision.again)
        });
        let effects = self.decide(leading, Event::Recorded { attempt, next });
        leading.todo.extend(effects.into_iter().map(Todo::Effect));
    }

    /// Each new assignment went to the waiting run that held least, among those of the highest priority. Looked at from
    /// the end: what was placed last is taken back first.
    fn check_shares(&mut self, leading: &mut Leading, effects: &[Effect]) {
        let seen = leading.generation;
        let mut new: Vec<&AttemptId> = Vec::new();
        for effect in effects {
            if let Effect::Assign {
                attempt,
                generation,
                ..
            } = effect
                && *generation > seen
            {
                leading.generation = leading.generation.max(*generation);
                new.push(attempt);
            }
        }
        if new.is_empty() {
            return;
        }
        let mut views: BTreeMap<&RunId, (i32, u64, bool)> = BTreeMap::new();
        for (id, book) in &leading.runs {
            if let Some(view) = leading.scheduler.run(id) {
                let waits = view.fresh > 0
                    && !view.cancelled
                    && !view.adopting
                    && book.row.parallel.is_none();
                views.insert(id, (book.row.priority, view.held, waits));
            }
        }
        for attempt in new.into_iter().rev() {
            let Some((priority, held, _)) = views.get_mut(&attempt.run) else {
                continue;
            };
            *held -= 1;
            let (priority, held) = (*priority, *held);
            let before = views.iter().find(|(_, (other, less, waits))| {
                *waits && (*other > priority || (*other == priority && *less < held))
            });
            if let Some((id, view)) = before {
                let detail = format!(
                    "{attempt} was placed for a run that holds {held}, before {id}: {view:?}"
                );
                return self.checker.broke(Invariant::SharesAreFair, detail);
            }
        }
    }

    /// What is kept grows with what is under way only.
    fn check_footprint(&mut self, leading: &Leading) {
        let footprint = leading.scheduler.footprint();
        if !footprint.is_within_formula() {
            self.checker
                .broke(Invariant::MemoryWithinFormula, format!("{footprint:?}"));
        }
    }
}

fn counts(
    leading: &Leading,
    host: &HostName,
    attempt: &AttemptId,
    generation: u64,
    life: Incarnation,
) -> bool {
    leading
        .scheduler
        .holder(attempt)
        .is_some_and(|(holder, incarnation, given)| {
            holder == *host && life >= incarnation && generation == given
        })
}

fn work(row: &RunRow) -> Work {
    Work {
        cells: row.cells,
        repeat: row.repeat,
        parallel: row.parallel,
        priority: row.priority,
        fresh: true,
        ..Work::default()
    }
}

fn policy(row: &RunRow) -> judge::Policy {
    judge::Policy {
        repeat: row.repeat,
        ..judge::Policy::default()
    }
}

fn again(cell: u64, attempts: u32, facts: &[AttemptFacts]) -> Again {
    Again {
        cell,
        attempts,
        avoid: judge::hosts(facts),
    }
}
