//! `metrics.json`: an object of names with numbers, or with `{value, unit, better}`. May not: know other files.

use regatta_model::metric::{Better, Metric};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Collector;

/// A metric with more to say than its value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    value: f64,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    better: Option<Better>,
}

/// Reads one file. It is measurements in any case: its name says so.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) -> bool {
    let metrics: Map<String, Value> = match serde_json::from_str(text) {
        Ok(metrics) => metrics,
        Err(error) => {
            collector.problem(&format!("{path}: no object of names and numbers: {error}"));
            return true;
        }
    };
    for (name, value) in metrics {
        let metric = match value {
            Value::Number(number) => number.as_f64().map(Metric::plain),
            value => serde_json::from_value(value).ok().map(full),
        };
        match metric {
            Some(metric) => collector.add(path, &name, metric),
            None => collector.problem(&format!(
                "{path}: {name:?} is neither a number nor {{value, unit, better: lower | higher}}"
            )),
        }
    }
    true
}

fn full(full: Full) -> Metric {
    Metric {
        value: full.value,
        unit: full.unit,
        better: full.better,
    }
}
