//! A host: its clock, its disk, its executor with containers, and its agent with the real reconcile logic. May not:
//! decide what it holds; that is `reconcile`'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use regatta_daemon::reconcile::{Action, Moment, Reconcile};
use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::container::{Limits, Network};
use regatta_model::plan::{AttemptPlan, Command, Keep, StepPlan};
use regatta_model::wire::{
    Canaries, ENDED_MOST, EndedAttempt, HostFacts, LogPlace, Observed, PROTOCOL, SyncRequest,
    SyncResponse,
};
use regatta_model::{AttemptId, Blame, Digest, HostName, Incarnation, Outcome, Resources};

use crate::chance::Chance;
use crate::check::Truth;
use crate::runs;
use crate::setup::{Plant, Setup};
use crate::{Ev, Request, World};

/// Longest that an agent asks the server to wait, and how much longer it waits for an answer.
const POLL_MS: u64 = 5_000;
const PATIENCE_MS: u64 = 5_000;
/// Pauses between tries to reach a server: the first, and the longest.
const PAUSES_MS: (u64, u64) = (100, 5_000);

/// Processors of the biggest host, and its memory in GiB.
pub const SIZE_MOST: u64 = 4;

/// What is wrong with a host, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Not,
    /// Its attempts mostly fail.
    Failing,
    /// A case of many an attempt is told to have failed.
    Corrupting,
    /// Its attempts take ten times as long.
    Slow,
}

