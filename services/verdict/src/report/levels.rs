//! Where a metric changed its level along an ordered axis with many values, in cells that differ in it alone. May not: change
//! what a run comes to, or take for a version's what may be a host's.

use std::collections::BTreeMap;

use regatta_model::metric::{MetricChange, MetricComparison};
use regatta_model::report::{Finding, FindingKind, LevelChange, Levels};
use regatta_model::{CellNumber, HostName};

use super::Builder;
use super::findings::capital;
use super::measures::{Measure, Sample, value_of};
use super::others::plain;
use crate::metrics::Policy;
use crate::metrics::series::{ChangePoint, change_points};

/// Values of the axis, and measured ones of a series, that changes of level are looked for in at least.
pub const SERIES_LEAST: usize = 30;

/// Most series that are looked at; the metrics that were met first go first.
pub const SERIES_MOST: usize = 2000;

/// Most changes that a report lists.
pub const CHANGES_MOST: usize = 500;

/// Most findings about them.
const FINDINGS_MOST: usize = 50;

/// How often chance alone may look like a change in any of the series.
const LEVEL: f64 = 0.05;

/// A measured value along the axis.
struct Measured<'b> {
    /// Its place on the axis.
    place: usize,
    cell: CellNumber,
    host: &'b HostName,
    value: f64,
}

/// The axis along which levels are looked for: the compared one, else the first, of those that are ordered and long
/// enough. A cell that is split over shards has no time of its own.
pub(super) fn axis(builder: &Builder<'_>) -> Option<usize> {
    let matrix = builder.matrix;
    if builder.is_large() || matrix.shards() > 1 {
        return None;
    }
    let mut long =
        matrix.axes().iter().enumerate().filter(|(_, axis)| {
            axis.ordered && axis.all().take(SERIES_LEAST).count() == SERIES_LEAST
        });
    let compared = matrix.compare().map(|compare| &compare.axis);
    let first = long.clone().next();
    let found = long
        .find(|(_, axis)| Some(&axis.name) == compared)
        .or(first);
    found.map(|(at, _)| at)
}

/// The changes of all series, and how many series there are; none where there is no series.
pub(super) fn of(builder: &Builder<'_>) -> Option<Levels> {
    let axis = builder.matrix.axes().get(axis(builder)?)?;
    let names: Vec<&str> = axis.all().collect();
    let places: BTreeMap<&str, usize> = names.iter().copied().zip(0..).collect();
    let mut lines: BTreeMap<BTreeMap<String, String>, Vec<(usize, CellNumber)>> = BTreeMap::new();
    for number in builder.cells.keys() {
        let mut values = builder.values(*number);
        let own = values.remove(&axis.name);
        if let Some(place) = own.and_then(|own| places.get(own.as_str()).copied()) {
            lines.entry(values).or_default().push((place, *number));
        }
    }
    let mut series = Vec::new();
    for (at, measure) in builder.measures.all().iter().enumerate() {
        for (line, cells) in &lines {
            if series.len() >= SERIES_MOST {
                break;
            }
            let values = measured(builder, at, cells);
            if values.len() >= SERIES_LEAST {
                series.push((measure, line, values));
            }
        }
    }
    if series.is_empty() {
        return None;
    }
    let count = u32::try_from(series.len()).unwrap_or(u32::MAX);
    let mut changes = Vec::new();
    for (measure, line, values) in &series {
        changes.extend(changes_of(measure, line, values, &names, f64::from(count)));
    }
    let size = |change: &LevelChange| change.ratio.ln().abs();
    changes.sort_by(|one, other| {
        let worse = other.is_worse().cmp(&one.is_worse());
        worse.then(size(other).total_cmp(&size(one)))
    });
    let more = changes.len().saturating_sub(CHANGES_MOST);
    changes.truncate(CHANGES_MOST);
    Some(Levels {
        axis: axis.name.clone(),
        series: count.into(),
        changes,
        more: u64::try_from(more).unwrap_or(u64::MAX),
    })
}

/// The middle one of what each cell measured above 0, along the axis.
fn measured<'b>(
    builder: &'b Builder<'_>,
    metric: usize,
    cells: &[(usize, CellNumber)],
) -> Vec<Measured<'b>> {
    let one = |(place, cell): &(usize, CellNumber)| {
        let samples = &builder.cells.get(cell)?.samples;
        let told = samples.iter().filter_map(|sample: &'b Sample| {
            let value = value_of(sample, metric)?;
            (value.is_finite() && value > 0.0).then_some((value, sample.host()))
        });
        let mut told: Vec<(f64, &HostName)> = told.collect();
        told.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (value, host) = *told.get(told.len().saturating_sub(1) / 2)?;
        Some(Measured {
            place: *place,
            cell: *cell,
            host,
            value,
        })
    };
    let mut values: Vec<Measured<'b>> = cells.iter().filter_map(one).collect();
    values.sort_by_key(|value| value.place);
    values
}

