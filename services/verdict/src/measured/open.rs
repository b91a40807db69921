//! Prometheus and OpenMetrics text: one sample a line, with its labels. The name of a metric is that of the sample with its labels
//! as they are written, sorted. Buckets of histograms, quantiles and times of creation are passed over: they compare badly. May
//! not: know other files.

use std::collections::BTreeMap;

use regatta_model::metric::{Better, Metric};

use super::Collector;

/// Endings of names that tell the unit.
const UNITS: [(&str, &str); 4] = [
    ("_seconds", "s"),
    ("_milliseconds", "ms"),
    ("_bytes", "bytes"),
    ("_ratio", ""),
];

/// Most families whose unit is remembered.
const FAMILIES_MOST: usize = 10_000;

/// Reads one file.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) {
    let mut units: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.split_ascii_whitespace();
            if let (Some("UNIT"), Some(name), Some(unit)) =
                (words.next(), words.next(), words.next())
                && units.len() < FAMILIES_MOST
            {
                units.insert(name, unit);
            }
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let Some(sample) = sample(line) else {
            collector.problem(&format!("{path}: line {}: no sample", at + 1));
            continue;
        };
        let passed_over = sample.name.ends_with("_bucket")
            || sample.name.ends_with("_created")
            || sample.labels.iter().any(|(label, _)| *label == "quantile");
        if passed_over {
            continue;
        }
        let (unit, better) = unit(sample.name, &units);
        let metric = Metric {
            value: sample.value,
            unit: unit.to_owned(),
            better,
        };
        collector.add(path, &sample.full_name(), metric);
    }
}

/// A line that is no comment.
struct Sample<'t> {
    name: &'t str,
    /// With their quoted values.
    labels: Vec<(&'t str, &'t str)>,
    value: f64,
}

impl Sample<'_> {
    fn full_name(&self) -> String {
        if self.labels.is_empty() {
            return self.name.to_owned();
        }
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(label, value)| format!("{label}={value}"))
            .collect();
        format!("{}{{{}}}", self.name, labels.join(","))
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let end = line.find(|c| !is_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end)?;
    let (mut labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    labels.sort_unstable();
    // A time may follow, and an exemplar.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    let named = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
    (named && rest.starts_with([' ', '\t'])).then_some(Sample {
        name,
        labels,
        value,
    })
}

/// Labels with their quoted values, and what follows behind the brace.
type Labels<'t> = (Vec<(&'t str, &'t str)>, &'t str);

fn labels(mut rest: &str) -> Option<Labels<'_>> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (label, behind) = rest.split_once('=')?;
        let end = closing_quote(behind)?;
        let (value, behind) = behind.split_at_checked(end)?;
        labels.push((label.trim(), value));
        rest = behind;
    }
}

/// Where the text that begins with a quote ends, behind its closing one.
fn closing_quote(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    chars.next().filter(|(_, first)| *first == '"')?;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()?),
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The unit of a sample, and in which direction it is better.
fn unit<'t>(name: &str, units: &BTreeMap<&str, &'t str>) -> (&'t str, Option<Better>) {
    if name.ends_with("_count") {
        return ("", None);
    }
    let family = ["_total", "_sum"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending));
    let family = family.unwrap_or(name);
    let told = units.get(family).copied().map(|unit| match unit {
        "seconds" => "s",
        unit => unit,
    });
    let by_name = UNITS.iter().find(|(ending, _)| family.ends_with(ending));
    let unit = told.or(by_name.map(|(_, unit)| *unit)).unwrap_or_default();
    let lower = matches!(unit, "s" | "ms" | "bytes");
    (unit, lower.then_some(Better::Lower))
}
