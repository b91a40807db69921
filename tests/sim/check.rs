//! What must hold in every world, whatever goes wrong: each rule has a name, and looks at the world from outside. May
//! not: trust what a server or an agent believes, beyond what the rule is about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regatta_model::report::Verdict;
use regatta_model::{AttemptId, HostName, Outcome, Resources, RunId};
use regatta_verdict::judge::{AttemptFacts, HOST_FAULTS_LEAST};
use regatta_verdict::trust::quarantined_most;

use crate::reports::is_regressed;
use crate::store::{Batch, Db, EndRow, HostRow, RunRow};

/// A run that is over, and the verdicts of its cells.
pub type Finished = (RunId, Vec<Option<Verdict>>);

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// A run whose submission was acknowledged is never lost.
    AcknowledgedRunsLast,
    /// An attempt has one recorded outcome at most.
    OneOutcome,
    /// An assignment is executed once at most, whoever believes what.
    AttemptsRunOnce,
    /// What is recorded as lost with its host does not run there any more, and no two hosts run one attempt.
    LeaseRule,
    /// No verdict rests on what a host was to blame for.
    HostFaultsDecideNothing,
    /// When the world is calm again, every cell settles.
    EveryCellSettles,
    /// Nothing of a run is placed once its cancellation was recorded.
    CancelledStartsNothing,
    /// No host runs, or is given, more than it has places.
    CapacityHolds,
    /// The attempts of a host ask for no more processors and memory than it has.
    ResourcesHold,
    /// A free place goes to the waiting owner, and of his to the waiting run, that holds least for its weight.
    SharesAreFair,
    /// What the scheduler keeps grows with what is under way, not with what was.
    MemoryWithinFormula,
    /// No cell is attempted more often than its matrix allows, nor given up before that.
    RetriesWithinBudget,
    /// What a host decided in a run that is not over counts for nothing once the host is quarantined, nor does what ends
    /// there while it is.
    DistrustedDecidesNothing,
    /// No cell is compared for the worse where all that failed in it failed by the doing of bad hosts, where there are few
    /// enough to be found.
    RegressionsAreSound,
    /// A rule quarantines no more than a tenth of the hosts.
    QuarantineIsBounded,
    /// While many hosts are silent at once none is lost, but for no longer than the server may doubt itself.
    DoubtIsBounded,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: Invariant,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.detail)
    }
}

/// How an attempt really went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Its container was never started, or something else ended it.
    Cut,
    /// Its test came to an end, with this result.
    /// (`spoiled`: its host failed what passes elsewhere.)
    Ended { passed: bool, spoiled: bool },
}

/// Attempts of a cell whose end is not a cancellation: `repeat`, what is confirmed, and the faults of hosts.
const ATTEMPTS_MOST: u32 = 3 + HOST_FAULTS_MOST + 1;
/// The same where cells are compared: those that it is asked for itself, and those that others ask it for.
const COMPARED_MOST: u32 = 2 * ATTEMPTS_MOST + 20;
/// Host faults that a cell outlives: the policy's, where the matrix says nothing.
const HOST_FAULTS_MOST: u32 = 10;

/// Which generations of an attempt were executed. Where a server that knew it is gone, and its host is silent beyond the
/// lease, a later server gives the same attempt to another host, by a higher generation.
#[derive(Debug, Default)]
struct Started {
    generations: Vec<u64>,
    place: Option<usize>,
}

/// What is remembered to tell whether a rule was broken.
#[derive(Debug, Default)]
pub struct Checker {
    pub broken: Option<Violation>,
    acknowledged: BTreeSet<RunId>,
    /// Attempts whose container was started: the generations, and where it runs.
    started: BTreeMap<RunId, BTreeMap<(u64, u32), Started>>,
    /// How those ended that did not simply pass; and those that passed on their last try.
    truths: BTreeMap<(AttemptId, HostName), Truth>,
    ends: BTreeMap<(RunId, u64), u32>,
    /// Whether a rule may quarantine all bad hosts of the world.
    few_are_bad: bool,
    /// Hosts that are recorded as quarantined.
    quarantined: BTreeSet<HostName>,
    /// Hosts that were, more than once where they came back.
    pub quarantines: u64,
}

impl Checker {
    /// `few_are_bad`: a rule may quarantine all bad hosts of the world.
    pub fn new(few_are_bad: bool) -> Self {
        Self {
            few_are_bad,
            ..Self::default()
        }
    }

