//! What a matrix says of tracing regressions to where they began, and the matrices of such a search. May not: search.

use schemars::JsonSchema;
use serde::Serialize;

use super::check::Checked;
use super::finding::{Finding, Spot};
use super::read::{Read, Reader, Spanned, written};
use super::rerun::WrittenRerun;
use super::scalars::{Text, Whole, Word};
use super::tree::{Kind, Node};
use super::written::{self, Written};
use super::{Diagnostics, Matrix};

/// Attempts of a run's searches together at most, where the matrix does not say.
pub const BISECT_ATTEMPTS: u32 = 200;

/// The lowest priority: what may wait for everything else.
const PRIORITY_LEAST: i64 = -1000;

/// `auto`, or a mapping with `at-most`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Bisect {
    /// With the default budget.
    Auto(Auto),
    /// With a budget.
    Long(LongBisect),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Auto {
    /// It is done where it can be.
    Auto,
}

impl Word for Auto {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto)];
}

written! {
    /// How regressions are traced to where they began.
    LongBisect {
        /// Attempts of a run's searches together at most; 200 where it is left away.
        at_most: "at-most" => Spanned<Whole<1, 10_000>>,
    }
}

impl Read for Bisect {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => LongBisect::read(node, reader).map(Self::Long),
            Kind::List(_) => reader.misfit(node, "`auto`, or a mapping with `at-most`", None),
            Kind::Scalar(_) => Auto::read(node, reader).map(Self::Auto),
        }
    }
}

impl Matrix {
    /// Attempts that may be spent on finding, among values of the compared axis that are left out, where each regression
    /// began; none where nobody asked for that.
    pub fn bisect(&self) -> Option<u32> {
        match &self.0.written.bisect.as_ref()?.value {
            Bisect::Auto(_) => Some(BISECT_ATTEMPTS),
            Bisect::Long(long) => u32::try_from(long.at_most.value.0).ok(),
        }
    }

    /// The same matrix with all its values, whatever it is restricted to.
    pub fn whole(&self) -> Result<Self, Diagnostics> {
        match self.0.written.only {
            Some(_) => self.only(&[]),
            None => Ok(self.clone()),
        }
    }

    /// The matrix with all values of which something may be run.
    pub(super) fn reachable(&self) -> Result<Self, Diagnostics> {
        if self.bisect().is_some() {
            self.whole()
        } else {
            Ok(self.clone())
        }
    }

    /// The same tests over these values only, each cell attempted once and compared with nothing, under a name of its own, so
    /// that it is no part of the matrix's history. What is known to fail counts as failing where `known_fails` says so.
    pub fn probe(
        &self,
        values: &[(String, Vec<String>)],
        known_fails: bool,
    ) -> Result<Self, Diagnostics> {
        let mut written = self.0.written.clone();
        written.only = Some(written::only(values));
        written.name = Some(Spanned {
            at: Spot::default(),
            value: Text(format!("{} (bisect)", self.name())),
        });
        written.compare = None;
        written.metrics = None;
        written.bisect = None;
        written.fail_fast = None;
        written.repeat = None;
        written.rerun = Some(Spanned {
            at: Spot::default(),
            value: WrittenRerun::never(),
        });
        if known_fails {
            written.known = None;
        }
        self.changed(written)
    }

    /// The same matrix, but that everything else goes first.
    pub fn last_of_all(&self) -> Result<Self, Diagnostics> {
        let mut written = self.0.written.clone();
        written.priority = Some(Spanned {
            at: Spot::default(),
            value: Whole(PRIORITY_LEAST),
        });
        self.changed(written)
    }
}

/// Checks what is said of it against the rest.
pub(super) fn check(written: &Written, checked: &Checked) -> Result<(), Vec<Finding>> {
    let Some(bisect) = &written.bisect else {
        return Ok(());
    };
    let axis = checked.compare.as_ref().map(|compare| &compare.axis);
    let Some(axis) = axis else {
        let message = "`bisect` looks along the axis of `compare`, which is missing";
        let finding = Finding::new(bisect.at, message);
        return Err(vec![
            finding.help("add `compare: {axis: ..., baseline: previous}`"),
        ]);
    };
    let ordered = |name: &str| {
        let found = checked.axes.iter().find(|axis| axis.name == name);
        found.is_some_and(|axis| axis.ordered)
    };
    if ordered(axis) {
        return Ok(());
    }
    let message = format!("the values of axis `{axis}` have no order to look along");
    let help = format!("write `{axis}: {{values: [...], ordered: true}}`, the oldest first");
    Err(vec![Finding::new(bisect.at, message).help(help)])
}
