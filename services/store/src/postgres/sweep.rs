//! Removing what is left of pruned runs: whole partitions where all runs of one are pruned, else a few rows at a time. May
//! not: touch a run that is not pruned.

use regatta_model::RunId;
use sqlx::{Connection as _, PgConnection};

use super::write::fence;
use super::{Postgres, partition};
use crate::codes::{FORGET_DURATIONS, FORGET_EARLIER, from_sql};
use crate::{Error, SWEEP_ROWS};

/// The rows of a pruned run (1), so many at most (2). Its own row goes last, when the others are gone.
const ROWS: [&str; 2] = [
    "DELETE FROM logs WHERE run = $1 AND ctid = ANY(ARRAY(SELECT ctid FROM logs WHERE run = $1 LIMIT $2))",
    "DELETE FROM attempts WHERE run = $1 AND ctid = ANY(ARRAY(SELECT ctid FROM attempts WHERE run = $1 LIMIT $2))",
];

fn doing() -> impl FnOnce(sqlx::Error) -> Error {
    Error::while_doing("remove a pruned run")
}

impl Postgres {
    pub(super) async fn sweep_run(&self, epoch: u64, run: &RunId) -> Result<bool, Error> {
        // Commits go first: they wait for nothing but this lock.
        let mut keys = self.keys.lock().await;
        let mut connection = self.writer.acquire().await.map_err(doing())?;
        let mut db = connection.begin().await.map_err(doing())?;
        fence(&mut db, epoch).await?;
        let key: Option<i64> =
            sqlx::query_scalar("SELECT key FROM runs WHERE id = $1 AND pruned = 1")
                .bind(run.as_str())
                .fetch_optional(&mut *db)
                .await
                .map_err(doing())?;
        let Some(key) = key else {
            return Ok(true);
        };
        partition::drop_if_pruned(&mut db, partition::first(key)).await?;
        let gone = remove(&mut db, key).await?;
        db.commit().await.map_err(doing())?;
        if gone {
            keys.forget_run(run);
        }
        Ok(gone)
    }

    pub(super) async fn size(&self) -> Result<u64, Error> {
        let used: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
            .fetch_one(&self.lease)
            .await
            .map_err(Error::while_doing("tell its size"))?;
        Ok(from_sql(used))
    }
}

/// Removes rows of a run; says whether nothing is left.
async fn remove(db: &mut PgConnection, key: i64) -> Result<bool, Error> {
    let mut left = i64::from(SWEEP_ROWS);
    for statement in ROWS {
        let removed = sqlx::query(statement)
            .bind(key)
            .bind(left)
            .execute(&mut *db)
            .await
            .map_err(doing())?;
        left -= i64::try_from(removed.rows_affected()).unwrap_or(left);
    }
    if left <= 0 {
        return Ok(false);
    }
    for statement in [
        FORGET_EARLIER,
        FORGET_DURATIONS,
        "DELETE FROM run_states WHERE run = $1",
        "DELETE FROM runs WHERE key = $1",
    ] {
        sqlx::query(statement)
            .bind(key)
            .execute(&mut *db)
            .await
            .map_err(doing())?;
    }
    Ok(true)
}
