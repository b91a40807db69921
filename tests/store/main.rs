//! What lasts: the same stories over every database that is supported.

use std::sync::Arc;

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::metric::{Better, Metric};
use regatta_model::run::{Pins, Progress, RunState, RunSummary};
use regatta_model::wire::{Artifact, HostFacts, LogPlace};
use regatta_model::{AttemptId, Blame, Digest, Incarnation, Outcome, RunId};
use regatta_store::{
    Batch, BisectionRow, Candidate, Cases, Committed, Distrusted, EarlierRow, EndedRow, Error,
    EventKind, HostRecord, NewRun, Policy, RunHead, StateRow, Store,
};
use regatta_tests::postgres::Postgres;
use tempfile::TempDir;

mod durations;
mod fleet;
mod retention;

/// A new database, and what keeps it alive.
struct Database {
    url: String,
    store: Arc<dyn Store>,
    /// Where it is, if it is PostgreSQL.
    postgres: Option<Postgres>,
    directory: TempDir,
}

impl Database {
    async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!(
            "sqlite://{}",
            directory.path().join("below/regatta.db").display()
        );
        Self {
            store: regatta_store::open(&url).await.unwrap(),
            url,
            postgres: None,
            directory,
        }
    }

    async fn postgres() -> Self {
        let postgres = Postgres::start();
        Self {
            store: regatta_store::open(&postgres.url()).await.unwrap(),
            url: postgres.url(),
            postgres: Some(postgres),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// How much its attempts take, all told.
    async fn bytes(&self) -> u64 {
        if let Some(postgres) = &self.postgres {
            let tables = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname ~ '^(attempts|logs)_[0-9]+$'";
            return postgres.psql(tables).parse().unwrap();
        }
        self.store.close().await;
        let file = self.directory.path().join("below/regatta.db");
        file.metadata().unwrap().len()
    }

    /// Commits as the leader.
    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        let epoch = lead(&*self.store, "one").await;
        let batch = Batch {
            epoch,
            ..batch.clone()
        };
        self.store.commit(&batch).await
    }
}

/// One of each kind that is supported.
async fn databases() -> Vec<Database> {
    vec![Database::sqlite().await, Database::postgres().await]
}

fn candidate(id: &str) -> Candidate {
    Candidate {
        id: id.into(),
        address: format!("http://{id}:7470"),
    }
}

/// Makes this one the leader, for long; tells the epoch.
async fn lead(store: &dyn Store, id: &str) -> u64 {
    let led = store.lead(&candidate(id), 60_000).await.unwrap();
    assert_eq!(led.leader, candidate(id));
    led.epoch
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
        metrics: std::collections::BTreeMap::new(),
        identity: Some(Digest::of(&cell.to_le_bytes())),
        cases: Cases::default(),
        detail: String::new(),
        changed: Vec::new(),
        artifacts: Vec::new(),
        files: None,
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
        deep: state.is_over(),
        bisecting: state.is_over(),
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
        durations: Vec::new(),
    }
}

#[tokio::test]
async fn what_was_committed_is_read_back_as_it_was() {
    for database in databases().await {
        let mut full = row("a", 7, 2, 4);
        full.outcome = Outcome::Signaled { signal: 11 };
        (full.blame, full.passed) = (Some(Blame::Test), false);
        full.cases = Cases::from(results(3, &[1]));
        full.cases.problems = vec!["junit.xml:1: cut".into()];
        full.detail = "ended by signal 11".into();
        let build = Metric {
            value: 12.25,
            unit: "s".into(),
            better: Some(Better::Lower),
        };
        full.metrics = [("build".into(), build), ("n".into(), Metric::plain(-0.5))].into();
        full.changed = vec!["/etc/x".into()];
        full.artifacts = vec![Artifact {
            path: "a b".into(),
            bytes: 3,
        }];
        full.log = LogPlace::Uploaded { bytes: 77 };
        full.files = Some(u64::MAX >> 1);
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
            trust: r#"{"charged":2}"#.into(),
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
        let said = EarlierRow {
            run: id("a"),
            cell: 3,
            said: r#"{"told":7}"#.into(),
        };
        let batch = Batch {
            epoch: 0,
            runs: vec![NewRun {
                idempotency_key: Some("key".into()),
                ..new_run("a")
            }],
            hosts: vec![host.clone()],
            distrusted: Vec::new(),
            pruned: Vec::new(),
            durations: Vec::new(),
            earlier: vec![said.clone()],
            attempts: vec![full.clone(), short.clone(), row("a", 3, 1, 2)],
            states: vec![state],
            heads: vec![head("a", RunState::Running, 4)],
            bisections: vec![BisectionRow {
                run: id("a"),
                searching: false,
                said: "[7]".into(),
            }],
        };
        assert_eq!(
            database.commit(&batch).await.unwrap(),
            Committed { doubled: 0 }
        );
        let Database {
            url,
            store,
            postgres,
            directory,
        } = database;
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
        assert_eq!(store.earlier(&id("a")).await.unwrap(), [said]);
        let searched = store.bisection(&id("a")).await.unwrap();
        assert_eq!(searched.as_deref(), Some("[7]"));
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
        drop((postgres, directory));
    }
}

