//! What a leader decides in a turn: what the actor does with a sync, an effect, an ended attempt, and with what is recorded
//! when it begins. May not: say anything to anybody; that is for after the commit.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use regatta_model::report::Verdict;
use regatta_model::wire::{Held, HeldState, Stop, SyncResponse};
use regatta_model::{AttemptId, Blame, HostName, Incarnation, Outcome, RunId};
use regatta_scheduler::{Again, Effect, Event, Health, HostState, Next, Work};
use regatta_verdict::judge::{self, AttemptFacts};

use super::{Book, Known, Leading, OVERTAKEN_MS, Outgoing, Todo, Waiting};
use crate::check::Invariant;
use crate::setup::Plant;
use crate::store::{EndRow, Ends, RunRow};
use crate::{LEASE_MS, Request, Wish, World};

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

impl World {
    pub(super) fn take_up(&mut self, leading: &mut Leading, id: RunId, row: RunRow) {
        let mut book = Book {
            row: row.clone(),
            facts: BTreeMap::new(),
        };
        let mut work = Work {
            fresh: false,
            ..self.work(&row)
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
            lacks: false,
            slots: body.slots,
            free: if uncounted { 100 } else { body.free },
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

    fn decide(&mut self, leading: &mut Leading, event: Event) -> Vec<Effect> {
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
                };
                leading.todo.push_back(Todo::Ended(attempt, row));
            }
            Effect::Finish { run, .. } => {
                leading.runs.remove(&run);
                leading.turn.batch.over.push(run);
            }
            Effect::Doubted { .. } => {}
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
            ..Next::default()
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
        for (id, book) in &leading.runs {
            if let Some(view) = leading.scheduler.run(id) {
                // What asks for something may not fit, and others go before it then.
                let unbound = book.row.parallel.is_none() && book.row.asked.is_none();
                let claim = Claim {
                    row: &book.row,
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
        if !footprint.is_within_formula() {
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
