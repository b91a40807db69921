//! What a search for the first bad value of an axis came to. May not: search.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RunId;

/// How a search for the first bad value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BisectedAs {
    /// It goes on.
    Searching,
    /// There it is.
    Found,
    /// There it probably is, but beside the value before it the difference is not certain.
    Unconfirmed,
    /// Nothing broke between the ends.
    None,
    /// It is among several values, if there is one.
    Range,
}

/// Where one or more cases, which behaved alike in every attempt, began to fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bisected {
    /// Along this axis.
    pub axis: String,
    /// Of these cases; of the test as a whole, where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<String>,
    /// How it stands.
    pub result: BisectedAs,
    /// The last value that is good.
    pub last_good: Option<String>,
    /// The first value that is bad; of a range, the last that may be.
    pub first_bad: Option<String>,
    /// That this is so, 0 to 1: of the value that was found, of none, or of the range.
    pub probability: f64,
    /// That nothing broke between the ends, 0 to 1.
    pub none: f64,
    /// That a value is the first bad one, of those where it is not negligible, the most probable first.
    pub posterior: Vec<Belief>,
    /// Runs that were submitted.
    pub runs: u32,
    /// Attempts of values.
    pub attempts: u32,
    /// Rounds in which they were asked for.
    pub rounds: u32,
    /// One sentence or two for a person.
    pub text: String,
}

/// How probable it is that a value is the first bad one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Belief {
    /// The value.
    pub value: String,
    /// 0 to 1.
    pub probability: f64,
}

/// The search, by the server, between two neighbouring values of a run, among those that the run left out
/// (`bisect: auto`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GapSearch {
    /// The axis.
    pub axis: String,
    /// The value of the run that is good.
    pub last_good: String,
    /// The value of the run that is bad.
    pub first_bad: String,
    /// What the other axes are.
    pub with: BTreeMap<String, String>,
    /// What came of it: cases that behave alike are one.
    pub found: Vec<Bisected>,
    /// The runs that were submitted for it.
    pub runs: Vec<RunId>,
    /// Why it ended before it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// What a run's searches came to, so far (`GET /api/v1/runs/{run}/bisection`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Searches {
    /// Whether they go on.
    pub searching: bool,
    /// Each of them.
    pub gaps: Vec<GapSearch>,
}
