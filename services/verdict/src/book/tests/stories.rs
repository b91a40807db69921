//! What a few attempts lead to after a restart, and where a host is not trusted any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_model::matrix::Matrix;
use regatta_model::next::Next;
use regatta_model::report::Verdict;
use regatta_model::{Blame, CellNumber, Outcome};

use crate::book::{Book, TakenUp};
use crate::judge::{AttemptFacts, Policy};

fn facts(ordinal: u32, host: &str, passed: bool) -> AttemptFacts {
    AttemptFacts {
        ordinal,
        host: host.parse().unwrap(),
        outcome: Outcome::Exited {
            exit_code: i32::from(!passed),
        },
        blame: (!passed).then_some(Blame::Test),
        passed,
        failing: if passed { Vec::new() } else { vec!["a".into()] },
        flaky: false,
    }
}

fn book(text: &str) -> Book {
    let matrix = Arc::new(Matrix::parse(text, "matrix.yaml").unwrap());
    let policy = Policy::of(&matrix);
    Book::new(matrix, policy)
}

/// The candidate failed twice, so that its baseline is asked for controls; then the server is started again.
#[test]
fn a_baseline_that_is_asked_again_after_a_restart_goes_on_with_its_ordinals() {
    let mut book =
        book("image: i\naxes: {v: [1, 2]}\ntest: {run: x}\ncompare: {axis: v, baseline: 1}\n");
    let mut taken_up = TakenUp::default();
    let recorded = [
        (0, vec![facts(1, "h1", true)]),
        (1, vec![facts(1, "h1", false), facts(2, "h2", false)]),
    ];
    for (cell, facts) in recorded.clone() {
        book.take_up(cell, facts, &mut taken_up);
    }
    assert_eq!(book.not_passed(), [1]);
    assert_eq!(book.missing(1, false), [0]);
    let (_, baseline) = recorded.into_iter().next().unwrap();
    book.bring(baseline.into_iter().map(|facts| (0, facts)));
    book.judge_taken_up(1, false, &mut taken_up);
    book.taken_up(&mut taken_up);
    let asked: Vec<CellNumber> = taken_up.again.iter().map(|again| again.cell).collect();
    assert_eq!(asked, [1, 0]);
    assert!(taken_up.settled.is_empty(), "both are open");
    assert_eq!(taken_up.tried, BTreeMap::from([(0, 1), (1, 2)]));
}

/// A host failed what two others passed, and passed alone what nobody else ran; then it is not trusted any more.
#[test]
fn what_a_host_decided_is_settled_and_wanted_anew_in_one_word() {
    let mut book = book("image: i\naxes: {v: [1, 2, 3]}\ntest: {run: x}\n");
    for (cell, facts) in [
        (0, facts(1, "bad", false)),
        (0, facts(2, "h1", true)),
        (0, facts(3, "h2", true)),
        (1, facts(1, "bad", true)),
        (2, facts(1, "h1", true)),
    ] {
        book.record(cell, facts);
    }
    assert_eq!(book.settled(), 3);
    let bad = "bad".parse().unwrap();
    let decided = book.decided_by(&bad, vec![0, 1]);
    assert_eq!(decided, [0, 1]);
    let next = book.distrust(&bad, &decided);
    assert_eq!(next.settles, [0]);
    let again: Vec<(CellNumber, u32)> = next.again.iter().map(|a| (a.cell, a.attempts)).collect();
    assert_eq!(again, [(1, 1)]);
    assert_eq!(book.settled(), 2);
}

/// A host had a part in a candidate and in its baseline. Judged with the one set right and the other not, the candidate would
/// be settled, and then be wanted again.
#[test]
fn a_candidate_and_its_baseline_lose_a_host_at_once() {
    let text = "image: i\naxes: {v: [1, 2]}\ntest: {run: x}\ncompare: {axis: v, baseline: 1}\n";
    let mut book = book(text);
    for (cell, facts) in [
        (0, facts(1, "bad", false)),
        (1, facts(1, "bad", false)),
        (1, facts(2, "h1", false)),
        (0, facts(2, "h2", false)),
    ] {
        book.record(cell, facts);
    }
    let bad = "bad".parse().unwrap();
    let next = book.distrust(&bad, &[0, 1]);
    for again in &next.again {
        assert!(!next.settles.contains(&again.cell), "{next:?}");
        assert_eq!(book.verdict(again.cell), None);
    }
    for cell in &next.settles {
        assert!(book.verdict(*cell).is_some());
    }
}

