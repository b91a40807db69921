//! Packing partitions whose runs are all over: cells end nearly in order, and leave pages of the primary key half empty
//! that split when they were full. May not: change a row, or keep anybody from writing one.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::{Postgres, partition};
use crate::Error;

/// Attempts below which a partition is not worth the work.
const ATTEMPTS_LEAST: i64 = 10_000;
/// Bytes of the primary key for an attempt above which it is packed; packed it has 28.
const KEY_BYTES_MOST: i64 = 35;
/// How long one partition may take. The server's other statements have less, for somebody waits for them.
const PACK_WITHIN: &str = "SET statement_timeout = '10min'";
/// Held by who packs, for one at a time is enough. The number stands for nothing else in this database.
pub(super) const PACKING: i64 = 7_470_001;

/// The first partition that is worth it, or whose packing was cut short. Runs of later ones may still go on.
const WORTH: &str = "WITH partitions AS ( \
       SELECT key / $1 * $1 AS first, sum(attempts) AS attempts FROM runs \
       GROUP BY 1 HAVING bool_and(state >= 2) AND bool_or(pruned = 0) AND sum(attempts) >= $2) \
     SELECT first FROM partitions JOIN pg_class c ON c.oid = to_regclass('attempts_' || first || '_pkey') \
     WHERE pg_relation_size(c.oid) > greatest(attempts, c.reltuples) * $3 OR c.reloptions @> '{fillfactor=100}' \
     ORDER BY first LIMIT 1";

fn doing() -> impl FnOnce(sqlx::Error) -> Error {
    Error::while_doing("pack a partition")
}

impl Postgres {
    /// Packs one partition, where one is worth it; says whether it did.
    pub(super) async fn pack_one(&self) -> Result<bool, Error> {
        // Of its own: a connection that is lost in the middle takes its lock with it, and no commit waits for this one.
        // What it asks for is known to take long.
        let options = self.options.clone().disable_statement_logging();
        let mut db = PgConnection::connect_with(&options)
            .await
            .map_err(doing())?;
        let packed = pack(&mut db).await;
        drop(db.close().await);
        packed
    }
}

async fn pack(db: &mut PgConnection) -> Result<bool, Error> {
    let first: Option<i64> = sqlx::query_scalar(WORTH)
        .bind(partition::RUNS)
        .bind(ATTEMPTS_LEAST)
        .bind(KEY_BYTES_MOST)
        .fetch_optional(&mut *db)
        .await
        .map_err(doing())?;
    let Some(first) = first else {
        return Ok(false);
    };
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(PACKING)
        .fetch_one(&mut *db)
        .await
        .map_err(doing())?;
    if !alone {
        return Ok(false);
    }
    let index = format!("attempts_{first}_pkey");
    let fill = |percent: u32| format!("ALTER INDEX {index} SET (fillfactor = {percent})");
    let statements = [
        PACK_WITHIN.to_owned(),
        // What is left of one that was cut short.
        format!("DROP INDEX CONCURRENTLY IF EXISTS {index}_ccnew"),
        format!("DROP INDEX CONCURRENTLY IF EXISTS {index}_ccold"),
        fill(100),
        format!("REINDEX INDEX CONCURRENTLY {index}"),
        // For the runs that come after those that are packed.
        fill(partition::KEYS_FULL),
    ];
    for statement in statements {
        // Made of numbers.
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *db)
            .await
            .map_err(doing())?;
    }
    tracing::debug!("the partition of attempts from run {first} is packed");
    Ok(true)
}
