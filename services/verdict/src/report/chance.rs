//! What fails by chance, may be broken, or fails on both sides all of a sudden. May not: repeat what a regression says.

use std::collections::BTreeMap;

use regatta_model::CellNumber;
use regatta_model::report::{Finding, FindingKind, Rate, Verdict};

use super::Builder;
use super::case::CaseId;
use super::compare::{CellCompared, Compared};
use super::findings::{capital, excerpt};
use super::others::{plain, which_cells};
use super::shards;
use crate::sequential::Record;

/// Most findings of each kind; what more there is, the last one says.
const FINDINGS_MOST: usize = 50;

/// All of them: what may be broken, what changed around all versions, what is flaky.
pub(super) fn findings(builder: &Builder<'_>, compared: &Compared) -> Vec<Finding> {
    let mut findings = told(
        builder,
        FindingKind::Unresolved,
        by_case(compared, |comparison| &comparison.open),
        &|case, cells| unresolved(builder, compared, case, cells),
    );
    findings.extend(told(
        builder,
        FindingKind::Environment,
        by_case(compared, |comparison| &comparison.drifted),
        &|case, cells| drifted(builder, compared, case, cells),
    ));
    let mut flaky: BTreeMap<CaseId, Vec<CellNumber>> = BTreeMap::new();
    for (number, cell) in &builder.cells {
        let comparison = compared.cells.get(number);
        let is_told = |case: CaseId| {
            comparison.is_some_and(|comparison| {
                let cases = &builder.cases;
                let told = [
                    &comparison.regressed,
                    &comparison.open,
                    &comparison.broken_before,
                ];
                told.into_iter().any(|told| cases.has(told, case))
            })
        };
        for case in cell.flaky.iter().filter(|case| !is_told(**case)) {
            flaky.entry(*case).or_default().push(*number);
        }
    }
    findings.extend(told(builder, FindingKind::Flaky, flaky, &|case, cells| {
        let which = which_cells(builder, cells);
        let rate = rate(record(builder, case, cells));
        format!(
            "{} both passed and failed in {which}{rate}",
            builder.cases.name(case)
        )
    }));
    findings.extend(whole(builder, compared));
    findings
}

fn by_case(
    compared: &Compared,
    cases: fn(&CellCompared) -> &Vec<CaseId>,
) -> BTreeMap<CaseId, Vec<CellNumber>> {
    let mut found: BTreeMap<CaseId, Vec<CellNumber>> = BTreeMap::new();
    for (number, comparison) in &compared.cells {
        for case in cases(comparison) {
            found.entry(*case).or_default().push(*number);
        }
    }
    found
}

/// One finding a case, those of most cells first.
fn told(
    builder: &Builder<'_>,
    kind: FindingKind,
    by_case: BTreeMap<CaseId, Vec<CellNumber>>,
    text: &dyn Fn(CaseId, &[CellNumber]) -> String,
) -> Vec<Finding> {
    let name = |case: CaseId| builder.cases.name(case);
    let mut by_case: Vec<(CaseId, Vec<CellNumber>)> = by_case.into_iter().collect();
    by_case.sort_by(|a, b| {
        b.1.len()
            .cmp(&a.1.len())
            .then_with(|| name(a.0).cmp(name(b.0)))
    });
    let further = by_case.len().saturating_sub(FINDINGS_MOST);
    let mut findings = Vec::new();
    for (case, cells) in by_case.into_iter().take(FINDINGS_MOST) {
        let text = text(case, &cells);
        let counted = (kind == FindingKind::Flaky).then(|| record(builder, case, &cells));
        findings.push(Finding {
            case: Some(name(case).to_owned()),
            excerpt: excerpt(builder, &cells, &[case]),
            rate: counted.and_then(measured),
            ..plain(kind, cells, text)
        });
    }
    if further > 0 {
        let text = match kind {
            FindingKind::Flaky => format!("{further} further cases both passed and failed"),
            FindingKind::Unresolved => format!("{further} further cases may be broken"),
            _ => format!("{further} further cases fail in their baselines now"),
        };
        findings.push(plain(kind, [], text));
    }
    findings
}

