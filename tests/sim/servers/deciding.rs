//! What a leader decides in a turn: what the actor does with a sync, an effect, an ended attempt, and with what is recorded
//! when it begins. May not: say anything to anybody; that is for after the commit.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_model::report::Verdict;
use regatta_model::wire::{Held, HeldState, Stop, SyncResponse};
use regatta_model::{AttemptId, Blame, CellNumber, HostName, Incarnation, Outcome, RunId};
use regatta_scheduler::{Again, Effect, Event, Health, HostState, Work};
use regatta_verdict::book::{Book, TakenUp};
use regatta_verdict::judge;

use super::{Known, Leading, OVERTAKEN_MS, Open, Outgoing, Todo, Waiting};
use crate::check::Invariant;
use crate::setup::Plant;
use crate::store::{EndRow, Ends, RunRow};
use crate::{LEASE_MS, Request, Wish, World};

/// Cells that are judged at once when a run is taken up, at most.
const CELLS_AT_ONCE: u64 = 20;

impl World {
    /// As the actor takes up a run.
    pub(super) fn take_up(&mut self, leading: &mut Leading, id: RunId, row: RunRow) {
        let mut book = Book::new(Arc::clone(&row.matrix), self.policy(&row));
        let mut taken_up = TakenUp::default();
        let none = Ends::new();
        let ends: Vec<_> = self.db.ends.get(&id).unwrap_or(&none).iter().collect();
        for ends in ends.chunk_by(|one, other| one.0.0 == other.0.0) {
            let facts = ends.iter().map(|(key, row)| row.facts(key.1)).collect();
            book.take_up(ends[0].0.0, facts, &mut taken_up);
        }
        let cells = book.not_passed();
        let at_once = self.chance.within(1, CELLS_AT_ONCE) as usize;
        for cells in cells.chunks(at_once) {
            let missing = cells.iter().flat_map(|cell| book.missing(*cell, false));
            let missing: Vec<CellNumber> = missing.collect();
            book.bring(self.db.attempts_of(&id, &missing));
            for cell in cells {
                book.judge_taken_up(*cell, false, &mut taken_up);
            }
        }
        book.taken_up(&mut taken_up);
        let work = Work {
            fresh: false,
            settled: taken_up.settled,
            tried: taken_up.tried,
            again: taken_up.again,
            reruns_left: book.reruns_left(),
            ..self.work(&row)
        };
        let cancelled = row.cancelled;
        leading.runs.insert(id.clone(), Open { row, book });
        let submitted = Event::Submitted {
            run: id.clone(),
            work: Box::new(work),
        };
        self.apply(leading, submitted);
        if cancelled && self.setup.plant != Some(Plant::CancelForgotten) {
            self.apply(leading, Event::Cancelled { run: id });
        }
    }

    fn policy(&self, row: &RunRow) -> judge::Policy {
        let mut policy = judge::Policy::of(&row.matrix);
        if self.setup.plant == Some(Plant::WholeBudgetIgnored) {
            policy.in_all = None;
        }
        policy
    }

    /// What the scheduler is told of a run.
    fn work(&self, row: &RunRow) -> Work {
        let known = |plant| self.setup.plant != Some(plant);
        let asked = known(Plant::AskedIgnored).then_some(row.asked);
        Work {
            cells: row.cells,
            repeat: row.repeat,
            parallel: row.parallel,
            priority: row.priority,
            owner: row.owner.clone().filter(|_| known(Plant::OwnerIgnored)),
            weight: if known(Plant::WeightIgnored) {
                row.weight
            } else {
                1
            },
            asked: asked.unwrap_or_default(),
            fresh: true,
            ..Work::default()
        }
    }

