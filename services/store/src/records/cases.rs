//! The cases of attempts, and how long they took. May not: know a database.

use std::sync::Arc;

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::{Digest, RunId};

/// The names of an attempt's cases.
#[derive(Debug, PartialEq)]
pub struct CaseSet {
    /// [`Results::set`].
    pub digest: Digest,
    /// Sorted, each once.
    pub names: Vec<String>,
}

/// The results of an attempt; the names are shared between all attempts that have the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cases {
    /// Names of all cases; none where no results were found.
    pub set: Option<Arc<CaseSet>>,
    /// Those that did not simply pass.
    pub exceptions: Vec<CaseException>,
    /// What could not be read.
    pub problems: Vec<String>,
    /// How long each took, as [`regatta_model::lasted`] writes it, or empty. Not recorded with the attempt: see
    /// [`DurationsRow`].
    pub durations: Vec<u8>,
}

impl From<Vec<String>> for CaseSet {
    fn from(names: Vec<String>) -> Self {
        Self {
            digest: Digest::of_canonical(&names),
            names,
        }
    }
}

impl From<Results> for Cases {
    fn from(results: Results) -> Self {
        let digest = results.found.then(|| results.set());
        let set = digest.map(|digest| {
            Arc::new(CaseSet {
                digest,
                names: results.names,
            })
        });
        Self {
            set,
            exceptions: results.exceptions,
            problems: results.problems,
            durations: results.durations,
        }
    }
}

impl Cases {
    /// How many cases there are.
    pub fn count(&self) -> u64 {
        self.set
            .as_ref()
            .map_or(0, |set| set.names.len().try_into().unwrap_or(u64::MAX))
    }

    /// How many cases ended as `status`.
    pub fn count_of(&self, status: CaseStatus) -> u64 {
        let listed = |wanted: &dyn Fn(CaseStatus) -> bool| {
            self.exceptions
                .iter()
                .filter(|e| wanted(e.status))
                .count()
                .try_into()
                .unwrap_or(u64::MAX)
        };
        match status {
            CaseStatus::Passed => self.count().saturating_sub(listed(&|_| true)),
            _ => listed(&|found| found == status),
        }
    }

    /// The results with their own copy of the names.
    pub fn to_results(&self) -> Results {
        Results {
            names: self
                .set
                .as_ref()
                .map(|set| set.names.clone())
                .unwrap_or_default(),
            exceptions: self.exceptions.clone(),
            found: self.set.is_some(),
            problems: self.problems.clone(),
            durations: self.durations.clone(),
        }
    }
}

/// How long the cases of one shard took in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationsRow {
    /// The matrix's name.
    pub matrix: String,
    /// The cells that are split alike, by their key.
    pub cells: String,
    /// The run.
    pub run: RunId,
    /// Which shard, from 0.
    pub shard: u32,
    /// The shard's cases.
    pub set: Arc<CaseSet>,
    /// A byte for each, as [`regatta_model::lasted`] writes it.
    pub durations: Vec<u8>,
}
