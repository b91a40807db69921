//! Checks what needs more than one value: axes, cells, adjustments, comparison; and makes a matrix of
//! what was written. May not: read text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cells::{Axis, Baseline, Cells, Compare};
use super::diagnostic::{Finding, Spot, did_you_mean, one_of, quote};
use super::plan::{Adjustment, Mould};
use super::product::{self, CELLS_MOST, Exclude};
use super::read::Spanned;
use super::select::{self, Names, Selector};
use super::steps::{self, Checker};
use super::template;
use super::written::{self, Values, Written};

/// Most axes of a matrix.
pub const AXES_MOST: usize = 64;

/// Most adjustments of a matrix.
pub const ADJUSTMENTS_MOST: usize = 256;

/// Most steps that finding out which cells adjustments match may take.
pub const FIND_STEPS_MOST: u64 = 20_000_000;

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
    let compare = compare(written, &names, &mut findings);
    let only = only(written, &names, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    let axes: Arc<[Axis]> = axes.into();
    let cells = cells(written, &axes, &excludes, &included)?;
    matching(written, &axes, &cells, &mould.adjust)?;
    let Some(only) = only else {
        let cells = cells.compared(compare.as_ref());
        return Ok(Checked {
            axes,
            cells,
            mould,
            compare,
        });
    };
    restrict(written, &axes, &excludes, &included, &only, mould, compare)
}

/// Reads the axes and their values, those of included cells too.
fn axes(written: &Written) -> Result<Vec<Axis>, Findings> {
    let mut findings = Findings::new();
    let mut variables: BTreeMap<String, (String, Spot)> = BTreeMap::new();
    let mut axes: Vec<Axis> = Vec::new();
    if written.axes.value.entries.is_empty() {
        let finding = Finding::new(written.axes.at, "the matrix has no axis");
        findings.push(finding.help("for a single cell, give one axis with one value"));
    }
    if written.axes.value.entries.len() > AXES_MOST {
        let message = format!("the matrix has more than {AXES_MOST} axes");
        findings.push(Finding::new(written.axes.at, message));
    }
    for (name, values) in written.axes.value.iter() {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let letter = name.value.starts_with(|c: char| c.is_ascii_alphabetic());
        if !letter || !name.value.chars().all(inner) || name.value.len() > 64 {
            let message = format!("an axis cannot be named {}", quote(&name.value));
            let expected = "up to 64 letters, digits, `-` and `_`, beginning with a letter";
            findings.push(Finding::new(name.at, message).expected(expected));
        }
        let variable = super::axis_variable(&name.value);
        if let Some((other, first)) = variables.get(&variable) {
            let message = format!(
                "the axes {} and {} are both {variable} in the container",
                quote(other),
                quote(&name.value)
            );
            findings.push(
                Finding::new(name.at, message)
                    .note("the first is here", *first)
                    .help("rename one of them"),
            );
        }
        variables.insert(variable, (name.value.clone(), name.at));
        let (list, ordered) = match &values.value {
            Values::Short(list) => (list, false),
            Values::Long(long) => (
                &long.values.value,
                long.ordered.as_ref().is_some_and(|ordered| ordered.value),
            ),
        };
        let values = axis_values(&name.value, list, values.at, &mut findings);
        axes.push(Axis {
            name: name.value.clone(),
            values,
            extra: Vec::new(),
            ordered,
        });
    }
    extra_values(written, &mut axes, &mut findings);
    if findings.is_empty() {
        Ok(axes)
    } else {
        Err(findings)
    }
}

