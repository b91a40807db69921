//! What lasts: the same stories over every database that is supported.

use std::sync::Arc;

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::run::{Pins, Progress, RunState, RunSummary};
use regatta_model::wire::{Artifact, HostFacts, LogPlace};
use regatta_model::{AttemptId, Blame, Digest, Incarnation, Outcome, RunId};
use regatta_store::{
    Batch, Cases, Committed, EndedRow, Error, EventKind, HostRecord, NewRun, Policy, RunHead,
    StateRow, Store,
};
use tempfile::TempDir;

/// A new database of each kind that is supported, with what keeps it alive.
async fn databases() -> Vec<(TempDir, String, Arc<dyn Store>)> {
    let directory = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}",
        directory.path().join("below/regatta.db").display()
    );
    let store = regatta_store::open(&url).await.unwrap();
    vec![(directory, url, store)]
}

fn id(text: &str) -> RunId {
    text.parse().unwrap()
}

fn new_run(run: &str) -> NewRun {
    NewRun {
        run: id(run),
        name: "name".into(),
        file: "matrix.yaml".into(),
        matrix: "axes: {n: [1]}\n".into(),
        pins: Pins {
            images: [("i".to_owned(), Digest::of(b"i"))].into(),
            ..Pins::default()
        },
        cells: 1000,
        submitted_ms: 5,
        idempotency_key: None,
        body: Digest::of(run.as_bytes()),
    }
}

fn row(run: &str, cell: u64, ordinal: u32, sequence: u64) -> EndedRow {
    EndedRow {
        attempt: AttemptId {
            run: id(run),
            cell,
            ordinal,
        },
        sequence,
        host: "host-1".parse().unwrap(),
        outcome: Outcome::Exited { exit_code: 0 },
        blame: None,
        passed: true,
        settled: sequence,
        failing: 0,
        wall_ms: 1234,
        queue_ms: 56,
        start_us: 789,
        cpu_us: 100_000,
        peak_memory_bytes: 10 << 20,
        identity: Some(Digest::of(&cell.to_le_bytes())),
        cases: Cases::default(),
        detail: String::new(),
        changed: Vec::new(),
        artifacts: Vec::new(),
        log: LogPlace::Empty,
        short_log: Vec::new(),
    }
}

fn head(run: &str, state: RunState, sequence: u64) -> RunHead {
    let progress = Progress {
        cells: 1000,
        settled: 3,
        running: 0,
        failing: 1,
        attempts: 4,
    };
    let summary = RunSummary {
        run: id(run),
        name: "name".into(),
        state,
        submitted_ms: 5,
        ended_ms: state.is_over().then_some(99),
        progress,
    };
    RunHead {
        summary,
        sequence,
        cancelled: false,
        rerun_after: None,
    }
}

fn results(names: usize, failing: &[u32]) -> Results {
    let exceptions = failing.iter().map(|index| CaseException {
        index: *index,
        status: CaseStatus::Failed,
        message: "assert".into(),
    });
    Results {
        names: (0..names)
            .map(|n| format!("tests/test_module.py::test_case_{n:05}"))
            .collect(),
        exceptions: exceptions.collect(),
        found: true,
        problems: Vec::new(),
    }
}

