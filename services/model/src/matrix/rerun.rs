//! What a matrix says of running cells again. May not: decide which.

use super::check::Checked;
use super::finding::{Finding, Spot};
use super::read::{Spanned, written};
use super::scalars::{Rate, Whole};
use super::written::{Optional, Written};

/// How often a cell is run again at most where nothing is said.
pub const RERUNS_DEFAULT: u32 = 10;

/// How often a verdict may be wrong where nothing is said.
pub const ERROR_RATE_DEFAULT: f64 = 0.01;

/// How often cells may be run again to reach a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rerun {
    /// Further attempts of one cell; 0 to 1000.
    pub at_most: u32,
    /// Further attempts of all cells together, 0 to 10,000,000; none: no such limit.
    pub in_all: Option<u32>,
    /// How often a verdict may be wrong; above 0 and up to 0.5.
    pub error_rate: f64,
    /// Whether what is left unresolved is run on, where nothing else wants the places.
    pub deep: bool,
}

written! {
    /// How often cells may be run again to reach a verdict.
    WrittenRerun {
        /// Further attempts of one cell at most; 10 where it is left away.
        at_most: "at-most" => Optional<Whole<0, 1000>>,
        /// Further attempts of all cells together at most; no limit where it is left away.
        in_all: "in-all" => Optional<Whole<0, 10_000_000>>,
        /// How often a verdict may be wrong; 0.01 where it is left away.
        error_rate: "error-rate" => Optional<Rate>,
        /// Whether what is left unresolved is run on where nothing else wants the places, up to 40 times on each side.
        deep: "deep" => Optional<bool>,
    }
}

impl WrittenRerun {
    /// That there is none.
    pub(super) fn never() -> Self {
        let none = Spanned {
            at: Spot::default(),
            value: Whole(0),
        };
        Self {
            at_most: Some(none),
            in_all: None,
            error_rate: None,
            deep: None,
        }
    }
}

impl Rerun {
    pub(super) fn of(written: &Written) -> Self {
        let rerun = written.rerun.as_ref().map(|rerun| &rerun.value);
        let at_most = rerun.and_then(|rerun| rerun.at_most.as_ref());
        let in_all = rerun.and_then(|rerun| rerun.in_all.as_ref());
        let error_rate = rerun.and_then(|rerun| rerun.error_rate.as_ref());
        let deep = rerun.and_then(|rerun| rerun.deep.as_ref());
        Self {
            at_most: at_most
                .and_then(|n| u32::try_from(n.value.0).ok())
                .unwrap_or(RERUNS_DEFAULT),
            in_all: in_all.and_then(|n| u32::try_from(n.value.0).ok()),
            error_rate: error_rate.map_or(ERROR_RATE_DEFAULT, |rate| rate.value.0),
            deep: deep.is_some_and(|deep| deep.value),
        }
    }
}

/// Checks what is said of it against the rest.
pub(super) fn check(written: &Written, checked: &Checked) -> Result<(), Vec<Finding>> {
    let rerun = written.rerun.as_ref().map(|rerun| &rerun.value);
    let deep = rerun.and_then(|rerun| rerun.deep.as_ref());
    match deep.filter(|deep| deep.value) {
        Some(deep) if checked.compare.is_none() => {
            let message =
                "`deep` goes on where comparisons are unresolved, and `compare` is missing";
            let finding = Finding::new(deep.at, message);
            Err(vec![finding.help(
                "add `compare: {axis: ..., baseline: ...}`, or remove `deep`",
            )])
        }
        _ => Ok(()),
    }
}
