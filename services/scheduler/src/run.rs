//! One open run: which of its cells are begun, what is held, what is wanted. May not: know a host's state.
//!
//! A cell is *fresh* (never begun: no structure), *open* (begun or wanted), or settled (a bit). Its ordinals are unique
//! for ever: an open cell knows its last one; a settled one had `repeat` of them unless `odd` says otherwise.

mod cell;
mod reruns;
mod wants;

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::matrix::Kinds;
use regatta_model::{CellNumber, Ordinal, Resources, RunId};

use crate::event::{Moment, Work};
use crate::host::HostIndex;
use crate::queue::{Demand, Standing};
use crate::reserve::Reserve;
use crate::rounds::Rounds;
use crate::settled::Settled;

use cell::Open;
pub(crate) use cell::{Pick, Want, WantKey};
use reruns::Reruns;

/// A run's place in the order of submission.
pub(crate) type RunIndex = u64;

/// Most attempts of one cell that wait at once.
const WAITING_MOST: u32 = 1000;

/// Highest ordinal that a host can claim after a restart.
const ORDINAL_MOST: Ordinal = 1_000_000;

/// A run that is not over.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) cells: u64,
    pub(crate) repeat: u32,
    pub(crate) parallel: Option<u32>,
    pub(crate) fail_fast: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// What a host must have free for each attempt.
    pub(crate) asked: Resources,
    /// Whether each attempt has its host to itself.
    pub(crate) exclusive: bool,
    /// The generation of its last assignment.
    pub(crate) last: u64,
    /// Its place in the queue.
    pub(crate) standing: Standing,
    /// The host that becomes free for it, and since when others pass it.
    pub(crate) reserve: Reserve,
    /// Which cells run one after the other on the same host.
    pub(crate) rounds: Rounds,
    pub(crate) fresh: bool,
    /// Why nothing more is placed, and whether that is a cancellation.
    pub(crate) stopped: Option<(&'static str, bool)>,
    /// Cells that had a verdict once; those that are open again are in `open` too.
    had_verdict: Settled,
    /// How many cells have a verdict now.
    pub(crate) settled: u64,
    /// Last ordinals of settled cells that had more or less than `repeat` attempts.
    odd: BTreeMap<CellNumber, Ordinal>,
    open: BTreeMap<CellNumber, Open>,
    /// Further attempts, in the order in which they are placed.
    pub(crate) wants: BTreeMap<WantKey, Want>,
    next_want: u64,
    /// How many of them may begin that are beyond what the matrix asks for.
    pub(crate) reruns: Reruns,
    /// The first fresh cell, or `cells`.
    cursor: CellNumber,
    pub(crate) kinds: Kinds,
    /// The first fresh cell of each kind, or `cells`; none where all cells are of one kind.
    pub(crate) fronts: Vec<CellNumber>,
    /// How often in a row the first fresh cell was passed over for one that was nearer to a host.
    pub(crate) passed: u32,
    /// Who holds which attempt.
    pub(crate) held: BTreeMap<(CellNumber, Ordinal), HostIndex>,
    /// How many of them have a place on their host; the others wait there.
    pub(crate) placed: u64,
}

