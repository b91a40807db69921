//! Cells that are measured against one another: their attempts run in rounds, in each of them one of every cell of a group, one
//! after the other on the same host. May not: let a round wait for a host that gets nothing new.
//!
//! A host that has begun a round of a group goes on with it before it begins another. Every second round of a group goes
//! backwards, so that what drifts with time is no difference. Nothing of this is recorded: after a restart, rounds begin anew.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::CellNumber;

use crate::Scheduler;
use crate::event::Moment;
use crate::host::HostIndex;
use crate::run::{Pick, Run};

/// Most groups that are looked at for one place.
const GROUPS_SEEN_MOST: usize = 256;

/// A group's place in the list.
type Group = usize;

/// The rounds of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    groups: Vec<Vec<CellNumber>>,
    group_of: BTreeMap<CellNumber, Group>,
    /// Groups of which something waits.
    waiting: BTreeSet<Group>,
    /// How many rounds of each group were begun.
    begun: BTreeMap<Group, u32>,
    given: BTreeMap<(Group, HostIndex), Given>,
    /// Rounds that are not whole, where they run.
    under_way: BTreeSet<(HostIndex, Group)>,
}

/// What a host got of a group.
#[derive(Clone, Debug)]
struct Given {
    /// Attempts of each of its cells.
    counts: Vec<u32>,
    /// The highest of them, and how many cells have as many.
    most: u32,
    level: usize,
    /// Whether its round goes backwards.
    backwards: bool,
}

impl Given {
    fn new(cells: usize) -> Self {
        Self {
            counts: vec![0; cells],
            most: 0,
            level: cells,
            backwards: false,
        }
    }

    /// Counts an attempt of the cell in this place.
    fn add(&mut self, place: usize) {
        let Some(count) = self.counts.get_mut(place) else {
            return;
        };
        *count = count.saturating_add(1);
        if *count > self.most {
            (self.most, self.level) = (*count, 1);
        } else if *count == self.most {
            self.level += 1;
        }
    }

    fn is_whole(&self) -> bool {
        self.level == self.counts.len()
    }

    /// Attempts of the cell in this place that its round lacks.
    fn lacks(&self, place: usize) -> u32 {
        self.most - self.counts.get(place).copied().unwrap_or(self.most)
    }
}

impl Rounds {
    pub(crate) fn new(groups: &[Vec<CellNumber>]) -> Self {
        let cells = groups.iter().enumerate().flat_map(|(group, cells)| {
            let cells = cells.iter().copied();
            cells.map(move |cell| (cell, group))
        });
        Self {
            groups: groups.to_vec(),
            group_of: cells.collect(),
            ..Self::default()
        }
    }

    /// Whether the run has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Something waits of a cell, or does no longer.
    pub(crate) fn update(&mut self, cell: CellNumber, waits: impl Fn(CellNumber) -> bool) {
        let Some(group) = self.group_of.get(&cell) else {
            return;
        };
        let cells = self.groups.get(*group).into_iter().flatten();
        if cells.copied().any(waits) {
            self.waiting.insert(*group);
        } else {
            self.waiting.remove(group);
        }
    }

    /// A host got an attempt of a cell.
    pub(crate) fn gave(&mut self, cell: CellNumber, host: HostIndex) {
        let Some(group) = self.group_of.get(&cell).copied() else {
            return;
        };
        let cells = self.groups.get(group).map_or(&[][..], Vec::as_slice);
        let given = self.given.entry((group, host));
        let given = given.or_insert_with(|| Given::new(cells.len()));
        if given.is_whole() {
            let begun = self.begun.entry(group).or_default();
            given.backwards = *begun % 2 == 1;
            *begun = begun.saturating_add(1);
        }
        if let Some(place) = cells.iter().position(|other| *other == cell) {
            given.add(place);
        }
        if given.is_whole() {
            self.under_way.remove(&(host, group));
        } else {
            self.under_way.insert((host, group));
        }
    }

    /// The cells of a group in an order, each with its place.
    fn cells(
        &self,
        group: Group,
        backwards: bool,
    ) -> impl Iterator<Item = (usize, CellNumber)> + '_ {
        let cells = self.groups.get(group).map_or(&[][..], Vec::as_slice);
        let count = cells.len();
        (0..count).filter_map(move |step| {
            let place = if backwards { count - 1 - step } else { step };
            Some((place, *cells.get(place)?))
        })
    }

    /// Cells that the round lacks which a host has begun of a group.
    fn lacking(&self, group: Group, host: HostIndex) -> impl Iterator<Item = CellNumber> + '_ {
        let given = self.given.get(&(group, host));
        let cells = self.cells(group, given.is_some_and(|given| given.backwards));
        cells
            .filter(move |(place, _)| given.is_some_and(|given| given.lacks(*place) > 0))
            .map(|(_, cell)| cell)
    }

    /// Attempts of a cell that rounds lack on those hosts.
    fn owed(&self, group: Group, place: usize, counts: &dyn Fn(HostIndex) -> bool) -> u32 {
        let hosts = self.given.range((group, 0)..=(group, HostIndex::MAX));
        hosts
            .filter(|((_, host), _)| counts(*host))
            .map(|(_, given)| given.lacks(place))
            .sum()
    }
}

impl Scheduler {
    /// What a run that has rounds would place on a host: first what its rounds lack that were begun there, then a new round
    /// for which enough is left beside those of other hosts.
    pub(crate) fn pick_in_rounds(&self, now: Moment, index: HostIndex, run: &Run) -> Option<Pick> {
        let rounds = &run.rounds;
        let under_way = rounds.under_way.range((index, 0)..=(index, Group::MAX));
        let mut lacking = under_way.flat_map(|(_, group)| rounds.lacking(*group, index));
        if let Some(want) = lacking.find_map(|cell| run.wants_of(cell).first()) {
            return Some(Pick::Want(*want));
        }
        let goes_on = |host: HostIndex| {
            let known = self.hosts.get(host);
            self.able.contains(&host) && known.is_some_and(|host| host.could_run(run))
        };
        let groups = rounds.waiting.iter().take(GROUPS_SEEN_MOST);
        let mut groups = groups.filter(|group| {
            let mut cells = rounds.cells(**group, false);
            cells.all(|(place, cell)| {
                let waits = u32::try_from(run.wants_of(cell).len()).unwrap_or(u32::MAX);
                waits == 0 || waits > rounds.owed(**group, place, &goes_on)
            })
        });
        groups.find_map(|group| {
            let begun = rounds.begun.get(group).copied().unwrap_or(0);
            let cells = rounds.cells(*group, begun % 2 == 1);
            let mut wants = cells.flat_map(|(_, cell)| run.wants_of(cell));
            wants
                .find(|number| {
                    let want = run.wants.get(number);
                    want.is_some_and(|want| self.may_run(now, index, run, want))
                })
                .map(|number| Pick::Want(*number))
        })
    }
}