/// What a test is run with here: nothing of it matters.
fn plan() -> AttemptPlan {
    AttemptPlan {
        axes: BTreeMap::new(),
        image: Digest::of(b"image"),
        files: Vec::new(),
        setup: None,
        test: StepPlan {
            run: Command::Exec(Vec::new()),
            env: BTreeMap::new(),
            user: None,
            workdir: None,
            timeout_ms: 0,
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

/// What a host is. Two are as big as any, so that every attempt fits somewhere, and does not wait for a slow one alone.
fn facts(index: usize, setup: &Setup, chance: &mut Chance) -> HostFacts {
    let rack = format!("k{}", index % setup.racks);
    let size = if index < 2 {
        SIZE_MOST
    } else {
        chance.within(1, SIZE_MOST)
    };
    HostFacts {
        cpu: ["old", "new"][chance.index(2)].to_owned(),
        cpus: u32::try_from(size).unwrap_or(1),
        memory_bytes: size << 30,
        labels: BTreeMap::from([("rack".to_owned(), rack)]),
        ..HostFacts::default()
    }
}

/// What is told of the cases that failed.
fn results(failing: Vec<String>) -> Results {
    let exceptions = (0..).zip(&failing).map(|(index, _)| CaseException {
        index,
        status: CaseStatus::Failed,
        message: String::new(),
    });
    Results {
        exceptions: exceptions.collect(),
        names: failing,
        found: true,
        ..Results::default()
    }
}

/// A server's order to run an attempt.
pub fn assignment(attempt: AttemptId, generation: u64) -> regatta_model::wire::Assignment {
    regatta_model::wire::Assignment {
        attempt,
        generation,
        plan: plan(),
    }
}

#[derive(Debug)]
pub struct Host {
    pub name: HostName,
    pub rack: usize,
    slots: u32,
    facts: HostFacts,
    bad: Bad,
    /// How much faster than the world its clock runs, in millionths.
    clock_ppm: i64,
    up: bool,
    hung_until: u64,
    /// Requests and answers are lost until then.
    pub mute_until: u64,
    pub deaf_until: u64,
    incarnation: Incarnation,
    /// Lives of the executor's process and of the agent's.
    executor: u64,
    pub agent: u64,
    reconcile: Reconcile,
    waiting: VecDeque<AttemptId>,
    running: BTreeSet<AttemptId>,
    /// Outcomes that the executor keeps until the agent took them.
    kept: BTreeMap<AttemptId, EndedAttempt>,
    /// On disk: what was made ready to run, and outcomes that nobody acknowledged.
    records: BTreeMap<AttemptId, u64>,
    outbox: BTreeMap<AttemptId, EndedAttempt>,
    /// By the host's own clock.
    lease_end: u64,
    lease_watched: bool,
    sequence: u64,
    exchange: Option<Exchange>,
    exchanges: u64,
    news: bool,
    /// The number of the moment at which it will speak.
    wake: u64,
    pause_ms: u64,
    server: usize,
    /// Canaries that passed and failed since the agent started, and whether the last one failed.
    canaries: (u64, u64, bool),
}

/// A sync that was sent and not answered.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    number: u64,
    /// The host's own time when it was sent.
    sent: u64,
    /// The server may wait with its answer.
    polls: bool,
}

/// How a container ends.
#[derive(Clone, Debug)]
pub struct Ending {
    of_test: runs::Ending,
    /// Whether it fails for its host's sake only.
    spoiled: bool,
}

impl Host {
    pub fn new(index: usize, setup: &Setup, chance: &mut Chance) -> Self {
        let most = setup.bad_permille;
        let bad = match chance.within(0, 999) {
            luck if luck < most => Bad::Failing,
            luck if luck < 2 * most => Bad::Corrupting,
            luck if luck < 2 * most + 5 => Bad::Slow,
            _ => Bad::Not,
        };
        let facts = facts(index, setup, chance);
        let drift = i64::try_from(chance.within(0, 100_000)).unwrap_or(0) - 50_000;
        Self {
            name: format!("h{index}").parse().expect("a fine name"),
            rack: index % setup.racks,
            slots: setup.slots,
            facts,
            bad,
            clock_ppm: drift,
            up: false,
            hung_until: 0,
            mute_until: 0,
            deaf_until: 0,
            incarnation: Incarnation(0),
            executor: 0,
            agent: 0,
            reconcile: Reconcile::new(setup.slots, Incarnation(0)),
            waiting: VecDeque::new(),
            running: BTreeSet::new(),
            kept: BTreeMap::new(),
            records: BTreeMap::new(),
            outbox: BTreeMap::new(),
            lease_end: 0,
            lease_watched: false,
            sequence: 0,
            exchange: None,
            exchanges: 0,
            news: false,
            wake: 0,
            pause_ms: PAUSES_MS.0,
            server: 0,
            canaries: (0, 0, false),
        }
    }

    /// Whether it fails what passes elsewhere.
    pub fn spoils(&self) -> bool {
        matches!(self.bad, Bad::Failing | Bad::Corrupting)
    }

    /// Whether nothing on it moves. (When it goes on, it looks at its lease before anything else.)
    pub fn hangs_at(&self, now: u64) -> bool {
        self.hung_until > now
    }

    /// The host's own time.
    fn local(&self, now: u64) -> u64 {
        let drift = i128::from(now) * i128::from(self.clock_ppm) / 1_000_000;
        u64::try_from(i128::from(now) + drift).unwrap_or(0)
    }

    /// How long the world waits for the host's own time to come, rounded up.
    fn until(&self, now: u64, local: u64) -> u64 {
        let left = i128::from(local.saturating_sub(self.local(now)));
        let rate = 1_000_000 + i128::from(self.clock_ppm);
        u64::try_from(left * 1_000_000 / rate).unwrap_or(0) + 1
    }
}

impl World {
    fn is_live(&self, host: usize, life: u64) -> bool {
        self.hosts[host].up && self.hosts[host].agent == life
    }

    /// Puts an event of a host that hangs off until it goes on.
    fn hangs(&mut self, host: usize, ev: impl FnOnce() -> Ev) -> bool {
        let until = self.hosts[host].hung_until;
        if until > self.now {
            let ev = ev();
            self.at(until - self.now, ev);
        }
        until > self.now
    }

    /// There is something to tell: soon, and in place of a sync that only waits.
    fn news(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        this.news = true;
        if this.exchange.is_some_and(|exchange| exchange.polls) {
            this.exchange = None;
        }
        if this.exchange.is_none() {
            self.wake_after(host, 3);
        }
    }

    /// Lets the agent speak after so many milliseconds, and not before.
    fn wake_after(&mut self, host: usize, millis: u64) {
        self.hosts[host].wake += 1;
        let number = self.hosts[host].wake;
        self.at(millis, Ev::Wake { host, number });
    }

    pub(crate) fn wake(&mut self, host: usize, number: u64) {
        let this = &self.hosts[host];
        if !this.up || this.wake != number || this.exchange.is_some() {
            return;
        }
        if !self.hangs(host, || Ev::Wake { host, number }) {
            self.sync(host);
        }
    }

    fn sync(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        let ended: Vec<EndedAttempt> = host.outbox.values().take(ENDED_MOST).cloned().collect();
        let told: BTreeSet<AttemptId> = ended.iter().map(|end| end.attempt.clone()).collect();
        let polls = told.is_empty() && !host.news && host.sequence > 0;
        host.news = false;
        host.sequence += 1;
        host.exchanges += 1;
        let number = host.exchanges;
        let sent = host.local(now);
        host.exchange = Some(Exchange {
            number,
            sent,
            polls,
        });
        let wait_ms = if polls { POLL_MS } else { 0 };
        let mut body = SyncRequest {
            protocol: PROTOCOL,
            host: host.name.clone(),
            incarnation: host.reconcile.incarnation(),
            sequence: host.sequence,
            facts: host.facts.clone(),
            slots: host.slots,
            free: host.reconcile.free(),
            holding: host.reconcile.holding(&told),
            ended,
            wait_ms,
            clock_ms: 0,
        };
        let (passed, failed, failing) = host.canaries;
        let observed = Observed {
            canaries: Some(Canaries {
                passed,
                failed,
                failure: String::new(),
            }),
            lacks: failing
                .then(|| "a canary failed".to_owned())
                .into_iter()
                .collect(),
            ..Observed::default()
        };
        body.facts.observed = observed;
        let (life, server, muted) = (host.agent, host.server, host.mute_until > now);
        let request = Request {
            host: index,
            life,
            exchange: number,
            body,
        };
        let doubled = !self.calm && self.chance.permille(self.setup.doubled_permille);
        for _ in 0..1 + usize::from(doubled) {
            let after = self.delay();
            if !muted && !self.is_lost() {
                let request = Box::new(request.clone());
                self.at(after, Ev::Request { server, request });
            }
        }
        let exchange = number;
        self.at(
            wait_ms + PATIENCE_MS,
            Ev::Timeout {
                host: index,
                life,
                exchange,
            },
        );
    }

    /// A sync came to nothing: the other server is tried, after a pause.
    pub(crate) fn no_answer(&mut self, index: usize, life: u64, exchange: u64, why: &'static str) {
        if !self.is_live(index, life) {
            return;
        }
        if self.hangs(index, || Ev::Refused {
            host: index,
            life,
            exchange,
        }) {
            return;
        }
        let now = self.now;
        let servers = self.servers.len();
        let host = &mut self.hosts[index];
        if host.exchange.is_none_or(|open| open.number != exchange) {
            return;
        }
        host.exchange = None;
        host.news = true;
        host.server = (host.server + 1) % servers;
        let local = Moment(host.local(now));
        let dropped = host.reconcile.passed(local);
        let pause = host.pause_ms;
        host.pause_ms = (pause * 2).min(PAUSES_MS.1);
        self.trace
            .say(now, || format!("h{index} hears nothing: {why}"));
        self.act(index, dropped);
        let after = pause / 2 + self.chance.within(0, pause);
        self.wake_after(index, after);
    }

    pub(crate) fn answer_arrives(
        &mut self,
        index: usize,
        life: u64,
        exchange: u64,
        answer: SyncResponse,
    ) {
        if !self.is_live(index, life) {
            return;
        }
        if self.hangs(index, || Ev::Answer {
            host: index,
            life,
            exchange,
            answer: Box::new(answer.clone()),
        }) {
            return;
        }
        let now = self.now;
        let host = &mut self.hosts[index];
        let Some(open) = host.exchange.filter(|open| open.number == exchange) else {
            return;
        };
        if host.deaf_until > now {
            return;
        }
        host.exchange = None;
        host.pause_ms = PAUSES_MS.0;
        self.run_canaries(index, answer.canaries);
        let host = &mut self.hosts[index];
        if self.setup.plant == Some(Plant::PlacesUncounted) {
            host.reconcile.set_queue(100);
        }
        let next_sync_ms = answer.next_sync_ms.max(10);
        let actions = host.reconcile.answered(Moment(open.sent), answer);
        let local = host.local(now);
        host.lease_end = local + host.reconcile.lease_left_ms(Moment(local));
        self.watch_lease(index);
        self.act(index, actions);
        self.fill_places(index);
        let host = &mut self.hosts[index];
        if host.exchange.is_some() {
            return;
        }
        let busy = host.reconcile.free() == 0 && host.outbox.is_empty() && !host.news;
        let after = if busy { next_sync_ms } else { 2 };
        self.wake_after(index, after);
    }

    /// Runs as many canaries as the server wants to see, and another one where the last one failed. They take no time.
    fn run_canaries(&mut self, index: usize, wanted: u32) {
        let host = &mut self.hosts[index];
        let spoils = host.spoils();
        let (passed, failed, failing) = &mut host.canaries;
        for _ in 0..wanted.max(u32::from(*failing)) {
            *failing = spoils && self.chance.permille(50);
            *(if *failing { &mut *failed } else { &mut *passed }) += 1;
        }
    }

    /// Does what the reconcile logic says.
    fn act(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { attempt, .. } => self.hosts[index].waiting.push_back(attempt),
                Action::Drop { attempt } => self.hosts[index].waiting.retain(|a| *a != attempt),
                Action::Stop { attempt } => self.kill(index, &attempt, Outcome::Cancelled, None),
                Action::Acknowledged { attempt } => {
                    self.hosts[index].outbox.remove(&attempt);
                }
            }
        }
    }

    fn fill_places(&mut self, index: usize) {
        loop {
            let (now, unbounded) = (self.now, self.setup.plant == Some(Plant::PlacesUncounted));
            let host = &mut self.hosts[index];
            if host.running.len() >= host.slots as usize && !unbounded {
                return;
            }
            let Some(attempt) = host.waiting.pop_front() else {
                return;
            };
            if self.setup.plant == Some(Plant::WaitingForgotten) && self.chance.permille(10) {
                continue;
            }
            let local = Moment(host.local(now));
            if !host.reconcile.starting(&attempt, local) {
                continue;
            }
            let generation = host.reconcile.generation(&attempt).unwrap_or_default();
            host.records.insert(attempt.clone(), generation);
            host.running.insert(attempt.clone());
            let (running, slots, life, bad) =
                (host.running.len(), host.slots, host.executor, host.bad);
            let hosts = &self.hosts;
            let is_awake = |other: usize| !hosts[other].hangs_at(now);
            self.checker.started(&attempt, generation, index, is_awake);
            self.checker.runs(index, running, slots);
            self.check_resources(index);
            self.trace.say(now, || format!("h{index} starts {attempt}"));
            let ending = self.ending(&attempt, bad);
            let usual = self.chance.within(20, self.setup.attempt_ms);
            let after = if bad == Bad::Slow { usual * 10 } else { usual };
            let ev = Ev::Ends {
                host: index,
                life,
                attempt,
                ending,
            };
            self.at(after, ev);
        }
    }

    /// What a host runs asks for no more than it has.
    fn check_resources(&mut self, index: usize) {
        let host = &self.hosts[index];
        let asked = host.running.iter().filter_map(|attempt| {
            let run = self.db.runs.get(&attempt.run)?;
            Some(run.asked)
        });
        let asked = asked.fold(Resources::default(), |all, one| all.plus(&one));
        self.checker.uses(index, &asked, &host.facts.resources());
    }

    /// How an attempt ends on a host that is as bad as this.
    fn ending(&mut self, attempt: &AttemptId, bad: Bad) -> Ending {
        let run: u64 = attempt.run.as_str().bytes().map(u64::from).sum();
        let index = crate::run_index(&attempt.run);
        let seed = self.setup.seed ^ (run << 40);
        let row = &self.planned[index].row;
        let mut of_test = row.ending(attempt.cell, seed, &mut self.chance);
        let passes = of_test.passed();
        if !of_test.untested {
            match bad {
                Bad::Failing if self.chance.permille(600) => of_test.whole = true,
                Bad::Corrupting if self.chance.permille(300) => of_test.failing = vec!["a".into()],
                _ => {}
            }
        }
        Ending {
            spoiled: passes && !of_test.passed(),
            of_test,
        }
    }

    fn outcome(
        &self,
        index: usize,
        attempt: &AttemptId,
        outcome: Outcome,
        blame: Option<Blame>,
    ) -> EndedAttempt {
        EndedAttempt {
            attempt: attempt.clone(),
            generation: 0,
            incarnation: self.hosts[index].incarnation,
            outcome,
            blame,
            detail: String::new(),
            wall_ms: 0,
            queue_ms: 0,
            start_us: 0,
            cpu_us: 0,
            peak_memory_bytes: 0,
            metrics: std::collections::BTreeMap::new(),
            identity: None,
            changed: Vec::new(),
            results: Results::default(),
            log: LogPlace::Empty,
            artifacts: Vec::new(),
            files: None,
        }
    }

    pub(crate) fn container_ends(
        &mut self,
        host: usize,
        life: u64,
        attempt: AttemptId,
        ending: Ending,
    ) {
        if !self.hosts[host].up || self.hosts[host].executor != life {
            return;
        }
        let ev = || Ev::Ends {
            host,
            life,
            attempt: attempt.clone(),
            ending: ending.clone(),
        };
        if self.hangs(host, ev) || !self.hosts[host].running.contains(&attempt) {
            return;
        }
        let Ending { of_test, spoiled } = ending;
        let passed = of_test.passed();
        let blame = (!passed).then_some(Blame::Test);
        let outcome = match of_test.untested {
            true => Outcome::SetupFailed,
            false => Outcome::Exited {
                exit_code: i32::from(!passed),
            },
        };
        let truth = Truth::Ended { passed, spoiled };
        self.over(host, &attempt, outcome, blame, truth);
        if let Some(end) = self.hosts[host].kept.get_mut(&attempt) {
            end.results = results(of_test.failing);
        }
    }

    /// Ends a container from outside.
    fn kill(&mut self, host: usize, attempt: &AttemptId, outcome: Outcome, blame: Option<Blame>) {
        if self.hosts[host].running.contains(attempt) {
            self.over(host, attempt, outcome, blame, Truth::Cut);
        }
    }

    fn over(
        &mut self,
        index: usize,
        attempt: &AttemptId,
        outcome: Outcome,
        blame: Option<Blame>,
        truth: Truth,
    ) {
        self.hosts[index].running.remove(attempt);
        let name = self.hosts[index].name.clone();
        self.checker.stopped(attempt, &name, truth);
        let end = self.outcome(index, attempt, outcome, blame);
        self.trace
            .say(self.now, || format!("h{index} ends {attempt}: {outcome:?}"));
        self.hosts[index].kept.insert(attempt.clone(), end);
        self.take_outcome(index, attempt);
    }

    /// The agent puts an outcome together, and writes it down.
    fn take_outcome(&mut self, index: usize, attempt: &AttemptId) {
        let host = &mut self.hosts[index];
        if !host.reconcile.ending(attempt) {
            // Nobody holds it any more: it is no outcome.
            host.kept.remove(attempt);
            host.records.remove(attempt);
            return;
        }
        let life = host.agent;
        let after = self.chance.within(1, 5);
        self.at(
            after,
            Ev::Written {
                host: index,
                life,
                attempt: attempt.clone(),
            },
        );
    }

    pub(crate) fn written(&mut self, index: usize, life: u64, attempt: &AttemptId) {
        if !self.is_live(index, life)
            || self.hangs(index, || Ev::Written {
                host: index,
                life,
                attempt: attempt.clone(),
            })
        {
            return;
        }
        let host = &mut self.hosts[index];
        let Some(mut end) = host.kept.remove(attempt) else {
            return;
        };
        host.records.remove(attempt);
        if let Some(generation) = host.reconcile.ended(attempt) {
            end.generation = generation;
            host.outbox.insert(attempt.clone(), end);
        }
        self.fill_places(index);
        self.news(index);
    }

    fn watch_lease(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if !host.lease_watched {
            host.lease_watched = true;
            let (after, life) = (host.until(self.now, host.lease_end), host.executor);
            self.at(after, Ev::LeaseEnds { host: index, life });
        }
    }

    pub(crate) fn lease_ends(&mut self, index: usize, life: u64) {
        if !self.hosts[index].up || self.hosts[index].executor != life {
            return;
        }
        if self.hangs(index, || Ev::LeaseEnds { host: index, life }) {
            return;
        }
        self.hosts[index].lease_watched = false;
        if !self.end_without_lease(index) {
            self.watch_lease(index);
        }
    }

    /// The executor ends everything where there is no lease; whether that was so.
    fn end_without_lease(&mut self, index: usize) -> bool {
        let host = &self.hosts[index];
        let over = host.local(self.now) >= host.lease_end;
        if over && self.setup.plant != Some(Plant::LeaseOutlived) {
            for attempt in host.running.clone() {
                self.kill(index, &attempt, Outcome::HostLost, Some(Blame::Host));
            }
        }
        over
    }

    /// A host that hung goes on: before anything else, it sees that its lease is over.
    pub(crate) fn resumes(&mut self, index: usize) {
        if self.hosts[index].up && self.hosts[index].hung_until <= self.now {
            self.end_without_lease(index);
        }
    }

    pub(crate) fn hang(&mut self, index: usize, millis: u64) {
        let until = self.now + millis;
        let host = &mut self.hosts[index];
        if host.up && host.hung_until <= self.now {
            host.hung_until = until;
            self.trace
                .say(self.now, || format!("h{index} hangs for {millis} ms"));
            self.at(millis, Ev::Resumes { host: index });
        }
    }

    /// The executor, and all that it runs, is no more.
    fn lose_containers(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.executor += 1;
        host.lease_watched = false;
        host.lease_end = 0;
        host.kept.clear();
        let name = host.name.clone();
        for attempt in std::mem::take(&mut host.running) {
            self.checker.stopped(&attempt, &name, Truth::Cut);
        }
    }

    /// The machine goes down, and comes up after so many milliseconds.
    pub(crate) fn reboot(&mut self, index: usize, millis: u64) {
        if !self.hosts[index].up {
            return;
        }
        self.trace
            .say(self.now, || format!("h{index} is down for {millis} ms"));
        self.lose_containers(index);
        let host = &mut self.hosts[index];
        host.up = false;
        host.hung_until = 0;
        host.agent += 1;
        let life = host.agent;
        self.at(
            millis,
            Ev::Starts {
                host: index,
                life,
                reborn: true,
            },
        );
    }

    /// The machine's disk is new when it comes up: what it remembered is lost.
    pub(crate) fn lose_disk(&mut self, index: usize) {
        if !self.hosts[index].up {
            self.trace
                .say(self.now, || format!("h{index} gets a new disk"));
            self.hosts[index].records.clear();
            self.hosts[index].outbox.clear();
        }
    }

    /// The agent's process is killed and started again; containers run on.
    pub(crate) fn restart_agent(&mut self, index: usize, millis: u64) {
        let host = &mut self.hosts[index];
        if !host.up || host.hung_until > self.now {
            return;
        }
        self.trace
            .say(self.now, || format!("h{index}: the agent is killed"));
        host.agent += 1;
        let life = host.agent;
        self.at(
            millis,
            Ev::Starts {
                host: index,
                life,
                reborn: false,
            },
        );
    }

    /// The executor is killed; another one is there at once.
    pub(crate) fn kill_executor(&mut self, index: usize) {
        if !self.hosts[index].up || self.hosts[index].hung_until > self.now {
            return;
        }
        self.trace
            .say(self.now, || format!("h{index}: the executor is killed"));
        self.lose_containers(index);
        let host = &mut self.hosts[index];
        host.incarnation = Incarnation(self.now + 1);
        let dropped = host.reconcile.reborn(host.incarnation);
        self.act(index, dropped);
        self.tell_lost(index);
        self.news(index);
    }

    /// What was made ready and has neither a container nor an outcome went down with its executor.
    fn tell_lost(&mut self, index: usize) {
        let host = &self.hosts[index];
        let lost: Vec<AttemptId> = host
            .records
            .keys()
            .filter(|attempt| !host.running.contains(*attempt) && !host.kept.contains_key(*attempt))
            .cloned()
            .collect();
        for attempt in lost {
            let end = self.outcome(index, &attempt, Outcome::HostLost, Some(Blame::Host));
            self.hosts[index].kept.insert(attempt.clone(), end);
            self.take_outcome(index, &attempt);
        }
    }

    /// The agent starts, after the machine did where it is `reborn`, and looks at what there is.
    pub(crate) fn starts(&mut self, index: usize, life: u64, reborn: bool) {
        if self.hosts[index].agent != life
            || self.hangs(index, || Ev::Starts {
                host: index,
                life,
                reborn,
            })
        {
            return;
        }
        let now = self.now;
        let dropped = self.setup.plant == Some(Plant::OutboxDropped);
        let host = &mut self.hosts[index];
        host.up = true;
        if reborn {
            host.incarnation = Incarnation(now + 1);
        }
        if dropped && !reborn {
            host.outbox.clear();
        }
        let mut reconcile = Reconcile::new(host.slots, host.incarnation);
        for (attempt, generation) in &host.records {
            reconcile.adopt(attempt.clone(), *generation);
        }
        for (attempt, end) in &host.outbox {
            reconcile.adopt_ended(attempt.clone(), end.generation);
        }
        if host.lease_end > host.local(now) {
            reconcile.adopt_lease(Moment(host.lease_end));
        }
        host.reconcile = reconcile;
        host.waiting.clear();
        host.canaries = (0, 0, false);
        (host.exchange, host.sequence, host.news) = (None, 0, true);
        let kept: Vec<AttemptId> = host.kept.keys().cloned().collect();
        self.trace
            .say(now, || format!("h{index}: the agent starts"));
        for attempt in kept {
            self.take_outcome(index, &attempt);
        }
        self.tell_lost(index);
        self.news(index);
    }
}
