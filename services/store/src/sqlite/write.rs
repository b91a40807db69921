//! Writing a batch, in one transaction. May not: read what it does not need for that.

use std::collections::HashMap;
use std::hash::Hash;

use regatta_model::wire::LogPlace;
use regatta_model::{Digest, RunId};
use sqlx::{Connection as _, QueryBuilder, Sqlite as Database, SqliteConnection};

use super::{Keys, Sqlite, durations};
use crate::codes::{BISECTION, DISTRUST, EARLIER, PRUNE};
use crate::codes::{of_blame, of_outcome, of_policy, of_state, to_sql};
use crate::rows::{rest, to_json};
use crate::{
    Batch, CaseSet, Committed, Distrusted, EarlierRow, EndedRow, Error, HostRecord, KEYS_MOST,
    NewRun, RunHead, StateRow,
};

/// Rows of one INSERT; SQLite takes 32,766 values in one statement, and a row has 20.
const ROWS_MOST: usize = 500;

/// Makes room where a map of remembered keys grew too long.
fn bound<K: Eq + Hash>(map: &mut HashMap<K, i64>) {
    if map.len() > KEYS_MOST {
        map.clear();
    }
}

impl Sqlite {
    pub(super) async fn write(&self, batch: &Batch) -> Result<Committed, Error> {
        let mut remembered = self.keys.lock().await;
        // What a transaction that fails learnt must not be remembered, so it learns into a copy's additions.
        let mut keys = Learnt {
            known: &remembered,
            new: Keys::default(),
        };
        let mut connection = self
            .writer
            .acquire()
            .await
            .map_err(Error::while_doing("be reached"))?;
        let committed = transact(&mut connection, &mut keys, batch).await;
        if committed.is_err() {
            // A COMMIT that fails (a full disk) leaves its transaction open: the next try gets a new connection.
            connection.close_on_drop();
        }
        let committed = committed?;
        let new = keys.new;
        remembered.hosts.extend(new.hosts);
        remembered.sets.extend(new.sets);
        remembered.runs.extend(new.runs);
        bound(&mut remembered.hosts);
        bound(&mut remembered.sets);
        bound(&mut remembered.runs);
        Ok(committed)
    }
}

