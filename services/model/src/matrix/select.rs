//! Which cells are meant: `exclude`, `include`, `adjust.where` and `only` over the values of axes.
//! May not: change cells.

use std::collections::{BTreeMap, BTreeSet};

use super::cells::{Axis, Cells};
use super::finding::{Finding, Spot, did_you_mean, one_of, quote};
use super::product::OutOfSteps;
use super::read::{FINDINGS_MOST, Map, Spanned};
use super::scalars::{OneOrMany, Text};
use super::template::Template;

/// Per axis that is named, in ascending order, the indices (sorted) of the values that are meant.
pub(super) type Selector = Vec<(usize, Vec<u32>)>;

/// The axes of a matrix and the places of their values.
pub(super) struct Names<'a> {
    pub(super) axes: &'a [Axis],
    index: Vec<BTreeMap<&'a str, u32>>,
}

impl<'a> Names<'a> {
    /// The names of `axes`.
    pub(super) fn new(axes: &'a [Axis]) -> Self {
        let index = axes
            .iter()
            .map(|axis| axis.all().zip(0..).collect())
            .collect();
        Self { axes, index }
    }

    /// The place of the axis `name`.
    pub(super) fn axis(&self, name: &Spanned<String>) -> Result<usize, Box<Finding>> {
        let found = self.axes.iter().position(|axis| axis.name == name.value);
        found.ok_or_else(|| {
            let names = || self.axes.iter().map(|axis| axis.name.as_str());
            let finding = Finding::new(name.at, format!("unknown axis {}", quote(&name.value)))
                .expected(one_of(names()))
                .help_if(did_you_mean(&name.value, names()));
            Box::new(finding)
        })
    }

    /// The index of a value; `extra` says whether values of included cells count.
    fn value(&self, axis: usize, text: &str, extra: bool) -> Option<u32> {
        let index = *self.index.get(axis)?.get(text)?;
        let own = usize::try_from(index)
            .is_ok_and(|index| index < self.axes.get(axis).map_or(0, |a| a.values.len()));
        (extra || own).then_some(index)
    }

    /// Reads a selector. `what` names it in messages.
    pub(super) fn selector(
        &self,
        map: &Map<OneOrMany>,
        at: Spot,
        what: &str,
        extra: bool,
        findings: &mut Vec<Finding>,
    ) -> Option<Selector> {
        if map.entries.is_empty() {
            let finding = Finding::new(at, format!("{what} names no axis"));
            findings.push(finding.expected("at least one axis with a value or a list of values"));
            return None;
        }
        let before = findings.len();
        let mut selector = Selector::new();
        for (name, values) in map.iter() {
            if findings.len() > FINDINGS_MOST {
                break;
            }
            let axis = match self.axis(name) {
                Ok(axis) => axis,
                Err(finding) => {
                    findings.push(*finding);
                    continue;
                }
            };
            let mut meant: BTreeMap<u32, Spot> = BTreeMap::new();
            for (text, at) in texts(values) {
                match self.value(axis, text, extra) {
                    Some(index) => {
                        if let Some(first) = meant.insert(index, at) {
                            let message = format!("the value {} is given twice", quote(text));
                            findings
                                .push(Finding::new(at, message).note("first given here", first));
                        }
                    }
                    None if findings.len() > FINDINGS_MOST => {}
                    None => findings.push(self.no_value(axis, text, at, what, extra)),
                }
            }
            selector.push((axis, meant.into_keys().collect()));
        }
        selector.sort_unstable();
        (findings.len() == before).then_some(selector)
    }

    /// That a selector names a value which its axis does not have.
    fn no_value(&self, axis: usize, text: &str, at: Spot, what: &str, extra: bool) -> Finding {
        let Some(known) = self.axes.get(axis) else {
            return Finding::new(at, "unknown axis");
        };
        let name = quote(&known.name);
        let message = format!(
            "{what} matches nothing: axis {name} has no value {}",
            quote(text)
        );
        let finding = Finding::new(at, message);
        if !extra && known.extra.iter().any(|value| value == text) {
            let finding =
                finding.remark("only an included cell has it, and those are never excluded");
            return finding.help("remove the `include` instead");
        }
        let values = || {
            known.all().take(if extra {
                usize::MAX
            } else {
                known.values.len()
            })
        };
        finding
            .expected(one_of(values()))
            .help_if(did_you_mean(text, values()))
    }

