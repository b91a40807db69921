//! Cells as arithmetic: numbers to axis values and back, keys, and baselines. First come the cells of
//! the product, in the order of the file with the last axis fastest; then the included ones.
//! A cell that is split into shards has a number for each of them, one after the other; the first of them is the cell's own.
//! May not: hold a list of the product's cells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::product::Product;

/// An axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Its name: letters, digits, `-`, `_`; begins with a letter.
    pub name: String,
    /// Its values as they were written, in the order of the file.
    pub values: Vec<String>,
    /// Further values that only included cells have, in the order of the file.
    pub extra: Vec<String>,
    /// Whether the order of the values means something (the oldest first).
    pub ordered: bool,
    /// What values are to people, such as a commit's subject; not all have one.
    pub titles: BTreeMap<String, String>,
}

impl Axis {
    /// The values and then the further ones.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.values.iter().chain(&self.extra).map(String::as_str)
    }

    /// The value as a sentence names it: with its title, where it has one.
    pub fn named(&self, value: &str) -> String {
        match self.titles.get(value) {
            Some(title) => format!("{value} (\"{title}\")"),
            None => value.to_owned(),
        }
    }

    /// The value with this index among all.
    pub(super) fn value(&self, index: u32) -> &str {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let extra = || self.extra.get(index.checked_sub(self.values.len())?);
        self.values
            .get(index)
            .or_else(extra)
            .map_or("", String::as_str)
    }
}

/// With which cell a cell is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// With the one that has this value on the axis.
    Value(String),
    /// With the nearest earlier one on the axis.
    Previous,
}

/// Along which axis cells are compared, and with which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compare {
    /// The axis.
    pub axis: String,
    /// With which cell.
    pub baseline: Baseline,
}

/// All cells of a matrix.
#[derive(Clone)]
pub struct Cells {
    axes: Arc<[Axis]>,
    /// Per axis, the index of each value.
    index: Arc<[BTreeMap<String, u32>]>,
    product: Arc<dyn Product>,
    included: Arc<[Vec<u32>]>,
    included_number: Arc<BTreeMap<Vec<u32>, u64>>,
    /// Shards of each cell; 1 at least.
    shards: u32,
    /// The axis of the comparison, and the index of its baseline's value; none is `previous`.
    compare: Option<(usize, Option<u32>)>,
}

impl Cells {
    /// The cells of `product`, and those that are `included` besides, each once and none of the product; each in so many
    /// shards.
    pub(super) fn new(
        axes: Arc<[Axis]>,
        product: Arc<dyn Product>,
        included: Vec<Vec<u32>>,
        shards: u32,
    ) -> Self {
        let first = product.count();
        let index: Vec<BTreeMap<String, u32>> = axes
            .iter()
            .map(|axis| {
                axis.all()
                    .zip(0..)
                    .map(|(value, at)| (value.to_owned(), at))
                    .collect()
            })
            .collect();
        let numbers = included.iter().cloned().zip(first..).collect();
        Self {
            axes,
            index: index.into(),
            product,
            included: included.into(),
            included_number: Arc::new(numbers),
            shards: shards.max(1),
            compare: None,
        }
    }

    /// The same cells, compared so.
    pub(super) fn compared(mut self, compare: Option<&Compare>) -> Self {
        self.compare = compare.and_then(|compare| {
            let axis = self
                .axes
                .iter()
                .position(|axis| axis.name == compare.axis)?;
            let value = match &compare.baseline {
                Baseline::Previous => None,
                // Where `only` took the value away, no cell has a baseline.
                Baseline::Value(value) => Some(
                    self.index
                        .get(axis)?
                        .get(value)
                        .copied()
                        .unwrap_or(u32::MAX),
                ),
            };
            Some((axis, value))
        });
        self
    }

    /// How many numbers there are: one for each shard of each cell.
    pub fn count(&self) -> u64 {
        self.whole().saturating_mul(self.shards.into())
    }

    /// How many cells there are, however many shards they have.
    pub fn whole(&self) -> u64 {
        self.product.count() + u64::try_from(self.included.len()).unwrap_or(0)
    }

    /// Shards of each cell; 1 where cells are not split.
    pub const fn shards(&self) -> u32 {
        self.shards
    }

    /// The number of the cell that this is a shard of: its first shard's.
    pub fn first(&self, cell: u64) -> u64 {
        cell - u64::from(self.shard(cell))
    }

