//! Checks adjustments: what they change, which cells they match, and that no two change the same.
//! May not: make cells.

use std::collections::BTreeMap;

use super::cells::{Axis, Cells};
use super::finding::{Finding, Spot, one_of, quote};
use super::plan::Adjustment;
use super::select::{self, Names, Selector, describe};
use super::steps::{self, Checker};
use super::written::{self, Written};

/// Most adjustments of a matrix.
pub const ADJUSTMENTS_MOST: usize = 256;

/// Most steps that finding out which cells adjustments match may take.
pub const FIND_STEPS_MOST: u64 = 20_000_000;

pub(super) fn adjustments(
    written: &Written,
    names: &Names<'_>,
    checker: &mut Checker<'_>,
) -> Vec<Adjustment> {
    let list = written
        .adjust
        .as_ref()
        .map_or(&[][..], |adjust| &adjust.value);
    if list.len() > ADJUSTMENTS_MOST {
        let at = written
            .adjust
            .as_ref()
            .map_or(written.axes.at, |adjust| adjust.at);
        let message = format!("the matrix has more than {ADJUSTMENTS_MOST} adjustments");
        let help = "give several values of an axis in one `where`";
        checker.findings.push(Finding::new(at, message).help(help));
        return Vec::new();
    }
    let mut adjustments = Vec::new();
    for one in list {
        let adjust = &one.value;
        let selector = names.selector(
            &adjust.selector.value,
            adjust.selector.at,
            "this adjust",
            true,
            &mut checker.findings,
        );
        if keys(adjust).is_empty() {
            let finding = Finding::new(one.at, "this adjust changes nothing");
            let expected = one_of(["env", "timeout", "limits", "allow-failure"]);
            checker.findings.push(finding.expected(expected));
        }
        let limits = steps::limits(adjust.limits.as_ref().map(|limits| &limits.value));
        adjustments.push(Adjustment {
            selector: selector.unwrap_or_default(),
            env: checker.env(adjust.env.as_ref()),
            timeout_ms: adjust.timeout.as_ref().map(|time| time.value.0),
            limits,
            allow_failure: adjust.allow_failure.as_ref().map(|allow| allow.value),
        });
    }
    adjustments
}

/// What an adjustment changes, and where it says so.
fn keys(adjust: &written::Adjust) -> BTreeMap<String, Spot> {
    let mut keys = BTreeMap::new();
    for (name, value) in adjust.env.iter().flat_map(|env| env.value.iter()) {
        keys.insert(format!("env.{}", name.value), value.at);
    }
    if let Some(timeout) = &adjust.timeout {
        keys.insert("timeout".to_owned(), timeout.at);
    }
    if let Some(limits) = &adjust.limits {
        let limits = &limits.value;
        let given = [
            ("cpus", limits.cpus.as_ref().map(|limit| limit.at)),
            ("memory", limits.memory.as_ref().map(|limit| limit.at)),
            ("processes", limits.processes.as_ref().map(|limit| limit.at)),
            ("disk", limits.disk.as_ref().map(|limit| limit.at)),
            ("files", limits.files.as_ref().map(|limit| limit.at)),
            ("output", limits.output.as_ref().map(|limit| limit.at)),
        ];
        let given = given
            .into_iter()
            .filter_map(|(name, at)| Some((format!("limits.{name}"), at?)));
        keys.extend(given);
    }
    if let Some(allow) = &adjust.allow_failure {
        keys.insert("allow-failure".to_owned(), allow.at);
    }
    keys
}

/// Every adjustment must match a cell, and no two may change the same key of one cell.
pub(super) fn matching(
    written: &Written,
    axes: &[Axis],
    cells: &Cells,
    adjustments: &[Adjustment],
) -> Result<(), Vec<Finding>> {
    let list = written
        .adjust
        .as_ref()
        .map_or(&[][..], |adjust| &adjust.value);
    let mut findings = Vec::new();
    let mut steps = FIND_STEPS_MOST;
    let mut any = |selector: &Selector, at: Spot| {
        select::any(cells, axes, selector, &mut steps).map_err(|_| {
            let message = "it takes too long to find out which cells the adjustments match";
            vec![Finding::new(at, message).help("use fewer adjustments, or simpler excludes")]
        })
    };
    let all: Vec<_> = list
        .iter()
        .zip(adjustments)
        .map(|(one, a)| (one, keys(&one.value), a))
        .collect();
    for (number, (one, keys, adjust)) in all.iter().enumerate() {
        let at = one.value.selector.at;
        if any(&adjust.selector, at)?.is_none() {
            let finding = Finding::new(
                at,
                "this adjust matches nothing: no cell has these values together",
            );
            findings.push(finding.help("remove it, or the exclude that takes its cells away"));
            continue;
        }
        for (_, earlier_keys, earlier) in all.iter().take(number) {
            let mut shared = keys
                .iter()
                .filter(|(key, _)| earlier_keys.contains_key(*key))
                .peekable();
            if shared.peek().is_none() {
                continue;
            }
            let Some(selector) = select::both(&earlier.selector, &adjust.selector) else {
                continue;
            };
            let Some(cell) = any(&selector, at)? else {
                continue;
            };
            for (key, at) in shared {
                let message = format!(
                    "two adjustments change {} of the cell {}",
                    quote(key),
                    describe(axes, &cell)
                );
                let finding = Finding::new(*at, message);
                let first = earlier_keys.get(key).copied().unwrap_or(*at);
                let finding = finding.note("the other one is here", first);
                findings.push(finding.help("make their `where` match different cells"));
            }
        }
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}
