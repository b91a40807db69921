//! Measurements of every tool (`fixtures/measured`), each with the metrics that are read from it as a golden file.
//! `REGATTA_BLESS=1` writes them anew; read what it wrote: is it what the tool said?

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use regatta_model::metric::{METRIC_NAME_MOST, METRICS_MOST};
use regatta_verdict::measured::{Limits, Measured, read};

fn fixtures() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/measured");
    let entries = fs::read_dir(folder).expect("the fixtures");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|file| {
        let ending = file.extension().and_then(|ending| ending.to_str());
        ["json", "jsonl", "txt", "bench"].contains(&ending.unwrap_or_default())
    });
    files.sort();
    assert!(files.len() > 5, "only {} fixtures", files.len());
    let read = |file: PathBuf| {
        let bytes = fs::read(&file).expect("a fixture");
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

fn name(file: &Path) -> String {
    let name = file.file_name().and_then(|name| name.to_str());
    name.expect("a name").to_owned()
}

fn of(name: &str, bytes: &[u8]) -> Measured {
    read(&[(name.to_owned(), bytes.to_vec())], &Limits::default())
}

#[test]
fn every_tool_is_read_as_it_meant_it() {
    let bless = std::env::var_os("REGATTA_BLESS").is_some();
    let mut differ = Vec::new();
    for (file, bytes) in fixtures() {
        let measured = of(&name(&file), &bytes);
        assert!(measured.files.contains(&name(&file)));
        let mut told = String::new();
        for (metric, said) in &measured.metrics {
            let better = said
                .better
                .map_or_else(String::new, |better| format!("{better:?}"));
            told.push_str(&format!(
                "{metric} | {} | {} | {better}\n",
                said.value, said.unit
            ));
        }
        for problem in &measured.problems {
            told.push_str(&format!("problem: {problem}\n"));
        }
        let golden = PathBuf::from(format!("{}.metrics", file.display()));
        if bless {
            fs::write(&golden, &told).expect("to be written");
        } else if fs::read_to_string(&golden).unwrap_or_default() != told {
            differ.push(format!("--- {}\n{told}", name(&file)));
        }
    }
    assert!(
        differ.is_empty(),
        "{}\nREGATTA_BLESS=1 accepts this",
        differ.join("\n")
    );
}

#[test]
fn what_measures_nothing_is_passed_over() {
    let files = [
        ("a.json", "{\"results\": [1, 2]}"),
        ("b.json", "[1]"),
        ("c.json", "{\"metrics\": {\"a\": 1}}"),
        ("d.txt", "Benchmarks are fun\nBenchmark 1 ns/op\n"),
        ("e.jsonl", "{\"Action\":\"run\",\"Package\":\"p\"}\n"),
        ("f.txt", "{\n"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    assert_eq!(read(&files, &Limits::default()), Measured::default());
}

#[test]
fn no_attempt_has_more_metrics_than_the_limit() {
    let many: Vec<String> = (0..METRICS_MOST + 3)
        .map(|number| format!("\"m{number}\": {number}"))
        .collect();
    let text = format!("{{{}}}", many.join(","));
    let measured = of("deep/down/metrics.json", text.as_bytes());
    assert_eq!(measured.metrics.len(), METRICS_MOST);
    assert_eq!(
        measured.problems,
        ["3 metrics were left out: an attempt has 256 at most"]
    );
}

#[test]
fn metrics_of_one_name_are_told_apart() {
    let files =
        ["a/metrics.json", "b/metrics.json"].map(|path| (path.to_owned(), b"{\"a\": 1}".to_vec()));
    let measured = read(&files, &Limits::default());
    let names: Vec<&String> = measured.metrics.keys().collect();
    assert_eq!(names, ["a", "a#2"]);
}

#[test]
fn a_measurement_that_was_cut_off_gives_nothing_that_it_did_not_measure() {
    for (file, bytes) in fixtures() {
        let whole = of(&name(&file), &bytes);
        for end in 0..bytes.len() {
            let cut = of(&name(&file), &bytes[..end]);
            for (metric, said) in &cut.metrics {
                // Text has no end: its last line may be a whole one with a shorter number.
                let last = bytes[..end].split(|byte| *byte == b'\n').next_back();
                let last = String::from_utf8_lossy(last.unwrap_or_default()).into_owned();
                let in_last = metric
                    .split([' ', '{'])
                    .next()
                    .is_some_and(|name| last.starts_with(name));
                // Of several lines of one name the median moves.
                let same = whole
                    .metrics
                    .get(metric)
                    .is_some_and(|known| known.value == said.value);
                assert!(
                    same || in_last || metric.starts_with("Benchmark"),
                    "{} cut to {end} bytes: {metric}",
                    name(&file)
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_is_written_breaks_the_reader(
        which in 0_usize..6,
        at in any::<prop::sample::Index>(),
        put in prop::collection::vec(any::<u8>(), 0..40),
        skip in 0_usize..200,
    ) {
        let fixtures = fixtures();
        let (file, bytes) = &fixtures[which % fixtures.len()];
        let at = at.index(bytes.len());
        let rest = bytes.get(at + skip..).unwrap_or_default();
        let mixed = [&bytes[..at], &put, rest].concat();
        let measured = of(&name(file), &mixed);
        prop_assert!(measured.metrics.len() <= METRICS_MOST);
        for (name, metric) in &measured.metrics {
            prop_assert!(name.len() <= METRIC_NAME_MOST && metric.value.is_finite());
        }
        prop_assert_eq!(of(&name(file), &mixed), measured);
    }
}