async fn transact(
    connection: &mut SqliteConnection,
    keys: &mut Learnt<'_>,
    batch: &Batch,
) -> Result<Committed, Error> {
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(Error::while_doing("begin a transaction"))?;
    for run in &batch.runs {
        insert_run(&mut transaction, run).await?;
    }
    for host in &batch.hosts {
        upsert_host(&mut transaction, host).await?;
    }
    for distrusted in &batch.distrusted {
        distrust(&mut transaction, keys, distrusted).await?;
    }
    for earlier in &batch.earlier {
        insert_earlier(&mut transaction, keys, earlier).await?;
    }
    for durations in &batch.durations {
        let run = keys.run(&mut transaction, &durations.run).await?;
        let set = keys.set(&mut transaction, &durations.set).await?;
        durations::insert(&mut transaction, durations, run, set).await?;
    }
    let mut doubled = 0;
    for rows in batch.attempts.chunks(ROWS_MOST) {
        let inserted = insert_attempts(&mut transaction, keys, rows).await?;
        let told = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        doubled += told.saturating_sub(inserted);
    }
    for state in &batch.states {
        insert_state(&mut transaction, keys, state).await?;
    }
    for run in &batch.pruned {
        sqlx::query(PRUNE)
            .bind(run.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(Error::while_doing("prune a run"))?;
    }
    for head in &batch.heads {
        update_head(&mut transaction, head).await?;
    }
    for row in &batch.bisections {
        sqlx::query(BISECTION)
            .bind(&row.said)
            .bind(i64::from(row.searching))
            .bind(row.run.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(Error::while_doing("record what a search came to"))?;
    }
    transaction
        .commit()
        .await
        .map_err(Error::while_doing("commit a transaction"))?;
    Ok(Committed { doubled })
}

/// Keys that are known, and those that this transaction found or made.
struct Learnt<'a> {
    known: &'a Keys,
    new: Keys,
}

impl Learnt<'_> {
    async fn run(&mut self, db: &mut SqliteConnection, run: &RunId) -> Result<i64, Error> {
        if let Some(key) = self.known.runs.get(run).or_else(|| self.new.runs.get(run)) {
            return Ok(*key);
        }
        let key: i64 = sqlx::query_scalar("SELECT key FROM runs WHERE id = ?")
            .bind(run.as_str())
            .fetch_one(db)
            .await
            .map_err(Error::while_doing("find a run"))?;
        self.new.runs.insert(run.clone(), key);
        Ok(key)
    }

    async fn host(
        &mut self,
        db: &mut SqliteConnection,
        host: &regatta_model::HostName,
    ) -> Result<i64, Error> {
        if let Some(key) = self
            .known
            .hosts
            .get(host)
            .or_else(|| self.new.hosts.get(host))
        {
            return Ok(*key);
        }
        let doing = "record a host's name";
        sqlx::query("INSERT INTO hosts (name) VALUES (?) ON CONFLICT (name) DO NOTHING")
            .bind(host.as_str())
            .execute(&mut *db)
            .await
            .map_err(Error::while_doing(doing))?;
        let key: i64 = sqlx::query_scalar("SELECT key FROM hosts WHERE name = ?")
            .bind(host.as_str())
            .fetch_one(db)
            .await
            .map_err(Error::while_doing(doing))?;
        self.new.hosts.insert(host.clone(), key);
        Ok(key)
    }

    async fn set(&mut self, db: &mut SqliteConnection, set: &CaseSet) -> Result<i64, Error> {
        let digest: &Digest = &set.digest;
        if let Some(key) = self
            .known
            .sets
            .get(digest)
            .or_else(|| self.new.sets.get(digest))
        {
            return Ok(*key);
        }
        let doing = "record a set of cases";
        sqlx::query(
            "INSERT INTO case_sets (digest, names) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.as_bytes().to_vec())
        .bind(to_json(&set.names)?)
        .execute(&mut *db)
        .await
        .map_err(Error::while_doing(doing))?;
        let key: i64 = sqlx::query_scalar("SELECT key FROM case_sets WHERE digest = ?")
            .bind(digest.as_bytes().to_vec())
            .fetch_one(db)
            .await
            .map_err(Error::while_doing(doing))?;
        self.new.sets.insert(*digest, key);
        Ok(key)
    }
}

async fn insert_run(db: &mut SqliteConnection, run: &NewRun) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO runs (id, name, file, matrix, pins, cells, submitted_ms, idempotency_key, body, state) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO NOTHING",
    )
    .bind(run.run.as_str())
    .bind(&run.name)
    .bind(&run.file)
    .bind(&run.matrix)
    .bind(to_json(&run.pins)?)
    .bind(to_sql(run.cells))
    .bind(to_sql(run.submitted_ms))
    .bind(&run.idempotency_key)
    .bind(run.body.as_bytes().to_vec())
    .execute(db)
    .await
    .map_err(Error::while_doing("record a run"))?;
    Ok(())
}

async fn upsert_host(db: &mut SqliteConnection, host: &HostRecord) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO hosts (name, incarnation, policy, reason, lost, facts, trust, seen_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, policy = excluded.policy, \
         reason = excluded.reason, lost = excluded.lost, facts = excluded.facts, trust = excluded.trust, seen_ms = excluded.seen_ms",
    )
    .bind(host.host.as_str())
    .bind(to_sql(host.incarnation.0))
    .bind(of_policy(host.policy))
    .bind(&host.reason)
    .bind(i64::from(host.lost))
    .bind(to_json(&host.facts)?)
    .bind(&host.trust)
    .bind(to_sql(host.seen_ms))
    .execute(db)
    .await
    .map_err(Error::while_doing("record a host"))?;
    Ok(())
}

