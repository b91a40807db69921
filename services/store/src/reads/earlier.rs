//! Earlier runs: of a matrix, with what they say, and those that are old. May not: write.

use regatta_model::RunId;
use sqlx::database::HasStatementCache;
use sqlx::{
    ColumnIndex, Database, Decode, Encode, Executor, FromRow, IntoArguments, Pool, QueryBuilder,
    Type,
};

use super::Reads;
use crate::codes::{from_sql, to_sql};
use crate::queries::{HEAD, RECORD};
use crate::rows::{HeadColumns, RunColumns, name};
use crate::{EarlierRow, Error, PAGE_MOST, RunHead, RunRecord};

impl<DB> Reads<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Decode<'q, DB> + Type<DB>,
    for<'q> String: Decode<'q, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
    for<'r> HeadColumns: FromRow<'r, DB::Row>,
    for<'r> RunColumns: FromRow<'r, DB::Row>,
    for<'r> HeadColumns: FromRow<'r, DB::Row>,
{
    pub(crate) async fn finished_before(
        &self,
        matrix: &str,
        run: &RunId,
        limit: u32,
    ) -> Result<Vec<RunRecord>, Error> {
        let mut query = QueryBuilder::<DB>::new(RECORD);
        query
            .push("WHERE pruned = 0 AND state = 2 AND name = ")
            .push_bind(matrix)
            .push(" AND key < (SELECT key FROM runs WHERE id = ")
            .push_bind(run.as_str())
            .push(") ORDER BY key DESC LIMIT ")
            .push_bind(i64::from(limit.min(PAGE_MOST)));
        let found: Vec<RunColumns> = query
            .build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(Error::while_doing("list earlier runs"))?;
        found.into_iter().map(RunColumns::record).collect()
    }

    pub(crate) async fn finished(&self, matrix: &str, limit: u32) -> Result<Vec<RunHead>, Error> {
        let mut query = QueryBuilder::<DB>::new(HEAD);
        query
            .push("WHERE pruned = 0 AND state = 2 AND name = ")
            .push_bind(matrix)
            .push(" ORDER BY key DESC LIMIT ")
            .push_bind(i64::from(limit.min(PAGE_MOST)));
        let found: Vec<HeadColumns> = query
            .build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(Error::while_doing("list finished runs"))?;
        found.into_iter().map(HeadColumns::head).collect()
    }

    pub(crate) async fn earlier(&self, run: &RunId) -> Result<Vec<EarlierRow>, Error> {
        let found: Vec<(i64, String)> = sqlx::query_as::<DB, _>(
            "SELECT e.cell, e.said FROM earlier e JOIN runs r ON r.key = e.run WHERE r.id = $1 ORDER BY e.cell",
        )
        .bind(run.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(Error::while_doing("read what earlier runs say"))?;
        let row = |(cell, said)| EarlierRow {
            run: run.clone(),
            cell: from_sql(cell),
            said,
        };
        Ok(found.into_iter().map(row).collect())
    }

    pub(crate) async fn bisecting(&self, limit: u32) -> Result<Vec<RunId>, Error> {
        let found: Vec<(String,)> = sqlx::query_as::<DB, _>(
            "SELECT id FROM runs WHERE bisecting = 1 AND state = 2 AND pruned = 0 ORDER BY key LIMIT $1",
        )
        .bind(i64::from(limit.min(PAGE_MOST)))
        .fetch_all(&self.pool)
        .await
        .map_err(Error::while_doing("list runs that are searched"))?;
        found.into_iter().map(|(id,)| name(&id)).collect()
    }

    pub(crate) async fn bisection(&self, run: &RunId) -> Result<Option<String>, Error> {
        let found: Option<(Option<String>,)> =
            sqlx::query_as::<DB, _>("SELECT bisection FROM runs WHERE id = $1")
                .bind(run.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(Error::while_doing("read what a search came to"))?;
        Ok(found.and_then(|(said,)| said))
    }

    pub(crate) async fn over_before(
        &self,
        before_ms: u64,
        limit: u32,
    ) -> Result<Vec<RunHead>, Error> {
        let mut query = QueryBuilder::<DB>::new(HEAD);
        query
            .push("WHERE pruned = 0 AND state >= 2 AND ended_ms < ")
            .push_bind(to_sql(before_ms))
            .push(" ORDER BY key LIMIT ")
            .push_bind(i64::from(limit.min(PAGE_MOST)));
        let found: Vec<HeadColumns> = query
            .build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(Error::while_doing("list old runs"))?;
        found.into_iter().map(HeadColumns::head).collect()
    }
}