/// The changes of one series among so many.
fn changes_of(
    measure: &Measure,
    line: &BTreeMap<String, String>,
    values: &[Measured<'_>],
    names: &[&str],
    series: f64,
) -> Vec<LevelChange> {
    let numbers: Vec<f64> = values.iter().map(|value| value.value).collect();
    let points = change_points(&numbers, Policy::default().ratio);
    let starts = std::iter::once(0).chain(points.iter().map(|point| point.place));
    let ends = points.iter().skip(1).map(|point| point.place);
    let ends = ends.chain([values.len()]);
    let one = |((start, point), end): ((usize, &ChangePoint), usize)| {
        let old = values.get(start..point.place)?;
        let new = values.get(point.place..end)?;
        let (from, to) = (mean(old).exp(), mean(new).exp());
        let p = (point.p * series).min(1.0);
        let told = p <= LEVEL && (to - from).abs() >= measure.least && is_on_hosts(old, new);
        let name = |value: Option<&Measured<'_>>| Some((*names.get(value?.place)?).to_owned());
        told.then_some(LevelChange {
            axes: line.clone(),
            metric: measure.name.clone(),
            unit: measure.unit.clone(),
            better: measure.better,
            change: match (measure.is_duration(), to > from) {
                (true, true) => MetricChange::Slower,
                (true, false) => MetricChange::Faster,
                (false, true) => MetricChange::More,
                (false, false) => MetricChange::Less,
            },
            first: name(new.first())?,
            last: name(old.last())?,
            since: name(old.first())?,
            until: name(new.last())?,
            cell: new.first()?.cell,
            from,
            to,
            ratio: to / from,
            p,
        })
    };
    starts.zip(&points).zip(ends).filter_map(one).collect()
}

/// The mean of the logarithms.
fn mean<'v, 'h: 'v>(values: impl IntoIterator<Item = &'v Measured<'h>>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value.value.ln();
        count += 1.0;
    }
    sum / f64::max(count, 1.0)
}

/// Whether the hosts that measured on both sides say so too: they saw at least half of it. What one host measured before and another
/// one after may be the hosts' difference.
fn is_on_hosts(old: &[Measured<'_>], new: &[Measured<'_>]) -> bool {
    let mut hosts: Vec<&HostName> = old.iter().map(|value| value.host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let of = |values: &[Measured<'_>], host: &HostName| {
        let own: Vec<&Measured<'_>> = values.iter().filter(|value| value.host == host).collect();
        (!own.is_empty()).then(|| mean(own))
    };
    let (mut sum, mut count) = (0.0, 0.0);
    for host in hosts {
        if let (Some(before), Some(after)) = (of(old, host), of(new, host)) {
            sum += after - before;
            count += 1.0;
        }
    }
    let whole = mean(new) - mean(old);
    count > 0.0 && sum / count * whole.signum() >= whole.abs() / 2.0
}

/// One for each metric and value at which it changed its level, but for those that `compared` tells already.
pub(super) fn findings(
    builder: &Builder<'_>,
    levels: &Levels,
    compared: &[MetricComparison],
) -> Vec<Finding> {
    let told = |change: &LevelChange| {
        let same = |one: &MetricComparison| one.change.is_change() && one.metric == change.metric;
        let at = |cell| builder.values(cell).remove(&levels.axis) == Some(change.first.clone());
        compared.iter().any(|one| same(one) && at(one.cell))
    };
    // What is worse comes first, and so does the largest of a group.
    let mut groups: Vec<Vec<&LevelChange>> = Vec::new();
    for change in &levels.changes {
        let key = |one: &LevelChange| (one.metric.clone(), one.first.clone(), one.change);
        let known = groups
            .iter_mut()
            .find(|group| group.first().is_some_and(|one| key(one) == key(change)));
        match known {
            Some(group) => group.push(change),
            None if told(change) => {}
            None => groups.push(vec![change]),
        }
    }
    let finding = |group: Vec<&LevelChange>| {
        let largest = group.first()?;
        let axis = capital(&levels.axis);
        let (metric, first, last) = (&largest.metric, &largest.first, &largest.last);
        let lines = match group.len() {
            1 => String::new(),
            many => format!(", the most of {many} lines of cells"),
        };
        let text = match largest.change {
            MetricChange::Slower | MetricChange::Faster => format!(
                "{axis} {first} and later are {} than up to {last}: {metric} {}{lines}",
                largest.change.name(),
                largest.told()
            ),
            _ => format!(
                "{axis} {first} and later have {} {metric} than up to {last}: {}{lines}",
                largest.change.name(),
                largest.told()
            ),
        };
        let worse = largest.is_worse();
        let sure = group.iter().map(|one| 1.0 - one.p).fold(1.0, f64::min);
        Some(Finding {
            axis: Some(levels.axis.clone()),
            last_good: worse.then(|| last.clone()),
            first_bad: worse.then(|| first.clone()),
            confidence: (sure * 10_000.0).floor() / 10_000.0,
            ..plain(FindingKind::Metric, group.iter().map(|one| one.cell), text)
        })
    };
    groups
        .into_iter()
        .take(FINDINGS_MOST)
        .filter_map(finding)
        .collect()
}
