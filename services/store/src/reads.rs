//! Reading back, the same over every database: both understand this SQL. May not: write.

mod durations;
mod earlier;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use regatta_model::run::RunState;
use regatta_model::{AttemptId, CellNumber, Digest, HostName, RunId};
use sqlx::database::HasStatementCache;
use sqlx::{
    ColumnIndex, Database, Decode, Encode, Executor, FromRow, IntoArguments, Pool, QueryBuilder,
    Type,
};

use crate::codes::{from_sql, state, to_sql};
use crate::queries::{ATTEMPT, EVENTS, HEAD, RECORD, SET, SET_BY_DIGEST};
use crate::rows::{
    AttemptColumns, CaseSetColumns, EventColumns, HeadColumns, HostColumns, RunColumns,
    SubmittedColumns, name,
};
use crate::{
    CaseSet, EndedRow, Error, EventRow, HostRecord, PAGE_MOST, RunHead, RunRecord, Submitted,
};

/// Most case sets whose names are remembered.
const SETS_MOST: usize = 256;
/// Most cells whose attempts one query names.
const CELLS_MOST: usize = 1000;

/// The connections that read.
pub(crate) struct Reads<DB: Database> {
    pool: Pool<DB>,
    sets: Mutex<HashMap<i64, Arc<CaseSet>>>,
}

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
    pub(crate) fn new(pool: Pool<DB>) -> Self {
        Self {
            pool,
            sets: Mutex::default(),
        }
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        sqlx::query_scalar::<DB, i64>("SELECT CAST(1 AS BIGINT)")
            .fetch_one(&self.pool)
            .await
            .map(drop)
            .map_err(Error::while_doing("answer"))
    }

    pub(crate) async fn head(&self, run: &RunId) -> Result<Option<RunHead>, Error> {
        let mut query = QueryBuilder::<DB>::new(HEAD);
        query
            .push("WHERE pruned = 0 AND id = ")
            .push_bind(run.as_str());
        let found: Option<HeadColumns> = query
            .build_query_as()
            .fetch_optional(&self.pool)
            .await
            .map_err(Error::while_doing("find a run"))?;
        found.map(HeadColumns::head).transpose()
    }

    pub(crate) async fn heads(
        &self,
        before: Option<&RunId>,
        limit: u32,
    ) -> Result<Vec<RunHead>, Error> {
        let mut query = QueryBuilder::<DB>::new(HEAD);
        query.push("WHERE pruned = 0 ");
        if let Some(before) = before {
            query
                .push("AND key < (SELECT key FROM runs WHERE id = ")
                .push_bind(before.as_str())
                .push(") ");
        }
        query
            .push("ORDER BY key DESC LIMIT ")
            .push_bind(i64::from(limit.min(PAGE_MOST)));
        let found: Vec<HeadColumns> = query
            .build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(Error::while_doing("list runs"))?;
        found.into_iter().map(HeadColumns::head).collect()
    }

    pub(crate) async fn run(&self, run: &RunId) -> Result<Option<RunRecord>, Error> {
        let mut query = QueryBuilder::<DB>::new(RECORD);
        query
            .push("WHERE pruned = 0 AND id = ")
            .push_bind(run.as_str());
        let found: Option<RunColumns> = query
            .build_query_as()
            .fetch_optional(&self.pool)
            .await
            .map_err(Error::while_doing("find a run"))?;
        found.map(RunColumns::record).transpose()
    }

    pub(crate) async fn open_runs(&self) -> Result<Vec<RunRecord>, Error> {
        let mut query = QueryBuilder::<DB>::new(RECORD);
        query.push("WHERE state < 2 ORDER BY key");
        let found: Vec<RunColumns> = query
            .build_query_as()
            .fetch_all(&self.pool)
            .await
            .map_err(Error::while_doing("list open runs"))?;
        found.into_iter().map(RunColumns::record).collect()
    }

    pub(crate) async fn submitted(&self, key: &str) -> Result<Option<Submitted>, Error> {
        let found: Option<SubmittedColumns> =
            sqlx::query_as("SELECT id, body FROM runs WHERE idempotency_key = $1")
                .bind(key)
                .fetch_optional(&self.pool)
                .await
                .map_err(Error::while_doing("look up an idempotency key"))?;
        found.map(SubmittedColumns::submitted).transpose()
    }

    pub(crate) async fn runs_by_state(&self) -> Result<Vec<(RunState, u64)>, Error> {
        let found: Vec<(i64, i64)> = sqlx::query_as::<DB, _>(
            "SELECT state, count(*) FROM runs WHERE pruned = 0 GROUP BY state ORDER BY state",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(Error::while_doing("count runs"))?;
        found
            .into_iter()
            .map(|(code, count)| Ok((state(code)?, from_sql(count))))
            .collect()
    }

    pub(crate) async fn pruned(&self, limit: u32) -> Result<Vec<RunId>, Error> {
        let found: Vec<String> = sqlx::query_scalar::<DB, String>(
            "SELECT id FROM runs WHERE pruned = 1 ORDER BY key LIMIT $1",
        )
        .bind(i64::from(limit.min(PAGE_MOST)))
        .fetch_all(&self.pool)
        .await
        .map_err(Error::while_doing("list pruned runs"))?;
        found.iter().map(|id| name(id)).collect()
    }

    pub(crate) async fn hosts(&self) -> Result<Vec<HostRecord>, Error> {
        let found: Vec<HostColumns> = sqlx::query_as::<DB, _>(
            "SELECT name, incarnation, policy, reason, lost, facts, trust, seen_ms FROM hosts ORDER BY name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(Error::while_doing("list hosts"))?;
        found.into_iter().map(HostColumns::host).collect()
    }

    /// The key of a run.
    async fn key(&self, run: &RunId) -> Result<Option<i64>, Error> {
        sqlx::query_scalar::<DB, i64>("SELECT key FROM runs WHERE id = $1 AND pruned = 0")
            .bind(run.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(Error::while_doing("find a run"))
    }

    /// The attempts of a run that `narrow` asks for, by cell and ordinal.
    async fn ended(
        &self,
        run: &RunId,
        narrow: impl FnOnce(&mut QueryBuilder<DB>),
        limit: u32,
    ) -> Result<Vec<EndedRow>, Error> {
        // The key stands in the query itself, so that the database knows which partition is meant.
        let Some(key) = self.key(run).await? else {
            return Ok(Vec::new());
        };
        let mut query = QueryBuilder::<DB>::new(ATTEMPT);
        query.push(key);
        narrow(&mut query);
        query
            .push(" ORDER BY a.cell, a.ordinal LIMIT ")
            .push_bind(i64::from(limit));
        let found: Vec<AttemptColumns> = query
            .build_query_as()
            .persistent(false)
            .fetch_all(&self.pool)
            .await
            .map_err(Error::while_doing("read ended attempts"))?;
        let sets = self.sets_of(&found).await?;
        found.into_iter().map(|row| row.ended(run, &sets)).collect()
    }

    pub(crate) async fn attempts(
        &self,
        run: &RunId,
        after: Option<(CellNumber, u32)>,
        limit: u32,
    ) -> Result<Vec<EndedRow>, Error> {
        let narrow = |query: &mut QueryBuilder<DB>| {
            if let Some((cell, ordinal)) = after {
                query
                    .push(" AND (a.cell, a.ordinal) > (")
                    .push_bind(to_sql(cell));
                query.push(", ").push_bind(i64::from(ordinal)).push(")");
            }
        };
        self.ended(run, narrow, limit.min(PAGE_MOST)).await
    }

    pub(crate) async fn attempts_of(
        &self,
        run: &RunId,
        cells: &[CellNumber],
    ) -> Result<Vec<EndedRow>, Error> {
        let mut rows = Vec::new();
        for cells in cells.chunks(CELLS_MOST) {
            let narrow = |query: &mut QueryBuilder<DB>| {
                query.push(" AND a.cell IN (");
                let mut list = query.separated(", ");
                for cell in cells {
                    list.push(to_sql(*cell));
                }
                query.push(")");
            };
            rows.extend(self.ended(run, narrow, u32::MAX).await?);
        }
        Ok(rows)
    }

    pub(crate) async fn cells_of(
        &self,
        run: &RunId,
        host: &HostName,
    ) -> Result<Vec<CellNumber>, Error> {
        let Some(key) = self.key(run).await? else {
            return Ok(Vec::new());
        };
        // Blamed on nobody or on the test.
        let found: Vec<i64> = sqlx::query_scalar::<DB, i64>(
            "SELECT DISTINCT CAST(cell AS BIGINT) AS cell FROM attempts WHERE run = $1 \
             AND host = (SELECT key FROM hosts WHERE name = $2) AND (blame IS NULL OR blame = 0) ORDER BY 1",
        )
        .bind(key)
        .bind(host.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(Error::while_doing("list a host's cells"))?;
        Ok(found.into_iter().map(from_sql).collect())
    }

    pub(crate) async fn attempt(&self, attempt: &AttemptId) -> Result<Option<EndedRow>, Error> {
        let narrow = |query: &mut QueryBuilder<DB>| {
            query.push(" AND a.cell = ").push_bind(to_sql(attempt.cell));
            query
                .push(" AND a.ordinal = ")
                .push_bind(i64::from(attempt.ordinal));
        };
        Ok(self.ended(&attempt.run, narrow, 1).await?.pop())
    }

    /// The case sets that these rows refer to.
    async fn sets_of(&self, rows: &[AttemptColumns]) -> Result<BTreeMap<i64, Arc<CaseSet>>, Error> {
        let mut found = BTreeMap::new();
        for key in rows.iter().filter_map(|row| row.case_set) {
            if found.contains_key(&key) {
                continue;
            }
            let remembered = self
                .sets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&key)
                .cloned();
            let set = match remembered {
                Some(set) => set,
                None => self.set(key).await?,
            };
            found.insert(key, set);
        }
        Ok(found)
    }

    async fn set(&self, key: i64) -> Result<Arc<CaseSet>, Error> {
        let found: CaseSetColumns = sqlx::query_as(SET)
            .bind(key)
            .fetch_one(&self.pool)
            .await
            .map_err(Error::while_doing("read a set of cases"))?;
        let set = Arc::new(found.set()?);
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= SETS_MOST {
            sets.clear();
        }
        sets.insert(key, Arc::clone(&set));
        Ok(set)
    }

    pub(crate) async fn case_set(&self, digest: &Digest) -> Result<Option<CaseSet>, Error> {
        let found: Option<CaseSetColumns> = sqlx::query_as(SET_BY_DIGEST)
            .bind(digest.as_bytes().to_vec())
            .fetch_optional(&self.pool)
            .await
            .map_err(Error::while_doing("look for a set of cases"))?;
        found.map(CaseSetColumns::set).transpose()
    }

    pub(crate) async fn events(
        &self,
        run: &RunId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<EventRow>, Error> {
        let doing = || Error::while_doing("read a run's events");
        let found: Option<(i64, i64)> =
            sqlx::query_as("SELECT key, cells FROM runs WHERE id = $1 AND pruned = 0")
                .bind(run.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(doing())?;
        let Some((key, cells)) = found else {
            return Ok(Vec::new());
        };
        let before: i64 =
            sqlx::query_scalar("SELECT count(*) FROM run_states WHERE run = $1 AND sequence <= $2")
                .bind(key)
                .bind(to_sql(after))
                .fetch_one(&self.pool)
                .await
                .map_err(doing())?;
        let rows: Vec<EventColumns> = sqlx::query_as(EVENTS)
            .bind(key)
            .bind(to_sql(after))
            .bind(i64::from(limit.min(PAGE_MOST)))
            .fetch_all(&self.pool)
            .await
            .map_err(doing())?;
        let mut states = from_sql(before);
        rows.into_iter()
            .map(|row| {
                states += u64::from(row.is_state());
                row.event(run, from_sql(cells), states)
            })
            .collect()
    }

    pub(crate) async fn short_log(&self, attempt: &AttemptId) -> Result<Option<Vec<u8>>, Error> {
        let Some(key) = self.key(&attempt.run).await? else {
            return Ok(None);
        };
        sqlx::query_scalar::<DB, Vec<u8>>(
            "SELECT stored FROM logs WHERE run = $1 AND cell = $2 AND ordinal = $3",
        )
        .bind(key)
        .bind(to_sql(attempt.cell))
        .bind(i64::from(attempt.ordinal))
        .fetch_optional(&self.pool)
        .await
        .map_err(Error::while_doing("read a log"))
    }
}