    /// Reads an included cell: the indices of its values.
    pub(super) fn cell(
        &self,
        map: &Map<Text>,
        at: Spot,
        findings: &mut Vec<Finding>,
    ) -> Option<Vec<u32>> {
        let mut indices = vec![None; self.axes.len()];
        let before = findings.len();
        for (name, value) in map.iter() {
            match self.axis(name) {
                Ok(axis) => {
                    if let Some(index) = indices.get_mut(axis) {
                        *index = self.value(axis, &value.value.0, true);
                    }
                }
                Err(finding) => findings.push(*finding),
            }
        }
        let missing: Vec<&str> = self
            .axes
            .iter()
            .zip(&indices)
            .filter(|(_, index)| index.is_none())
            .map(|(axis, _)| axis.name.as_str())
            .collect();
        if !missing.is_empty() && findings.len() == before {
            let names = missing
                .iter()
                .map(|name| quote(name))
                .collect::<Vec<_>>()
                .join(" and ");
            let finding = Finding::new(
                at,
                format!("an included cell must give every axis: {names} is missing"),
            );
            findings.push(finding.help(format!("add `{}: ...`", missing.first().unwrap_or(&""))));
        }
        let indices: Option<Vec<u32>> = indices.into_iter().collect();
        indices.filter(|_| findings.len() == before)
    }
}

/// The values of a selector's axis with their places.
pub(super) fn texts(values: &Spanned<OneOrMany>) -> Vec<(&str, Spot)> {
    match &values.value {
        OneOrMany::One(text) => vec![(&text.0, values.at)],
        OneOrMany::Many(list) => list
            .iter()
            .map(|text| (text.value.0.as_str(), text.at))
            .collect(),
    }
}

/// Whether a cell's values are all meant.
pub(super) fn matches(selector: &Selector, cell: &[u32]) -> bool {
    selector.iter().all(|(axis, values)| {
        cell.get(*axis)
            .is_some_and(|value| values.binary_search(value).is_ok())
    })
}

/// The cells that two selectors both mean; none where those are none.
pub(super) fn both(one: &Selector, other: &Selector) -> Option<Selector> {
    let mut axes: BTreeMap<usize, Vec<u32>> = one.iter().cloned().collect();
    for (axis, values) in other {
        match axes.get_mut(axis) {
            Some(known) => known.retain(|value| values.binary_search(value).is_ok()),
            None => {
                axes.insert(*axis, values.clone());
            }
        }
    }
    let selector: Selector = axes.into_iter().collect();
    selector
        .iter()
        .all(|(_, values)| !values.is_empty())
        .then_some(selector)
}

/// Any cell that a selector means.
pub(super) fn any(
    cells: &Cells,
    axes: &[Axis],
    selector: &Selector,
    steps: &mut u64,
) -> Result<Option<Vec<u32>>, OutOfSteps> {
    let mut allowed: Vec<Option<Vec<u32>>> = vec![None; axes.len()];
    for (axis, values) in selector {
        let most = axes.get(*axis).map_or(0, |axis| axis.values.len());
        let own = values
            .iter()
            .copied()
            .filter(|at| usize::try_from(*at).is_ok_and(|at| at < most));
        if let Some(allowed) = allowed.get_mut(*axis) {
            *allowed = Some(own.collect());
        }
    }
    if let Some(found) = cells.product().find(&allowed, steps)? {
        return Ok(Some(found));
    }
    for cell in cells.included() {
        *steps = steps.checked_sub(1).ok_or(OutOfSteps)?;
        if matches(selector, cell) {
            return Ok(Some(cell.clone()));
        }
    }
    Ok(None)
}

/// More texts than were asked for, or too many steps to find them.
pub(super) struct TooMany;

/// Most steps of finding what a template gives.
const DISTINCT_STEPS_MOST: u64 = 10_000_000;

/// Adds every text that `template` gives in any cell to `texts`.
pub(super) fn distinct(
    cells: &Cells,
    axes: &[Axis],
    template: &Template,
    limit: usize,
    texts: &mut BTreeSet<String>,
) -> Result<(), TooMany> {
    let mut steps = DISTINCT_STEPS_MOST;
    let named = template.axes();
    // Prefixes of values of the named axes, each of which some cell has.
    let mut open: Vec<Selector> = vec![Selector::new()];
    while let Some(selector) = open.pop() {
        let Some(cell) = any(cells, axes, &selector, &mut steps).map_err(|_| TooMany)? else {
            continue;
        };
        let Some(axis) = named.get(selector.len()) else {
            let value = |at: usize| match (axes.get(at), cell.get(at)) {
                (Some(axis), Some(index)) => axis.value(*index),
                _ => "",
            };
            texts.insert(template.fill(value));
            if texts.len() > limit {
                return Err(TooMany);
            }
            continue;
        };
        let count = axes.get(*axis).map_or(0, |axis| axis.all().count());
        open.extend((0..).take(count).map(|value| {
            let mut next = selector.clone();
            next.push((*axis, vec![value]));
            next
        }));
    }
    Ok(())
}

/// A cell as text: `python=3.10, werkzeug=2.2.3`.
pub(super) fn describe(axes: &[Axis], cell: &[u32]) -> String {
    let values = axes
        .iter()
        .zip(cell)
        .map(|(axis, at)| format!("{}={}", axis.name, axis.value(*at)));
    quote(&values.collect::<Vec<_>>().join(", "))
}
