//! The outbox: what it took is there after any end of its process, in order, until it is acknowledged.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use regatta_daemon::outbox::{Outbox, SEGMENT_MOST};
use regatta_model::case::{Results, ToldNames, ToldResults};
use regatta_model::wire::{ENDED_MOST, EndedAttempt, LogPlace, Sets, SyncResponse};
use regatta_model::{AttemptId, Incarnation, Outcome};

fn outcome(cell: u64, detail: usize) -> EndedAttempt {
    EndedAttempt {
        attempt: AttemptId {
            run: "r".parse().unwrap(),
            cell,
            ordinal: 1,
        },
        generation: 3,
        incarnation: Incarnation(5),
        outcome: Outcome::Exited { exit_code: 1 },
        blame: None,
        detail: "x".repeat(detail),
        wall_ms: 1,
        queue_ms: 1,
        start_us: 1,
        cpu_us: 1,
        peak_memory_bytes: 1,
        metrics: std::collections::BTreeMap::new(),
        identity: None,
        changed: Vec::new(),
        results: Results::default(),
        log: LogPlace::Empty,
        artifacts: Vec::new(),
        files: None,
    }
}

/// The same as it is told.
fn told(outcome: &EndedAttempt) -> EndedAttempt<ToldResults> {
    outcome.with_results(ToldResults::from(&outcome.results))
}

fn cells(outbox: &Outbox) -> Vec<u64> {
    outbox
        .batch(&Sets::default())
        .iter()
        .map(|outcome| outcome.attempt.cell)
        .collect()
}

fn segments(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_was_put_is_there_after_a_restart_in_order_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(directory.path()).unwrap();
    outbox.put(vec![outcome(1, 0), outcome(2, 10)]).unwrap();
    outbox.put(vec![outcome(3, 0)]).unwrap();
    // Neither closed nor told: as after kill -9.
    std::mem::forget(outbox);
    let outbox = Outbox::open(directory.path()).unwrap();
    assert_eq!(cells(&outbox), [1, 2, 3]);
    assert_eq!(outbox.batch(&Sets::default())[1], told(&outcome(2, 10)));
}

#[test]
fn the_first_outcome_of_an_attempt_counts() {
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(directory.path()).unwrap();
    outbox.put(vec![outcome(1, 1)]).unwrap();
    outbox.put(vec![outcome(1, 2)]).unwrap();
    assert_eq!(outbox.batch(&Sets::default()), [told(&outcome(1, 1))]);
    drop(outbox);
    assert_eq!(
        Outbox::open(directory.path())
            .unwrap()
            .batch(&Sets::default()),
        [told(&outcome(1, 1))]
    );
}

#[test]
fn acknowledged_segments_go_and_the_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(directory.path()).unwrap();
    let long = usize::try_from(SEGMENT_MOST).unwrap();
    for cell in 1..=3 {
        outbox.put(vec![outcome(cell, long)]).unwrap();
    }
    assert_eq!(segments(directory.path()).len(), 3);
    outbox.acknowledge(&outcome(2, 0).attempt).unwrap();
    assert_eq!(segments(directory.path()).len(), 2);
    drop(outbox);
    let mut outbox = Outbox::open(directory.path()).unwrap();
    assert_eq!(outbox.len(), 2);
    for cell in [1, 3] {
        outbox.acknowledge(&outcome(cell, 0).attempt).unwrap();
    }
    assert!(outbox.is_empty());
    drop(outbox);
    let outbox = Outbox::open(directory.path()).unwrap();
    assert!(outbox.is_empty());
    let left: u64 = segments(directory.path())
        .iter()
        .map(|p| p.metadata().unwrap().len())
        .sum();
    assert_eq!(left, 0, "nothing waits, nothing is kept");
}

