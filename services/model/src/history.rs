//! What finished runs of one matrix say together: strips of passes and failures, and which cases change their minds. A
//! promise: fields may be added, never renamed. May not: count marks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A run that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PastRun {
    /// Its id.
    pub run: String,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
}

/// What a run says of a cell, or of a case in it. Only attempts that may decide a verdict count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It passed, each time.
    Passed,
    /// It failed, each time.
    Failed,
    /// It both failed and passed within the run; counts as failed.
    Flaky,
    /// Nothing: there is no such cell or case in the run, it did not run, or no attempt decides.
    Out,
}

/// Marks, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MarkCounts {
    /// Marks that are not `out`.
    pub runs: u32,
    /// Those that are `failed` or `flaky`.
    pub failed: u32,
    /// Those that are `flaky`.
    pub flaky: u32,
    /// How often a mark that counts as failed follows one that does not, or the other way round.
    pub transitions: u32,
    /// `failed` of `runs`, from 0 to 1.
    pub rate: f64,
    /// Where the true rate is with 95% (Wilson's interval): from here
    pub low: f64,
    /// ... to here.
    pub high: f64,
}

/// One cell's marks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellHistory {
    /// Its axis values.
    pub axes: BTreeMap<String, String>,
    /// One for each of [`History::runs`].
    pub marks: Vec<Mark>,
    /// The same, counted.
    pub counts: MarkCounts,
    /// The run since which it fails without a pass in between; none where the last mark is a pass, or there is none.
    pub since: Option<String>,
}

/// How cells, or one case in them, went over the runs of a matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Version of this format: 1.
    pub version: u32,
    /// The matrix's name.
    pub matrix: String,
    /// The case; none: the cells as such.
    pub case: Option<String>,
    /// The runs that were asked, the oldest first.
    pub runs: Vec<PastRun>,
    /// Whether all of the runs were read; else a limit was met: the last cells, or the oldest runs, are missing.
    pub whole: bool,
    /// The cells, in the order of the newest run that has them.
    pub cells: Vec<CellHistory>,
}

/// A case that changes its mind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlakyCase {
    /// The case; none: attempts that fail without a case that tells why.
    pub case: Option<String>,
    /// In how many cells it failed at least once; only these are counted.
    pub cells: u32,
    /// Their marks, counted together; transitions are those within each cell.
    pub counts: MarkCounts,
    /// Transitions of each run: passed, passed, failed, failed, failed is 1 of 5, that is .2.
    pub score: f64,
    /// The newest run in which it failed.
    pub last: String,
}

/// Cases that change their minds, by transitions of each run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlakyCases {
    /// Version of this format: 1.
    pub version: u32,
    /// The matrix's name.
    pub matrix: String,
    /// The runs that were asked, the oldest first.
    pub runs: Vec<PastRun>,
    /// Whether all of the runs were read; else a limit was met: the last cells, or the oldest runs, are missing.
    pub whole: bool,
    /// The cases.
    pub cases: Vec<FlakyCase>,
    /// How many further ones there are.
    pub more: u64,
}

/// Most names that are compared with a wrong one, and the longest name that is.
const NAMES_COMPARED_MOST: usize = 20_000;
const NAME_COMPARED_MOST: usize = 256;

/// The names of `known` that are nearest to `name`, `most` at most: those that contain it, then those that differ in a third
/// of its letters at most.
pub fn nearest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Vec<&'a str> {
    if name.is_empty() || name.len() > NAME_COMPARED_MOST {
        return Vec::new();
    }
    let folded = name.to_lowercase();
    let far_most = (folded.chars().count() / 3).max(1);
    let known = known.into_iter().take(NAMES_COMPARED_MOST);
    let known = known.filter(|known| known.len() <= NAME_COMPARED_MOST);
    let far = |known: &str| {
        let known = known.to_lowercase();
        if known.contains(&folded) {
            return 0;
        }
        strsim::damerau_levenshtein(&folded, &known)
    };
    let mut found: Vec<(usize, &str)> = known
        .map(|known| (far(known), known))
        .filter(|(far, _)| *far <= far_most)
        .collect();
    found.sort_unstable();
    found
        .into_iter()
        .take(most)
        .map(|(_, known)| known)
        .collect()
}