impl Run {
    /// A run as it was submitted or restored; what `work.again` wants is for the caller to add.
    pub(crate) fn new(id: RunId, work: &Work, standing: Standing, now: Moment) -> Self {
        let mut run = Self {
            id,
            cells: work.cells,
            repeat: work.repeat.clamp(1, WAITING_MOST),
            parallel: work.parallel,
            fail_fast: work.fail_fast,
            labels: work.labels.clone(),
            asked: work.asked,
            exclusive: work.exclusive,
            last: 0,
            standing,
            reserve: Reserve::default(),
            rounds: Rounds::new(&work.rounds),
            fresh: work.fresh,
            stopped: None,
            had_verdict: Settled::default(),
            settled: 0,
            odd: BTreeMap::new(),
            open: BTreeMap::new(),
            wants: BTreeMap::new(),
            next_want: 0,
            reruns: Reruns::new(work.reruns_left),
            cursor: 0,
            kinds: work.kinds.clone(),
            fronts: Vec::new(),
            passed: 0,
            held: BTreeMap::new(),
            placed: 0,
        };
        for cell in work
            .settled
            .iter()
            .copied()
            .filter(|cell| *cell < work.cells)
        {
            if !run.had_verdict.contains(cell) {
                run.had_verdict.insert(cell);
                run.settled += 1;
            }
        }
        let named: BTreeSet<CellNumber> = work.again.iter().map(|again| again.cell).collect();
        for (&cell, &last) in work.tried.range(..work.cells) {
            if run.had_verdict.contains(cell) {
                run.remember(cell, last);
            } else {
                run.open.insert(
                    cell,
                    Open {
                        last,
                        floor: last,
                        ..Open::default()
                    },
                );
                if !named.contains(&cell) {
                    run.want(cell, run.repeat.saturating_sub(last).max(1), 0, &[], now);
                }
            }
        }
        // What is left for rounds is known only where everything that waits is.
        let in_rounds = work.rounds.iter().flatten().copied();
        for cell in in_rounds.filter(|cell| *cell < work.cells) {
            if !run.had_verdict.contains(cell) && !run.open.contains_key(&cell) {
                run.want(cell, run.repeat, 0, &[], now);
            }
        }
        run.advance();
        run.find_fronts();
        run
    }

    /// Tells the rounds whether something of a cell waits.
    fn update_rounds(&mut self, cell: CellNumber) {
        let open = &self.open;
        let waits = |cell| open.get(&cell).is_some_and(|open| !open.wants.is_empty());
        self.rounds.update(cell, waits);
    }

    /// Whether the cell has a verdict and nothing more is wanted of it.
    pub(crate) fn is_settled(&self, cell: CellNumber) -> bool {
        self.had_verdict.contains(cell) && !self.open.contains_key(&cell)
    }

