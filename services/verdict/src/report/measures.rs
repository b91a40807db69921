//! Metrics of cells against those of their baselines: pairs of passing attempts of the same host, each with the nearest one.
//! May not: change what a run comes to.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::metric::{Better, MEASURED, MetricChange, MetricComparison};
use regatta_model::report::{Finding, FindingKind};
use regatta_model::{CellNumber, HostName};

use super::findings::{capital, named};
use super::others::plain;
use super::{AttemptRow, Builder, METRICS_LISTED_MOST};
use crate::metrics::pairs::{self, Estimate, Pair};
use crate::metrics::{self, BYTES_LEAST, Change, Policy, SECONDS_LEAST};
use crate::{fdr, judge};

/// Most findings about metrics.
const FINDINGS_MOST: usize = 50;

/// How sure the interval is that is told.
const CONFIDENCE: f64 = 0.95;

/// Units of durations.
const DURATIONS: [&str; 8] = ["s", "ms", "us", "µs", "ns", "ns/op", "min", "seconds"];

/// What an attempt measured.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    host: HostName,
    /// Its place among the run's ended attempts.
    sequence: u64,
    /// By the place of the metric in [`Measures`], ascending.
    values: Vec<(usize, f64)>,
}

impl Sample {
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A metric, once for all attempts that have it.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) better: Option<Better>,
    /// Differences below it are no change, in the metric's unit.
    pub(super) least: f64,
}

impl Measure {
    pub(super) fn is_duration(&self) -> bool {
        DURATIONS.contains(&self.unit.as_str())
    }
}

impl Sample {
    pub(super) const fn host(&self) -> &HostName {
        &self.host
    }
}

/// What a sample has of the metric in this place.
pub(super) fn value_of(sample: &Sample, metric: usize) -> Option<f64> {
    let values = &sample.values;
    let at = values.binary_search_by_key(&metric, |(place, _)| *place);
    at.ok().and_then(|at| Some(values.get(at)?.1))
}

/// All metrics of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Measures {
    all: Vec<Measure>,
    places: BTreeMap<String, usize>,
}

impl Measures {
    /// Every metric, in the order in which they were met.
    pub(super) fn all(&self) -> &[Measure] {
        &self.all
    }

    /// What those of a cell's attempts measured that passed. Time, processor time and memory are among it.
    pub(super) fn samples(&mut self, rows: &[AttemptRow]) -> Vec<Sample> {
        let counts = |row: &&AttemptRow| row.passed && judge::is_decisive(row.outcome, row.blame);
        rows.iter()
            .filter(counts)
            .map(|row| self.sample(row))
            .collect()
    }

    fn sample(&mut self, row: &AttemptRow) -> Sample {
        let [wall, cpu, memory] = MEASURED;
        let own = [
            // What took no millisecond took less than one.
            (wall, row.wall_ms.max(1), "ms", SECONDS_LEAST * 1e3),
            (cpu, row.cpu_us, "us", SECONDS_LEAST * 1e6),
            (memory, row.peak_memory_bytes, "bytes", BYTES_LEAST),
        ];
        let mut values = Vec::with_capacity(own.len() + row.metrics.len());
        for (name, value, unit, least) in own {
            let place = self.place(name, unit, Some(Better::Lower), least);
            values.push((place, number(value)));
        }
        for (name, metric) in &row.metrics {
            let place = self.place(name, &metric.unit, metric.better, 0.0);
            values.push((place, metric.value));
        }
        values.sort_by_key(|(place, _)| *place);
        Sample {
            host: row.host.clone(),
            sequence: row.sequence,
            values,
        }
    }

    /// The place of a metric; the first attempt that has it says what it is.
    fn place(&mut self, name: &str, unit: &str, better: Option<Better>, least: f64) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.all.push(Measure {
            name: name.to_owned(),
            unit: unit.to_owned(),
            better,
            least,
        });
        self.places.insert(name.to_owned(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// Each metric that these pairs have, with its usable pairs, in the order in which metrics were met.
    pub(super) fn each<'s>(
        &'s self,
        matched: &'s [(&'s Sample, &'s Sample)],
    ) -> impl Iterator<Item = (&'s Measure, Vec<(Pair, &'s HostName)>)> {
        let all = self.all.iter().enumerate();
        all.map(|(place, measure)| (measure, values(matched, place)))
            .filter(|(_, values)| !values.is_empty())
    }
}

