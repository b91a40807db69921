//! Writing a batch, in one transaction, a statement for each kind of row. May not: read what it does not need for that.

use std::collections::BTreeMap;

use regatta_model::wire::LogPlace;
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, Postgres as Database};
use tokio::sync::MutexGuard;

use super::heads::{insert_states, update_heads};
use super::keys::Keys;
use super::{Postgres, durations, partition};
use crate::codes::{BISECTION, DISTRUST, EARLIER, PRUNE, of_blame, of_outcome, of_policy, to_sql};
use crate::rows::{rest, to_json};
use crate::{Batch, Committed, Distrusted, EarlierRow, EndedRow, Error, HostRecord, NewRun};

/// Rows of one statement.
const ROWS_MOST: usize = 2000;

/// A number for a column of 32 bits; what is too large for it is cut.
fn narrow(number: u64) -> i64 {
    to_sql(number).min(i64::from(i32::MAX))
}

impl Postgres {
    pub(super) async fn write(&self, batch: &Batch) -> Result<Committed, Error> {
        let keys = self.keys.lock().await;
        let connection = self
            .writer
            .acquire()
            .await
            .map_err(Error::while_doing("be reached"))?;
        let mut attempt = Attempt {
            keys,
            connection,
            committed: false,
        };
        let committed = transact(&mut attempt.connection, &mut attempt.keys, batch).await?;
        attempt.committed = true;
        attempt.keys.bound();
        Ok(committed)
    }
}

/// One try to write. Whatever ends it early, being given up included: the next try gets a new connection, and what was
/// learnt in a transaction that may not have been committed is forgotten.
struct Attempt<'a> {
    keys: MutexGuard<'a, Keys>,
    connection: PoolConnection<Database>,
    committed: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.committed {
            *self.keys = Keys::default();
            self.connection.close_on_drop();
        }
    }
}

async fn transact(
    connection: &mut PgConnection,
    keys: &mut Keys,
    batch: &Batch,
) -> Result<Committed, Error> {
    let mut db = connection
        .begin()
        .await
        .map_err(Error::while_doing("begin a transaction"))?;
    fence(&mut db, batch.epoch).await?;
    for run in &batch.runs {
        insert_run(&mut db, keys, run).await?;
    }
    upsert_hosts(&mut db, &batch.hosts).await?;
    for distrusted in &batch.distrusted {
        distrust(&mut db, keys, distrusted).await?;
    }
    for earlier in &batch.earlier {
        insert_earlier(&mut db, keys, earlier).await?;
    }
    for durations in &batch.durations {
        keys.know_runs(&mut db, std::iter::once(&durations.run))
            .await?;
        let set = keys.set(&mut db, &durations.set).await?;
        durations::insert(&mut db, durations, keys.run(&durations.run)?, set).await?;
    }
    let mut doubled = 0;
    for rows in batch.attempts.chunks(ROWS_MOST) {
        let inserted = insert_attempts(&mut db, keys, rows).await?;
        let told = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        doubled += told.saturating_sub(inserted);
    }
    insert_states(&mut db, keys, &batch.states).await?;
    for run in &batch.pruned {
        sqlx::query(PRUNE)
            .bind(run.as_str())
            .execute(&mut *db)
            .await
            .map_err(Error::while_doing("prune a run"))?;
    }
    update_heads(&mut db, &batch.heads).await?;
    for row in &batch.bisections {
        sqlx::query(BISECTION)
            .bind(&row.said)
            .bind(i64::from(row.searching))
            .bind(row.run.as_str())
            .execute(&mut *db)
            .await
            .map_err(Error::while_doing("record what a search came to"))?;
    }
    db.commit()
        .await
        .map_err(Error::while_doing("commit a transaction"))?;
    Ok(Committed { doubled })
}

