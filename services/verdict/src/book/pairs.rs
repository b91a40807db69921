//! Cells of an open run whose measurements are compared. Once all of a group ran as often as the matrix asks for, it is looked
//! at what they measured; where that leaves something open, all of them run as often again, once. May not: compare; that is
//! `verdict`'s.

use std::collections::BTreeMap;

use regatta_model::CellNumber;
use regatta_model::matrix::Matrix;

use super::Book;
use crate::judge::faults_bearable;
use crate::report::{AttemptRow, Looks};

/// What the cells of a run measured, and what was made of it.
#[derive(Debug)]
pub(super) struct Pairs {
    looks: Looks,
    /// Cells that run in rounds together.
    groups: Vec<Vec<CellNumber>>,
    group_of: BTreeMap<CellNumber, usize>,
    /// Groups that were looked at, and whether they run as often again.
    looked: BTreeMap<usize, bool>,
}

impl Pairs {
    /// None: nothing is looked at while the run goes on.
    pub(super) fn of(matrix: &Matrix) -> Option<Self> {
        let looks = Looks::of(matrix)?;
        let groups = matrix.metric_groups();
        let cells = groups
            .iter()
            .enumerate()
            .flat_map(|(group, cells)| cells.iter().map(move |cell| (*cell, group)));
        Some(Self {
            looks,
            group_of: cells.collect(),
            groups,
            looked: BTreeMap::new(),
        })
    }

    /// Takes in a recorded attempt, once.
    pub(super) fn add(&mut self, row: AttemptRow) {
        self.looks.add(row);
    }
}

impl Book {
    /// Whether what attempts measured is to be told by [`Self::measured`].
    pub const fn measures(&self) -> bool {
        self.pairs.is_some()
    }

    /// Takes in what an attempt measured, before it is recorded or taken up. Its cases are not asked for.
    pub fn measured(&mut self, row: AttemptRow) {
        if let Some(pairs) = &mut self.pairs {
            pairs.add(row);
        }
    }

    /// Looks at what a cell's group measured, once all of it has a verdict. Gives the cells of the group if they are to run
    /// again.
    pub(super) fn look(&mut self, cell: CellNumber) -> Vec<CellNumber> {
        let Some((group, cells)) = self.to_look_at(cell) else {
            return Vec::new();
        };
        let compared = cells
            .iter()
            .filter_map(|cell| Some((*cell, self.compared_with(*cell)?)));
        let compared: Vec<_> = compared.collect();
        let Some(pairs) = &mut self.pairs else {
            return Vec::new();
        };
        let looks = &pairs.looks;
        let open = compared
            .into_iter()
            .any(|(cell, baseline)| looks.is_open(cell, baseline));
        pairs.looked.insert(group, open);
        if open { cells } else { Vec::new() }
    }

    /// The group of a cell, where it is time to look at it.
    fn to_look_at(&self, cell: CellNumber) -> Option<(usize, Vec<CellNumber>)> {
        let pairs = self.pairs.as_ref()?;
        let group = *pairs.group_of.get(&cell)?;
        let cells = pairs.groups.get(group)?;
        let has_verdict = |cell: &CellNumber| {
            let begun = self.begun.get(cell);
            begun.is_some_and(|begun| begun.verdict.is_some())
        };
        let now = !pairs.looked.contains_key(&group) && cells.iter().all(has_verdict);
        now.then(|| (group, cells.clone()))
    }

    /// How many more attempts of a cell its pairs lack, those under way included.
    pub(super) fn lacking_pairs(&self, cell: CellNumber) -> u32 {
        let lacking = || {
            let pairs = self.pairs.as_ref()?;
            let again = *pairs.looked.get(pairs.group_of.get(&cell)?)?;
            let facts = &self.begun.get(&cell)?.facts;
            let may = !self.is_used_up() && faults_bearable(facts, &self.policy);
            if !again || !may || !pairs.looks.has(cell) {
                return None;
            }
            let had = facts.iter().filter(|facts| facts.is_decisive()).count();
            let had = u32::try_from(had).unwrap_or(u32::MAX);
            Some(self.policy.repeat.saturating_mul(2).saturating_sub(had))
        };
        lacking().unwrap_or(0)
    }
}
