//! Runs that are over go, and nothing else does.

use regatta_model::run::RunState;
use regatta_model::wire::LogPlace;
use regatta_store::{Batch, BisectionRow, EndedRow, NewRun, RunHead, StateRow, Store};

use super::{Database, databases, head, id, lead, new_run, row};

fn over(run: &str, ended_ms: u64) -> RunHead {
    let mut head = head(run, RunState::Finished, 2);
    head.summary.ended_ms = Some(ended_ms);
    head
}

/// Runs `a` and `b` that are over, and `c` that is not, each with attempts, a log, and a state.
async fn filled(database: &Database, attempts: u64) {
    let with_log = |run: &str, cell| EndedRow {
        log: LogPlace::Inline(String::new()),
        short_log: vec![1],
        ..row(run, cell, 1, cell + 2)
    };
    let runs = ["a", "b", "c"];
    let batch = Batch {
        runs: runs
            .iter()
            .map(|run| NewRun {
                idempotency_key: Some(format!("key-{run}")),
                ..new_run(run)
            })
            .collect(),
        attempts: runs
            .iter()
            .flat_map(|run| (0..attempts).map(|cell| with_log(run, cell)))
            .collect(),
        states: runs
            .iter()
            .map(|run| StateRow {
                run: id(run),
                sequence: 1,
                state: RunState::Queued,
                at_ms: 1,
                settled: 0,
                failing: 0,
            })
            .collect(),
        heads: vec![
            over("a", 100),
            over("b", 200),
            head("c", RunState::Running, 2),
        ],
        ..Batch::default()
    };
    database.commit(&batch).await.unwrap();
}

async fn sweep(store: &dyn Store, run: &str) -> u32 {
    let epoch = lead(store, "one").await;
    for round in 1..100 {
        if store.sweep(epoch, &id(run)).await.unwrap() {
            return round;
        }
    }
    panic!("{run} is never gone");
}

fn pruned(runs: &[&str]) -> Batch {
    Batch {
        pruned: runs.iter().map(|run| id(run)).collect(),
        ..Batch::default()
    }
}