fn axis_values(
    name: &str,
    list: &[Spanned<super::read::Text>],
    at: Spot,
    findings: &mut Findings,
) -> Vec<String> {
    if list.is_empty() {
        let finding = Finding::new(at, format!("the axis {} has no values", quote(name)));
        findings.push(
            finding
                .expected("a list of at least one value")
                .help("add a value, or remove the axis"),
        );
    }
    let mut places: BTreeMap<&str, Spot> = BTreeMap::new();
    let mut checker = Checker {
        axes: Vec::new(),
        findings: Vec::new(),
    };
    for value in list {
        checker.printable(value, "a value");
        template::refuse(&value.value.0, value.at, &mut checker.findings);
        if let Some(first) = places.insert(&value.value.0, value.at) {
            let message = format!(
                "the value {} is given twice on the axis {}",
                quote(&value.value.0),
                quote(name)
            );
            let finding = Finding::new(value.at, message).note("first given here", first);
            checker.findings.push(finding.help("keep one of the two"));
        }
    }
    findings.append(&mut checker.findings);
    list.iter().map(|value| value.value.0.clone()).collect()
}

/// Adds the values that only included cells have.
fn extra_values(written: &Written, axes: &mut [Axis], findings: &mut Findings) {
    let mut known: Vec<BTreeSet<String>> = axes
        .iter()
        .map(|axis| axis.values.iter().cloned().collect())
        .collect();
    for cell in written.include.iter().flat_map(|include| &include.value) {
        for (name, value) in cell.value.iter() {
            let at = axes.iter().position(|axis| axis.name == name.value);
            let Some(at) = at else { continue };
            if let (Some(known), Some(axis)) = (known.get_mut(at), axes.get_mut(at))
                && known.insert(value.value.0.clone())
            {
                let mut checker = Checker {
                    axes: Vec::new(),
                    findings: Vec::new(),
                };
                checker.printable(value, "a value");
                template::refuse(&value.value.0, value.at, &mut checker.findings);
                findings.append(&mut checker.findings);
                axis.extra.push(value.value.0.clone());
            }
        }
    }
}

fn excludes(written: &Written, names: &Names<'_>, findings: &mut Findings) -> Vec<Selector> {
    let list = written.exclude.iter().flat_map(|list| &list.value);
    list.filter_map(|one| names.selector(&one.value, one.at, "this exclude", false, findings))
        .collect()
}

/// Included cells with their places.
type Included = Vec<(Vec<u32>, Spot)>;