    pub fn broke(&mut self, invariant: Invariant, detail: String) {
        self.broken.get_or_insert(Violation { invariant, detail });
    }

    pub fn acknowledged(&mut self, run: &RunId) {
        self.acknowledged.insert(run.clone());
    }

    pub fn started(
        &mut self,
        attempt: &AttemptId,
        generation: u64,
        host: usize,
        is_awake: impl Fn(usize) -> bool,
    ) {
        let of_run = self.started.entry(attempt.run.clone()).or_default();
        let started = of_run.entry((attempt.cell, attempt.ordinal)).or_default();
        let again = started.generations.contains(&generation);
        let elsewhere = started.place.replace(host);
        started.generations.push(generation);
        if again {
            self.broke(
                Invariant::AttemptsRunOnce,
                format!("{attempt} was executed before, and is again by host {host}"),
            );
        } else if let Some(other) = elsewhere.filter(|other| is_awake(*other)) {
            self.broke(
                Invariant::LeaseRule,
                format!("{attempt} is run by host {other}, and by host {host} too"),
            );
        }
    }

    /// What the attempts that a host runs ask for, and what it has.
    pub fn uses(&mut self, host: usize, asked: &Resources, capacity: &Resources) {
        if !capacity.holds(asked) {
            self.broke(
                Invariant::ResourcesHold,
                format!("host {host} runs what asks for {asked}, and has {capacity}"),
            );
        }
    }

    pub fn runs(&mut self, host: usize, running: usize, slots: u32) {
        if running > slots as usize {
            self.broke(
                Invariant::CapacityHolds,
                format!("host {host} runs {running} attempts in {slots} places"),
            );
        }
    }

    pub fn stopped(&mut self, attempt: &AttemptId, host: &HostName, truth: Truth) {
        let of_run = self.started.entry(attempt.run.clone()).or_default();
        if let Some(started) = of_run.get_mut(&(attempt.cell, attempt.ordinal)) {
            started.place = None;
        }
        let key = (attempt.clone(), host.clone());
        if matches!(truth, Truth::Ended { passed: true, .. }) {
            self.truths.remove(&key);
        } else {
            self.truths.insert(key, truth);
        }
    }

    fn runs_at(&self, attempt: &AttemptId) -> Option<usize> {
        let of_run = self.started.get(&attempt.run)?;
        of_run.get(&(attempt.cell, attempt.ordinal))?.place
    }

    /// A batch was committed.
    pub fn committed(
        &mut self,
        db: &Db,
        batch: &Batch,
        finished: &[Finished],
        is_awake: impl Fn(usize) -> bool,
    ) {
        if let Some(attempt) = db.doubled.first() {
            self.broke(
                Invariant::OneOutcome,
                format!("{attempt} was recorded twice"),
            );
        }
        self.trusted(db, batch);
        for (id, verdicts) in finished {
            self.finished(db, id, verdicts);
        }
        for (attempt, row) in &batch.attempts {
            let lost = row.outcome == Outcome::HostLost;
            if let Some(host) = self
                .runs_at(attempt)
                .filter(|host| lost && is_awake(*host) && format!("h{host}") == row.host.as_str())
            {
                self.broke(
                    Invariant::LeaseRule,
                    format!("{attempt} is recorded as lost while host {host} runs it"),
                );
            }
            if row.outcome == Outcome::Cancelled {
                continue;
            }
            let ends = self
                .ends
                .entry((attempt.run.clone(), attempt.cell))
                .or_default();
            *ends += 1;
            let repeat = db.runs.get(&attempt.run).map_or(1, |run| run.repeat);
            let compared = db.runs.get(&attempt.run).is_some_and(RunRow::compares);
            let most = repeat
                + if compared {
                    COMPARED_MOST
                } else {
                    ATTEMPTS_MOST
                };
            let taken_back = |most: &u32| {
                let rows = db.attempts(&attempt.run, attempt.cell);
                let taken_back = rows.filter(|(_, row)| row.is_taken_back()).count();
                *most + u32::try_from(taken_back).unwrap_or(u32::MAX)
            };
            if *ends > most && *ends > taken_back(&most) {
                let detail = format!(
                    "cell {} of {} was attempted {ends} times, and {most} is the most",
                    attempt.cell, attempt.run
                );
                self.broke(Invariant::RetriesWithinBudget, detail);
            }
        }
    }

