//! The same matrix over fewer values: `only`, and `run --only`. May not: check what `check` has checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cells::{Axis, Compare};
use super::check::{Checked, Included, cells};
use super::finding::Finding;
use super::known::Known;
use super::plan::{Adjustment, Mould};
use super::product::Exclude;
use super::select::{self, Names, Selector};
use super::written::{self, Written};
use super::{Diagnostics, Matrix};

impl Matrix {
    /// The same matrix over fewer values: of each named axis, only these. Values of included cells count.
    pub fn only(&self, values: &[(String, Vec<String>)]) -> Result<Self, Diagnostics> {
        let mut written = self.0.written.clone();
        written.only = (!values.is_empty()).then(|| written::only(values));
        self.changed(written)
    }

    /// The same matrix, but for what is written in another way.
    pub(super) fn changed(&self, written: Written) -> Result<Self, Diagnostics> {
        Self::new(written, &self.0.file).map_err(|findings| {
            // The places are those of the file, and what is wrong is what was asked for.
            let findings = findings.into_iter().map(|finding| Finding {
                at: None,
                ..finding
            });
            Diagnostics::new(&self.0.file, "", findings.collect(), &|_| String::new())
        })
    }
}

pub(super) fn only(
    written: &Written,
    names: &Names<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Selector> {
    let only = written.only.as_ref()?;
    names.selector(&only.value, only.at, "`only`", true, findings)
}

/// The same matrix over fewer values.
pub(super) fn restrict(
    written: &Written,
    axes: &[Axis],
    excludes: &[Exclude],
    included: &Included,
    only: &Selector,
    mut mould: Mould,
    compare: Option<Compare>,
) -> Result<Checked, Vec<Finding>> {
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
        let used: BTreeSet<u32> = included
            .iter()
            .filter_map(|(cell, _)| cell.get(number).copied())
            .collect();
        let all = 0..u32::try_from(axis.all().count()).unwrap_or(u32::MAX);
        let kept: Vec<u32> = all
            .filter(|at| stays(at) && (*at < own || used.contains(at)))
            .collect();
        let text = |at: &u32| axis.value(*at).to_owned();
        fewer.push(Axis {
            name: axis.name.clone(),
            values: kept.iter().filter(|at| **at < own).map(text).collect(),
            extra: kept.iter().filter(|at| **at >= own).map(text).collect(),
            ordered: axis.ordered,
            titles: axis.titles.clone(),
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
    mould.known = mould
        .known
        .into_iter()
        .filter_map(|known| {
            let selector = moving(&known.selector)?;
            Some(Known { selector, ..known })
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