    /// Attempts of this cell that hosts hold.
    pub(crate) fn held_of(
        &self,
        cell: CellNumber,
    ) -> impl Iterator<Item = (Ordinal, HostIndex)> + '_ {
        let range = (cell, 0)..=(cell, Ordinal::MAX);
        self.held
            .range(range)
            .map(|(&(_, ordinal), &host)| (ordinal, host))
    }

    /// The cell has its verdict: nothing more is wanted of it. `ordinal` was its attempt.
    pub(crate) fn settle(&mut self, cell: CellNumber, ordinal: Ordinal) {
        if cell >= self.cells || self.is_settled(cell) {
            return;
        }
        let open = self.open.remove(&cell).unwrap_or_default();
        for want in open.wants {
            self.wants.remove(&want);
        }
        self.had_verdict.insert(cell);
        self.settled += 1;
        self.update_rounds(cell);
        self.remember(cell, open.last.max(ordinal));
        self.advance();
        self.advance_front(cell);
    }

    /// Gives out what was picked: the cell and the ordinal of its new attempt.
    pub(crate) fn begin(
        &mut self,
        pick: Pick,
        host: HostIndex,
        now: Moment,
    ) -> Option<(CellNumber, Ordinal)> {
        let (cell, rerun) = match pick {
            Pick::Fresh(cell) => {
                let passes = cell != self.cursor;
                self.passed = if passes { self.passed + 1 } else { 0 };
                (cell, false)
            }
            Pick::Want(number) => {
                let want = self.wants.remove(&number)?;
                (want.cell, want.rerun)
            }
        };
        let open = self.open.entry(cell).or_default();
        open.last = open.last.checked_add(1)?;
        let ordinal = open.last;
        open.given.push(ordinal);
        if let Pick::Want(number) = pick {
            open.wants.retain(|want| *want != number);
        }
        self.held.insert((cell, ordinal), host);
        if rerun {
            self.reruns.began(cell, ordinal);
        }
        self.rounds.gave(cell, host);
        self.update_rounds(cell);
        if matches!(pick, Pick::Fresh(_)) {
            self.want(cell, self.repeat, 0, &[], now);
        }
        Some((cell, ordinal))
    }

    /// Takes up an attempt that an earlier life of the server gave to a host; false where that cannot be.
    pub(crate) fn adopt(
        &mut self,
        cell: CellNumber,
        ordinal: Ordinal,
        host: HostIndex,
        now: Moment,
    ) -> bool {
        let claimable = (1..=ORDINAL_MOST).contains(&ordinal);
        if cell >= self.cells || !claimable || self.is_settled(cell) || self.stopped.is_some() {
            return false;
        }
        let fresh = !self.open.contains_key(&cell);
        let open = self.open.entry(cell).or_default();
        if ordinal <= open.floor || open.given.contains(&ordinal) {
            return false;
        }
        open.given.push(ordinal);
        open.last = open.last.max(ordinal);
        let want = open.wants.pop().and_then(|want| self.wants.remove(&want));
        if want.is_some_and(|want| want.rerun) {
            self.reruns.began(cell, ordinal);
        }
        self.held.insert((cell, ordinal), host);
        self.rounds.gave(cell, host);
        self.update_rounds(cell);
        if fresh {
            self.want(cell, self.repeat, 0, &[], now);
        }
        true
    }

    /// No host holds this attempt any more.
    pub(crate) fn let_go(&mut self, cell: CellNumber, ordinal: Ordinal) {
        self.held.remove(&(cell, ordinal));
        self.reruns.ended(cell, ordinal);
    }

    /// Whether the cell or the attempt was ever seen: for the reason of a revocation.
    pub(crate) fn reason_against(&self, cell: CellNumber, ordinal: Ordinal) -> &'static str {
        if let Some((reason, _)) = self.stopped {
            reason
        } else if self.held.contains_key(&(cell, ordinal)) {
            "another host holds it"
        } else if cell >= self.cells {
            "its run has no such cell"
        } else if self.is_settled(cell) {
            "its cell has its verdict"
        } else {
            "its host was lost, or it is recorded as ended"
        }
    }

    /// The first cell that was never begun.
    pub(crate) fn next_fresh(&self) -> Option<CellNumber> {
        (self.cursor < self.cells).then_some(self.cursor)
    }

    /// Whether it could give a host anything.
    pub(crate) fn has_work(&self) -> bool {
        let below = self
            .parallel
            .is_none_or(|most| self.held_count() < u64::from(most));
        below && self.stopped.is_none() && (!self.wants.is_empty() || self.cursor < self.cells)
    }

    /// What the queue orders it by.
    pub(crate) fn demand(&self) -> Demand {
        Demand {
            held: self.held_count(),
            last: self.last,
            waits: self.has_work(),
        }
    }

    /// Attempts that hosts hold.
    pub(crate) fn held_count(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX)
    }

    /// How many open cells and blocks of settled ones are kept.
    pub(crate) fn kept(&self) -> (u64, u64) {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        (count(self.open.len()), count(self.had_verdict.blocks()))
    }

    /// Whether nothing more will happen: everything is settled or given up, and nothing is held.
    pub(crate) fn is_over(&self) -> bool {
        let ended = self.settled == self.cells && self.wants.is_empty();
        self.held.is_empty() && (ended || self.stopped.is_some())
    }

    /// Places nothing more.
    pub(crate) fn stop(&mut self, reason: &'static str, cancelled: bool) {
        self.stopped = Some((reason, cancelled));
        self.wants.clear();
        for open in self.open.values_mut() {
            open.wants.clear();
        }
    }

    fn remember(&mut self, cell: CellNumber, last: Ordinal) {
        if last == self.repeat {
            self.odd.remove(&cell);
        } else {
            self.odd.insert(cell, last);
        }
    }

    /// Moves the cursor to the first fresh cell.
    fn advance(&mut self) {
        while self.cursor < self.cells {
            let next = self.fresh_from(self.cursor).min(self.cells);
            if next == self.cursor {
                break;
            }
            self.cursor = next;
        }
    }

    /// `cell`, if it was never begun; else a later one before which no other is fresh.
    pub(crate) fn fresh_from(&self, cell: CellNumber) -> CellNumber {
        let next = self.had_verdict.next_out(cell);
        if next == cell && self.open.contains_key(&cell) {
            return cell + 1;
        }
        next
    }
}
