//! What changed against the baseline, as findings: regressions and fixes. May not: decide what changed.

use std::collections::BTreeMap;

use regatta_model::CellNumber;
use regatta_model::report::{Finding, FindingKind};

use super::Builder;
use super::case::CaseId;
use super::cluster::clusters;
use super::compare::Compared;
use super::searched;
use super::series::{self, Change, Direction};

/// Most case names of one finding.
const CASES_MOST: usize = 10_000;

/// Most cells whose messages are looked at.
const CELLS_COUNTED_MOST: usize = 1000;

/// Regressions, the earliest value first, then fixes; those of cells that are allowed to fail last.
pub(super) fn changes(builder: &Builder<'_>, compared: &Compared) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut allowed = Vec::new();
    let regressions = series::changes(builder, compared, Direction::Regressed);
    let mut firsts: BTreeMap<String, usize> = BTreeMap::new();
    let regressions = regressions
        .into_iter()
        .flat_map(|change| searched::parts(builder, change));
    for (change, bisected) in regressions {
        let change = &change;
        let tolerated = change
            .cells
            .iter()
            .all(|cell| builder.matrix.allow_failure(*cell));
        let earlier = firsts.len();
        let nth = *firsts.entry(change.first.clone()).or_insert(earlier);
        let mut finding = regression((builder, compared), change, nth > 0, tolerated);
        if let Some(bisected) = bisected {
            searched::tell(&mut finding, bisected);
        }
        if tolerated {
            allowed.push(finding);
        } else {
            findings.push(finding);
        }
    }
    findings.append(&mut allowed);
    let fixes = series::changes(builder, compared, Direction::Fixed);
    findings.extend(fixes.iter().map(|change| fix((builder, compared), change)));
    findings
}

