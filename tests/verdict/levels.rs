//! Where a metric changed its level along many versions.

use std::collections::BTreeMap;

use regatta_model::matrix::Matrix;
use regatta_model::metric::{Better, Metric, MetricChange};
use regatta_model::report::{Conclusion, FindingKind, Report};
use regatta_verdict::report::{AttemptRow, ReportInput, SERIES_LEAST, build};

use crate::report::{EXIT_0, EXIT_1, summary};

fn matrix(versions: usize, more: &str) -> Matrix {
    let versions: Vec<String> = (1..=versions).map(|one| format!("v{one}")).collect();
    let text = format!(
        "image: x\naxes: {{lib: {{values: [{}], ordered: true}}, os: [a, b]}}\ntest: {{run: x}}\n{more}",
        versions.join(", ")
    );
    Matrix::parse(&text, "m.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// What an attempt of a version (from 1) on a system says.
struct Told {
    wall_ms: u64,
    host: &'static str,
    metrics: Vec<(&'static str, Metric)>,
    passed: bool,
}

impl Told {
    /// Some noise of 2%, the same each time.
    fn of(version: u64, wall_ms: u64) -> Self {
        Self {
            wall_ms: wall_ms * (1000 + version * 7919 % 41) / 1000,
            host: "h1",
            metrics: Vec::new(),
            passed: true,
        }
    }
}

fn report(matrix: &Matrix, told: impl Fn(u64, &str) -> Told) -> Report {
    let row = |cell: u64| {
        let values: BTreeMap<&str, &str> =
            matrix.cells().values(cell).unwrap().into_iter().collect();
        let version = values["lib"][1..].parse().unwrap();
        let told = told(version, values["os"]);
        AttemptRow {
            cell,
            ordinal: 1,
            sequence: cell,
            host: told.host.parse().unwrap(),
            outcome: if told.passed { EXIT_0 } else { EXIT_1 },
            blame: None,
            passed: told.passed,
            detail: String::new(),
            wall_ms: told.wall_ms,
            cpu_us: 1_000_000,
            peak_memory_bytes: 64 << 20,
            metrics: told
                .metrics
                .into_iter()
                .map(|(name, metric)| (name.to_owned(), metric))
                .collect(),
            identity: None,
            changed: Vec::new(),
            names: None,
            exceptions: Vec::new(),
            problems: Vec::new(),
        }
    };
    let rows: Vec<AttemptRow> = matrix.cells().numbers().map(row).collect();
    build(&ReportInput {
        matrix,
        run: &summary(regatta_model::run::RunState::Finished),
        now_ms: 99_000,
        attempts: &rows,
        earlier: &BTreeMap::new(),
    })
}

#[test]
fn a_version_from_which_on_tests_take_longer_is_named_once_for_all_lines() {
    let matrix = matrix(40, "");
    let report = report(&matrix, |version, os| {
        let slow = if version >= 25 { 2600 } else { 2000 };
        Told::of(version, if os == "b" { slow * 2 } else { slow })
    });
    assert_eq!(report.conclusion, Conclusion::Passed);
    let levels = report.levels.unwrap();
    assert_eq!((levels.axis.as_str(), levels.series), ("lib", 6));
    assert_eq!((levels.changes.len(), levels.more), (2, 0));
    for change in &levels.changes {
        assert_eq!(change.metric, "wall_ms");
        assert_eq!(change.change, MetricChange::Slower);
        let names = [&change.since, &change.last, &change.first, &change.until];
        assert_eq!(names, ["v1", "v24", "v25", "v40"]);
        assert!((change.ratio - 1.3).abs() < 0.01, "{change:?}");
        let double = if change.axes["os"] == "b" { 2.0 } else { 1.0 };
        assert!((change.from / double - 2040.0).abs() < 20.0, "{change:?}");
        assert!((change.to / change.from - change.ratio).abs() < 1e-9);
        assert!(change.p < 1e-6, "{change:?}");
        assert_eq!(matrix.cells().values(change.cell).unwrap()[0].1, "v25");
    }
    let [finding] = report.findings.as_slice() else {
        panic!("{:?}", report.findings);
    };
    assert_eq!(finding.kind, FindingKind::Metric);
    assert_eq!(finding.cells.len(), 2);
    assert_eq!(
        (finding.last_good.as_deref(), finding.first_bad.as_deref()),
        (Some("v24"), Some("v25"))
    );
    assert!(finding.confidence > 0.999 && finding.confidence <= 1.0);
    let said = "Lib v25 and later are slower than up to v24: wall_ms 1.31×, from ";
    assert!(finding.text.starts_with(said), "{}", finding.text);
    assert!(
        finding.text.ends_with(", the most of 2 lines of cells"),
        "{}",
        finding.text
    );
}

#[test]
fn several_changes_have_each_their_levels_and_what_is_worse_stands_first() {
    let matrix = matrix(
        60,
        "compare: {axis: lib, baseline: previous}\nexclude: [{os: b}]\n",
    );
    let report = report(&matrix, |version, _| {
        let rate = match version {
            ..20 => 1000.0,
            20..40 => 700.0,
            _ => 1500.0,
        };
        let noise = 1.0 + f64::from(u32::try_from(version * 7919 % 41).unwrap()) / 2000.0;
        let metric = Metric {
            value: rate * noise,
            unit: "1/s".into(),
            better: Some(Better::Higher),
        };
        Told {
            metrics: vec![("throughput", metric)],
            ..Told::of(version, 1000)
        }
    });
    let levels = report.levels.unwrap();
    let changes: Vec<_> = levels
        .changes
        .iter()
        .map(|one| {
            (
                one.change,
                one.is_worse(),
                one.since.as_str(),
                one.last.as_str(),
                one.first.as_str(),
                one.until.as_str(),
            )
        })
        .collect();
    assert_eq!(
        changes,
        [
            (MetricChange::Less, true, "v1", "v19", "v20", "v39"),
            (MetricChange::More, false, "v20", "v39", "v40", "v60"),
        ]
    );
    let texts: Vec<&str> = report
        .findings
        .iter()
        .map(|one| one.text.as_str())
        .collect();
    assert!(
        texts[0].starts_with("Lib v20 and later have less throughput than up to v19: 0.70×"),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("Lib v40 and later have more throughput"),
        "{texts:?}"
    );
    assert_eq!(
        report.findings[1].first_bad, None,
        "what is better is nobody's fault"
    );
}

#[test]
fn what_may_be_chance_or_a_hosts_or_is_too_little_is_no_change() {
    let long = matrix(40, "");
    let changes = |matrix: &Matrix, told: &dyn Fn(u64, &str) -> Told| {
        let report = report(matrix, told);
        let changed = report
            .levels
            .iter()
            .any(|levels| !levels.changes.is_empty());
        assert_eq!(report.findings.is_empty(), !changed);
        report.levels.map(|levels| levels.changes.len())
    };
    let step =
        |version: u64, from: u64, to: u64| Told::of(version, if version >= 25 { to } else { from });
    assert_eq!(
        changes(&long, &|version, _| Told::of(version, 2000)),
        Some(0)
    );
    // 30% of 100 ms are 30 ms.
    assert_eq!(
        changes(&long, &|version, _| step(version, 100, 130)),
        Some(0)
    );
    // Another host measured all that came later; then one in three of the same host says otherwise.
    let moved = |version, _: &str| Told {
        host: if version >= 25 { "h2" } else { "h1" },
        ..step(version, 2000, 2600)
    };
    assert_eq!(changes(&long, &moved), Some(0));
    let mixed = |version: u64, _: &str| {
        let first = version < 25 || version.is_multiple_of(3);
        Told {
            host: if first { "h1" } else { "h2" },
            ..Told::of(version, if first { 2000 } else { 2600 })
        }
    };
    assert_eq!(changes(&long, &mixed), Some(0));
    // Both hosts on both sides say so.
    let both = |version: u64, _: &str| Told {
        host: if version.is_multiple_of(2) {
            "h1"
        } else {
            "h2"
        },
        ..step(version, 2000, 2600)
    };
    assert_eq!(changes(&long, &both), Some(2));
    // Attempts that fail measure nothing: too few values are left.
    let least = u64::try_from(SERIES_LEAST).unwrap();
    let failing = |version: u64, _: &str| Told {
        passed: version < least,
        ..step(version, 2000, 2600)
    };
    let told = report(&long, failing);
    assert_eq!(told.levels, None);
    // And so are too few versions, an axis without an order, and cells in shards.
    let short = matrix(SERIES_LEAST - 1, "");
    assert_eq!(
        changes(&short, &|version, _| step(version, 2000, 2600)),
        None
    );
    let split = matrix(40, "shards: 2\n");
    assert_eq!(
        changes(&split, &|version, _| step(version, 2000, 2600)),
        None
    );
    let exactly = matrix(SERIES_LEAST, "");
    assert_eq!(
        changes(&exactly, &|version, _| step(version, 2000, 2600)),
        Some(2)
    );
}