#[test]
fn a_batch_fits_into_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(directory.path()).unwrap();
    outbox
        .put((0..300).map(|cell| outcome(cell, 0)).collect())
        .unwrap();
    assert_eq!(outbox.batch(&Sets::default()).len(), ENDED_MOST);
    for cell in 0..300 {
        outbox.acknowledge(&outcome(cell, 0).attempt).unwrap();
    }
    outbox
        .put((0..5).map(|cell| outcome(cell, 3 << 20)).collect())
        .unwrap();
    assert_eq!(cells(&outbox), [0, 1], "8 MiB at most");
}

#[test]
fn an_outcome_beyond_the_limit_is_refused_and_harms_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(directory.path()).unwrap();
    outbox.put(vec![outcome(1, 0)]).unwrap();
    let error = outbox.put(vec![outcome(2, 9 << 20)]).unwrap_err();
    assert!(error.to_string().contains("r/2/1"), "{error}");
    outbox.put(vec![outcome(3, 0)]).unwrap();
    drop(outbox);
    assert_eq!(cells(&Outbox::open(directory.path()).unwrap()), [1, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A crash of the host leaves the last segment cut anywhere, or with anything behind its end.
    #[test]
    fn a_damaged_tail_costs_what_it_hit_and_nothing_before(
        whole in 1..6_u64, cut in 0..400_u64, noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(directory.path()).unwrap();
        let mut ends = vec![0];
        let path = segments(directory.path()).pop().unwrap();
        for cell in 0..whole {
            outbox.put(vec![outcome(cell, 0)]).unwrap();
            ends.push(path.metadata().unwrap().len());
        }
        drop(outbox);
        let length = ends[ends.len() - 1].saturating_sub(cut);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        file.write_all(&noise).unwrap();
        let survive = ends.iter().filter(|end| **end <= length).count() as u64 - 1;
        let mut outbox = Outbox::open(directory.path()).unwrap();
        prop_assert_eq!(cells(&outbox), (0..survive).collect::<Vec<_>>());
        // And it goes on.
        outbox.put(vec![outcome(100, 0)]).unwrap();
        drop(outbox);
        let outbox = Outbox::open(directory.path()).unwrap();
        prop_assert_eq!(outbox.len() as u64, survive + 1);
    }
}

#[test]
fn a_record_with_a_flipped_bit_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(directory.path()).unwrap();
    outbox.put(vec![outcome(1, 0), outcome(2, 100)]).unwrap();
    drop(outbox);
    let path = segments(directory.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(9)
        .position(|window| window == b"xxxxxxxxx")
        .unwrap();
    bytes[at] = b'y';
    fs::write(&path, bytes).unwrap();
    assert_eq!(cells(&Outbox::open(directory.path()).unwrap()), [1]);
}

#[test]
fn names_go_only_where_they_are_needed() {
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(directory.path()).unwrap();
    let with_case = |cell, name: &str| {
        let mut outcome = outcome(cell, 0);
        outcome.results.names = vec![name.to_owned()];
        outcome
    };
    let all = vec![with_case(1, "a"), with_case(2, "a"), with_case(3, "b")];
    let a = all[0].results.named_set();
    outbox.put(all).unwrap();
    let listed = |sets: &Sets| -> Vec<bool> {
        let is_listed = |told: &EndedAttempt<ToldResults>| match told.results.names {
            ToldNames::Listed(_) => true,
            ToldNames::Set(set) => {
                assert_eq!(set.cases, 1);
                false
            }
        };
        outbox.batch(sets).iter().map(is_listed).collect()
    };
    let mut sets = Sets::default();
    assert_eq!(listed(&sets), [true; 3], "the server may be an old one");
    let mut answer = SyncResponse {
        takes_sets: true,
        ..SyncResponse::default()
    };
    sets.heard(&answer);
    assert_eq!(listed(&sets), [false; 3]);
    answer.unknown_sets = vec![a.set];
    sets.heard(&answer);
    assert_eq!(listed(&sets), [true, false, false], "once for each set");
    sets.unheard();
    assert_eq!(listed(&sets), [true; 3], "another server may answer next");
    // An old one answered, through one that passes on what it is told.
    sets.heard(&answer);
    sets.heard(&SyncResponse::default());
    assert_eq!(listed(&sets), [true; 3]);
}
