//! Metrics of made-up attempts, compared: what is planted is found, and what is not there is not.

use std::collections::BTreeMap;

use regatta_model::matrix::Matrix;
use regatta_model::metric::{Better, Metric, MetricChange, MetricComparison};
use regatta_model::report::{Conclusion, FindingKind, Report};
use regatta_model::run::{Progress, RunState, RunSummary};
use regatta_verdict::report::{AttemptRow, ReportInput, build};

use crate::report::{EXIT_0, EXIT_1};

/// Three versions on three hosts.
fn matrix() -> Matrix {
    let text = "
image: i
axes: {lib: [1.0, 2.0, 3.0]}
compare: {axis: lib, baseline: 1.0}
metrics: {compare: true}
test: {run: x}
";
    Matrix::parse(text, "m.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// Numbers drawn by lot, always the same ones.
struct Lot(u64);

impl Lot {
    /// From 0 to 1.
    fn draw(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 33).unwrap()) / f64::from(1_u32 << 31)
    }

    /// Around 1, with a deviation of about 3%.
    fn noise(&mut self) -> f64 {
        let sum: f64 = (0..12).map(|_| self.draw()).sum();
        1.0 + 0.03 * (sum - 6.0)
    }
}

/// A pass of a cell in a round; each host is of another speed.
fn pass(cell: u64, round: u32) -> AttemptRow {
    AttemptRow {
        cell,
        ordinal: round + 1,
        sequence: u64::from(round) * 3 + cell + 1,
        host: format!("host-{}", round % 3).parse().unwrap(),
        outcome: EXIT_0,
        blame: None,
        passed: true,
        detail: String::new(),
        wall_ms: 0,
        cpu_us: 0,
        peak_memory_bytes: 0,
        metrics: BTreeMap::new(),
        identity: None,
        changed: Vec::new(),
        names: None,
        exceptions: Vec::new(),
        problems: Vec::new(),
    }
}

fn whole(value: f64) -> u64 {
    format!("{value:.0}").parse().unwrap()
}

/// As many rounds of all cells as the matrix asks for; `measure` says what an attempt measured.
fn rounds(measure: impl Fn(&mut AttemptRow, f64, &mut Lot)) -> Vec<AttemptRow> {
    let mut lot = Lot(7);
    let mut rows = Vec::new();
    for cell in 0..3 {
        for round in 0..matrix().repeat() {
            let mut row = pass(cell, round);
            let speed = [1.0, 2.5, 7.0][usize::try_from(round % 3).unwrap()];
            measure(&mut row, speed, &mut lot);
            rows.push(row);
        }
    }
    rows
}

fn report(rows: &[AttemptRow]) -> Report {
    let run = RunSummary {
        run: "r1".parse().unwrap(),
        name: "m".into(),
        state: RunState::Finished,
        submitted_ms: 1000,
        ended_ms: Some(2000),
        deep: false,
        bisecting: false,
        progress: Progress::default(),
    };
    build(&ReportInput {
        matrix: &matrix(),
        run: &run,
        now_ms: 3000,
        attempts: rows,
        earlier: &BTreeMap::new(),
    })
}

fn of<'r>(report: &'r Report, cell: u64, metric: &str) -> &'r MetricComparison {
    let mut all = report.metrics.iter();
    all.find(|one| (one.cell, one.metric.as_str()) == (cell, metric))
        .unwrap_or_else(|| panic!("no {metric} of {cell}: {:#?}", report.metrics))
}

#[test]
fn what_is_planted_is_found_and_an_equal_version_is_not() {
    let report = report(&rounds(|row, speed, lot| {
        let planted = if row.cell == 1 { 1.2 } else { 1.0 };
        row.wall_ms = whole(1000.0 * planted * speed * lot.noise());
        row.cpu_us = whole(900_000.0 * speed * lot.noise());
        row.peak_memory_bytes = whole(1e8 * planted * lot.noise());
        let rate = Metric {
            value: 5000.0 / planted / speed * lot.noise(),
            unit: "1/s".into(),
            better: Some(Better::Higher),
        };
        let queries = Metric::plain(400.0 * planted * lot.noise());
        row.metrics = [("rate".to_owned(), rate), ("queries".to_owned(), queries)].into();
    }));
    let changes: BTreeMap<&str, MetricChange> = report
        .metrics
        .iter()
        .filter(|one| one.cell == 1)
        .map(|one| (one.metric.as_str(), one.change))
        .collect();
    let (unchanged, more) = (MetricChange::Unchanged, MetricChange::More);
    assert_eq!(changes["wall_ms"], MetricChange::Slower);
    assert_eq!(changes["peak_memory_bytes"], more);
    assert_eq!(changes["rate"], MetricChange::Less);
    assert_eq!(changes["queries"], more);
    assert!([unchanged, MetricChange::Unclear].contains(&changes["cpu_us"]));
    let third = report.metrics.iter().filter(|one| one.cell == 2);
    assert!(third.clone().count() == 5 && third.clone().all(|one| !one.change.is_change()));

    let wall = of(&report, 1, "wall_ms");
    assert_eq!((wall.baseline, wall.pairs, wall.hosts), (0, 12, 3));
    let interval = (wall.low.unwrap(), wall.ratio.unwrap(), wall.high.unwrap());
    assert!(
        (1.1..1.25).contains(&interval.0) && (1.15..1.3).contains(&interval.2),
        "{interval:?}"
    );
    let findings: Vec<_> = report.findings.iter().collect();
    assert_eq!(findings.len(), 4, "{findings:#?}");
    for finding in &findings {
        assert_eq!(finding.kind, FindingKind::Metric);
        assert_eq!(finding.cells, [1]);
        assert!(finding.confidence > 0.95, "{finding:?}");
    }
    let slower = findings
        .iter()
        .find(|finding| finding.text.contains("wall_ms"));
    let slower = slower.unwrap();
    assert!(
        slower
            .text
            .starts_with("Lib 2.0 is slower than 1.0: wall_ms, median 1.")
            && slower.text.ends_with(") in 12 pairs on 3 hosts"),
        "{}",
        slower.text
    );
    assert_eq!(slower.first_bad.as_deref(), Some("2.0"));
    let queries = findings
        .iter()
        .find(|finding| finding.text.contains("queries"));
    let queries = queries.unwrap();
    assert!(
        queries
            .text
            .starts_with("Lib 2.0 has more queries than 1.0")
    );
    assert_eq!(queries.first_bad, None, "nobody said that less is better");
    assert_eq!(report.conclusion, Conclusion::Passed);
}

