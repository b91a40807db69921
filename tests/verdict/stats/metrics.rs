//! Metrics: tests and estimates against scipy and by every choice of signs, and what is decided.

use regatta_verdict::metrics::pairs::{Pair, estimate, signed_rank};
use regatta_verdict::metrics::series::{change_points, t_test};
use regatta_verdict::metrics::{Change, Policy, SECONDS_LEAST, judge, reported};
use serde_json::Value;

use super::{close, numbers, reference, rows};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Ten or twenty pairs whose ratios lie around `ratio`, evenly.
fn pairs(count: u32, baseline: f64, ratio: f64) -> Vec<Pair> {
    let pair = |index: u32| Pair {
        baseline,
        candidate: baseline * ratio * (1.0 + (f64::from(index) - f64::from(count) / 2.0) / 1000.0),
    };
    (0..count).map(pair).collect()
}

#[test]
fn ranks_give_the_p_values_of_scipy() {
    let reference = reference("metrics.json");
    let rows = reference["signed_rank"].as_array().unwrap();
    assert!(rows.len() > 20);
    for row in rows {
        let p = signed_rank(&numbers(&row["differences"]));
        close(p, number(&row["p"]), 1e-9, row);
    }
    close(signed_rank(&[]), 1.0, 0.0, &"nothing");
    close(signed_rank(&[0.0, 0.0]), 1.0, 0.0, &"zeros");
}

#[test]
fn ratios_and_their_intervals_are_those_of_the_walsh_averages() {
    for row in rows(&reference("metrics.json")) {
        let (baseline, candidate) = (numbers(&row["baseline"]), numbers(&row["candidate"]));
        let pairs = baseline.iter().zip(&candidate);
        let pairs = pairs.map(|(baseline, candidate)| Pair {
            baseline: *baseline,
            candidate: *candidate,
        });
        let pairs: Vec<Pair> = pairs.collect();
        let is = estimate(&pairs, number(&row["confidence"]));
        assert_eq!(is.pairs, pairs.len());
        for (is, name) in [
            (is.ratio, "ratio"),
            (is.low, "low"),
            (is.high, "high"),
            (is.difference, "difference"),
            (is.p, "p"),
        ] {
            close(is, number(&row[name]), 1e-9, &format!("{name} of {row}"));
        }
    }
}

#[test]
fn t_tests_give_the_p_values_of_scipy() {
    let reference = reference("metrics.json");
    let rows = reference["t_test"].as_array().unwrap();
    assert!(rows.len() > 10);
    for row in rows {
        let p = t_test(&numbers(&row["left"]), &numbers(&row["right"]));
        close(p, number(&row["p"]), 1e-9, row);
    }
}

#[test]
fn series_change_where_the_reference_says() {
    let mut all = 0;
    for row in rows(&reference("series.json")) {
        let is = change_points(&numbers(&row["series"]), number(&row["ratio"]));
        let wanted = row["points"].as_array().unwrap();
        let places: Vec<u64> = is.iter().map(|point| point.place as u64).collect();
        let wanted_places: Vec<u64> = wanted
            .iter()
            .map(|point| point["place"].as_u64().unwrap())
            .collect();
        assert_eq!(places, wanted_places, "{row}");
        for (is, wanted) in is.iter().zip(wanted) {
            close(is.ratio, number(&wanted["ratio"]), 1e-9, wanted);
            close(is.p, number(&wanted["p"]), 1e-9, wanted);
        }
        all += is.len();
    }
    assert!(all > 10, "{all}");
}

#[test]
fn what_was_not_measured_is_left_out_of_a_series() {
    let mut series: Vec<f64> = (0..30).map(|at| 1.0 + f64::from(at % 3) / 100.0).collect();
    series.iter_mut().skip(15).for_each(|value| *value *= 1.3);
    series.splice(3..3, [f64::NAN, 0.0, -1.0, f64::INFINITY]);
    let points = change_points(&series, 1.05);
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].place, 19);
    close(points[0].ratio, 1.3, 0.001, &"ratio");
    assert_eq!(change_points(&[], 1.05), []);
    assert_eq!(change_points(&[f64::NAN; 9], 1.05), []);
}

#[test]
fn a_change_needs_a_small_p_value_a_ratio_and_a_difference() {
    let policy = Policy::default();
    let first = |pairs: &[Pair]| judge(pairs, SECONDS_LEAST, &policy).change;
    assert_eq!(first(&pairs(10, 2.0, 1.10)), Change::Worse);
    assert_eq!(first(&pairs(10, 2.0, 0.90)), Change::Better);
    assert_eq!(
        first(&pairs(10, 2.0, 1.03)),
        Change::None,
        "too small a ratio"
    );
    // 1.10 of 0.3 s is 30 ms more.
    let short = pairs(20, 0.3, 1.10);
    assert_eq!(judge(&short, SECONDS_LEAST, &policy).change, Change::None);
    assert_eq!(judge(&short, 0.02, &policy).change, Change::Worse);
    assert_eq!(first(&pairs(7, 2.0, 1.10)), Change::TooFew);
    let mut lost = pairs(10, 2.0, 1.10);
    lost[3].candidate = f64::NAN;
    lost[4].baseline = 0.0;
    // Eight are enough for a look, but their smallest p-value is .0078, above .005.
    assert_eq!(first(&lost), Change::Open);
    lost[5].baseline = -1.0;
    assert_eq!(first(&lost), Change::TooFew);
}

#[test]
fn what_one_look_leaves_open_more_pairs_may_show() {
    let policy = Policy::default();
    // Seven pairs half as slow again, three faster: p is .027 at this look.
    let mut doubtful = pairs(10, 2.0, 1.5);
    for pair in doubtful.iter_mut().take(3) {
        pair.candidate = 1.7;
    }
    let look = |pairs: &[Pair]| judge(pairs, SECONDS_LEAST, &policy);
    assert_eq!(look(&doubtful).change, Change::Open);
    doubtful.extend(pairs(10, 2.0, 1.5));
    let last = look(&doubtful);
    assert_eq!(last.change, Change::Worse);
    // Twice that of the look: there were two.
    let estimate = last.estimate.unwrap();
    close(last.p, 2.0 * estimate.p, 1e-12, &"p");
}

#[test]
fn many_metrics_need_more_than_each_alone() {
    let policy = Policy::default();
    let found = judge(&pairs(10, 2.0, 1.10), SECONDS_LEAST, &policy);
    let not = judge(&pairs(10, 2.0, 1.0), SECONDS_LEAST, &policy);
    // .0039 · 12 is below .05, .0039 · 13 above.
    let among = |others: usize| {
        let mut findings = vec![not; others];
        findings.insert(0, found);
        reported(&findings, &policy)[0]
    };
    close(found.p, 0.003_906_25, 1e-12, &"p");
    assert!(among(11));
    assert!(!among(12));
    assert_eq!(reported(&[found, found, not], &policy), [true, true, false]);
}