/// The database refuses the transaction of a leader that was deposed.
pub(super) async fn fence(db: &mut PgConnection, epoch: u64) -> Result<(), Error> {
    sqlx::query("SELECT fence($1)")
        .bind(to_sql(epoch))
        .execute(db)
        .await
        .map(drop)
        .map_err(|source| match source.as_database_error() {
            Some(refused) if refused.code().as_deref() == Some("RG001") => {
                Error::Deposed(refused.message().to_owned())
            }
            _ => Error::while_doing("check the leader's epoch")(source),
        })
}

async fn insert_run(db: &mut PgConnection, keys: &mut Keys, run: &NewRun) -> Result<(), Error> {
    let key: Option<i64> = sqlx::query_scalar(
        "INSERT INTO runs (id, name, file, matrix, pins, cells, submitted_ms, idempotency_key, body, state) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0) ON CONFLICT (id) DO NOTHING RETURNING key",
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
    .fetch_optional(&mut *db)
    .await
    .map_err(Error::while_doing("record a run"))?;
    let Some(key) = key else {
        return Ok(());
    };
    keys.learn_run(run.run.clone(), key);
    let first = partition::first(key);
    if keys.learn_partition(first) {
        partition::make(db, first).await?;
    }
    Ok(())
}

async fn upsert_hosts(db: &mut PgConnection, hosts: &[HostRecord]) -> Result<(), Error> {
    // One statement cannot change a row twice; the last word counts.
    let hosts: BTreeMap<&str, &HostRecord> = hosts
        .iter()
        .map(|host| (host.host.as_str(), host))
        .collect();
    if hosts.is_empty() {
        return Ok(());
    }
    let mut columns = (
        vec![],
        vec![],
        vec![],
        vec![],
        vec![],
        vec![],
        vec![],
        vec![],
    );
    for (name, host) in hosts {
        columns.0.push(name);
        columns.1.push(to_sql(host.incarnation.0));
        columns.2.push(of_policy(host.policy));
        columns.3.push(host.reason.as_str());
        columns.4.push(i64::from(host.lost));
        columns.5.push(to_json(&host.facts)?);
        columns.6.push(host.trust.as_str());
        columns.7.push(to_sql(host.seen_ms));
    }
    sqlx::query(
        "INSERT INTO hosts (name, incarnation, policy, reason, lost, facts, trust, seen_ms) \
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], \
         $8::bigint[]) ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, policy = excluded.policy, \
         reason = excluded.reason, lost = excluded.lost, facts = excluded.facts, trust = excluded.trust, seen_ms = excluded.seen_ms",
    )
    .bind(columns.0)
    .bind(columns.1)
    .bind(columns.2)
    .bind(columns.3)
    .bind(columns.4)
    .bind(columns.5)
    .bind(columns.6)
    .bind(columns.7)
    .execute(db)
    .await
    .map(drop)
    .map_err(Error::while_doing("record hosts"))
}

/// Numbers of one attempt, in the order of [`INSERT_ATTEMPTS`].
const NUMBERS: usize = 13;

const INSERT_ATTEMPTS: &str = "INSERT INTO attempts (run, cell, ordinal, sequence, host, outcome, settled, failing, wall_ms, \
     queue_ms, start_us, cpu_us, peak_memory_bytes, code, blame, case_set, log_bytes, passed, identity, rest) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], \
     $16::bigint[], $17::bigint[], $18::boolean[], $19::bytea[], $20::text[]) ON CONFLICT DO NOTHING";

/// Writes rows of ended attempts; tells how many were not there before.
async fn insert_attempts(
    db: &mut PgConnection,
    keys: &mut Keys,
    rows: &[EndedRow],
) -> Result<u64, Error> {
    keys.know_runs(db, rows.iter().map(|row| &row.attempt.run))
        .await?;
    keys.know_hosts(db, rows.iter().map(|row| &row.host))
        .await?;
    let mut numbers: [Vec<i64>; NUMBERS] = std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    let (mut codes, mut blames, mut sets, mut logs) = (vec![], vec![], vec![], vec![]);
    let (mut passed, mut identities, mut rests) = (vec![], vec![], vec![]);
    for row in rows {
        let (outcome, code) = of_outcome(row.outcome);
        let values = [
            keys.run(&row.attempt.run)?,
            to_sql(row.attempt.cell),
            i64::from(row.attempt.ordinal),
            to_sql(row.sequence),
            keys.host(&row.host)?,
            outcome,
            narrow(row.settled),
            narrow(row.failing),
            narrow(row.wall_ms),
            narrow(row.queue_ms),
            narrow(row.start_us),
            to_sql(row.cpu_us),
            to_sql(row.peak_memory_bytes),
        ];
        for (column, value) in numbers.iter_mut().zip(values) {
            column.push(value);
        }
        codes.push(code);
        blames.push(of_blame(row.blame));
        sets.push(match &row.cases.set {
            Some(set) => Some(keys.set(db, set).await?),
            None => None,
        });
        logs.push(match &row.log {
            LogPlace::Empty => None,
            LogPlace::Inline(_) => Some(0),
            LogPlace::Uploaded { bytes } => Some(to_sql(*bytes).max(1)),
        });
        passed.push(row.passed);
        identities.push(row.identity.map(|identity| identity.as_bytes().to_vec()));
        rests.push(rest(row)?);
    }
    let mut query = sqlx::query(INSERT_ATTEMPTS);
    for column in numbers {
        query = query.bind(column);
    }
    let inserted = query
        .bind(codes)
        .bind(blames)
        .bind(sets)
        .bind(logs)
        .bind(passed)
        .bind(identities)
        .bind(rests)
        .execute(&mut *db)
        .await
        .map_err(Error::while_doing("record ended attempts"))?
        .rows_affected();
    insert_logs(db, keys, rows).await?;
    Ok(inserted)
}

async fn insert_logs(db: &mut PgConnection, keys: &Keys, rows: &[EndedRow]) -> Result<(), Error> {
    let (mut runs, mut cells, mut ordinals, mut stored) = (vec![], vec![], vec![], vec![]);
    for row in rows
        .iter()
        .filter(|row| matches!(row.log, LogPlace::Inline(_)))
    {
        runs.push(keys.run(&row.attempt.run)?);
        cells.push(to_sql(row.attempt.cell));
        ordinals.push(i64::from(row.attempt.ordinal));
        stored.push(row.short_log.as_slice());
    }
    if runs.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO logs (run, cell, ordinal, stored) \
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) ON CONFLICT DO NOTHING",
    )
    .bind(runs)
    .bind(cells)
    .bind(ordinals)
    .bind(stored)
    .execute(db)
    .await
    .map(drop)
    .map_err(Error::while_doing("record logs"))
}

async fn distrust(
    db: &mut PgConnection,
    keys: &mut Keys,
    distrusted: &Distrusted,
) -> Result<(), Error> {
    keys.know_runs(db, std::iter::once(&distrusted.run)).await?;
    keys.know_hosts(db, std::iter::once(&distrusted.host))
        .await?;
    sqlx::query(DISTRUST)
        .bind(keys.run(&distrusted.run)?)
        .bind(keys.host(&distrusted.host)?)
        .execute(db)
        .await
        .map(drop)
        .map_err(Error::while_doing("record that a host is not trusted"))
}

async fn insert_earlier(
    db: &mut PgConnection,
    keys: &mut Keys,
    earlier: &EarlierRow,
) -> Result<(), Error> {
    keys.know_runs(db, std::iter::once(&earlier.run)).await?;
    sqlx::query(EARLIER)
        .bind(keys.run(&earlier.run)?)
        .bind(to_sql(earlier.cell))
        .bind(&earlier.said)
        .execute(db)
        .await
        .map(drop)
        .map_err(Error::while_doing("record what earlier runs say"))
}
