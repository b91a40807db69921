//! How long cases took in earlier runs. May not: write.

use regatta_model::plan::SHARDS_MOST;
use sqlx::database::HasStatementCache;
use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, FromRow, IntoArguments, Pool, Type};

use super::Reads;
use crate::rows::{
    AttemptColumns, CaseSetColumns, EventColumns, HeadColumns, HostColumns, RunColumns,
    SubmittedColumns, name,
};
use crate::{DURATION_RUNS_KEPT, DurationsRow, Error};

impl<DB> Reads<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Decode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Decode<'q, DB> + Type<DB>,
    for<'q> String: Decode<'q, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
    for<'r> HeadColumns: FromRow<'r, DB::Row>,
    for<'r> RunColumns: FromRow<'r, DB::Row>,
    for<'r> SubmittedColumns: FromRow<'r, DB::Row>,
    for<'r> HostColumns: FromRow<'r, DB::Row>,
    for<'r> CaseSetColumns: FromRow<'r, DB::Row>,
    for<'r> AttemptColumns: FromRow<'r, DB::Row>,
    for<'r> EventColumns: FromRow<'r, DB::Row>,
{
    pub(crate) async fn durations(
        &self,
        matrix: &str,
        cells: &str,
    ) -> Result<Vec<DurationsRow>, Error> {
        let found: Vec<(String, i64, i64, Vec<u8>)> = sqlx::query_as::<DB, _>(
            "SELECT r.id, d.shard, d.case_set, d.said FROM durations d JOIN runs r ON r.key = d.run \
             WHERE d.matrix = $1 AND d.cells = $2 AND r.pruned = 0 ORDER BY d.run DESC, d.shard LIMIT $3",
        )
        .bind(matrix)
        .bind(cells)
        .bind(i64::from(DURATION_RUNS_KEPT * SHARDS_MOST))
        .fetch_all(&self.pool)
        .await
        .map_err(Error::while_doing("read durations"))?;
        let mut rows = Vec::with_capacity(found.len());
        for (run, shard, set, durations) in found {
            rows.push(DurationsRow {
                matrix: matrix.to_owned(),
                cells: cells.to_owned(),
                run: name(&run)?,
                shard: u32::try_from(shard).unwrap_or_default(),
                set: self.set(set).await?,
                durations,
            });
        }
        Ok(rows)
    }
}