    /// Whom the server trusts, and what it takes from those whom it does not.
    fn trusted(&mut self, db: &Db, batch: &Batch) {
        let before = self.quarantines;
        for (host, row) in &batch.hosts {
            if !row.quarantined {
                self.quarantined.remove(host);
            } else if self.quarantined.insert(host.clone()) {
                self.quarantines += 1;
                self.taken_back(db, batch, host);
            }
        }
        let counts = batch.attempts.iter().find(|(_, row)| {
            let before = !batch.hosts.iter().any(|(host, _)| *host == row.host);
            before && row.is_decisive() && self.quarantined.contains(&row.host)
        });
        if let Some((attempt, row)) = counts {
            let detail = format!("{attempt} counts, though {} is quarantined", row.host);
            self.broke(Invariant::DistrustedDecidesNothing, detail);
        }
        if self.quarantines == before {
            return;
        }
        let by_rule = |row: &&HostRow| row.quarantined && row.trust.by_rule;
        let quarantined = db.hosts.values().filter(by_rule).count();
        if quarantined > quarantined_most(db.hosts.len()) {
            let detail = format!("{quarantined} of {} hosts are", db.hosts.len());
            self.broke(Invariant::QuarantineIsBounded, detail);
        }
    }

    /// Of runs that go on, nothing counts any more that this host decided.
    fn taken_back(&mut self, db: &Db, batch: &Batch, host: &HostName) {
        for (id, run) in &db.runs {
            let told = batch
                .distrusted
                .iter()
                .any(|(run, of)| run == id && of == host);
            if run.over && !told {
                continue;
            }
            if let Some(cell) = db.cells_of(id, host).first() {
                let detail =
                    format!("{host} is quarantined, and still decides cell {cell} of {id}");
                self.broke(Invariant::DistrustedDecidesNothing, detail);
            }
        }
    }

    /// A run came to its end with these verdicts: each rests on what is recorded.
    fn finished(&mut self, db: &Db, id: &RunId, verdicts: &[Option<Verdict>]) {
        self.reran(db, id);
        for (cell, verdict) in (0..).zip(verdicts) {
            let Some(verdict) = verdict else {
                let detail = format!("{id} is over, and its cell {cell} has no verdict");
                return self.broke(Invariant::EveryCellSettles, detail);
            };
            // Most cells have one attempt, and passed.
            let rows = db.attempts(id, cell).filter(|(_, row)| row.is_decisive());
            let (mut passed, mut failed, mut sound) = (0, 0, 0);
            for (ordinal, row) in rows {
                if row.passed() {
                    passed += 1;
                    continue;
                }
                failed += 1;
                let attempt = AttemptId {
                    run: id.clone(),
                    cell,
                    ordinal,
                };
                let truth = self.truths.get(&(attempt, row.host.clone()));
                sound += u32::from(!matches!(truth, Some(Truth::Ended { spoiled: true, .. })));
            }
            if *verdict == Verdict::Unresolved && passed + failed == 0 {
                self.given_up(db, id, cell);
            }
            let founded = match verdict {
                Verdict::Passed => passed > 0,
                Verdict::Failed | Verdict::Flaky => failed > 0,
                Verdict::Unresolved => true,
            };
            if !founded {
                let detail = format!("cell {cell} of {id} is {verdict:?} by nothing that counts");
                self.broke(Invariant::DistrustedDecidesNothing, detail);
            }
            // With fewer reruns, the first failure decides, as its matrix says.
            let enough = db
                .runs
                .get(id)
                .is_some_and(|run| run.matrix.rerun().at_most >= 10);
            let unsound = *verdict == Verdict::Failed && sound == 0;
            let unsound = unsound && enough && self.few_are_bad;
            if unsound && is_regressed(db, id, cell) {
                let rows = db.attempts(id, cell).map(|(ordinal, row)| {
                    let EndRow {
                        host,
                        outcome,
                        blame,
                        ..
                    } = row;
                    format!("{ordinal} on {host}: {outcome:?} ({blame:?})")
                });
                let rows: Vec<String> = rows.collect();
                let detail = format!("cell {cell} of {id} regressed on bad hosts only: {rows:?}");
                self.broke(Invariant::RegressionsAreSound, detail);
            }
        }
    }

