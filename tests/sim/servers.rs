//! A server: the leader's lease, and turns of decide, commit and publish around the real scheduler and the real judge,
//! as the server's actor has them. It can be killed at each step, stopped, or be one of two that believe that they lead.
//! May not: decide what the scheduler decides.

mod deciding;
mod trusting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use regatta_model::wire::{Assignment, Stop, SyncResponse};
use regatta_model::{AttemptId, HostName, Incarnation, RunId};
use regatta_scheduler::{Config, Effect, Moment, Policy, Restored, RunView, Scheduler};
use regatta_verdict::book::Book;
use regatta_verdict::watch::Watch;

use crate::check::Finished;
use crate::setup::Plant;
use crate::store::{Batch, EndRow, HostRow, Refused, RunRow};
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
    runs: BTreeMap<RunId, Open>,
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
    /// When it began to doubt itself last, by its own clock.
    doubted: Option<u64>,
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
struct Open {
    row: RunRow,
    book: Book,
}

#[derive(Default)]
struct Known {
    incarnation: Incarnation,
    sequence: u64,
    heard: u64,
    /// The same by the leader's clock, or when its lead began where the host may hold something since before; none: the
    /// scheduler has not heard of it.
    spoke: Option<u64>,
    lost: bool,
    quarantined: bool,
    watch: Watch,
}

impl Known {
    /// Whether it was heard, and not for so long.
    fn is_silent_for(&self, now: u64, millis: u64) -> bool {
        self.spoke.is_some_and(|spoke| now >= spoke + millis)
    }

    fn row(&self) -> HostRow {
        HostRow {
            incarnation: self.incarnation,
            lost: self.lost,
            quarantined: self.quarantined,
            trust: self.watch.trust,
        }
    }
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
    finished: Vec<Finished>,
    touched: BTreeSet<RunId>,
}

impl Server {
    pub fn view(&self, run: &RunId) -> Option<RunView> {
        self.leading.as_ref()?.scheduler.run(run)
    }
}

fn host_index(name: &HostName) -> usize {
    name.as_str()[1..].parse().expect("a host of this world")
}

/// The scheduler's word for it.
fn policy_of(quarantined: bool) -> Policy {
    match quarantined {
        true => Policy::Quarantined,
        false => Policy::Active,
    }
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
            .filter(|(_, row)| !row.lost && !open.is_empty());
        let generation = (now + 1) * 1000;
        let restored = Restored {
            hosts: hosts
                .map(|(name, row)| (name.clone(), row.incarnation, policy_of(row.quarantined)))
                .collect(),
            generation,
        };
        let known = self.db.hosts.iter().map(|(name, row)| {
            let known = Known {
                incarnation: row.incarnation,
                lost: row.lost,
                quarantined: row.quarantined,
                watch: Watch::of(row.trust),
                spoke: (!row.lost && !open.is_empty()).then_some(0),
                ..Known::default()
            };
            (name.clone(), known)
        });
        let mut config = Config::with_lease(LEASE_MS);
        if self.setup.plant == Some(Plant::LeaseNotWaited) {
            config = Config::with_lease(LEASE_MS / 3);
        }
        match self.setup.plant {
            Some(Plant::DoubtIgnored) => config.doubt_ms = 0,
            Some(Plant::DoubtEndless) => config.doubt_ms = u64::MAX,
            _ => {}
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
            doubted: None,
        };
        self.set_policies(&mut leading);
        for (id, row) in open {
            self.take_up(&mut leading, id, row);
        }
        self.carry_out(&mut leading);
        self.servers[server].leading = Some(Box::new(leading));
        let life = self.servers[server].life;
        self.at(1, Ev::Turn { server, life });
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
            self.tick_scheduler(&mut leading);
        }
        for name in std::mem::take(&mut leading.turn.hosts) {
            if let Some(known) = leading.hosts.get(&name) {
                leading.turn.batch.hosts.push((name, known.row()));
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
                let Turn {
                    batch, finished, ..
                } = &leading.turn;
                self.checker.committed(&self.db, batch, finished, is_awake);
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
        for id in &turn.touched {
            if let Some(run) = leading.runs.get_mut(id) {
                run.book.forget_passed();
            }
        }
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
        let known = leading.hosts.get(&self.hosts[host].name);
        let canaries = known.map_or(0, |known| known.watch.canaries_wanted(known.quarantined));
        let answer = SyncResponse {
            canaries,
            acknowledged: outgoing.acknowledged,
            start,
            stop: stop.collect(),
            lease_ms: LEASE_MS,
            next_sync_ms: LEASE_MS / 5,
            ..SyncResponse::default()
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
}