#[tokio::test]
async fn an_attempt_has_one_outcome_whatever_is_told_later() {
    for database in databases().await {
        let store = database.store.clone();
        let first = Batch {
            runs: vec![new_run("a")],
            attempts: vec![row("a", 0, 1, 1), row("a", 1, 1, 2)],
            ..Batch::default()
        };
        database.commit(&first).await.unwrap();
        let mut other = row("a", 0, 1, 3);
        other.outcome = Outcome::HostLost;
        let second = Batch {
            attempts: vec![other, row("a", 0, 2, 4)],
            ..Batch::default()
        };
        assert_eq!(
            database.commit(&second).await.unwrap(),
            Committed { doubled: 1 }
        );
        assert_eq!(
            database.commit(&second).await.unwrap(),
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
async fn a_host_that_is_not_trusted_is_blamed_for_what_it_ended_of_one_run() {
    for database in databases().await {
        let of = |run: &str, cell, sequence, host: &str, blame| EndedRow {
            host: host.parse().unwrap(),
            blame,
            ..row(run, cell, 1, sequence)
        };
        let lost = EndedRow {
            outcome: Outcome::HostLost,
            ..of("a", 4, 5, "bad", Some(Blame::Host))
        };
        let batch = Batch {
            runs: vec![new_run("a"), new_run("b")],
            attempts: vec![
                of("a", 0, 1, "bad", None),
                of("a", 1, 2, "bad", Some(Blame::Test)),
                of("a", 2, 3, "good", Some(Blame::Test)),
                of("a", 3, 4, "bad", Some(Blame::Platform)),
                lost,
                of("b", 0, 1, "bad", None),
            ],
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        let bad = "bad".parse().unwrap();
        let cells = database.store.cells_of(&id("a"), &bad).await.unwrap();
        assert_eq!(cells, [0, 1]);
        let distrusted = vec![Distrusted {
            run: id("a"),
            host: bad.clone(),
        }];
        let batch = Batch {
            distrusted,
            attempts: vec![of("a", 5, 6, "bad", None)],
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        let blames = async |run| {
            let rows = database.store.attempts(&id(run), None, 10).await.unwrap();
            rows.iter().map(|row| row.blame).collect::<Vec<_>>()
        };
        let (host, test, platform) = (Blame::Host, Blame::Test, Blame::Platform);
        let wanted = [host, host, test, platform, host].map(Some);
        assert_eq!(blames("a").await[..5], wanted);
        assert_eq!(
            blames("a").await[5],
            None,
            "what this batch itself says stands"
        );
        assert_eq!(blames("b").await, [None]);
        let cells = database.store.cells_of(&id("a"), &bad).await.unwrap();
        assert_eq!(cells, [5]);
    }
}

#[tokio::test]
async fn a_batch_is_recorded_as_a_whole_or_not_at_all() {
    for database in databases().await {
        let store = database.store.clone();
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
            matches!(database.commit(&wrong).await, Err(Error::Database { .. })),
            "a key names one run"
        );
        assert!(store.head(&id("a")).await.unwrap().is_none());
        let unknown = Batch {
            attempts: vec![row("never", 0, 1, 1)],
            ..Batch::default()
        };
        assert!(
            database.commit(&unknown).await.is_err(),
            "no attempt without its run"
        );
        let right = Batch {
            runs: vec![new_run("a")],
            attempts: vec![row("a", 0, 1, 1)],
            ..Batch::default()
        };
        assert_eq!(
            database.commit(&right).await.unwrap(),
            Committed { doubled: 0 }
        );
        assert_eq!(store.attempts(&id("a"), None, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_passing_attempt_costs_about_a_hundred_bytes() {
    const ATTEMPTS: u64 = 20_000;
    for database in databases().await {
        let cases = Cases::from(results(1000, &[]));
        database
            .commit(&Batch {
                runs: vec![new_run("a")],
                ..Batch::default()
            })
            .await
            .unwrap();
        // Four at once of each host, and hosts somewhat in disorder.
        let mut order: Vec<u64> = (0..ATTEMPTS).collect();
        order.sort_by_key(|cell| {
            let noise = Digest::of(&(cell / 4).to_le_bytes());
            let late = noise.as_bytes().iter().take(4).map(|byte| u64::from(*byte));
            cell / 4 * 4 + late.sum::<u64>()
        });
        let order: Vec<(u64, u64)> = (1..).zip(order).collect();
        for some in order.chunks(500) {
            let attempt = |(sequence, cell): &(u64, u64)| EndedRow {
                cases: cases.clone(),
                ..row("a", *cell, 1, *sequence)
            };
            let attempts = some.iter().map(attempt).collect();
            database
                .commit(&Batch {
                    attempts,
                    ..Batch::default()
                })
                .await
                .unwrap();
        }
        let bytes = database.bytes().await;
        println!("{} bytes an attempt", bytes / ATTEMPTS);
        let most = if database.postgres.is_some() {
            195
        } else {
            150
        };
        assert!(
            bytes < ATTEMPTS * most,
            "{} bytes an attempt",
            bytes / ATTEMPTS
        );
    }
}

#[tokio::test]
async fn events_come_in_order_from_any_place_with_where_the_run_stood() {
    for database in databases().await {
        let store = database.store.clone();
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
        database.commit(&batch).await.unwrap();
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

const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'from the future', true, '', 0)";

#[tokio::test]
async fn a_newer_schema_is_refused_with_a_sentence() {
    for database in databases().await {
        database.store.close().await;
        if let Some(postgres) = &database.postgres {
            postgres.psql(NEWER);
        } else {
            let mut connection =
                <sqlx::SqliteConnection as sqlx::Connection>::connect(&database.url)
                    .await
                    .unwrap();
            sqlx::query(NEWER).execute(&mut connection).await.unwrap();
            sqlx::Connection::close(connection).await.unwrap();
        }
        let Database {
            url,
            store,
            postgres,
            directory,
        } = database;
        drop(store);
        let Err(error) = regatta_store::open(&url).await else {
            panic!("a newer schema is taken")
        };
        drop((postgres, directory));
        assert!(matches!(error, Error::Newer { found: 9999, .. }), "{error}");
        assert!(error.to_string().contains("newer Regatta"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused_with_a_sentence() {
    let database = Database::sqlite().await;
    let Err(error) = regatta_store::open(&database.url).await else {
        panic!("two servers on one file")
    };
    assert!(
        error
            .to_string()
            .contains("another server uses the database"),
        "{error}"
    );
    for wrong in ["mysql://x", "sqlite://", ""] {
        let Err(error) = regatta_store::open(wrong).await else {
            panic!("{wrong:?} is taken")
        };
        assert!(error.to_string().contains("sqlite://PATH"), "{error}");
    }
    let port = regatta_tests::process::free_port();
    let nobody = format!("postgres://me:secret@127.0.0.1:{port}/x");
    let Err(error) = regatta_store::open(&nobody).await else {
        panic!("nobody is taken")
    };
    let shown = format!("postgres://127.0.0.1:{port}/x cannot be reached");
    assert!(error.to_string().contains(&shown), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}
