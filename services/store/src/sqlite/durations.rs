//! Writing how long cases took. May not: keep more than the newest runs said.

use sqlx::SqliteConnection;

use crate::codes::{DURATIONS, KEEP_DURATIONS};
use crate::{DURATION_RUNS_KEPT, DurationsRow, Error};

/// Writes a row, if none of its run, cells and shard is there, and lets go of what runs before the newest said.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    row: &DurationsRow,
    run: i64,
    set: i64,
) -> Result<(), Error> {
    sqlx::query(DURATIONS)
        .bind(&row.matrix)
        .bind(&row.cells)
        .bind(run)
        .bind(i64::from(row.shard))
        .bind(set)
        .bind(&row.durations)
        .execute(&mut *db)
        .await
        .map_err(Error::while_doing("record durations"))?;
    sqlx::query(KEEP_DURATIONS)
        .bind(&row.matrix)
        .bind(&row.cells)
        .bind(i64::from(DURATION_RUNS_KEPT.saturating_sub(1)))
        .execute(db)
        .await
        .map(drop)
        .map_err(Error::while_doing("let go of durations"))
}
