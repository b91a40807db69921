//! Scores of hosts, against the formulas by hand, and who is charged for what.

use regatta_model::{Blame, Outcome};
use regatta_verdict::judge::AttemptFacts;
use regatta_verdict::trust::{Standing, Trust, chance, charges, quarantined_most};

fn attempt(ordinal: u32, host: &str, passed: bool) -> AttemptFacts {
    AttemptFacts {
        ordinal,
        host: host.parse().unwrap(),
        outcome: Outcome::Exited {
            exit_code: i32::from(!passed),
        },
        blame: (!passed).then_some(Blame::Test),
        passed,
        failing: Vec::new(),
        flaky: false,
    }
}

/// `a+b-` is: attempt 1 on host a passed, attempt 2 on host b failed.
fn cell(text: &str) -> Vec<AttemptFacts> {
    let letters: Vec<char> = text.chars().collect();
    let pairs = letters.chunks(2).enumerate();
    let fact = |(index, pair): (usize, &[char])| {
        attempt(
            u32::try_from(index).unwrap() + 1,
            &pair[0].to_string(),
            pair[1] == '+',
        )
    };
    pairs.map(fact).collect()
}

#[test]
fn only_what_two_others_did_not_confirm_is_charged() {
    let charged = |text: &str| charges(&cell(text), 0.02);
    assert_eq!(charged("a+"), []);
    assert_eq!(charged("a-b+"), [], "one other is too few");
    assert_eq!(charged("a-b+c+"), [(0, 0.02)]);
    assert_eq!(charged("b+a-c+"), [(1, 0.02)]);
    assert_eq!(charged("a-b-c-"), [], "others confirm it");
    assert_eq!(charged("a-b-c+"), [(0, 0.3), (1, 0.3)], "one of two did");
    assert_eq!(charged("a-b-c+d+"), [(0, 0.3), (1, 0.3)]);
    assert_eq!(charged("a-a-b+c+"), [(0, 0.02), (1, 0.02)]);
    assert_eq!(charged("a-b+b+"), [(0, 0.02)]);
    let mut lost = cell("a-b+c+");
    lost[1].blame = Some(Blame::Host);
    assert_eq!(
        charges(&lost, 0.02),
        [],
        "what its host is to blame for confirms nothing"
    );
}

#[test]
fn scores_are_the_logarithms_of_odds() {
    let is = |trust: &Trust, score: f64| {
        assert!(
            (trust.score() - score).abs() < 1e-5,
            "{} is not {score}",
            trust.score()
        );
    };
    let mut trust = Trust::default();
    is(&trust, -3.0);
    trust.charge(0.005);
    // -3 + ln((.005 + .995 · .3) / .005); at the other rate -3 + ln((.005 + .995 · .05) / .005) = -.606 66
    is(&trust, 1.105_944);
    for _ in 0..7 {
        trust.pass();
    }
    // The larger is now that of the other rate: -.606 66 + 7 · ln .95; the first is 1.105 94 + 7 · ln .7 = -1.390 78.
    is(&trust, -0.965_714);
    trust.charge(0.005);
    trust.charge(0.3);
    // -1.390 78 + 4.105 94 + ln((.3 + .7 · .3) / .3)
    is(&trust, 3.245_791);
    assert_eq!(trust.standing(), Standing::Suspect);
    trust.charge(0.005);
    is(&trust, 7.351_735);
    assert_eq!(trust.standing(), Standing::Suspect, "ln 2000 is 7.6");
    trust.charge(0.3);
    assert_eq!(
        (trust.standing(), trust.charged),
        (Standing::Quarantined, 5)
    );
}

#[test]
fn chance_is_what_other_hosts_show_and_a_guess_before_they_do() {
    assert!((chance(0, 0) - 0.02).abs() < 1e-12);
    assert!((chance(0, 10_000) - 0.000_099_5).abs() < 1e-6);
    assert!((chance(99, 9_950) - 0.01).abs() < 1e-12);
}

#[test]
fn a_good_record_ends_at_a_floor() {
    let mut trust = Trust::default();
    for _ in 0..10_000 {
        trust.pass();
    }
    assert!((trust.score() + 3.0).abs() < 1e-9, "{}", trust.score());
    for _ in 0..3 {
        trust.charge(0.005);
    }
    assert_eq!(trust.standing(), Standing::Quarantined);
}

#[test]
fn who_was_quarantined_comes_back_on_probation() {
    let mut trust = Trust::default();
    for _ in 0..3 {
        trust.charge(0.0);
    }
    assert_eq!(trust.standing(), Standing::Quarantined);
    trust.quarantine();
    trust.restore();
    assert_eq!((trust.standing(), trust.charged), (Standing::Trusted, 0));
    let mut once = trust;
    once.charge(0.005);
    assert_eq!(
        once.standing(),
        Standing::Quarantined,
        "the odds of a suspect are enough"
    );
    for _ in 0..100 {
        trust.pass();
    }
    trust.charge(0.005);
    assert_ne!(
        trust.standing(),
        Standing::Quarantined,
        "its probation is over"
    );
    let kept: Trust = serde_json::from_str(&serde_json::to_string(&trust).unwrap()).unwrap();
    assert_eq!(kept, trust);
    assert_eq!(
        serde_json::from_str::<Trust>("{}").unwrap(),
        Trust::default()
    );
}

#[test]
fn a_rule_quarantines_a_tenth_at_most() {
    let most = [0, 2, 3, 19, 20, 200].map(quarantined_most);
    assert_eq!(most, [0, 0, 1, 1, 2, 20]);
}

#[test]
fn a_canary_that_fails_counts_and_only_a_rules_first_quarantine_ends_by_itself() {
    let mut trust = Trust::default();
    trust.canary_failed();
    trust.canary_failed();
    assert_eq!(trust.standing(), Standing::Suspect);
    assert_eq!((trust.charged, trust.canaries_failed), (0, 2));
    trust.quarantine();
    assert!(!trust.may_come_back(), "a person did it");
    trust.by_rule = true;
    assert!(trust.may_come_back());
    trust.restore();
    assert!(!trust.may_come_back() && trust.probation > 0);
    assert_eq!((0..12).filter(|_| trust.doubles()).count(), 10);
    trust.quarantine();
    trust.by_rule = true;
    assert!(!trust.may_come_back(), "a second offence");
}
