//! Reporting many findings: adjusted p-values as scipy has them, and the share of false ones by hand.

use regatta_verdict::fdr::{LEVEL, adjusted, benjamini_hochberg, by_probability};

use super::{close, numbers, reference, rows};

#[test]
fn p_values_are_adjusted_as_scipy_does() {
    for row in rows(&reference("fdr.json")) {
        let p_values = numbers(&row["p"]);
        let is = adjusted(&p_values);
        let wanted = numbers(&row["adjusted"]);
        assert_eq!(is.len(), wanted.len());
        for (is, wanted) in is.iter().zip(&wanted) {
            close(*is, *wanted, 1e-12, row);
        }
        let reported: Vec<bool> = wanted.iter().map(|p| *p <= LEVEL).collect();
        assert_eq!(benjamini_hochberg(&p_values, LEVEL), reported, "{row}");
    }
}

#[test]
fn findings_are_reported_while_few_are_false() {
    // By hand: .01, (.01 + .03) / 2 = .02, (.01 + .03 + .1) / 3 = .0467; with .2 it is .085.
    let real = [0.8, 0.99, 0.9, 0.97, 0.1];
    assert_eq!(
        by_probability(&real, LEVEL),
        [false, true, true, true, false]
    );
    assert_eq!(by_probability(&[0.94], LEVEL), [false]);
    assert_eq!(by_probability(&[0.96], LEVEL), [true]);
    // A mean of exactly the level still counts.
    assert_eq!(by_probability(&[0.75, 1.0, 0.5], 0.25), [true, true, true]);
    // Sure ones carry a doubtful one.
    assert_eq!(by_probability(&[1.0, 1.0, 1.0, 0.85], LEVEL), [true; 4]);
    assert_eq!(by_probability(&[], LEVEL), [false; 0]);
    assert_eq!(
        by_probability(&[f64::NAN, 2.0, -1.0], LEVEL),
        [false, true, false]
    );
}

#[test]
fn what_is_no_number_is_never_reported() {
    assert_eq!(benjamini_hochberg(&[f64::NAN, 0.001], LEVEL), [false, true]);
    assert_eq!(adjusted(&[]), [0.0; 0]);
}
