//! The text of Go's benchmarks: `BenchmarkNAME-8  1000  1234 ns/op  56 B/op  2 allocs/op`. The name of a metric is that of the
//! benchmark without the number of processors, behind it the unit where it is not `ns/op`; of several lines of one name (`-count`)
//! the median counts. May not: know other files.

use std::collections::BTreeMap;

use regatta_model::metric::{Better, Metric};

use super::Collector;

/// Values of one metric that are kept.
const VALUES_MOST: usize = 1000;

/// Metrics that are kept before they are counted.
const KEPT_MOST: usize = 10_000;

/// Reads one file; whether it has a benchmark's line.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) -> bool {
    let mut values: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        let Some((name, measured)) = benchmark(line) else {
            continue;
        };
        for (value, unit) in measured {
            if values.len() < KEPT_MOST || values.contains_key(&(name, unit)) {
                let values = values.entry((name, unit)).or_default();
                if values.len() < VALUES_MOST {
                    values.push(value);
                }
            }
        }
    }
    let found = !values.is_empty();
    for ((name, unit), values) in values {
        let name = if unit == "ns/op" {
            name.to_owned()
        } else {
            format!("{name} {unit}")
        };
        let better = if unit.ends_with("/s") {
            Better::Higher
        } else {
            Better::Lower
        };
        let metric = Metric {
            value: median(values),
            unit: unit.to_owned(),
            better: Some(better),
        };
        collector.add(path, &name, metric);
    }
    found
}

/// Name, values and units of a benchmark's line.
fn benchmark(line: &str) -> Option<(&str, Vec<(f64, &str)>)> {
    let mut words = line.split_ascii_whitespace();
    let name = words
        .next()
        .filter(|name| name.len() > 9 && name.starts_with("Benchmark"))?;
    // Whether it was cut off shows at the unit that is missing.
    words.next()?.parse::<u64>().ok()?;
    let mut measured = Vec::new();
    while let Some(value) = words.next() {
        measured.push((value.parse().ok()?, words.next()?));
    }
    let name = match name.rsplit_once('-') {
        Some((name, processors)) if processors.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => name,
    };
    (!measured.is_empty()).then_some((name, measured))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    }
}