/// As far as a float goes: whole numbers are exact up to 2 to the 53rd.
fn number(value: u64) -> f64 {
    let (high, low) = (value >> 32, value & u64::from(u32::MAX));
    let part = |part: u64| f64::from(u32::try_from(part).unwrap_or(u32::MAX));
    part(high) * 4_294_967_296.0 + part(low)
}

/// Attempts of one host, each with the nearest of the other side; each is in one pair at most.
pub(super) fn paired<'s>(
    candidate: &'s [Sample],
    baseline: &'s [Sample],
) -> Vec<(&'s Sample, &'s Sample)> {
    let mut hosts: BTreeMap<&HostName, (Vec<&Sample>, Vec<&Sample>)> = BTreeMap::new();
    for sample in candidate.iter().take(pairs::PAIRS_MOST) {
        hosts.entry(&sample.host).or_default().0.push(sample);
    }
    for sample in baseline.iter().take(pairs::PAIRS_MOST) {
        hosts.entry(&sample.host).or_default().1.push(sample);
    }
    let mut found = Vec::new();
    for (own, others) in hosts.into_values() {
        let mut near: Vec<(u64, &Sample, &Sample)> = own
            .iter()
            .flat_map(|one| {
                others
                    .iter()
                    .map(|other| (one.sequence.abs_diff(other.sequence), *one, *other))
            })
            .collect();
        near.sort_by_key(|(apart, one, other)| (*apart, one.sequence, other.sequence));
        let mut taken = (BTreeSet::new(), BTreeSet::new());
        for (_, one, other) in near {
            if !taken.0.contains(&one.sequence) && !taken.1.contains(&other.sequence) {
                taken.0.insert(one.sequence);
                taken.1.insert(other.sequence);
                found.push((one, other));
            }
        }
    }
    found
}

/// Every metric of every compared cell, by cell and in the order in which metrics were met. Which of them changed takes
/// into account how many were looked at.
pub(super) fn compare(builder: &Builder<'_>) -> Vec<MetricComparison> {
    if !builder.matrix.compares_metrics() {
        return Vec::new();
    }
    let policy = Policy::default();
    let (mut compared, mut found) = (Vec::new(), Vec::new());
    for (number, cell) in &builder.cells {
        let Some(baseline) = builder.baseline(*number) else {
            continue;
        };
        let Some(other) = builder.cells.get(&baseline) else {
            continue;
        };
        let matched = paired(&cell.samples, &other.samples);
        for (measure, values) in builder.measures.each(&matched) {
            let cells = (*number, baseline);
            let (comparison, finding) = judge_one(cells, measure, &values, &policy);
            compared.push(comparison);
            found.push(finding);
        }
    }
    for (comparison, kept) in compared.iter_mut().zip(metrics::reported(&found, &policy)) {
        if comparison.change.is_change() && !kept {
            comparison.change = MetricChange::Unclear;
        }
    }
    compared
}

/// The usable pairs of one metric, with their host.
fn values<'s>(matched: &[(&'s Sample, &'s Sample)], place: usize) -> Vec<(Pair, &'s HostName)> {
    let value = |sample: &Sample| value_of(sample, place);
    let pairs = matched.iter().filter_map(|(candidate, baseline)| {
        let pair = Pair {
            baseline: value(baseline)?,
            candidate: value(candidate)?,
        };
        pair.is_usable().then_some((pair, &candidate.host))
    });
    pairs.collect()
}