    /// All of its cells took no more reruns together than its matrix allows.
    fn reran(&mut self, db: &Db, id: &RunId) {
        let run = db.runs.get(id);
        let Some((run, most)) = run.and_then(|run| Some((run, run.matrix.rerun().in_all?))) else {
            return;
        };
        let reruns = (0..run.cells).map(|cell| {
            let decisive = db.attempts(id, cell).filter(|(_, row)| row.is_decisive());
            let decisive = u32::try_from(decisive.count()).unwrap_or(u32::MAX);
            decisive.saturating_sub(run.repeat)
        });
        let reruns: u32 = reruns.sum();
        // What replaces an attempt that hosts lost, or that is taken back, may be under way beside a rerun of its cell.
        let replaced = (0..run.cells).flat_map(|cell| db.attempts(id, cell));
        let replaced =
            replaced.filter(|(_, row)| row.outcome != Outcome::Cancelled && !row.is_decisive());
        let slack = u32::try_from(replaced.count()).unwrap_or(u32::MAX);
        if reruns > most.saturating_add(slack) {
            let detail = format!("{id} took {reruns} reruns, and {most} is the most");
            self.broke(Invariant::RetriesWithinBudget, detail);
        }
    }

    /// A cell is unresolved, and nothing told of it: its hosts failed too often for that.
    fn given_up(&mut self, db: &Db, id: &RunId, cell: u64) {
        let most = db.runs.get(id).map_or(0, |run| run.matrix.rerun().at_most);
        let faults = db.attempts(id, cell).filter(|(_, row)| {
            row.outcome != Outcome::Cancelled && !row.is_decisive() && !row.is_taken_back()
        });
        let faults = faults.count();
        if faults <= most.max(HOST_FAULTS_LEAST) as usize {
            let detail = format!("cell {cell} of {id} is given up after {faults} faults of hosts");
            self.broke(Invariant::RetriesWithinBudget, detail);
        }
    }

    /// A host is told to run this.
    pub fn published(&mut self, attempt: &AttemptId, run: Option<&RunRow>) {
        if run.is_some_and(|run| run.cancelled) {
            self.broke(
                Invariant::CancelledStartsNothing,
                format!("{attempt} is placed, though its run is cancelled"),
            );
        }
    }

    /// A cell got a verdict from these.
    pub fn judged(&mut self, run: &RunId, cell: u64, verdict: Verdict, facts: &[AttemptFacts]) {
        let truth = |facts: &AttemptFacts| {
            let attempt = AttemptId {
                run: run.clone(),
                cell,
                ordinal: facts.ordinal,
            };
            let begun = self
                .started
                .get(run)
                .is_some_and(|of_run| of_run.contains_key(&(cell, facts.ordinal)));
            let passed = Truth::Ended {
                passed: true,
                spoiled: false,
            };
            let unsaid = if begun { passed } else { Truth::Cut };
            self.truths
                .get(&(attempt, facts.host.clone()))
                .copied()
                .unwrap_or(unsaid)
        };
        let really = |wanted: bool| {
            let mut ended = facts.iter().filter(|facts| facts.is_decisive()).map(truth);
            ended.any(|truth| matches!(truth, Truth::Ended { passed, .. } if passed == wanted))
        };
        let founded = match verdict {
            Verdict::Passed => really(true),
            Verdict::Failed => really(false),
            Verdict::Flaky => really(false),
            Verdict::Unresolved => true,
        };
        if !founded {
            self.broke(
                Invariant::HostFaultsDecideNothing,
                format!("cell {cell} of {run} is {verdict:?}, and no test ended so: {facts:?}"),
            );
        }
    }

    /// The world came to its end: `why` says what did not, if anything.
    pub fn ended(&mut self, db: &Db, unsettled: Option<String>) {
        let lost = self
            .acknowledged
            .iter()
            .find(|id| !db.runs.contains_key(*id));
        if let Some(id) = lost.cloned() {
            self.broke(
                Invariant::AcknowledgedRunsLast,
                format!("{id} was acknowledged, and is not there"),
            );
        }
        if let Some(detail) = unsettled {
            self.broke(Invariant::EveryCellSettles, detail);
        }
        for (id, run) in &db.runs {
            let cells: BTreeSet<u64> = db
                .ends
                .get(id)
                .into_iter()
                .flat_map(|ends| ends.keys().map(|(cell, _)| *cell))
                .collect();
            let begun = u64::try_from(cells.len()).unwrap_or(u64::MAX);
            if run.over && !run.cancelled && begun != run.cells {
                let detail = format!("{id} is over with {begun} of {} cells", run.cells);
                self.broke(Invariant::EveryCellSettles, detail);
            }
        }
    }
}