/// How often a case ran in these cells, and how often it failed.
fn record(builder: &Builder<'_>, case: CaseId, cells: &[CellNumber]) -> Record {
    let cells = cells.iter().filter_map(|cell| builder.cells.get(cell));
    cells
        .map(|cell| shards::record(&cell.parts, Some(case), &builder.cases))
        .fold(Record::default(), Record::and)
}

/// The same of the cells that they are compared with.
fn of_baselines(
    builder: &Builder<'_>,
    compared: &Compared,
    case: CaseId,
    cells: &[CellNumber],
) -> Record {
    let mut baselines: Vec<CellNumber> = cells
        .iter()
        .filter_map(|cell| compared.cells.get(cell)?.baseline_cell)
        .collect();
    baselines.sort_unstable();
    baselines.dedup();
    record(builder, case, &baselines)
}

/// How often, with the interval in which the true rate is with 95% (Wilson's); empty where nothing was counted.
fn rate(record: Record) -> String {
    let Record { failed, runs } = record;
    if failed == 0 || runs == 0 {
        return String::new();
    }
    let (low, high) = record.interval();
    let percent = |share: f64| format!("{:.0}", 100.0 * share.clamp(0.0, 1.0));
    format!(
        ": {failed} of {runs} attempts failed ({}%, 95% interval {} to {}%)",
        percent(f64::from(failed) / f64::from(runs)),
        percent(low),
        percent(high),
    )
}

/// The same for programs; none where nothing was counted.
fn measured(record: Record) -> Option<Rate> {
    let Record { failed, runs } = record;
    let (low, high) = record.interval();
    (runs > 0).then_some(Rate {
        failed,
        runs,
        low,
        high,
    })
}

fn unresolved(
    builder: &Builder<'_>,
    compared: &Compared,
    case: CaseId,
    cells: &[CellNumber],
) -> String {
    let (own, before) = (
        record(builder, case, cells),
        of_baselines(builder, compared, case, cells),
    );
    let most = builder.matrix.rerun().in_all.map(u64::from);
    let used_up = match most.filter(|most| !builder.run.deep && builder.counts.reruns >= *most) {
        Some(most) => {
            format!("the {most} reruns of the whole run are used up (`rerun.in-all`), and ")
        }
        None => String::new(),
    };
    format!(
        "{} failed {} of {} times in {} and {} of {} times in the baseline: that does not tell whether it is broken; {used_up}more \
         reruns would (`{}`)",
        builder.cases.name(case),
        own.failed,
        own.runs,
        which_cells(builder, cells),
        before.failed,
        before.runs,
        if builder.run.deep {
            "rerun: {at-most: ...}".to_owned()
        } else {
            format!("regatta rerun {} --until-resolved", builder.run.run)
        },
    )
}

fn drifted(
    builder: &Builder<'_>,
    compared: &Compared,
    case: CaseId,
    cells: &[CellNumber],
) -> String {
    let before = of_baselines(builder, compared, case, cells);
    format!(
        "{} fails in the baseline of {} now ({} of {} attempts), which it did not before: something changed around all \
         versions",
        builder.cases.name(case),
        which_cells(builder, cells),
        before.failed,
        before.runs,
    )
}

/// Cells that both passed and failed without a case that says so.
fn whole(builder: &Builder<'_>, compared: &Compared) -> Option<Finding> {
    let cells = builder.cells.iter().filter(|(number, cell)| {
        let regressed = compared.cells.get(number).is_some_and(|comparison| {
            !comparison.regressed.is_empty() || comparison.whole.is_some()
        });
        cell.flaky.is_empty() && cell.verdict == Verdict::Flaky && !regressed
    });
    let cells: Vec<CellNumber> = cells.map(|(number, _)| *number).collect();
    if cells.is_empty() {
        return None;
    }
    let which = capital(&which_cells(builder, &cells));
    let all = cells.iter().filter_map(|cell| builder.cells.get(cell));
    let all = all.map(|cell| shards::record(&cell.parts, None, &builder.cases));
    let all = all.fold(Record::default(), Record::and);
    let excerpt = excerpt(builder, &cells, &[]);
    let text = format!(
        "{which} both passed and failed, without a case that tells why{}",
        rate(all)
    );
    Some(Finding {
        excerpt,
        rate: measured(all),
        ..plain(FindingKind::Flaky, cells, text)
    })
}
