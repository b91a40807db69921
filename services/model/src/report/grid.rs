//! Cases along an axis, and how often something failed. A promise: fields may be added, never renamed. May not: render
//! text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cases that did not pass everywhere, along an axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaseGrid {
    /// The axis: the compared one, else an ordered one, else the last.
    pub axis: String,
    /// Its values, the first first: the columns.
    pub values: Vec<String>,
    /// Values that are left out because there are too many.
    pub more_values: u64,
    /// The rows; those of one case follow each other.
    pub rows: Vec<CaseRow>,
    /// Cases that are left out because there are too many.
    pub more_cases: u64,
}

/// A case in cells that differ in the grid's axis alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaseRow {
    /// The case.
    pub case: String,
    /// The values of all other axes, for each line of cells in which it goes this way; perhaps not all of them.
    pub lines: Vec<BTreeMap<String, String>>,
    /// How many lines go this way, of those that were looked at.
    pub count: u64,
    /// For each value of the grid's axis; none: there is no such cell.
    pub marks: Vec<Option<CaseMark>>,
}

/// How a case stands in a cell.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CaseMark {
    /// It passes.
    Passed,
    /// It fails.
    Failed,
    /// It does both.
    Flaky,
    /// The baseline passes it, this cell fails it.
    Regressed,
    /// The baseline fails it, this cell passes it.
    Fixed,
    /// It did not run, or this cell has no such case.
    Skipped,
    /// Nothing of the cell was tested, or not yet.
    Unresolved,
}

/// How often something failed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Attempts in which it failed.
    pub failed: u32,
    /// All of its attempts.
    pub runs: u32,
    /// The lower end of the interval in which the true share is with 95% (Wilson's), from 0 to 1.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}
