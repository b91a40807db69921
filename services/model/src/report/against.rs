//! A run beside another one that ran at another time. May not: render text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is new in a run beside another one, in the cells that both have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Against {
    /// The other run.
    pub run: String,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// What it comes to, as a person would say it.
    pub sentence: String,
    /// Cells that both have and that came to a verdict in both.
    pub cells: u64,
    /// Cells that only this run has, or that came to a verdict only here.
    pub only_here: u64,
    /// Cells that only the other one has, or that came to a verdict only there.
    pub only_there: u64,
    /// Cases that fail in both, each once for each cell.
    pub alike: u64,
    /// What is different, what broke first.
    pub changes: Vec<AgainstChange>,
    /// How many further changes there are.
    pub more: u64,
}

/// A case that does otherwise than in the other run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgainstChange {
    /// How.
    pub kind: AgainstKind,
    /// The case; none: cells as a whole, whose failures no case tells of.
    pub case: Option<String>,
    /// The cells of this run that show it.
    pub cells: Vec<u64>,
    /// How probable it is that this is no chance, where it is least probable; from 0 to 1.
    pub probability: f64,
    /// One sentence for a person.
    pub text: String,
}

/// How a case does otherwise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AgainstKind {
    /// It fails more than chance would have it.
    Regressed,
    /// It failed here and not there; that may be chance.
    Unresolved,
    /// It fails no longer.
    Fixed,
}

impl AgainstKind {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Unresolved => "unresolved",
            Self::Fixed => "fixed",
        }
    }
}