/// One metric of a cell and its baseline.
pub(super) fn judge_one(
    (cell, baseline): (CellNumber, CellNumber),
    measure: &Measure,
    values: &[(Pair, &HostName)],
    policy: &Policy,
) -> (MetricComparison, metrics::Finding) {
    let pairs: Vec<Pair> = values.iter().map(|(pair, _)| *pair).collect();
    let hosts: BTreeSet<&HostName> = values.iter().map(|(_, host)| *host).collect();
    let finding = metrics::judge(&pairs, measure.least, policy);
    let Estimate {
        ratio,
        low,
        high,
        difference,
        ..
    } = pairs::estimate(&pairs, CONFIDENCE);
    let duration = measure.is_duration();
    let change = match finding.change {
        Change::Worse if duration => MetricChange::Slower,
        Change::Better if duration => MetricChange::Faster,
        Change::Worse => MetricChange::More,
        Change::Better => MetricChange::Less,
        Change::None => MetricChange::Unchanged,
        Change::Open | Change::TooFew => MetricChange::Unclear,
    };
    let finite = |value: f64| value.is_finite().then_some(value);
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let comparison = MetricComparison {
        cell,
        baseline,
        metric: measure.name.clone(),
        unit: measure.unit.clone(),
        better: measure.better,
        pairs: count(pairs.len()),
        hosts: count(hosts.len()),
        ratio: finite(ratio),
        low: finite(low),
        high: finite(high),
        difference: finite(difference),
        p: finite(finding.p),
        change,
    };
    (comparison, finding)
}

/// How far a ratio is from 1, either way.
fn size(comparison: &MetricComparison) -> f64 {
    comparison.ratio.map_or(0.0, |ratio| ratio.ln().abs())
}

/// Those that a report lists: changes first, the largest first.
pub(super) fn listed(mut compared: Vec<MetricComparison>) -> Vec<MetricComparison> {
    let large = |one: &MetricComparison| {
        if one.change.is_change() {
            size(one)
        } else {
            0.0
        }
    };
    compared.sort_by(|one, other| {
        let changed = other.change.is_change().cmp(&one.change.is_change());
        changed.then(large(other).total_cmp(&large(one)))
    });
    compared.truncate(METRICS_LISTED_MOST);
    compared
}

/// One for each metric and version that changed it, what is worse first, then the largest.
pub(super) fn findings(builder: &Builder<'_>, compared: &[MetricComparison]) -> Vec<Finding> {
    let Some(compare) = builder.matrix.compare() else {
        return Vec::new();
    };
    let value = |cell: CellNumber| {
        let mut values = builder.values(cell);
        values.remove(&compare.axis).unwrap_or_default()
    };
    let p_values: Vec<f64> = compared.iter().map(|one| one.p.unwrap_or(1.0)).collect();
    let adjusted = fdr::adjusted(&p_values);
    let mut groups: BTreeMap<_, Vec<(&MetricComparison, f64)>> = BTreeMap::new();
    for (one, p) in compared.iter().zip(adjusted) {
        if one.change.is_change() {
            let key = (
                value(one.cell),
                value(one.baseline),
                &one.metric,
                one.change,
            );
            groups.entry(key).or_default().push((one, p));
        }
    }
    let mut found: Vec<(bool, f64, Finding)> = Vec::new();
    for ((version, before, metric, change), ones) in groups {
        let largest = ones
            .iter()
            .map(|(one, _)| *one)
            .max_by(|one, other| size(one).total_cmp(&size(other)));
        let Some(largest) = largest else { continue };
        let cells = if ones.len() == 1 {
            String::new()
        } else {
            format!(", the most of {} cells", ones.len())
        };
        let axis = capital(&compare.axis);
        let named = |value: &str| named(builder, &compare.axis, value);
        let (this, other) = (named(&version), named(&before));
        let text = match change {
            MetricChange::Slower | MetricChange::Faster => format!(
                "{axis} {this} is {} than {other}: {metric}, median {}{cells}",
                change.name(),
                largest.told()
            ),
            _ => format!(
                "{axis} {this} has {} {metric} than {other}: median {}{cells}",
                change.name(),
                largest.told()
            ),
        };
        let worse = largest.is_worse();
        let sure = ones.iter().map(|(_, p)| 1.0 - p).fold(1.0, f64::min);
        let finding = Finding {
            axis: Some(compare.axis.clone()),
            last_good: worse.then_some(before),
            first_bad: worse.then_some(version),
            confidence: (sure * 10_000.0).floor() / 10_000.0,
            ..plain(
                FindingKind::Metric,
                ones.iter().map(|(one, _)| one.cell),
                text,
            )
        };
        found.push((worse, size(largest), finding));
    }
    found.sort_by(|one, other| other.0.cmp(&one.0).then(other.1.total_cmp(&one.1)));
    let found = found.into_iter().map(|(_, _, finding)| finding);
    found.take(FINDINGS_MOST).collect()
}