fn regression(
    (builder, compared): (&Builder<'_>, &Compared),
    change: &Change,
    more: bool,
    tolerated: bool,
) -> Finding {
    let axis = axis(builder);
    let what = match (change.cases.len(), more) {
        (0, _) => builder.matrix.name().to_owned(),
        (1, _) => name(builder, change.cases.first()),
        (count, false) => format!("{count} tests of {}", builder.matrix.name()),
        (count, true) => format!("{count} more tests of {}", builder.matrix.name()),
    };
    let (first, last) = (
        named(builder, axis, &change.first),
        named(builder, axis, &change.last),
    );
    let scope = scope(builder, &change.origins);
    let tolerated = if tolerated {
        " (its cells are allowed to fail)"
    } else {
        ""
    };
    let text = format!(
        "{} {first} broke {what}{scope}; last good: {last}{tolerated}",
        capital(axis)
    );
    finding((builder, compared), Direction::Regressed, change, text)
}

fn fix((builder, compared): (&Builder<'_>, &Compared), change: &Change) -> Finding {
    let axis = axis(builder);
    let what = match change.cases.len() {
        0 => builder.matrix.name().to_owned(),
        1 => name(builder, change.cases.first()),
        count => format!("{count} tests of {}", builder.matrix.name()),
    };
    let scope = scope(builder, &change.origins);
    let fails = if change.cases.len() > 1 {
        "fail"
    } else {
        "fails"
    };
    let (first, last) = (
        named(builder, axis, &change.first),
        named(builder, axis, &change.last),
    );
    let text = format!(
        "{} {first} mended {what}{scope}, which {fails} with {last}",
        capital(axis)
    );
    // Its fields name the good side only: nothing is bad from here on.
    let last_good = Some(change.first.clone());
    Finding {
        first_bad: None,
        last_good,
        excerpt: String::new(),
        clusters: Vec::new(),
        ..finding((builder, compared), Direction::Fixed, change, text)
    }
}

fn finding(
    (builder, compared): (&Builder<'_>, &Compared),
    direction: Direction,
    change: &Change,
    text: String,
) -> Finding {
    let names: Vec<String> = change
        .cases
        .iter()
        .take(CASES_MOST)
        .map(|case| builder.cases.name(*case).to_owned())
        .collect();
    let case = if names.len() == 1 {
        names.first().cloned()
    } else {
        None
    };
    Finding {
        kind: match direction {
            Direction::Regressed => FindingKind::Regression,
            Direction::Fixed => FindingKind::Fix,
        },
        case,
        cases: names,
        axis: Some(axis(builder).to_owned()),
        last_good: Some(change.last.clone()),
        first_bad: Some(change.first.clone()),
        cells: change.cells.iter().copied().collect(),
        host: None,
        // Cut to four digits.
        confidence: (compared.surely(&change.origins, direction) * 10_000.0).floor() / 10_000.0,
        text,
        excerpt: excerpt(builder, &change.origins, &change.cases),
        clusters: clusters(builder, &change.origins, &change.cases),
        rate: None,
        bisected: None,
    }
}

/// The message that most of the cases share, or what is told of the attempt as a whole.
pub(super) fn excerpt(builder: &Builder<'_>, cells: &[CellNumber], cases: &[CaseId]) -> String {
    let mut counts: BTreeMap<&str, (usize, CaseId)> = BTreeMap::new();
    let mut details = "";
    for cell in cells
        .iter()
        .take(CELLS_COUNTED_MOST)
        .filter_map(|cell| builder.cells.get(cell))
    {
        for case in cases {
            if let Some(message) = cell.messages.get(case) {
                counts.entry(message).or_insert((0, *case)).0 += 1;
            }
        }
        if details.is_empty() {
            details = &cell.detail;
        }
    }
    let distinct = counts.len();
    // Of equally frequent ones the first by text, so that the same attempts give the same report.
    let most = counts
        .into_iter()
        .max_by(|a, b| a.1.0.cmp(&b.1.0).then(b.0.cmp(a.0)));
    let Some((message, (_, case))) = most else {
        return details.to_owned();
    };
    let others = match distinct - 1 {
        0 => String::new(),
        1 => "\n(and another message)".into(),
        others => format!("\n(and {others} other messages)"),
    };
    format!("{}: {message}{others}", builder.cases.name(case))
}

/// Which of several lines show a change, where not all of them do: the values that all its first cells share and that
/// set them apart.
fn scope(builder: &Builder<'_>, origins: &[CellNumber]) -> String {
    let mut shared: Option<BTreeMap<String, String>> = None;
    for cell in origins {
        let values = builder.values(*cell);
        match &mut shared {
            None => shared = Some(values),
            Some(shared) => shared.retain(|axis, value| values.get(axis) == Some(value)),
        }
    }
    let compared = axis(builder);
    let apart: Vec<String> = shared
        .unwrap_or_default()
        .into_iter()
        .filter(|(axis, _)| axis != compared)
        .filter(|(name, _)| {
            let axis = builder.matrix.axes().iter().find(|axis| axis.name == *name);
            axis.is_some_and(|axis| axis.all().nth(1).is_some())
        })
        .map(|(axis, value)| format!("{axis} {value}"))
        .collect();
    if apart.is_empty() {
        String::new()
    } else {
        format!(" with {}", apart.join(", "))
    }
}

fn name(builder: &Builder<'_>, case: Option<&CaseId>) -> String {
    case.map(|case| builder.cases.name(*case).to_owned())
        .unwrap_or_default()
}

fn axis<'a>(builder: &'a Builder<'_>) -> &'a str {
    builder
        .matrix
        .compare()
        .map_or("", |compare| compare.axis.as_str())
}

/// A value of an axis, as a sentence names it.
pub(super) fn named(builder: &Builder<'_>, name: &str, value: &str) -> String {
    let axis = builder.matrix.axes().iter().find(|axis| axis.name == name);
    axis.map_or_else(|| value.to_owned(), |axis| axis.named(value))
}

/// With a capital letter at the front.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars).collect()
}
