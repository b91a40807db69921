//! Between which values of a run regressions began, where the run left values out there. May not: read anything.

use std::collections::BTreeMap;

use regatta_model::matrix::Matrix;
use regatta_model::report::{Finding, FindingKind, Report};

use crate::answer::Answer;
use crate::limits::BISECT_GAPS_MOST;
use crate::pins::wrong_matrix;

/// A good and a bad value, with values between them that the run left out.
pub(super) struct Gap {
    pub(super) axis: String,
    pub(super) last_good: String,
    pub(super) first_bad: String,
    /// What the other axes are.
    pub(super) with: BTreeMap<String, String>,
    /// Both ends, and what lies between; the good one first.
    pub(super) values: Vec<String>,
    /// The same as sentences name them.
    pub(super) names: Vec<String>,
    /// The cases of each finding, those first that have most.
    pub(super) groups: Vec<Vec<String>>,
}

/// The gaps of a run's regressions, in the order of its findings.
pub(super) fn of(matrix: &Matrix, report: &Report) -> Answer<Vec<Gap>> {
    let whole = matrix.whole().map_err(|errors| wrong_matrix(&errors))?;
    let mut gaps: Vec<Gap> = Vec::new();
    let regressions = report.findings.iter();
    for finding in regressions.filter(|finding| finding.kind == FindingKind::Regression) {
        let Some(gap) = gap(&whole, matrix, report, finding) else {
            continue;
        };
        let same = gaps.iter().position(|known| {
            known.last_good == gap.last_good
                && known.first_bad == gap.first_bad
                && known.with == gap.with
        });
        if let Some(known) = same.and_then(|at| gaps.get_mut(at)) {
            known.groups.extend(gap.groups);
        } else if gaps.len() < BISECT_GAPS_MOST {
            gaps.push(gap);
        }
    }
    for gap in &mut gaps {
        gap.groups
            .sort_by_key(|cases| std::cmp::Reverse(cases.len()));
    }
    Ok(gaps)
}

fn gap(whole: &Matrix, matrix: &Matrix, report: &Report, finding: &Finding) -> Option<Gap> {
    let (axis, last_good, first_bad) = (
        finding.axis.as_ref()?,
        finding.last_good.as_ref()?,
        finding.first_bad.as_ref()?,
    );
    let shows = finding.cells.first()?;
    let cell = report.cells.iter().find(|cell| cell.cell == *shows)?;
    let mut with = cell.axes.clone();
    with.remove(axis);
    let looked = whole.axes().iter().find(|known| known.name == *axis)?;
    let values: Vec<&str> = looked.all().collect();
    let place = |wanted: &String| values.iter().position(|value| value == wanted);
    let (good, bad) = (place(last_good)?, place(first_bad)?);
    let mut between: Vec<String> = values
        .get(good.min(bad) + 1..good.max(bad))?
        .iter()
        .map(|value| (*value).to_owned())
        .filter(|value| {
            let mut cell = with.clone();
            cell.insert(axis.clone(), value.clone());
            whole.cells().number(&cell).is_some() && matrix.cells().number(&cell).is_none()
        })
        .collect();
    if between.is_empty() {
        return None;
    }
    if bad < good {
        between.reverse();
    }
    between.insert(0, last_good.clone());
    between.push(first_bad.clone());
    Some(Gap {
        axis: axis.clone(),
        last_good: last_good.clone(),
        first_bad: first_bad.clone(),
        with,
        names: between.iter().map(|value| looked.named(value)).collect(),
        values: between,
        groups: vec![finding.cases.clone()],
    })
}