#[tokio::test]
async fn a_pruned_run_is_seen_no_more_and_goes_bit_by_bit() {
    for database in databases().await {
        filled(&database, 6_000).await;
        let store = &*database.store;
        let old = store.over_before(150, 10).await.unwrap();
        assert_eq!(old, [over("a", 100)]);
        let old = store.over_before(u64::MAX, 10).await.unwrap();
        assert_eq!(old.len(), 2, "what is not over is not old");
        let before = store.bytes().await.unwrap();
        database
            .commit(&pruned(&["a", "c", "nobody"]))
            .await
            .unwrap();
        assert!(store.head(&id("a")).await.unwrap().is_none());
        assert!(store.run(&id("a")).await.unwrap().is_none());
        assert_eq!(store.attempts(&id("a"), None, 10).await.unwrap(), []);
        assert_eq!(store.events(&id("a"), 0, 10).await.unwrap(), []);
        assert_eq!(store.heads(None, 10).await.unwrap().len(), 2);
        assert_eq!(store.over_before(u64::MAX, 10).await.unwrap().len(), 1);
        assert!(
            store.head(&id("c")).await.unwrap().is_some(),
            "it is not over"
        );
        assert!(store.submitted("key-a").await.unwrap().is_none());
        assert_eq!(store.pruned(10).await.unwrap(), [id("a")]);
        assert_eq!(
            sweep(store, "a").await,
            3,
            "6,000 logs and 6,000 attempts by 5,000"
        );
        assert_eq!(store.pruned(10).await.unwrap(), []);
        assert_eq!(sweep(store, "a").await, 1, "what is gone is gone");
        if database.postgres.is_none() {
            let after = store.bytes().await.unwrap();
            assert!(after * 5 < before * 4, "{after} of {before} bytes");
        }
        for run in ["b", "c"] {
            assert_eq!(store.attempts(&id(run), None, 10).await.unwrap().len(), 10);
            assert!(
                store
                    .short_log(&row(run, 7, 1, 1).attempt)
                    .await
                    .unwrap()
                    .is_some()
            );
            assert_eq!(sweep(store, run).await, 1, "what is not pruned stays");
            assert_eq!(store.attempts(&id(run), None, 10).await.unwrap().len(), 10);
        }
        // The key of a pruned run is free again, and so is its id.
        let again = NewRun {
            idempotency_key: Some("key-a".into()),
            ..new_run("a")
        };
        let batch = Batch {
            runs: vec![again],
            attempts: vec![row("a", 0, 1, 2)],
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        assert_eq!(store.attempts(&id("a"), None, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_partition_of_pruned_runs_is_dropped_as_a_whole() {
    let database = Database::postgres().await;
    filled(&database, 6_000).await;
    let store = &*database.store;
    let postgres = database.postgres.as_ref().unwrap();
    let partitions =
        || postgres.psql("SELECT count(*) FROM pg_class WHERE relname ~ '^attempts_[0-9]+$'");
    database.commit(&pruned(&["a", "b"])).await.unwrap();
    assert_eq!(sweep(store, "a").await, 3, "c is in the same partition");
    let over = Batch {
        heads: vec![over("c", 300)],
        ..Batch::default()
    };
    database.commit(&over).await.unwrap();
    database.commit(&pruned(&["c"])).await.unwrap();
    // As if a thousand runs had come since.
    postgres.psql("ALTER TABLE runs ALTER COLUMN key RESTART WITH 5000");
    let later = Batch {
        runs: vec![new_run("later")],
        attempts: vec![row("later", 0, 1, 1)],
        ..Batch::default()
    };
    database.commit(&later).await.unwrap();
    assert_eq!(partitions(), "2");
    assert_eq!(
        sweep(store, "c").await,
        1,
        "at once, however many rows there were"
    );
    assert_eq!(partitions(), "1");
    assert_eq!(sweep(store, "b").await, 1);
    assert_eq!(
        store.attempts(&id("later"), None, 10).await.unwrap().len(),
        1
    );
    assert_eq!(postgres.psql("SELECT count(*) FROM runs"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_runs_are_the_newest_finished_ones_of_the_same_name() {
    for database in databases().await {
        let runs = ["a", "b", "other", "open", "cancelled", "c", "now", "later"];
        let state = |run: &str| match run {
            "open" | "now" => RunState::Running,
            "cancelled" => RunState::Cancelled,
            _ => RunState::Finished,
        };
        let named = |run: &&str| NewRun {
            name: if *run == "other" { "other" } else { "name" }.into(),
            ..new_run(run)
        };
        let batch = Batch {
            runs: runs.iter().map(named).collect(),
            heads: runs.iter().map(|run| head(run, state(run), 1)).collect(),
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        let found = async |limit| {
            let found = database
                .store
                .finished_before("name", &id("now"), limit)
                .await;
            let ids = found.unwrap().into_iter();
            ids.map(|record| record.head.summary.run.to_string())
                .collect::<Vec<_>>()
        };
        let newest = async |limit| {
            let heads = database.store.finished("name", limit).await.unwrap();
            let ids = heads.into_iter().map(|head| head.summary.run.to_string());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(found(2).await, ["c", "b"]);
        assert_eq!(newest(2).await, ["later", "c"]);
        database.commit(&pruned(&["b"])).await.unwrap();
        assert_eq!(found(9).await, ["c", "a"]);
        assert_eq!(newest(9).await, ["later", "c", "a"]);
    }
}

/// What the primary key of the first partition takes for an attempt, and how full its pages are left.
fn key_of_attempts(database: &Database) -> (u64, String) {
    let postgres = database.postgres.as_ref().unwrap();
    let bytes = "SELECT pg_relation_size('attempts_0_pkey') / count(*) FROM attempts_0";
    let full = "SELECT reloptions[1] FROM pg_class WHERE relname = 'attempts_0_pkey'";
    (postgres.psql(bytes).parse().unwrap(), postgres.psql(full))
}

#[tokio::test]
async fn what_runs_left_is_packed_once_they_are_over() {
    const CELLS: u64 = 20_000;
    let database = Database::postgres().await;
    let store = &*database.store;
    database
        .commit(&Batch {
            runs: vec![new_run("a")],
            ..Batch::default()
        })
        .await
        .unwrap();
    // Cells end nearly in order: each commit has every fourth of a stretch, and later ones what is between.
    for (round, stretch) in (0..CELLS)
        .step_by(4000)
        .flat_map(|at| (0..4).map(move |of| (of, at)))
    {
        let attempts = (stretch + round..stretch + 4000).step_by(4);
        let attempts = attempts.map(|cell| row("a", cell, 1, cell + 2)).collect();
        let batch = Batch {
            attempts,
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
    }
    let stand = |state| {
        let mut head = head("a", state, CELLS + 2);
        head.summary.progress.attempts = CELLS;
        Batch {
            heads: vec![head],
            ..Batch::default()
        }
    };
    database.commit(&stand(RunState::Running)).await.unwrap();
    let (loose, full) = key_of_attempts(&database);
    assert!(loose > 35, "{loose} bytes an attempt");
    assert!(!store.pack().await.unwrap(), "the run goes on");

    database.commit(&stand(RunState::Finished)).await.unwrap();
    // One that was cut short left an index that nobody uses, and does not keep the next one from its work.
    let postgres = database.postgres.as_ref().unwrap();
    postgres.psql("CREATE INDEX attempts_0_pkey_ccnew ON attempts_0 (cell)");
    assert!(store.pack().await.unwrap());
    let (packed, after) = key_of_attempts(&database);
    assert!(packed < 30, "{packed} bytes an attempt, {loose} before");
    assert_eq!(after, full, "later runs find room as before");
    assert!(!store.pack().await.unwrap(), "there is nothing left to do");
    let indexes =
        postgres.psql("SELECT count(*) FROM pg_index WHERE indrelid = 'attempts_0'::regclass");
    assert_eq!(indexes, "2");

    // It is still what keeps an attempt from being recorded twice.
    let again = Batch {
        attempts: vec![row("a", 7, 1, CELLS + 3), row("a", 7, 2, CELLS + 4)],
        ..Batch::default()
    };
    assert_eq!(database.commit(&again).await.unwrap().doubled, 1);
    let found = store.attempts_of(&id("a"), &[7]).await.unwrap();
    assert_eq!(found.len(), 2);
    let sqlite = Database::sqlite().await;
    assert!(!sqlite.store.pack().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_runs_are_searched_until_it_is_said_what_came_of_it() {
    for database in databases().await {
        let states = [
            ("a", RunState::Finished),
            ("open", RunState::Running),
            ("cancelled", RunState::Cancelled),
            ("gone", RunState::Finished),
            ("b", RunState::Finished),
        ];
        let batch = Batch {
            runs: states.iter().map(|(run, _)| new_run(run)).collect(),
            heads: states
                .iter()
                .map(|(run, state)| head(run, *state, 1))
                .collect(),
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        database.commit(&pruned(&["gone"])).await.unwrap();
        let bisecting = async |limit| database.store.bisecting(limit).await.unwrap();
        assert_eq!(bisecting(9).await, [id("a"), id("b")]);
        assert_eq!(bisecting(1).await, [id("a")]);
        let say = async |searching, said: &str| {
            let row = BisectionRow {
                run: id("a"),
                searching,
                said: said.into(),
            };
            let batch = Batch {
                bisections: vec![row],
                ..Batch::default()
            };
            database.commit(&batch).await.unwrap();
            database.store.bisection(&id("a")).await.unwrap()
        };
        assert_eq!(say(true, "[1]").await.as_deref(), Some("[1]"));
        assert_eq!(bisecting(9).await, [id("a"), id("b")]);
        assert_eq!(say(false, "[2]").await.as_deref(), Some("[2]"));
        assert_eq!(bisecting(9).await, [id("b")]);
        let store = &database.store;
        assert_eq!(store.bisection(&id("b")).await.unwrap(), None);
    }
}
