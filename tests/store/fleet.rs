//! One database and several servers: who leads, and what a deposed leader can still do: nothing.

use regatta_store::{Batch, Error};

use super::{Database, candidate, id, lead, new_run, row};

#[tokio::test]
async fn one_leads_until_its_lease_ends_and_each_change_has_a_new_epoch() {
    let database = Database::postgres().await;
    let store = &*database.store;
    let first = store.lead(&candidate("a"), 60_000).await.unwrap();
    assert_eq!((first.leader, first.left_ms), (candidate("a"), 60_000));
    let other = store.lead(&candidate("b"), 60_000).await.unwrap();
    assert_eq!((other.leader, other.epoch), (candidate("a"), first.epoch));
    assert!((1..=60_000).contains(&other.left_ms), "{}", other.left_ms);
    let again = store.lead(&candidate("a"), 60_000).await.unwrap();
    assert_eq!(again.epoch, first.epoch, "a renewal is no change");
    // What is not its own it cannot let go of.
    store.resign(&candidate("b")).await.unwrap();
    assert_eq!(lead(store, "a").await, first.epoch);
    store.resign(&candidate("a")).await.unwrap();
    assert_eq!(lead(store, "b").await, first.epoch + 1);
    // A lease that is over is free, whoever had it.
    let short = store.lead(&candidate("b"), 1).await.unwrap();
    assert_eq!(short.epoch, first.epoch + 1);
    database
        .postgres
        .as_ref()
        .unwrap()
        .psql("SELECT pg_sleep(0.01)");
    assert_eq!(lead(store, "c").await, first.epoch + 2);
}

#[tokio::test]
async fn a_start_begins_an_epoch_where_one_server_is_all() {
    let database = Database::sqlite().await;
    let first = lead(&*database.store, "a").await;
    let url = database.url.clone();
    database.store.close().await;
    let Database {
        store, directory, ..
    } = database;
    drop(store);
    let store = regatta_store::open(&url).await.unwrap();
    assert_eq!(lead(&*store, "b").await, first + 1);
    drop(directory);
}

#[tokio::test]
async fn the_database_refuses_what_a_deposed_leader_writes() {
    let database = Database::postgres().await;
    let old = lead(&*database.store, "old").await;
    let batch = Batch {
        epoch: old,
        runs: vec![new_run("a")],
        attempts: vec![row("a", 0, 1, 1)],
        ..Batch::default()
    };
    database.store.commit(&batch).await.unwrap();
    database.store.resign(&candidate("old")).await.unwrap();
    // Nobody took over: what it decided is still right.
    let more = Batch {
        epoch: old,
        attempts: vec![row("a", 1, 1, 2)],
        ..Batch::default()
    };
    database.store.commit(&more).await.unwrap();
    let new = lead(&*database.store, "new").await;
    let late = Batch {
        epoch: old,
        attempts: vec![row("a", 2, 1, 3)],
        ..Batch::default()
    };
    let refused = database.store.commit(&late).await.unwrap_err();
    assert!(matches!(refused, Error::Deposed(_)), "{refused}");
    assert!(!refused.is_passing());
    let early = Batch {
        epoch: new + 1,
        ..late.clone()
    };
    assert!(matches!(
        database.store.commit(&early).await,
        Err(Error::Deposed(_))
    ));
    let attempts = database.store.attempts(&id("a"), None, 10).await.unwrap();
    assert_eq!(attempts, [row("a", 0, 1, 1), row("a", 1, 1, 2)]);
}

#[tokio::test]
async fn a_leader_that_stands_still_in_a_transaction_keeps_nobody_from_leading() {
    let database = Database::postgres().await;
    let epoch = lead(&*database.store, "still").await;
    let url = format!(
        "{}?options[idle_in_transaction_session_timeout]=500",
        database.url
    );
    let mut still = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
        .await
        .unwrap();
    let mut transaction = sqlx::Connection::begin(&mut still).await.unwrap();
    sqlx::query("SELECT fence($1)")
        .bind(i64::try_from(epoch).unwrap())
        .execute(&mut *transaction)
        .await
        .unwrap();
    database.store.resign(&candidate("still")).await.unwrap();
    assert_eq!(lead(&*database.store, "other").await, epoch + 1);
    assert!(transaction.commit().await.is_err(), "it was given up");
}

#[tokio::test]
async fn a_batch_that_may_have_been_committed_is_committed_again_to_the_same() {
    for database in super::databases().await {
        let batch = Batch {
            runs: vec![new_run("a")],
            attempts: vec![row("a", 0, 1, 1)],
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        database.commit(&batch).await.unwrap();
        let attempts = database.store.attempts(&id("a"), None, 10).await.unwrap();
        assert_eq!(attempts, [row("a", 0, 1, 1)]);
    }
}

#[tokio::test]
async fn the_database_is_killed_and_comes_back() {
    let mut database = Database::postgres().await;
    let batch = |cell, sequence| Batch {
        attempts: vec![row("a", cell, 1, sequence)],
        ..Batch::default()
    };
    let first = Batch {
        runs: vec![new_run("a")],
        ..batch(0, 1)
    };
    let epoch = lead(&*database.store, "one").await;
    database.commit(&first).await.unwrap();
    database.postgres.as_mut().unwrap().kill();
    let again = Batch {
        epoch,
        ..batch(1, 2)
    };
    let error = database.store.commit(&again).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    let error = database.store.head(&id("a")).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    database.postgres.as_mut().unwrap().start_again();
    assert_eq!(lead(&*database.store, "one").await, epoch);
    database.store.commit(&again).await.unwrap();
    let attempts = database.store.attempts(&id("a"), None, 10).await.unwrap();
    assert_eq!(attempts, [row("a", 0, 1, 1), row("a", 1, 1, 2)]);
}

#[tokio::test]
async fn what_was_committed_is_on_the_replica_that_takes_over() {
    let mut database = Database::postgres().await;
    let postgres = database.postgres.as_mut().unwrap();
    let mut replica = postgres.replica();
    let port = postgres.port();
    let epoch = lead(&*database.store, "one").await;
    let batch = Batch {
        epoch,
        runs: vec![new_run("a")],
        attempts: (0..1000).map(|cell| row("a", cell, 1, cell + 1)).collect(),
        ..Batch::default()
    };
    database.store.commit(&batch).await.unwrap();
    database.postgres.as_mut().unwrap().kill();
    replica.promote_at(port);
    assert_eq!(lead(&*database.store, "one").await, epoch);
    let attempts = database.store.attempts(&id("a"), None, 1000).await.unwrap();
    assert_eq!(attempts.len(), 1000);
    let more = Batch {
        epoch,
        attempts: vec![row("a", 1000, 1, 1001)],
        ..Batch::default()
    };
    database.store.commit(&more).await.unwrap();
}
