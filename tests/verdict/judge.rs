//! What attempts lead to: whether they pass, who is to blame, and how many more there are.

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::report::Verdict;
use regatta_model::{Blame, Outcome};
use regatta_verdict::earlier::Earlier;
use regatta_verdict::judge::{
    AttemptFacts, Baseline, Decision, Line, Policy, hosts, next, passed_attempt,
};

const EXIT_0: Outcome = Outcome::Exited { exit_code: 0 };
const EXIT_1: Outcome = Outcome::Exited { exit_code: 1 };

/// Results in which each of `a`, `b`, `c` that is in `failing` failed.
fn results(failing: &str) -> Results {
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let exception = |index: u32| CaseException {
        index,
        status: CaseStatus::Failed,
        message: String::new(),
    };
    let exceptions = (0..)
        .zip(&names)
        .filter(|(_, name)| failing.contains(name.as_str()))
        .map(|(at, _)| exception(at));
    Results {
        exceptions: exceptions.collect(),
        names,
        found: true,
        problems: Vec::new(),
        durations: Vec::new(),
    }
}

/// Attempts in short: `.` passed, letters are the cases that failed, `!` failed without results, `?` lost its host,
/// `i` had no image, `x` was cancelled, `s` failed in its set-up.
fn cell(attempts: &[&str]) -> Vec<AttemptFacts> {
    let facts = |(ordinal, attempt): (u32, &&str)| {
        let (outcome, results) = match *attempt {
            "." => (EXIT_0, results("")),
            "!" => (EXIT_1, Results::default()),
            "?" => (Outcome::HostLost, Results::default()),
            "i" => (Outcome::ImageFailed, Results::default()),
            "x" => (Outcome::Cancelled, Results::default()),
            "s" => (Outcome::SetupFailed, Results::default()),
            failing => (EXIT_1, results(failing)),
        };
        let host = format!("h{ordinal}").parse().unwrap();
        AttemptFacts::new(ordinal, host, outcome, None, &results)
    };
    (1..).zip(attempts).map(facts).collect()
}

fn decide(attempts: &[&str]) -> (Option<Verdict>, u32) {
    let Decision { verdict, again, .. } = next(&cell(attempts), None, &Policy::default());
    (verdict, again)
}

#[test]
fn exit_status_and_results_must_agree() {
    let cut = Results {
        problems: vec!["junit.xml: line 3: cut".into()],
        ..results("")
    };
    let empty = Results {
        found: true,
        ..Results::default()
    };
    for (outcome, results, passed, detail) in [
        (EXIT_0, results(""), true, ""),
        (EXIT_0, Results::default(), true, ""),
        (
            EXIT_0,
            results("ab"),
            false,
            "exit status 0, but 2 of 3 cases failed",
        ),
        (
            EXIT_0,
            cut.clone(),
            false,
            "exit status 0, but its results are not whole: junit.xml: line 3: cut",
        ),
        (
            EXIT_0,
            empty.clone(),
            false,
            "exit status 0, but its results hold no case",
        ),
        (
            EXIT_1,
            results("a"),
            false,
            "exit status 1, 1 of 3 cases failed",
        ),
        (
            EXIT_1,
            results(""),
            false,
            "exit status 1, though none of its 3 cases failed",
        ),
        (EXIT_1, Results::default(), false, "exit status 1"),
        (
            EXIT_1,
            cut,
            false,
            "exit status 1, and its results are not whole: junit.xml: line 3: cut",
        ),
        (
            EXIT_1,
            empty,
            false,
            "exit status 1, and its results hold no case",
        ),
        (
            Outcome::Signaled { signal: 11 },
            Results::default(),
            false,
            "ended by signal 11 (SIGSEGV)",
        ),
        (
            Outcome::TimedOut,
            results("a"),
            false,
            "ended by its time limit, 1 of 3 cases failed",
        ),
        (
            Outcome::OutOfMemory,
            Results::default(),
            false,
            "ended by its memory limit",
        ),
    ] {
        let blame = (!passed).then_some(Blame::Test);
        assert_eq!(
            passed_attempt(outcome, &results),
            (passed, blame, detail.to_owned())
        );
    }
    for (outcome, blame) in [
        (Outcome::HostLost, Some(Blame::Host)),
        (Outcome::ImageFailed, Some(Blame::Platform)),
        (Outcome::SetupFailed, Some(Blame::Test)),
        (Outcome::Cancelled, None),
    ] {
        let (passed, blamed, _) = passed_attempt(outcome, &Results::default());
        assert_eq!((passed, blamed), (false, blame), "{outcome:?}");
    }
}

