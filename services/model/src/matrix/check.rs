//! Checks what needs more than one value: axes, cells, adjustments, comparison; and makes a matrix of
//! what was written. May not: read text.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adjust::{adjustments, matching};
use super::axes::axes;
use super::bisect;
use super::cells::{Axis, Baseline, Cells, Compare};
use super::finding::{Finding, Spot, did_you_mean, one_of, quote};
use super::known;
use super::metrics;
use super::plan::Mould;
use super::product::{self, CELLS_MOST, Exclude, STATE_BYTES_MOST, STEPS_MOST};
use super::read::{FINDINGS_MOST, Spanned};
use super::rerun;
use super::restrict::{only, restrict};
use super::select::{Names, Selector, describe};
use super::steps::Checker;
use super::written::Written;

/// What a matrix is made of once it is checked.
pub(super) struct Checked {
    pub(super) axes: Arc<[Axis]>,
    pub(super) cells: Cells,
    pub(super) mould: Mould,
    pub(super) compare: Option<Compare>,
}

type Findings = Vec<Finding>;

/// Checks all of `written`.
pub(super) fn check(written: &Written) -> Result<Checked, Findings> {
    let axes = axes(written)?;
    let names = Names::new(&axes);
    let mut findings = Findings::new();
    let excludes = excludes(written, &names, &mut findings);
    let included = included(written, &names, &mut findings);
    let mut checker = Checker {
        axes: axes.iter().map(|axis| axis.name.as_str()).collect(),
        findings,
    };
    let mut mould = checker.mould(written);
    mould.adjust = adjustments(written, &names, &mut checker);
    let mut findings = checker.findings;
    mould.known = known::known(written, &names, &mut findings);
    let compare = compare(written, &names, &mut findings);
    let only = only(written, &names, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    let axes: Arc<[Axis]> = axes.into();
    let cells = cells(written, &axes, &excludes, &included)?;
    matching(written, &axes, &cells, &mould.adjust)?;
    known::matching(written, &axes, &cells, &mould.known)?;
    let checked = match only {
        None => Checked {
            cells: cells.compared(compare.as_ref()),
            axes,
            mould,
            compare,
        },
        Some(only) => restrict(written, &axes, &excludes, &included, &only, mould, compare)?,
    };
    metrics::check(written, &checked)?;
    bisect::check(written, &checked)?;
    rerun::check(written, &checked)?;
    Ok(checked)
}

fn excludes(written: &Written, names: &Names<'_>, findings: &mut Findings) -> Vec<Selector> {
    let mut excludes = Vec::new();
    for one in written.exclude.iter().flat_map(|list| &list.value) {
        if findings.len() > FINDINGS_MOST {
            break;
        }
        excludes.extend(names.selector(&one.value, one.at, "this exclude", false, findings));
    }
    excludes
}

/// Included cells with their places.
pub(super) type Included = Vec<(Vec<u32>, Spot)>;

fn included(written: &Written, names: &Names<'_>, findings: &mut Findings) -> Included {
    let mut places: BTreeMap<Vec<u32>, Spot> = BTreeMap::new();
    let mut cells = Included::new();
    for one in written.include.iter().flat_map(|list| &list.value) {
        if findings.len() > FINDINGS_MOST {
            break;
        }
        let Some(cell) = names.cell(&one.value, one.at, findings) else {
            continue;
        };
        if let Some(first) = places.insert(cell.clone(), one.at) {
            let message = format!("the cell {} is included twice", describe(names.axes, &cell));
            let finding = Finding::new(one.at, message).note("first included here", first);
            findings.push(finding.help("remove one of the two"));
        }
        cells.push((cell, one.at));
    }
    cells
}

/// Compiles the cells.
pub(super) fn cells(
    written: &Written,
    axes: &Arc<[Axis]>,
    excludes: &[Exclude],
    included: &Included,
) -> Result<Cells, Findings> {
    let sizes: Vec<usize> = axes.iter().map(|axis| axis.values.len()).collect();
    let shards = written.shards();
    let product = sizes.iter().try_fold(u64::from(shards), |product, size| {
        product
            .checked_mul(u64::try_from(*size).ok()?)
            .filter(|product| *product <= CELLS_MOST)
    });
    if product.is_none() {
        let finding = Finding::new(
            written.axes.at,
            if shards == 1 {
                format!("the axes give more than {CELLS_MOST} cells")
            } else {
                format!("the axes give more than {CELLS_MOST} cells with {shards} shards each")
            },
        );
        return Err(vec![finding.help("use fewer axes or values")]);
    }
    let exclude_at = written
        .exclude
        .as_ref()
        .map_or(written.axes.at, |exclude| exclude.at);
    let product = product::compile(&sizes, excludes).map_err(|_| {
        let message = "the excludes tie the axes together in too many ways to be counted";
        let finding = Finding::new(exclude_at, message).remark(format!(
            "counting takes more than {STEPS_MOST} steps or {} MiB",
            STATE_BYTES_MOST >> 20
        ));
        vec![finding.help(
            "put axes that are excluded together next to each other in `axes`, \
             or exclude over fewer axes at once",
        )]
    })?;
    let twice = included.iter().filter_map(|(cell, at)| {
        let known = cell
            .iter()
            .zip(axes.iter())
            .all(|(at, axis)| usize::try_from(*at).is_ok_and(|at| at < axis.values.len()));
        let number = known.then(|| product.rank(cell)).flatten();
        number.map(|_| {
            let message = format!("the cell {} is there already", describe(axes, cell));
            let finding = Finding::new(*at, message).remark("the axes give it");
            finding.help("remove it from `include`; to change a cell, use `adjust`")
        })
    });
    let twice: Findings = twice.collect();
    if !twice.is_empty() {
        return Err(twice);
    }
    if product.count() == 0 && included.is_empty() {
        let finding = Finding::new(exclude_at, "no cell is left: every combination is excluded");
        return Err(vec![finding.help("remove an exclude")]);
    }
    let included = included.iter().map(|(cell, _)| cell.clone()).collect();
    Ok(Cells::new(Arc::clone(axes), product, included, shards))
}

fn compare(written: &Written, names: &Names<'_>, findings: &mut Findings) -> Option<Compare> {
    let compare = &written.compare.as_ref()?.value;
    let name = Spanned {
        at: compare.axis.at,
        value: compare.axis.value.0.clone(),
    };
    let axis = match names.axis(&name) {
        Ok(axis) => names.axes.get(axis)?,
        Err(finding) => {
            findings.push(*finding);
            return None;
        }
    };
    let (text, at) = (&compare.baseline.value.0, compare.baseline.at);
    if text == "previous" {
        if !axis.ordered {
            let message = format!(
                "`previous` needs an ordered axis, and {} is not",
                quote(&axis.name)
            );
            let help = format!(
                "write `{}: {{values: [...], ordered: true}}`, the oldest first",
                axis.name
            );
            findings.push(Finding::new(at, message).help(help));
        }
        return Some(Compare {
            axis: name.value,
            baseline: Baseline::Previous,
        });
    }
    if !axis.all().any(|value| value == text) {
        let message = format!(
            "the axis {} has no value {}",
            quote(&axis.name),
            quote(text)
        );
        let words = || axis.all().chain(["previous"]);
        let finding = Finding::new(at, message).expected(one_of(words()));
        findings.push(finding.help_if(did_you_mean(text, words())));
    }
    Some(Compare {
        axis: name.value,
        baseline: Baseline::Value(text.clone()),
    })
}
