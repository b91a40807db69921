//! Findings that compare nothing: what could not be tested, what fails where there is no baseline, and what hosts
//! did. May not: count any of it against a version.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::report::{Finding, FindingKind};
use regatta_model::{CellNumber, Outcome};

use super::compare::Compared;
use super::findings::named;
use super::{AttemptRow, Builder, chance, failures, known};

/// Most cells that a finding lists.
const CELLS_MOST: usize = 10_000;

/// What a host did wrong in a run.
#[derive(Default)]
pub(super) struct HostFaults {
    /// How often which outcome.
    outcomes: BTreeMap<&'static str, u64>,
    cells: BTreeSet<CellNumber>,
    detail: String,
}

impl HostFaults {
    pub(super) fn add(&mut self, row: &AttemptRow, cell: CellNumber) {
        *self.outcomes.entry(row.outcome.name()).or_default() += 1;
        if self.cells.len() < CELLS_MOST {
            self.cells.insert(cell);
        }
        if self.detail.is_empty() {
            self.detail.clone_from(&row.detail);
        }
    }
}

/// All of them: first what kept cells from being tested, then what fails, what is flaky, then hosts, and what
/// is known.
pub(super) fn findings(builder: &Builder<'_>, compared: &Compared) -> Vec<Finding> {
    let mut findings = untested(builder);
    findings.extend(failures::findings(builder, compared));
    findings.extend(chance::findings(builder, compared));
    findings.extend(hosts(builder));
    findings.extend(known::findings(builder));
    findings
}

/// A finding that names nothing but its kind and cells.
pub(super) fn plain(
    kind: FindingKind,
    cells: impl IntoIterator<Item = CellNumber>,
    text: String,
) -> Finding {
    Finding {
        kind,
        case: None,
        cases: Vec::new(),
        axis: None,
        last_good: None,
        first_bad: None,
        cells: cells.into_iter().take(CELLS_MOST).collect(),
        host: None,
        confidence: 1.0,
        text,
        excerpt: String::new(),
        clusters: Vec::new(),
        rate: None,
        bisected: None,
    }
}

/// Set-ups and images that failed: once for all their cells.
fn untested(builder: &Builder<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(Outcome, &str), Vec<CellNumber>> = BTreeMap::new();
    for (number, cell) in &builder.cells {
        if let Some((outcome, detail)) = &cell.untested {
            groups.entry((*outcome, detail)).or_default().push(*number);
        }
    }
    let mut findings: Vec<Finding> = groups
        .into_iter()
        .map(|((outcome, detail), cells)| {
            let what = if outcome == Outcome::SetupFailed {
                "set-up"
            } else {
                "image"
            };
            let which = which_cells(builder, &cells);
            let text = format!("The {what} of {which} failed: nothing of it was tested");
            let text = if cells.len() == 1 {
                text
            } else {
                text.replace("of it was", "of them was")
            };
            let excerpt = detail.to_owned();
            Finding {
                excerpt,
                ..plain(FindingKind::Platform, cells, text)
            }
        })
        .collect();
    findings.sort_by(|a, b| {
        b.cells
            .len()
            .cmp(&a.cells.len())
            .then(a.cells.cmp(&b.cells))
    });
    findings
}

/// How many cells, and what they have in common.
pub(super) fn which_cells(builder: &Builder<'_>, cells: &[CellNumber]) -> String {
    let mut shared: Option<BTreeMap<String, String>> = None;
    for cell in cells {
        let values = builder.values(*cell);
        match &mut shared {
            None => shared = Some(values),
            Some(shared) => shared.retain(|axis, value| values.get(axis) == Some(value)),
        }
    }
    let shared: Vec<String> = shared
        .unwrap_or_default()
        .iter()
        .map(|(axis, value)| format!("{axis} {}", named(builder, axis, value)))
        .collect();
    let shared = shared.join(", ");
    match (cells.len(), shared.is_empty()) {
        (1, true) => "the only cell".into(),
        (1, false) => shared,
        (count, true) => format!("{count} cells"),
        (count, false) => format!("{count} cells ({shared})"),
    }
}

/// What hosts did, the one with most faults first.
fn hosts(builder: &Builder<'_>) -> Vec<Finding> {
    let mut hosts: Vec<_> = builder.hosts.iter().collect();
    let sum = |faults: &HostFaults| faults.outcomes.values().sum::<u64>();
    hosts.sort_by(|a, b| sum(b.1).cmp(&sum(a.1)).then(a.0.cmp(b.0)));
    hosts
        .into_iter()
        .map(|(host, faults)| {
            let outcomes: Vec<String> = faults
                .outcomes
                .iter()
                .map(|(name, count)| format!("{count} × {name}"))
                .collect();
            let outcomes = outcomes.join(", ");
            let count = sum(faults);
            let attempts = if count == 1 { "attempt" } else { "attempts" };
            // An attempt that came to its end is a host's fault only where the host was found to be bad.
            let why = if faults.outcomes.contains_key("exited") {
                "what failed there others did not confirm, and it is quarantined"
            } else {
                "by its own fault"
            };
            let text =
                format!("{count} {attempts} on host {host} count for nothing: {why} ({outcomes})");
            Finding {
                host: Some(host.to_string()),
                excerpt: faults.detail.clone(),
                ..plain(FindingKind::Host, faults.cells.iter().copied(), text)
            }
        })
        .collect()
}