/// An attempt asks for controls of its baseline, and shows that a host is not to be trusted, without which it asks for none.
/// The baseline was opened, so it must be wanted, or nothing would ever settle it.
#[test]
fn a_baseline_that_was_opened_is_wanted_whoever_is_distrusted_meanwhile() {
    let text = "image: i\naxes: {v: [1, 2]}\ntest: {run: x}\ncompare: {axis: v, baseline: 1}\n";
    let mut book = book(text);
    book.record(0, facts(1, "h1", true));
    book.record(1, facts(1, "bad", false));
    let (said, _) = book.record(1, facts(2, "bad", false));
    let cells = |next: &Next| {
        next.again
            .iter()
            .map(|again| again.cell)
            .collect::<Vec<_>>()
    };
    assert_eq!(cells(&said), [1, 0]);
    let bad = "bad".parse().unwrap();
    assert_eq!(cells(&book.distrust(&bad, &[1])), [1]);
    let next = book.wanted(1, said);
    assert!(cells(&next).contains(&0), "{next:?}");
    assert_eq!(book.verdict(0), None);
    book.record(0, facts(2, "h2", true));
    assert!(book.verdict(0).is_some());
}

/// All five attempts that a cell is asked for ran on a host that is not trusted any more: that is no fault of hosts for which
/// the cell is given up.
#[test]
fn a_cell_of_which_all_was_taken_back_is_run_again() {
    let text = "image: i\naxes: {v: [1]}\ntest: {run: x}\nrepeat: 5\nrerun: {at-most: 0}\n";
    let mut book = book(text);
    for ordinal in 1..=5 {
        book.record(0, facts(ordinal, "bad", ordinal > 1));
    }
    assert!(book.verdict(0).is_some());
    let bad = "bad".parse().unwrap();
    let next = book.distrust(&bad, &[0]);
    assert_eq!(book.verdict(0), None);
    let again: Vec<u32> = next.again.iter().map(|again| again.attempts).collect();
    assert_eq!(again, [5]);
    for ordinal in 6..=10 {
        book.record(0, facts(ordinal, "good", true));
    }
    assert_eq!(book.verdict(0), Some(Verdict::Passed));
}

/// A host that says of everything that it is to blame itself comes to an end.
#[test]
fn a_cell_is_given_up_whatever_hosts_say() {
    let mut book = book("image: i\naxes: {v: [1]}\ntest: {run: x}\n");
    let mut ordinal = 0;
    while book.verdict(0).is_none() {
        ordinal += 1;
        assert!(ordinal < 200);
        let mut facts = facts(ordinal, "h1", false);
        facts.blame = Some(Blame::Host);
        book.record(0, facts);
    }
    assert_eq!(book.verdict(0), Some(Verdict::Unresolved));
}

/// Two versions broke, and the reruns of the whole run are enough for one of them.
#[test]
fn once_the_reruns_of_a_run_are_used_up_what_waits_for_them_is_told_as_it_is() {
    let mut book = book(
        "image: i\naxes: {v: [1, 2, 3]}\ntest: {run: x}\ncompare: {axis: v, baseline: 1}\n\
         rerun: {in-all: 8}\n",
    );
    let mut again = BTreeMap::new();
    let mut last = Next::default();
    let mut record = |book: &mut Book, cell: CellNumber, ordinal, passed| {
        let host = format!("h{ordinal}");
        let (next, _) = book.record(cell, facts(ordinal, &host, passed));
        for wanted in &next.again {
            again.insert(wanted.cell, wanted.attempts);
        }
        last = next.clone();
        again.clone()
    };
    record(&mut book, 0, 1, true);
    record(&mut book, 1, 1, false);
    let asked = record(&mut book, 2, 1, false);
    assert_eq!((asked[&1], asked[&2]), (2, 2), "both want a round");
    record(&mut book, 1, 2, false);
    record(&mut book, 1, 3, false);
    for ordinal in 2..=5 {
        record(&mut book, 0, ordinal, true);
    }
    record(&mut book, 1, 4, false);
    record(&mut book, 1, 5, false);
    assert_eq!(book.verdict(1), Some(Verdict::Failed), "six told of it");
    assert_eq!(
        book.verdict(2),
        Some(Verdict::Failed),
        "one rerun of eight is left, and none of it"
    );
    let settled: Vec<CellNumber> = last.settles.clone();
    assert_eq!(settled, [2]);
    assert!(last.again.is_empty());
}
