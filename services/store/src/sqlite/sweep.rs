//! Removing what is left of pruned runs, a few rows at a time. May not: touch a run that is not pruned.

use regatta_model::RunId;
use sqlx::Connection as _;

use super::Sqlite;
use crate::codes::{FORGET_DURATIONS, FORGET_EARLIER, from_sql};
use crate::{Error, SWEEP_ROWS};

/// The rows of a pruned run (1), so many at most (2). Its own row goes last, when the others are gone.
const ROWS: [&str; 2] = [
    "DELETE FROM logs WHERE rowid IN (SELECT rowid FROM logs WHERE run = $1 LIMIT $2)",
    "DELETE FROM attempts WHERE run = $1 AND (cell, ordinal) IN \
     (SELECT cell, ordinal FROM attempts WHERE run = $1 LIMIT $2)",
];

impl Sqlite {
    pub(super) async fn sweep_run(&self, _epoch: u64, run: &RunId) -> Result<bool, Error> {
        let doing = || Error::while_doing("remove a pruned run");
        // Also keeps commits out: it is the lock that orders them.
        let mut keys = self.keys.lock().await;
        let mut connection = self.writer.acquire().await.map_err(doing())?;
        let mut db = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(doing())?;
        let key: Option<i64> =
            sqlx::query_scalar("SELECT key FROM runs WHERE id = $1 AND pruned = 1")
                .bind(run.as_str())
                .fetch_optional(&mut *db)
                .await
                .map_err(doing())?;
        let Some(key) = key else {
            return Ok(true);
        };
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
        let gone = left > 0;
        if gone {
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
            keys.runs.remove(run);
        }
        db.commit().await.map_err(doing())?;
        Ok(gone)
    }

    pub(super) async fn size(&self) -> Result<u64, Error> {
        let used: i64 = sqlx::query_scalar(
            "SELECT (pages.page_count - free.freelist_count) * size.page_size FROM pragma_page_count pages, \
             pragma_freelist_count free, pragma_page_size size",
        )
        .fetch_one(&self.writer)
        .await
        .map_err(Error::while_doing("tell its size"))?;
        Ok(from_sql(used))
    }
}