#[tokio::test]
async fn what_was_committed_is_read_back_as_it_was() {
    for (_directory, url, store) in databases().await {
        let mut full = row("a", 7, 2, 4);
        full.outcome = Outcome::Signaled { signal: 11 };
        (full.blame, full.passed) = (Some(Blame::Test), false);
        full.cases = Cases::from(results(3, &[1]));
        full.cases.problems = vec!["junit.xml:1: cut".into()];
        full.detail = "ended by signal 11".into();
        full.changed = vec!["/etc/x".into()];
        full.artifacts = vec![Artifact {
            path: "a b".into(),
            bytes: 3,
        }];
        full.log = LogPlace::Uploaded { bytes: 77 };
        let mut short = row("a", 7, 1, 3);
        short.log = LogPlace::Inline(String::new());
        short.short_log = vec![1, 2, 3];
        let host = HostRecord {
            host: "host-1".parse().unwrap(),
            incarnation: Incarnation(1_700_000_000_000_000_000),
            policy: Policy::Draining,
            reason: "old".into(),
            lost: true,
            facts: HostFacts {
                kernel: "6.1".into(),
                ..HostFacts::default()
            },
            seen_ms: 12,
        };
        let state = StateRow {
            run: id("a"),
            sequence: 1,
            state: RunState::Queued,
            at_ms: 5,
            settled: 0,
            failing: 0,
        };
        let batch = Batch {
            runs: vec![NewRun {
                idempotency_key: Some("key".into()),
                ..new_run("a")
            }],
            hosts: vec![host.clone()],
            attempts: vec![full.clone(), short.clone(), row("a", 3, 1, 2)],
            states: vec![state],
            heads: vec![head("a", RunState::Running, 4)],
        };
        assert_eq!(
            store.commit(&batch).await.unwrap(),
            Committed { doubled: 0 }
        );
        store.close().await;
        drop(store);

        let store = regatta_store::open(&url).await.unwrap();
        assert_eq!(
            store.head(&id("a")).await.unwrap(),
            Some(head("a", RunState::Running, 4))
        );
        let run = store.run(&id("a")).await.unwrap().unwrap();
        assert_eq!(
            (run.matrix, run.file, run.pins),
            (new_run("a").matrix, "matrix.yaml".into(), new_run("a").pins)
        );
        assert_eq!(store.open_runs().await.unwrap().len(), 1);
        assert_eq!(store.hosts().await.unwrap(), [host]);
        assert_eq!(store.submitted("key").await.unwrap().unwrap().run, id("a"));
        assert!(store.submitted("other").await.unwrap().is_none());
        let read = store.attempts(&id("a"), None, 10).await.unwrap();
        assert_eq!(
            read,
            [
                row("a", 3, 1, 2),
                EndedRow {
                    short_log: vec![],
                    ..short.clone()
                },
                full.clone()
            ]
        );
        assert_eq!(
            store.attempts(&id("a"), Some((7, 1)), 10).await.unwrap(),
            [full.clone()]
        );
        assert_eq!(
            store.attempts_of(&id("a"), &[3, 9]).await.unwrap(),
            [row("a", 3, 1, 2)]
        );
        assert_eq!(
            store.attempt(&full.attempt).await.unwrap(),
            Some(full.clone())
        );
        assert_eq!(
            store.short_log(&short.attempt).await.unwrap(),
            Some(vec![1, 2, 3])
        );
        assert_eq!(store.short_log(&full.attempt).await.unwrap(), None);
        assert_eq!(
            store.runs_by_state().await.unwrap(),
            [(RunState::Running, 1)]
        );
        assert!(store.run(&id("b")).await.unwrap().is_none());
        assert_eq!(store.attempts(&id("b"), None, 10).await.unwrap(), []);
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn an_attempt_has_one_outcome_whatever_is_told_later() {
    for (_directory, _, store) in databases().await {
        let first = Batch {
            runs: vec![new_run("a")],
            attempts: vec![row("a", 0, 1, 1), row("a", 1, 1, 2)],
            ..Batch::default()
        };
        store.commit(&first).await.unwrap();
        let mut other = row("a", 0, 1, 3);
        other.outcome = Outcome::HostLost;
        let second = Batch {
            attempts: vec![other, row("a", 0, 2, 4)],
            ..Batch::default()
        };
        assert_eq!(
            store.commit(&second).await.unwrap(),
            Committed { doubled: 1 }
        );
        assert_eq!(
            store.commit(&second).await.unwrap(),
            Committed { doubled: 2 },
            "a batch may be committed again"
        );
        let read = store.attempts(&id("a"), None, 10).await.unwrap();
        assert_eq!(
            read,
            [row("a", 0, 1, 1), row("a", 0, 2, 4), row("a", 1, 1, 2)]
        );
    }
}

#[tokio::test]
async fn a_batch_is_recorded_as_a_whole_or_not_at_all() {
    for (_directory, _, store) in databases().await {
        let run = NewRun {
            idempotency_key: Some("key".into()),
            ..new_run("a")
        };
        let wrong = Batch {
            runs: vec![
                run,
                NewRun {
                    idempotency_key: Some("key".into()),
                    ..new_run("b")
                },
            ],
            attempts: vec![row("a", 0, 1, 1)],
            ..Batch::default()
        };
        assert!(
            matches!(store.commit(&wrong).await, Err(Error::Database { .. })),
            "a key names one run"
        );
        assert!(store.head(&id("a")).await.unwrap().is_none());
        let unknown = Batch {
            attempts: vec![row("never", 0, 1, 1)],
            ..Batch::default()
        };
        assert!(
            store.commit(&unknown).await.is_err(),
            "no attempt without its run"
        );
        let right = Batch {
            runs: vec![new_run("a")],
            attempts: vec![row("a", 0, 1, 1)],
            ..Batch::default()
        };
        assert_eq!(
            store.commit(&right).await.unwrap(),
            Committed { doubled: 0 }
        );
        assert_eq!(store.attempts(&id("a"), None, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_passing_attempt_costs_about_a_hundred_bytes() {
    const ATTEMPTS: u64 = 20_000;
    for (directory, _, store) in databases().await {
        let cases = Cases::from(results(1000, &[]));
        store
            .commit(&Batch {
                runs: vec![new_run("a")],
                ..Batch::default()
            })
            .await
            .unwrap();
        for first in (0..ATTEMPTS).step_by(1000) {
            let attempt = |cell| EndedRow {
                cases: cases.clone(),
                ..row("a", cell, 1, cell + 1)
            };
            let attempts = (first..first + 1000).map(attempt).collect();
            store
                .commit(&Batch {
                    attempts,
                    ..Batch::default()
                })
                .await
                .unwrap();
        }
        store.close().await;
        let file = directory.path().join("below/regatta.db");
        let bytes = file.metadata().unwrap().len();
        println!("{} bytes an attempt", bytes / ATTEMPTS);
        assert!(
            bytes < ATTEMPTS * 150,
            "{} bytes an attempt",
            bytes / ATTEMPTS
        );
    }
}

#[tokio::test]
async fn events_come_in_order_from_any_place_with_where_the_run_stood() {
    for (_directory, _, store) in databases().await {
        let state = |sequence, state| StateRow {
            run: id("a"),
            sequence,
            state,
            at_ms: 1,
            settled: sequence - 1,
            failing: 0,
        };
        let batch = Batch {
            runs: vec![new_run("a"), new_run("b")],
            attempts: vec![row("a", 5, 1, 3), row("a", 2, 1, 4), row("b", 0, 1, 1)],
            states: vec![
                state(1, RunState::Queued),
                state(2, RunState::Running),
                state(5, RunState::Finished),
            ],
            ..Batch::default()
        };
        store.commit(&batch).await.unwrap();
        let all = store.events(&id("a"), 0, 100).await.unwrap();
        assert_eq!(
            all.iter().map(|event| event.sequence).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5]
        );
        assert_eq!(all[1].kind, EventKind::State(RunState::Running));
        assert_eq!(
            all.iter()
                .map(|event| event.progress.attempts)
                .collect::<Vec<_>>(),
            [0, 0, 1, 2, 2]
        );
        assert!(matches!(&all[3].kind, EventKind::Attempt { attempt, .. } if attempt.cell == 2));
        for after in 0..=5 {
            let rest = store.events(&id("a"), after, 100).await.unwrap();
            assert_eq!(
                rest,
                all[usize::try_from(after).unwrap()..],
                "after {after}"
            );
        }
        assert_eq!(store.events(&id("a"), 1, 2).await.unwrap(), all[1..3]);
    }
}

#[tokio::test]
async fn a_newer_schema_and_a_second_server_are_refused_with_a_sentence() {
    for (_directory, url, store) in databases().await {
        let Err(error) = regatta_store::open(&url).await else {
            panic!("two servers on one database")
        };
        assert!(
            error
                .to_string()
                .contains("another server uses the database"),
            "{error}"
        );
        store.close().await;
        drop(store);
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'from the future', 1, x'00', 0)";
        let mut database = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url)
            .await
            .unwrap();
        sqlx::query(newer).execute(&mut database).await.unwrap();
        sqlx::Connection::close(database).await.unwrap();
        let Err(error) = regatta_store::open(&url).await else {
            panic!("a newer schema is taken")
        };
        assert!(matches!(error, Error::Newer { found: 9999, .. }), "{error}");
        assert!(error.to_string().contains("newer Regatta"), "{error}");
    }
    for wrong in ["postgres://localhost/x", "mysql://x", "sqlite://", ""] {
        let Err(error) = regatta_store::open(wrong).await else {
            panic!("{wrong:?} is taken")
        };
        assert!(error.to_string().contains("sqlite://PATH"), "{error}");
    }
}