#[test]
fn a_failure_is_confirmed_once_and_a_disagreement_gets_a_third() {
    use Verdict::{Failed, Flaky, Passed};
    for (attempts, verdict, again) in [
        (&[][..], None, 1),
        (&["."], Some(Passed), 0),
        (&["a"], None, 1),
        (&["a", "a"], Some(Failed), 0),
        (&["!", "!"], Some(Failed), 0),
        (&["s", "s"], Some(Failed), 0),
        (&["a", "."], None, 1),
        (&["a", ".", "."], Some(Flaky), 0),
        (&["a", ".", "a"], Some(Flaky), 0),
        // Two cases, each of which also passed: no case fails for good.
        (&["a", "b"], None, 1),
        (&["a", "b", "c"], Some(Flaky), 0),
        (&["ab", "bc"], Some(Failed), 0),
    ] {
        assert_eq!(decide(attempts), (verdict, again), "{attempts:?}");
    }
}

#[test]
fn repeat_asks_for_all_of_them_and_a_failure_among_them_for_no_more() {
    let policy = Policy {
        repeat: 3,
        ..Policy::default()
    };
    for (attempts, verdict, again) in [
        (&["."][..], None, 2),
        (&["a"], None, 2),
        (&["a", "a"], None, 1),
        (&["a", "a", "a"], Some(Verdict::Failed), 0),
        (&[".", ".", "."], Some(Verdict::Passed), 0),
        (&[".", ".", "a"], Some(Verdict::Flaky), 0),
    ] {
        let decision = next(&cell(attempts), None, &policy);
        assert_eq!(
            (decision.verdict, decision.again),
            (verdict, again),
            "{attempts:?}"
        );
    }
}

#[test]
fn without_reruns_the_first_failure_decides() {
    let policy = Policy {
        at_most: 0,
        ..Policy::default()
    };
    assert_eq!(
        next(&cell(&["a"]), None, &policy).verdict,
        Some(Verdict::Failed)
    );
    assert_eq!(
        next(&cell(&["?"]), None, &policy).again,
        1,
        "a lost host does not decide"
    );
    assert_eq!(
        next(&cell(&["?", "."]), None, &policy).verdict,
        Some(Verdict::Passed)
    );
}

#[test]
fn what_hosts_and_the_platform_did_decides_nothing_and_is_bounded() {
    assert_eq!(decide(&["?"]), (None, 1));
    assert_eq!(decide(&["?", "."]), (Some(Verdict::Passed), 0));
    assert_eq!(decide(&["?", "a", "?"]), (None, 1));
    assert_eq!(decide(&["x"]), (None, 1));
    assert_eq!(decide(&["?"; 10]), (None, 1));
    assert_eq!(decide(&["?"; 11]), (Some(Verdict::Unresolved), 0));
    assert_eq!(decide(&["i", "i"]), (None, 1));
    assert_eq!(decide(&["i"; 3]), (Some(Verdict::Unresolved), 0));
    // An exit that the agent blames on its host is no failure of the test.
    let mut facts = cell(&["!"]);
    facts[0].blame = Some(Blame::Host);
    assert_eq!(next(&facts, None, &Policy::default()).again, 1);
}

/// What a cell's attempts beside its baseline's lead to: a verdict, and reruns of the one and the other.
fn beside(attempts: &[&str], baseline: &[&str]) -> (Option<Verdict>, u32, u32) {
    beside_with(attempts, baseline, &Earlier::default())
}

fn beside_with(
    attempts: &[&str],
    baseline: &[&str],
    earlier: &Earlier,
) -> (Option<Verdict>, u32, u32) {
    let facts = cell(baseline);
    let baseline = Baseline {
        facts: &facts,
        settled: false,
        spent: false,
        earlier,
        line: Line::default(),
    };
    let decision = next(&cell(attempts), Some(baseline), &Policy::default());
    (decision.verdict, decision.again, decision.again_baseline)
}

#[test]
fn a_break_is_asked_for_on_both_sides_until_it_is_sure() {
    use Verdict::{Failed, Flaky, Passed};
    for (attempts, baseline, verdict, again, again_baseline) in [
        (&["."][..], &["."][..], Some(Passed), 0, 0),
        // The baseline goes ahead of others, and nothing is rerun before it is known.
        (&["a"], &[], None, 0, 1),
        (&["a"], &["?"], None, 0, 1),
        // What the baseline fails as well is no question, and what it failed once may be one later.
        (&["a"], &["a"], Some(Failed), 0, 0),
        (&["a"], &["a", "."], None, 2, 0),
        // Two reruns, then controls beside them, only controls where only they are missing.
        (&["a"], &["."], None, 2, 0),
        (&["a", "a"], &["."], None, 1, 2),
        (&["a", "a", "a"], &["."], None, 2, 2),
        (&["a", "a", "a", "a"], &[".", ".", "."], None, 0, 2),
        (
            &["a", "a", "a", "a"],
            &[".", ".", ".", ".", "."],
            Some(Failed),
            0,
            0,
        ),
        // A control that fails as well makes more of both necessary.
        (&["a", "a", "a"], &[".", "a"], None, 2, 1),
        // Half the time is broken too.
        (
            &["a", ".", "a", "a", ".", "a", ".", "a", "a", "a", "."],
            &[".", ".", ".", ".", ".", ".", ".", ".", ".", ".", "."],
            Some(Failed),
            0,
            0,
        ),
        // Chance: it has to pass often before it is believed.
        (&["a", "."], &["."], None, 1, 0),
        (&["a", ".", "."], &["."], None, 2, 0),
        (
            &["a", ".", ".", ".", ".", ".", ".", ".", ".", ".", "."],
            &["."],
            Some(Flaky),
            0,
            0,
        ),
        // A failure without a case is a case of its own.
        (&["!", "!"], &["."], None, 1, 2),
        (&["!", "a"], &["!"], Some(Failed), 0, 0),
        // Without set-up nothing was tested, and nothing is asked of the other side.
        (&["s"], &["."], None, 1, 0),
        (&["s", "s"], &["."], Some(Failed), 0, 0),
        (&["a"], &["s"], None, 1, 0),
    ] {
        assert_eq!(
            beside(attempts, baseline),
            (verdict, again, again_baseline),
            "{attempts:?} beside {baseline:?}"
        );
    }
}