    /// Which of its cell's shards this number is, from 0.
    pub fn shard(&self, cell: u64) -> u32 {
        u32::try_from(cell % u64::from(self.shards)).unwrap_or(0)
    }

    /// The numbers of all cells, each once: of their first shards.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let shards = u64::from(self.shards);
        (0..self.whole()).map(move |cell| cell * shards)
    }

    /// The axes and the cell's values on them, in the order of the file; none where there is no such cell.
    pub fn values(&self, cell: u64) -> Option<Vec<(&str, &str)>> {
        let indices = self.indices(cell)?;
        let values = self.axes.iter().zip(indices);
        Some(
            values
                .map(|(axis, index)| (axis.name.as_str(), axis.value(index)))
                .collect(),
        )
    }

    /// The number of the cell with exactly these axis values (that of its first shard); none where there is no such cell.
    pub fn number(&self, values: &BTreeMap<String, String>) -> Option<u64> {
        if values.len() != self.axes.len() {
            return None;
        }
        let indices = self
            .axes
            .iter()
            .zip(self.index.iter())
            .map(|(axis, index)| index.get(values.get(&axis.name)?).copied());
        self.number_of(&indices.collect::<Option<Vec<u32>>>()?)
    }

    /// The cell's key, by which its history is kept: the canonical JSON of its axis values. Empty where
    /// there is no such cell.
    pub fn key(&self, cell: u64) -> String {
        let values = self.values(cell);
        values.map_or_else(String::new, |values| {
            crate::digest::canonical_json(&values.into_iter().collect::<BTreeMap<_, _>>())
        })
    }

    /// The cells whose tests are split alike: the canonical JSON of the axis values of this one but for that of the axis along which
    /// cells are compared, so that a case is in the same shard of a cell and of its baseline. Empty where there is no such
    /// cell.
    pub fn group(&self, cell: u64) -> String {
        let compared = self.compare.map(|(axis, _)| axis);
        let values = self.values(cell).map(|values| {
            let values = values.into_iter().enumerate();
            let others = values.filter(|(axis, _)| Some(*axis) != compared);
            others.map(|(_, value)| value).collect::<BTreeMap<_, _>>()
        });
        values.map_or_else(String::new, |values| crate::digest::canonical_json(&values))
    }

    /// All [`Self::group`]s, where there are `most` at most of `cells` cells at most.
    pub fn groups(&self, most: usize, cells: u64) -> Option<BTreeSet<String>> {
        let mut groups = BTreeSet::new();
        if self.whole() > cells {
            return None;
        }
        for cell in self.numbers() {
            groups.insert(self.group(cell));
            if groups.len() > most {
                return None;
            }
        }
        Some(groups)
    }

    /// The cell that this one is compared with, a shard with the same shard; none where nothing is compared, where that cell
    /// does not exist, and for a baseline itself.
    pub fn baseline(&self, cell: u64) -> Option<u64> {
        let shard = u64::from(self.shard(cell));
        let (axis, baseline) = self.compare?;
        let mut indices = self.indices(cell)?;
        let own = *indices.get(axis)?;
        let mut with = |value: u32| {
            if let Some(index) = indices.get_mut(axis) {
                *index = value;
            }
            Some(self.number_of(&indices)? + shard)
        };
        match baseline {
            Some(value) => (value != own).then(|| with(value)).flatten(),
            None => (0..own).rev().find_map(with),
        }
    }

    /// The indices of the cell's values.
    pub(super) fn indices(&self, cell: u64) -> Option<Vec<u32>> {
        let cell = cell / u64::from(self.shards);
        match cell.checked_sub(self.product.count()) {
            None => self.product.unrank(cell),
            Some(after) => self.included.get(usize::try_from(after).ok()?).cloned(),
        }
    }

    /// The number of the cell with these indices (that of its first shard).
    pub(super) fn number_of(&self, indices: &[u32]) -> Option<u64> {
        let known = self.axes.iter().zip(indices).all(|(axis, index)| {
            usize::try_from(*index).is_ok_and(|index| index < axis.values.len())
        });
        let product = known.then(|| self.product.rank(indices)).flatten();
        let number = product.or_else(|| self.included_number.get(indices).copied());
        Some(number? * u64::from(self.shards))
    }

    /// The product's cells.
    pub(super) fn product(&self) -> &dyn Product {
        &*self.product
    }

    /// The included cells.
    pub(super) fn included(&self) -> &[Vec<u32>] {
        &self.included
    }
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cells")
            .field("axes", &self.axes)
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
