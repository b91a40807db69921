//! Partitions of attempts and logs: each has the runs of one range of keys. May not: lock out who reads.

use sqlx::{AssertSqlSafe, PgConnection};

use super::pack::PACKING;
use crate::Error;

/// Runs of one partition. Few enough that a partition is soon old as a whole and can be dropped, many enough that there
/// are never thousands of them.
pub(super) const RUNS: i64 = 1024;

/// How full a page of the primary key is left where the index grows, in percent. Cells end nearly in order: full pages would be
/// halved by those that come late, and stay half empty. Packed once their runs are over: see the module `pack`.
pub(super) const KEYS_FULL: u32 = 75;
/// The same for the index by sequence, where nothing comes late.
const SEQUENCES_FULL: u32 = 100;

/// The first key of the partition that has this run.
pub(super) fn first(run: i64) -> i64 {
    run.div_euclid(RUNS) * RUNS
}

/// Makes the partitions that begin with this key, where they are not there.
pub(super) async fn make(db: &mut PgConnection, first: i64) -> Result<(), Error> {
    let doing = || Error::while_doing("make a partition");
    for table in ["attempts", "logs"] {
        let name = format!("{table}_{first}");
        let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(&name)
            .fetch_one(&mut *db)
            .await
            .map_err(doing())?;
        if there {
            continue;
        }
        // Attaching locks out other writers alone; CREATE TABLE ... PARTITION OF would lock out readers too.
        let end = first + RUNS;
        let create = format!(
            "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE, \
             PRIMARY KEY (run, cell, ordinal) WITH (fillfactor = {KEYS_FULL}))"
        );
        let index = format!(
            "CREATE UNIQUE INDEX {name}_by_sequence ON {name} (run, sequence) \
             WITH (fillfactor = {SEQUENCES_FULL})"
        );
        // It takes the indexes that are there for its own.
        let attach = format!(
            "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})"
        );
        let index = Some(index).filter(|_| table == "attempts");
        for statement in [create].into_iter().chain(index).chain([attach]) {
            // Made of numbers and of the two names above.
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *db)
                .await
                .map_err(doing())?;
        }
    }
    Ok(())
}

/// Drops the partitions that begin with this key, where all their runs are pruned and later ones are there already. That
/// takes no longer for a million rows than for one. Not while one is packed: commits would wait for the end of that.
pub(super) async fn drop_if_pruned(db: &mut PgConnection, first: i64) -> Result<(), Error> {
    let doing = || Error::while_doing("drop a partition");
    let all_pruned: bool = sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT FROM runs WHERE key >= $1 AND key < $2 AND pruned = 0) \
         AND EXISTS (SELECT FROM runs WHERE key >= $2) AND to_regclass($3) IS NOT NULL \
         AND pg_try_advisory_xact_lock($4)",
    )
    .bind(first)
    .bind(first + RUNS)
    .bind(format!("attempts_{first}"))
    .bind(PACKING)
    .fetch_one(&mut *db)
    .await
    .map_err(doing())?;
    if all_pruned {
        for table in ["attempts", "logs"] {
            // Made of a number and of the two names above.
            sqlx::query(AssertSqlSafe(format!("DROP TABLE {table}_{first}")))
                .execute(&mut *db)
                .await
                .map_err(doing())?;
        }
    }
    Ok(())
}