fn included(written: &Written, names: &Names<'_>, findings: &mut Findings) -> Included {
    let mut places: BTreeMap<Vec<u32>, Spot> = BTreeMap::new();
    let mut cells = Included::new();
    for one in written.include.iter().flat_map(|list| &list.value) {
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

/// A cell as text: `python=3.10, werkzeug=2.2.3`.
fn describe(axes: &[Axis], cell: &[u32]) -> String {
    let values = axes
        .iter()
        .zip(cell)
        .map(|(axis, at)| format!("{}={}", axis.name, axis.value(*at)));
    quote(&values.collect::<Vec<_>>().join(", "))
}

/// Compiles the cells.
fn cells(
    written: &Written,
    axes: &Arc<[Axis]>,
    excludes: &[Exclude],
    included: &Included,
) -> Result<Cells, Findings> {
    let sizes: Vec<usize> = axes.iter().map(|axis| axis.values.len()).collect();
    let product = sizes.iter().try_fold(1u64, |product, size| {
        product
            .checked_mul(u64::try_from(*size).ok()?)
            .filter(|product| *product <= CELLS_MOST)
    });
    if product.is_none() {
        let finding = Finding::new(
            written.axes.at,
            format!("the axes give more than {CELLS_MOST} cells"),
        );
        return Err(vec![finding.help("use fewer axes or values")]);
    }
    let exclude_at = written
        .exclude
        .as_ref()
        .map_or(written.axes.at, |exclude| exclude.at);
    let product = product::compile(&sizes, excludes).map_err(|_| {
        let finding = Finding::new(exclude_at, "the excludes tie the axes together in too many ways to be counted");
        let help = "put axes that are excluded together next to each other in `axes`, or use fewer excludes";
        vec![finding.help(help)]
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
    Ok(Cells::new(Arc::clone(axes), product, included))
}

fn adjustments(written: &Written, names: &Names<'_>, checker: &mut Checker<'_>) -> Vec<Adjustment> {
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
fn matching(
    written: &Written,
    axes: &[Axis],
    cells: &Cells,
    adjustments: &[Adjustment],
) -> Result<(), Findings> {
    let list = written
        .adjust
        .as_ref()
        .map_or(&[][..], |adjust| &adjust.value);
    let mut findings = Findings::new();
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

fn compare(written: &Written, names: &Names<'_>, findings: &mut Findings) -> Option<Compare> {
    let compare = &written.compare.as_ref()?.value;
    let name = Spanned {
        at: compare.axis.at,
        value: compare.axis.value.0.clone(),
    };
    let axis = match names.axis(&name) {
        Ok(axis) => names.axes.get(axis)?,
        Err(finding) => {
            findings.push(finding);
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

fn only(written: &Written, names: &Names<'_>, findings: &mut Findings) -> Option<Selector> {
    let only = written.only.as_ref()?;
    names.selector(&only.value, only.at, "`only`", true, findings)
}

/// The same matrix over fewer values.
fn restrict(
    written: &Written,
    axes: &[Axis],
    excludes: &[Exclude],
    included: &Included,
    only: &Selector,
    mut mould: Mould,
    compare: Option<Compare>,
) -> Result<Checked, Findings> {
    let included: Included = included
        .iter()
        .filter(|(cell, _)| select::matches(only, cell))
        .cloned()
        .collect();
    // Per axis, the new index of each old one.
    let mut moved: Vec<BTreeMap<u32, u32>> = Vec::new();
    let mut fewer = Vec::new();
    for (number, axis) in axes.iter().enumerate() {
        let meant = only
            .iter()
            .find(|(at, _)| *at == number)
            .map(|(_, values)| values);
        let stays = |at: &u32| meant.is_none_or(|meant| meant.binary_search(at).is_ok());
        let own = u32::try_from(axis.values.len()).unwrap_or(u32::MAX);
        let needed = |at: &u32| {
            included
                .iter()
                .any(|(cell, _)| cell.get(number) == Some(at))
        };
        let all = 0..u32::try_from(axis.all().count()).unwrap_or(u32::MAX);
        let kept: Vec<u32> = all
            .filter(|at| stays(at) && (*at < own || needed(at)))
            .collect();
        let text = |at: &u32| axis.value(*at).to_owned();
        fewer.push(Axis {
            name: axis.name.clone(),
            values: kept.iter().filter(|at| **at < own).map(text).collect(),
            extra: kept.iter().filter(|at| **at >= own).map(text).collect(),
            ordered: axis.ordered,
        });
        moved.push(kept.into_iter().zip(0..).collect());
    }
    let moving = |selector: &Selector| -> Option<Selector> {
        let moved = selector.iter().map(|(axis, values)| {
            let moved = moved.get(*axis)?;
            let values: Vec<u32> = values
                .iter()
                .filter_map(|at| moved.get(at).copied())
                .collect();
            (!values.is_empty()).then_some((*axis, values))
        });
        moved.collect()
    };
    let excludes: Vec<Exclude> = excludes.iter().filter_map(moving).collect();
    let included = included.into_iter().map(|(cell, at)| {
        let cell = cell
            .iter()
            .zip(&moved)
            .map(|(at, moved)| moved.get(at).copied().unwrap_or(0));
        (cell.collect(), at)
    });
    let axes: Arc<[Axis]> = fewer.into();
    let cells = cells(written, &axes, &excludes, &included.collect()).map_err(|_| {
        let at = written
            .only
            .as_ref()
            .map_or(written.axes.at, |only| only.at);
        let finding = Finding::new(at, "no cell is left: none has these values together");
        vec![finding.help("`regatta check` tells what each axis has")]
    })?;
    mould.adjust = mould
        .adjust
        .into_iter()
        .filter_map(|adjust| {
            let selector = moving(&adjust.selector)?;
            Some(Adjustment { selector, ..adjust })
        })
        .collect();
    let cells = cells.compared(compare.as_ref());
    Ok(Checked {
        axes,
        cells,
        mould,
        compare,
    })
}