#[test]
fn of_many_metrics_that_did_not_change_none_is_found() {
    let report = report(&rounds(|row, _, lot| {
        (row.wall_ms, row.cpu_us, row.peak_memory_bytes) = (1000, 1_000_000, 1 << 27);
        let metric = |number| {
            let loud = 1.0 + 4.0 * (lot.noise() - 1.0);
            (format!("m{number}"), Metric::plain(10.0 * loud))
        };
        row.metrics = (0..200).map(metric).collect();
    }));
    assert_eq!(report.metrics.len(), 2 * 203);
    // Some would be found if each stood alone.
    let alone = |one: &&MetricComparison| {
        one.p < Some(0.01) && one.ratio.unwrap().ln().abs() >= 1.05_f64.ln()
    };
    assert!(report.metrics.iter().any(|one| alone(&one)));
    assert_eq!(report.findings, []);
}

#[test]
fn a_change_among_many_metrics_is_still_found() {
    let report = report(&rounds(|row, _, lot| {
        let planted = |number| {
            if (number, row.cell) == (17, 1) {
                1.2
            } else {
                1.0
            }
        };
        let metric = |number: u32| {
            let value = 10.0 * planted(number) * lot.noise();
            (format!("m{number}"), Metric::plain(value))
        };
        // Twelve pairs cannot show a p below 0.001: among many more, one change alone would not stand out.
        row.metrics = (0..20).map(metric).collect();
    }));
    let texts: Vec<&str> = report
        .findings
        .iter()
        .map(|one| one.text.as_str())
        .collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("m17"), "{texts:?}");
}

#[test]
fn small_differences_of_time_and_memory_are_none() {
    let report = report(&rounds(|row, _, lot| {
        let planted = if row.cell == 1 { 1.5 } else { 1.0 };
        row.wall_ms = whole(60.0 * planted * lot.noise());
        row.peak_memory_bytes = whole(1e7 * planted * lot.noise());
    }));
    assert_eq!(of(&report, 1, "wall_ms").change, MetricChange::Unchanged);
    assert_eq!(
        of(&report, 1, "peak_memory_bytes").change,
        MetricChange::Unchanged
    );
    assert_eq!(report.findings, []);
}

#[test]
fn only_passing_attempts_of_the_same_host_are_paired() {
    let mut rows = rounds(|row, _, lot| {
        let planted = if row.cell == 1 { 2.0 } else { 1.0 };
        row.wall_ms = whole(1000.0 * planted * lot.noise());
    });
    // The second version ran twice on a host of its own, and failed three times.
    for row in rows.iter_mut().filter(|row| row.cell == 1) {
        if row.ordinal <= 2 {
            row.host = "elsewhere".parse().unwrap();
        } else if row.ordinal <= 5 {
            (row.outcome, row.passed) = (EXIT_1, false);
        }
    }
    let report = report(&rows);
    let wall = of(&report, 1, "wall_ms");
    assert_eq!((wall.pairs, wall.change), (7, MetricChange::Unclear));
    assert_eq!(of(&report, 2, "wall_ms").pairs, 12);
}

#[test]
fn without_being_asked_nothing_is_compared() {
    let rows = rounds(|row, _, _| row.wall_ms = 1000 * (row.cell + 1));
    let text = matrix().to_json().to_string();
    let silent = text.replace(
        "\"metrics\":{\"compare\":true}",
        "\"metrics\":{\"compare\":false}",
    );
    assert_ne!(silent, text);
    let matrix = Matrix::parse(&silent, "m").unwrap();
    assert_eq!(matrix.repeat(), 1);
    let run = RunSummary {
        run: "r1".parse().unwrap(),
        name: "m".into(),
        state: RunState::Finished,
        submitted_ms: 1000,
        ended_ms: Some(2000),
        deep: false,
        bisecting: false,
        progress: Progress::default(),
    };
    let report = build(&ReportInput {
        matrix: &matrix,
        run: &run,
        now_ms: 3000,
        attempts: &rows,
        earlier: &BTreeMap::new(),
    });
    assert_eq!((report.metrics.len(), report.findings.len()), (0, 0));
}
