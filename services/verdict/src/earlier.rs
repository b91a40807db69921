//! What earlier runs of the same matrix say of a cell with the same values. May not: look them up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::judge::AttemptFacts;
use crate::sequential::Record;

/// Most cases of which earlier failures are kept.
pub const CASES_MOST: usize = 10_000;

/// Attempts of a cell in earlier runs, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Earlier {
    /// Attempts that could decide.
    pub attempts: u32,
    /// Those that told of cases.
    pub told: u32,
    /// Those that failed as a whole.
    pub whole: u32,
    /// How often each case failed that ever did; of [`CASES_MOST`] cases at most.
    pub failed: BTreeMap<String, u32>,
}

impl Earlier {
    /// Takes in an attempt; one that decides nothing is passed over.
    pub fn add(&mut self, attempt: &AttemptFacts) {
        if !attempt.is_decisive() {
            return;
        }
        self.attempts = self.attempts.saturating_add(1);
        if attempt.is_whole() {
            self.whole = self.whole.saturating_add(1);
            return;
        }
        self.told = self.told.saturating_add(1);
        for name in &attempt.failing {
            if let Some(count) = self.failed.get_mut(name) {
                *count = count.saturating_add(1);
            } else if self.failed.len() < CASES_MOST {
                self.failed.insert(name.clone(), 1);
            }
        }
    }

    /// What they say of a case, or (none) of the whole.
    pub fn of(&self, case: Option<&str>) -> Record {
        match case {
            None => Record {
                failed: self.whole,
                runs: self.attempts,
            },
            Some(case) => Record {
                failed: self.failed.get(case).copied().unwrap_or(0),
                runs: self.told,
            },
        }
    }
}