/// Writes rows of ended attempts; tells how many were not there before.
async fn insert_attempts(
    db: &mut SqliteConnection,
    keys: &mut Learnt<'_>,
    rows: &[EndedRow],
) -> Result<u64, Error> {
    let mut ready = Vec::with_capacity(rows.len());
    for row in rows {
        let run = keys.run(&mut *db, &row.attempt.run).await?;
        let host = keys.host(&mut *db, &row.host).await?;
        let set = match &row.cases.set {
            Some(set) => Some(keys.set(&mut *db, set).await?),
            None => None,
        };
        ready.push((row, run, host, set, rest(row)?));
    }
    let mut query = QueryBuilder::<Database>::new(
        "INSERT INTO attempts (run, cell, ordinal, sequence, host, outcome, code, blame, passed, settled, failing, \
         wall_ms, queue_ms, start_us, cpu_us, peak_memory_bytes, identity, case_set, log_bytes, rest) ",
    );
    query.push_values(ready, |mut values, (row, run, host, set, rest)| {
        let (outcome, code) = of_outcome(row.outcome);
        let log = match &row.log {
            LogPlace::Empty => None,
            LogPlace::Inline(_) => Some(0),
            LogPlace::Uploaded { bytes } => Some(to_sql(*bytes).max(1)),
        };
        values
            .push_bind(run)
            .push_bind(to_sql(row.attempt.cell))
            .push_bind(i64::from(row.attempt.ordinal))
            .push_bind(to_sql(row.sequence))
            .push_bind(host)
            .push_bind(outcome)
            .push_bind(code)
            .push_bind(of_blame(row.blame))
            .push_bind(i64::from(row.passed))
            .push_bind(to_sql(row.settled))
            .push_bind(to_sql(row.failing))
            .push_bind(to_sql(row.wall_ms))
            .push_bind(to_sql(row.queue_ms))
            .push_bind(to_sql(row.start_us))
            .push_bind(to_sql(row.cpu_us))
            .push_bind(to_sql(row.peak_memory_bytes))
            .push_bind(row.identity.map(|identity| identity.as_bytes().to_vec()))
            .push_bind(set)
            .push_bind(log)
            .push_bind(rest);
    });
    query.push(" ON CONFLICT DO NOTHING");
    let inserted = query
        .build()
        .persistent(false)
        .execute(&mut *db)
        .await
        .map_err(Error::while_doing("record ended attempts"))?
        .rows_affected();
    for row in rows
        .iter()
        .filter(|row| matches!(row.log, LogPlace::Inline(_)))
    {
        let run = keys.run(&mut *db, &row.attempt.run).await?;
        sqlx::query("INSERT INTO logs (run, cell, ordinal, stored) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(run)
            .bind(to_sql(row.attempt.cell))
            .bind(i64::from(row.attempt.ordinal))
            .bind(&row.short_log)
            .execute(&mut *db)
            .await
            .map_err(Error::while_doing("record a log"))?;
    }
    Ok(inserted)
}

async fn distrust(
    db: &mut SqliteConnection,
    keys: &mut Learnt<'_>,
    distrusted: &Distrusted,
) -> Result<(), Error> {
    let run = keys.run(&mut *db, &distrusted.run).await?;
    let host = keys.host(&mut *db, &distrusted.host).await?;
    sqlx::query(DISTRUST)
        .bind(run)
        .bind(host)
        .execute(db)
        .await
        .map(drop)
        .map_err(Error::while_doing("record that a host is not trusted"))
}

async fn insert_earlier(
    db: &mut SqliteConnection,
    keys: &mut Learnt<'_>,
    earlier: &EarlierRow,
) -> Result<(), Error> {
    let run = keys.run(&mut *db, &earlier.run).await?;
    sqlx::query(EARLIER)
        .bind(run)
        .bind(to_sql(earlier.cell))
        .bind(&earlier.said)
        .execute(db)
        .await
        .map(drop)
        .map_err(Error::while_doing("record what earlier runs say"))
}

async fn insert_state(
    db: &mut SqliteConnection,
    keys: &mut Learnt<'_>,
    state: &StateRow,
) -> Result<(), Error> {
    let run = keys.run(&mut *db, &state.run).await?;
    sqlx::query(
        "INSERT INTO run_states (run, sequence, state, at_ms, settled, failing) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(run)
    .bind(to_sql(state.sequence))
    .bind(of_state(state.state))
    .bind(to_sql(state.at_ms))
    .bind(to_sql(state.settled))
    .bind(to_sql(state.failing))
    .execute(db)
    .await
    .map_err(Error::while_doing("record a run's state"))?;
    Ok(())
}

async fn update_head(db: &mut SqliteConnection, head: &RunHead) -> Result<(), Error> {
    let summary = &head.summary;
    sqlx::query(
        "UPDATE runs SET state = ?, cancelled = ?, ended_ms = ?, sequence = ?, settled = ?, failing = ?, \
         attempts = ?, rerun_after = ?, deep = ?, bisecting = ? WHERE id = ?",
    )
    .bind(of_state(summary.state))
    .bind(i64::from(head.cancelled))
    .bind(summary.ended_ms.map(to_sql))
    .bind(to_sql(head.sequence))
    .bind(to_sql(summary.progress.settled))
    .bind(to_sql(summary.progress.failing))
    .bind(to_sql(summary.progress.attempts))
    .bind(head.rerun_after.map(to_sql))
    .bind(i64::from(summary.deep))
    .bind(i64::from(summary.bisecting))
    .bind(summary.run.as_str())
    .execute(db)
    .await
    .map_err(Error::while_doing("record where a run stands"))?;
    Ok(())
}