    pub(super) fn wished(&mut self, leading: &mut Leading, wish: Wish) {
        let (Wish::Submit(index) | Wish::Cancel(index)) = wish;
        let id = self.planned[index].id.clone();
        if matches!(wish, Wish::Submit(_)) {
            let new = !self.db.runs.contains_key(&id) && !leading.runs.contains_key(&id);
            if new {
                let row = self.planned[index].row.clone();
                leading.turn.batch.runs.push((id.clone(), row.clone()));
                let mut work = self.work(&row);
                work.reruns_left = self.policy(&row).in_all.map(u64::from);
                if self.setup.plant == Some(Plant::ShareIgnored) && index == 0 {
                    work.priority += 1;
                }
                let book = Book::new(Arc::clone(&row.matrix), self.policy(&row));
                leading.runs.insert(id.clone(), Open { row, book });
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
    pub(super) fn synced(&mut self, leading: &mut Leading, request: Request) {
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
        let anew = body.sequence <= known.sequence;
        (known.incarnation, known.sequence, known.heard) = (incarnation, body.sequence, self.now);
        if reborn {
            leading.turn.hosts.insert(host.clone());
        }
        self.take_canaries(leading, &host, &body.facts.observed, anew);
        let lacks = !body.facts.observed.lacks.is_empty();
        let acknowledged: Vec<AttemptId> =
            body.ended.iter().map(|end| end.attempt.clone()).collect();
        let ends = body.ended.into_iter().map(|end| {
            let row = EndRow {
                host: host.clone(),
                outcome: end.outcome,
                blame: end.blame,
                failing: end
                    .results
                    .failures()
                    .map(|(name, _)| name.to_owned())
                    .collect(),
            };
            (end.attempt, end.generation, end.incarnation, row)
        });
        let (held, unknown): (Vec<_>, Vec<_>) =
            ends.partition(|end| !reborn && !lacks && counts(leading, &host, &end.0, end.1, end.2));
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
        let watch = leading.hosts.get(&host).map(|known| known.watch);
        let free = if uncounted { 100 } else { body.free };
        let watch = watch.unwrap_or_default();
        let (slots, free) = watch.places(body.slots, free, body.holding.len());
        let state = HostState {
            lacks,
            slots,
            free,
            holding: body.holding,
            ended: told.collect(),
            capacity: body.facts.resources(),
            labels: body.facts.labels,
            cpu: body.facts.cpu,
            ready: body.facts.ready,
        };
        let synced = Event::Synced {
            host: host.clone(),
            incarnation,
            state: Box::new(state),
        };
        self.apply(leading, synced);
        let now = leading.now(self.now).0;
        if let Some(known) = leading.hosts.get_mut(&host) {
            known.spoke = Some(now);
        }
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
    pub(super) fn apply(&mut self, leading: &mut Leading, event: Event) {
        let effects = self.decide(leading, event);
        leading.todo.extend(effects.into_iter().map(Todo::Effect));
        self.carry_out(leading);
    }

    pub(super) fn decide(&mut self, leading: &mut Leading, event: Event) -> Vec<Effect> {
        let now = leading.now(self.now);
        let effects = leading.scheduler.apply(now, event);
        if self.setup.check_shares {
            self.check_shares(leading, &effects);
        }
        effects
    }

    pub(super) fn carry_out(&mut self, leading: &mut Leading) {
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
                    failing: Vec::new(),
                };
                leading.todo.push_back(Todo::Ended(attempt, row));
            }
            Effect::Finish { run, cancelled } => {
                if let Some(open) = leading.runs.remove(&run).filter(|_| !cancelled) {
                    let cells = 0..open.row.cells;
                    let verdicts = cells.map(|cell| open.book.verdict(cell)).collect();
                    leading.turn.finished.push((run.clone(), verdicts));
                }
                leading.turn.batch.over.push(run);
            }
            Effect::Doubted { silent } => {
                self.trace.say(self.now, || {
                    format!("{silent} hosts are silent: the server doubts itself")
                });
                leading.doubted = Some(leading.now(self.now).0);
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
        let lost = row.outcome == Outcome::HostLost;
        if plant == Some(Plant::BlameIgnored) && lost {
            row.outcome = Outcome::Exited { exit_code: 1 };
            row.blame = Some(Blame::Test);
        }
        self.weigh_host(leading, &mut row);
        if let Some(outgoing) = leading.turn.outgoing.get_mut(&row.host) {
            outgoing.start.remove(&attempt);
        }
        let Some(run) = leading.runs.get_mut(&attempt.run) else {
            return;
        };
        let missing = run.book.missing(attempt.cell, row.passed());
        run.book.bring(self.db.attempts_of(&attempt.run, &missing));
        let facts = row.facts(attempt.ordinal);
        let (next, reached) = run.book.record(attempt.cell, facts);
        for (cell, verdict) in &reached {
            let facts = run.book.facts(*cell);
            self.checker.judged(&attempt.run, *cell, *verdict, facts);
        }
        self.trace.say(self.now, || {
            format!(
                "{attempt} is judged: {reached:?}, and more: {:?}",
                next.again
            )
        });
        leading.turn.touched.insert(attempt.run.clone());
        let bad = self.score_hosts(leading, &attempt, &row, &reached);
        leading.turn.batch.attempts.push((attempt.clone(), row));
        for host in &bad {
            self.quarantine(leading, host);
        }
        let Some(run) = leading.runs.get_mut(&attempt.run) else {
            return;
        };
        let mut next = match bad.is_empty() {
            true => next,
            false => run.book.wanted(attempt.cell, next),
        };
        let facts = run.book.facts(attempt.cell);
        let passed = reached.contains(&(attempt.cell, Verdict::Passed));
        match plant {
            Some(Plant::SettledKept) if passed => next.settled = false,
            Some(Plant::BaselinesForgotten) => {
                next.again.retain(|again| again.cell == attempt.cell);
            }
            Some(Plant::BadHostsTrusted) => {
                for again in &mut next.again {
                    again.avoid.clear();
                }
            }
            Some(Plant::BudgetIgnored) if facts.iter().any(|facts| !facts.passed) => {
                next.settled = false;
                next.again = vec![Again {
                    cell: attempt.cell,
                    attempts: 1,
                    reruns: 1,
                    avoid: judge::hosts(facts),
                }];
            }
            _ => {}
        }
        let effects = self.decide(leading, Event::Recorded { attempt, next });
        leading.todo.extend(effects.into_iter().map(Todo::Effect));
    }

    /// Each new assignment went to the waiting owner that held least for the weight of his runs, and to the run of his that
    /// did, among those of the highest priority. Looked at from the end: what was placed last is taken back first.
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
        let mut claims: BTreeMap<&RunId, Claim> = BTreeMap::new();
        for (id, open) in &leading.runs {
            if let Some(view) = leading.scheduler.run(id) {
                // What asks for something may not fit, and others go before it then.
                let unbound = open.row.parallel.is_none() && open.row.asked.is_none();
                let claim = Claim {
                    row: &open.row,
                    held: view.held,
                    waits: view.fresh > 0 && !view.cancelled && !view.adopting && unbound,
                };
                claims.insert(id, claim);
            }
        }
        for attempt in new.into_iter().rev() {
            if let Some(claim) = claims.get_mut(&attempt.run) {
                claim.held -= 1;
            }
            let Some(mine) = claims.get(&attempt.run) else {
                continue;
            };
            let before = claims
                .iter()
                .find(|(_, other)| other.waits && other.goes_before(mine, &claims));
            if let Some((id, other)) = before {
                let detail = format!("{attempt} was placed for {mine:?}, before {id}: {other:?}");
                return self.checker.broke(Invariant::SharesAreFair, detail);
            }
        }
    }

    /// What is kept grows with what is under way only.
    pub(super) fn check_footprint(&mut self, leading: &Leading) {
        let footprint = leading.scheduler.footprint();
        if footprint.is_within_formula(0) {
            return;
        }
        let compares = leading.runs.values().filter(|run| run.row.compares());
        let waits = compares.map(|run| run.book.undecided()).sum();
        if !footprint.is_within_formula(waits) {
            self.checker
                .broke(Invariant::MemoryWithinFormula, format!("{footprint:?}"));
        }
    }
}

/// What a run has, and whether it could have more.
#[derive(Debug)]
struct Claim<'a> {
    row: &'a RunRow,
    held: u64,
    waits: bool,
}

impl Claim<'_> {
    /// Sixths of attempts for its weight, which is 1, 2 or 3.
    fn load(&self) -> u64 {
        self.held * 6 / u64::from(self.row.weight)
    }

    /// What all runs of its owner have.
    fn owner_load(&self, claims: &BTreeMap<&RunId, Claim<'_>>) -> u64 {
        let his = claims.values();
        let his = his.filter(|other| other.row.owner == self.row.owner);
        his.map(Claim::load).sum()
    }

    /// Whether it has the better right to a place. Two owners that have the same take turns, whatever their runs have.
    fn goes_before(&self, other: &Self, claims: &BTreeMap<&RunId, Claim<'_>>) -> bool {
        let key = |claim: &Self| (Reverse(claim.row.priority), claim.owner_load(claims));
        let same = self.row.owner == other.row.owner;
        key(self) < key(other) || same && key(self) == key(other) && self.load() < other.load()
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
