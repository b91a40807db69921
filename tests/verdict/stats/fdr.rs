//! Reporting many findings: adjusted p-values as scipy has them, and the share of false ones by hand.

use regatta_verdict::fdr::{LEVEL, adjusted, benjamini_hochberg, by_probability, with_own_prior};

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

#[test]
fn a_comparison_has_its_own_share_of_broken_cases() {
    let odds = |share: f64| (share / (1.0 - share)).ln();
    // Two sure ones of a thousand: the share is .002 and a little, and a case at even odds under a share of .05 is at
    // .002 / .998 · 19 = .0381 to 1 or a little more.
    let real = with_own_prior(&[50.0, 50.0, 0.0], 1000, 0.05);
    assert!(real[0] > 0.999_999 && real[1] > 0.999_999);
    let share = real.iter().sum::<f64>() / 1000.0;
    close(
        odds(real[2]),
        odds(share) - odds(0.05),
        1e-6,
        &"the share fits what follows from it",
    );
    assert!((0.036..0.040).contains(&real[2]), "{}", real[2]);
    // With the share that the scores were made with nothing changes.
    let same = with_own_prior(&[50.0, -50.0], 20, 0.05);
    close(same[0], 1.0, 1e-9, &"sure");
    close(
        with_own_prior(&[1.0], 1, 0.5)[0],
        1.0,
        1e-3,
        &"all are broken",
    );
    assert_eq!(with_own_prior(&[], 0, 0.05), [0.0; 0]);
}
