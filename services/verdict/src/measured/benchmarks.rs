//! Benchmark tools that write JSON: pytest-benchmark's `--benchmark-json`, hyperfine's `--export-json`, and the messages of
//! `cargo criterion --message-format=json`. Of every benchmark the median counts. May not: know other files.

use regatta_model::metric::{Better, Metric};
use serde::Deserialize;

use super::Collector;

/// What a line of cargo-criterion that tells of a benchmark has.
const CRITERION: &str = "benchmark-complete";

/// One object, as pytest-benchmark writes it.
#[derive(Deserialize)]
struct Pytest {
    #[expect(dead_code, reason = "it tells the tool")]
    machine_info: serde::de::IgnoredAny,
    benchmarks: Vec<PytestBenchmark>,
}

#[derive(Deserialize)]
struct PytestBenchmark {
    fullname: String,
    stats: Stats,
}

#[derive(Deserialize)]
struct Stats {
    median: f64,
}

/// One object, as hyperfine writes it.
#[derive(Deserialize)]
struct Hyperfine {
    results: Vec<HyperfineResult>,
}

#[derive(Deserialize)]
struct HyperfineResult {
    command: String,
    median: f64,
}

/// One line of cargo-criterion.
#[derive(Deserialize)]
struct Criterion {
    reason: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    unit: String,
    median: Option<Estimate>,
}

#[derive(Deserialize)]
struct Estimate {
    estimate: f64,
    #[serde(default)]
    unit: String,
}

/// Reads one file that begins as an object does; whether it is one of these.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) -> bool {
    // Most JSON is something else, and some of it is long.
    if text.contains("\"machine_info\"")
        && let Ok(pytest) = serde_json::from_str::<Pytest>(text)
    {
        for benchmark in pytest.benchmarks {
            let metric = duration(benchmark.stats.median, "s");
            collector.add(path, &benchmark.fullname, metric);
        }
        return true;
    }
    if text.contains("\"command\"")
        && let Ok(hyperfine) = serde_json::from_str::<Hyperfine>(text)
    {
        for result in hyperfine.results {
            collector.add(path, &result.command, duration(result.median, "s"));
        }
        return true;
    }
    text.contains(CRITERION) && criterion(path, text, collector)
}

fn criterion(path: &str, text: &str, collector: &mut Collector) -> bool {
    let mut found = false;
    for line in text.lines() {
        // Cargo's own messages stand between them.
        let Ok(message) = serde_json::from_str::<Criterion>(line) else {
            continue;
        };
        if message.reason == CRITERION
            && let Some(median) = message.median
        {
            found = true;
            let unit = if median.unit.is_empty() {
                &message.unit
            } else {
                &median.unit
            };
            collector.add(path, &message.id, duration(median.estimate, unit));
        }
    }
    found
}

fn duration(value: f64, unit: &str) -> Metric {
    Metric {
        value,
        unit: unit.to_owned(),
        better: Some(Better::Lower),
    }
}
