//! Reading runs and hosts back. May not: write.

use regatta_model::run::{Progress, RunState, RunSummary};
use regatta_model::{HostName, Incarnation, RunId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite as Database};

use super::Sqlite;
use super::column::{column, digest, from_json, name, number};
use crate::codes::{from_sql, policy, state};
use crate::{Error, HostRecord, PAGE_MOST, RunHead, RunRecord, Submitted};

const HEAD: &str = "SELECT id, name, state, submitted_ms, ended_ms, cells, settled, failing, attempts, sequence, \
     cancelled, rerun_after FROM runs ";

const RECORD: &str = "SELECT id, name, state, submitted_ms, ended_ms, cells, settled, failing, attempts, sequence, \
     cancelled, rerun_after, file, matrix, pins FROM runs ";

fn head(row: &SqliteRow) -> Result<RunHead, Error> {
    let progress = Progress {
        cells: number(row, "cells")?,
        settled: number(row, "settled")?,
        running: 0,
        failing: number(row, "failing")?,
        attempts: number(row, "attempts")?,
    };
    Ok(RunHead {
        summary: RunSummary {
            run: name(row, "id")?,
            name: column(row, "name")?,
            state: state(column(row, "state")?)?,
            submitted_ms: number(row, "submitted_ms")?,
            ended_ms: column::<Option<i64>>(row, "ended_ms")?.map(from_sql),
            progress,
        },
        sequence: number(row, "sequence")?,
        cancelled: column::<i64>(row, "cancelled")? != 0,
        rerun_after: column::<Option<i64>>(row, "rerun_after")?.map(from_sql),
    })
}

fn record(row: &SqliteRow) -> Result<RunRecord, Error> {
    let pins: String = column(row, "pins")?;
    Ok(RunRecord {
        head: head(row)?,
        file: column(row, "file")?,
        matrix: column(row, "matrix")?,
        pins: from_json("pins", &pins)?,
    })
}

impl Sqlite {
    pub(super) async fn read_head(&self, run: &RunId) -> Result<Option<RunHead>, Error> {
        let mut query = QueryBuilder::<Database>::new(HEAD);
        query.push("WHERE id = ").push_bind(run.as_str());
        let row = query
            .build()
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::while_doing("find a run"))?;
        row.as_ref().map(head).transpose()
    }

    pub(super) async fn read_run(&self, run: &RunId) -> Result<Option<RunRecord>, Error> {
        let mut query = QueryBuilder::<Database>::new(RECORD);
        query.push("WHERE id = ").push_bind(run.as_str());
        let row = query
            .build()
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::while_doing("find a run"))?;
        row.as_ref().map(record).transpose()
    }

    pub(super) async fn read_heads(
        &self,
        before: Option<&RunId>,
        limit: u32,
    ) -> Result<Vec<RunHead>, Error> {
        let mut query = QueryBuilder::<Database>::new(HEAD);
        if let Some(before) = before {
            query
                .push("WHERE key < (SELECT key FROM runs WHERE id = ")
                .push_bind(before.as_str())
                .push(") ");
        }
        query
            .push("ORDER BY key DESC LIMIT ")
            .push_bind(i64::from(limit.min(PAGE_MOST)));
        let rows = query
            .build()
            .fetch_all(&self.readers)
            .await
            .map_err(Error::while_doing("list runs"))?;
        rows.iter().map(head).collect()
    }

    pub(super) async fn read_open_runs(&self) -> Result<Vec<RunRecord>, Error> {
        let mut query = QueryBuilder::<Database>::new(RECORD);
        query.push("WHERE state < 2 ORDER BY key");
        let rows = query
            .build()
            .fetch_all(&self.readers)
            .await
            .map_err(Error::while_doing("list open runs"))?;
        rows.iter().map(record).collect()
    }

    pub(super) async fn read_submitted(&self, key: &str) -> Result<Option<Submitted>, Error> {
        let row = sqlx::query("SELECT id, body FROM runs WHERE idempotency_key = ?")
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::while_doing("look up an idempotency key"))?;
        row.map(|row| {
            Ok(Submitted {
                run: name(&row, "id")?,
                body: digest(&column::<Vec<u8>>(&row, "body")?)?,
            })
        })
        .transpose()
    }

    pub(super) async fn read_runs_by_state(&self) -> Result<Vec<(RunState, u64)>, Error> {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM runs GROUP BY state ORDER BY state")
                .fetch_all(&self.readers)
                .await
                .map_err(Error::while_doing("count runs"))?;
        rows.into_iter()
            .map(|(code, count)| Ok((state(code)?, from_sql(count))))
            .collect()
    }

    pub(super) async fn read_hosts(&self) -> Result<Vec<HostRecord>, Error> {
        let rows = sqlx::query(
            "SELECT name, incarnation, policy, reason, lost, facts, seen_ms FROM hosts ORDER BY name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(Error::while_doing("list hosts"))?;
        rows.iter()
            .map(|row| {
                let facts: String = column(row, "facts")?;
                Ok(HostRecord {
                    host: name::<HostName>(row, "name")?,
                    incarnation: Incarnation(number(row, "incarnation")?),
                    policy: policy(column(row, "policy")?)?,
                    reason: column(row, "reason")?,
                    lost: column::<i64>(row, "lost")? != 0,
                    facts: serde_json::from_str(&facts).unwrap_or_default(),
                    seen_ms: number(row, "seen_ms")?,
                })
            })
            .collect()
    }
}