#[test]
fn what_earlier_runs_say_of_the_baseline_counts_until_a_control_fails() {
    let mut earlier = Earlier::default();
    for facts in cell(&["."; 60]) {
        earlier.add(&facts);
    }
    let failing = |count: u32| Earlier {
        failed: [("a".to_owned(), count)].into(),
        ..earlier.clone()
    };
    // It is sure sooner, but never without controls.
    assert_eq!(beside_with(&["a", "a"], &["."], &earlier), (None, 0, 4));
    // A case that is known to fail by chance wants more than one that never did.
    assert_eq!(beside_with(&["a", "a"], &["."], &failing(12)), (None, 1, 2));
    let attempts = ["a"; 4];
    let controls = [".", "a", ".", "a", ".", ".", "."];
    let (verdict, again, _) = beside_with(&attempts, &controls, &earlier);
    assert_eq!(
        (verdict, again),
        (None, 1),
        "what was before is another world"
    );
}

#[test]
fn versions_before_tell_what_fails_by_chance() {
    let (facts, nothing) = (cell(&["."]), Earlier::default());
    let asked = |line: &[&[&str]], passed| {
        let line: Vec<Vec<AttemptFacts>> = line.iter().map(|attempts| cell(attempts)).collect();
        let baseline = Baseline {
            facts: &facts,
            settled: true,
            spent: false,
            earlier: &nothing,
            line: Line {
                facts: line.iter().map(Vec::as_slice).collect(),
                passed,
            },
        };
        let decision = next(&cell(&["a", "a"]), Some(baseline), &Policy::default());
        (decision.again, decision.again_baseline)
    };
    assert_eq!(asked(&[], 0), (1, 2));
    assert_eq!(asked(&[], 10), (0, 4), "it never failed");
    assert_eq!(
        asked(&[&["a", "."], &["a", "."]], 8),
        (1, 2),
        "it fails by chance"
    );
    assert_eq!(asked(&[&["b"]], 10), (0, 4), "another case");
    assert_eq!(
        asked(&[&["a"], &["a", "a"]], 10),
        (0, 4),
        "it was broken there"
    );
}

#[test]
fn reruns_end_at_what_the_matrix_allows() {
    let policy = Policy {
        at_most: 2,
        ..Policy::default()
    };
    let (facts, nothing) = (cell(&["."]), Earlier::default());
    let baseline = Baseline {
        facts: &facts,
        settled: true,
        spent: false,
        earlier: &nothing,
        line: Line::default(),
    };
    let decide = |attempts: &[&str]| {
        let Decision {
            verdict,
            again,
            again_baseline,
        } = next(&cell(attempts), Some(baseline.clone()), &policy);
        (verdict, again, again_baseline)
    };
    assert_eq!(decide(&["a", ".", "."]), (Some(Verdict::Flaky), 0, 0));
    assert_eq!(decide(&["a", "a", "a"]), (None, 0, 2));
    let none = Policy {
        at_most: 0,
        ..policy
    };
    let decision = next(&cell(&["a"]), Some(baseline.clone()), &none);
    assert_eq!(
        (decision.verdict, decision.again_baseline),
        (Some(Verdict::Failed), 0),
        "the first failure decides"
    );
}

#[test]
fn a_case_that_needed_a_second_try_within_an_attempt_is_flaky() {
    let mut facts = cell(&["."]);
    facts[0].flaky = true;
    assert_eq!(
        next(&facts, None, &Policy::default()).verdict,
        Some(Verdict::Flaky)
    );
}

#[test]
fn the_hosts_to_avoid_are_those_that_ran_it() {
    assert_eq!(
        hosts(&cell(&["a", "."])),
        ["h1".parse().unwrap(), "h2".parse().unwrap()]
    );
}
