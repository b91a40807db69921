//! Reading ended attempts back, with their cases, and the events that they are. May not: write.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use regatta_model::case::CaseException;
use regatta_model::run::Progress;
use regatta_model::wire::{Artifact, LogPlace};
use regatta_model::{AttemptId, CellNumber, RunId};
use serde::Deserialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite as Database};

use super::column::{column, digest, from_json, name, number};
use super::{SETS_MOST, Sqlite};
use crate::codes::{blame, from_sql, outcome, state, to_sql};
use crate::records::EventKind;
use crate::{CaseSet, Cases, EndedRow, Error, EventRow, PAGE_MOST};

/// Most cells whose attempts one query names.
const CELLS_MOST: usize = 1000;

const ATTEMPT: &str = "SELECT a.cell, a.ordinal, a.sequence, h.name AS host, a.outcome, a.code, a.blame, a.passed, \
     a.settled, a.failing, a.wall_ms, a.queue_ms, a.start_us, a.cpu_us, a.peak_memory_bytes, a.identity, \
     a.case_set, a.log_bytes, a.rest \
     FROM attempts a JOIN hosts h ON h.key = a.host JOIN runs r ON r.key = a.run WHERE r.id = ";

#[derive(Default, Deserialize)]
struct Rest {
    #[serde(rename = "x", default)]
    exceptions: Vec<CaseException>,
    #[serde(rename = "p", default)]
    problems: Vec<String>,
    #[serde(rename = "d", default)]
    detail: String,
    #[serde(rename = "c", default)]
    changed: Vec<String>,
    #[serde(rename = "a", default)]
    artifacts: Vec<Artifact>,
}

impl Sqlite {
    pub(super) async fn read_attempts(
        &self,
        run: &RunId,
        after: Option<(CellNumber, u32)>,
        limit: u32,
    ) -> Result<Vec<EndedRow>, Error> {
        let mut query = QueryBuilder::<Database>::new(ATTEMPT);
        query.push_bind(run.as_str());
        if let Some((cell, ordinal)) = after {
            query
                .push(" AND (a.cell, a.ordinal) > (")
                .push_bind(to_sql(cell));
            query.push(", ").push_bind(i64::from(ordinal)).push(")");
        }
        query
            .push(" ORDER BY a.cell, a.ordinal LIMIT ")
            .push_bind(i64::from(limit.min(PAGE_MOST)));
        self.ended(run, query).await
    }

    pub(super) async fn read_attempts_of(
        &self,
        run: &RunId,
        cells: &[CellNumber],
    ) -> Result<Vec<EndedRow>, Error> {
        let mut rows = Vec::new();
        for cells in cells.chunks(CELLS_MOST) {
            let mut query = QueryBuilder::<Database>::new(ATTEMPT);
            query.push_bind(run.as_str()).push(" AND a.cell IN (");
            let mut list = query.separated(", ");
            for cell in cells {
                list.push_bind(to_sql(*cell));
            }
            query.push(") ORDER BY a.cell, a.ordinal");
            rows.extend(self.ended(run, query).await?);
        }
        Ok(rows)
    }

    pub(super) async fn read_attempt(
        &self,
        attempt: &AttemptId,
    ) -> Result<Option<EndedRow>, Error> {
        let mut query = QueryBuilder::<Database>::new(ATTEMPT);
        query.push_bind(attempt.run.as_str());
        query.push(" AND a.cell = ").push_bind(to_sql(attempt.cell));
        query
            .push(" AND a.ordinal = ")
            .push_bind(i64::from(attempt.ordinal));
        Ok(self.ended(&attempt.run, query).await?.into_iter().next())
    }

    async fn ended(
        &self,
        run: &RunId,
        mut query: QueryBuilder<Database>,
    ) -> Result<Vec<EndedRow>, Error> {
        let rows = query
            .build()
            .persistent(false)
            .fetch_all(&self.readers)
            .await
            .map_err(Error::while_doing("read ended attempts"))?;
        let sets = self.sets_of(&rows).await?;
        rows.iter().map(|row| ended(run, row, &sets)).collect()
    }

    /// The case sets that these rows refer to.
    async fn sets_of(&self, rows: &[SqliteRow]) -> Result<BTreeMap<i64, Arc<CaseSet>>, Error> {
        let mut found = BTreeMap::new();
        let mut last = None;
        for row in rows {
            let key: Option<i64> = column(row, "case_set")?;
            let Some(key) = key.filter(|key| last != Some(*key) && !found.contains_key(key)) else {
                continue;
            };
            last = Some(key);
            let remembered = self
                .sets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&key)
                .cloned();
            let set = match remembered {
                Some(set) => set,
                None => self.read_set(key).await?,
            };
            found.insert(key, set);
        }
        Ok(found)
    }

    async fn read_set(&self, key: i64) -> Result<Arc<CaseSet>, Error> {
        let row = sqlx::query("SELECT digest, names FROM case_sets WHERE key = ?")
            .bind(key)
            .fetch_one(&self.readers)
            .await
            .map_err(Error::while_doing("read a set of cases"))?;
        let names: String = column(&row, "names")?;
        let set = Arc::new(CaseSet {
            digest: digest(&column::<Vec<u8>>(&row, "digest")?)?,
            names: from_json("names of cases", &names)?,
        });
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= SETS_MOST {
            sets.clear();
        }
        sets.insert(key, Arc::clone(&set));
        Ok(set)
    }

    pub(super) async fn read_events(
        &self,
        run: &RunId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<EventRow>, Error> {
        let doing = || Error::while_doing("read a run's events");
        let found = sqlx::query("SELECT key, cells FROM runs WHERE id = ?")
            .bind(run.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(doing())?;
        let Some(found) = found else {
            return Ok(Vec::new());
        };
        let (key, cells): (i64, u64) = (column(&found, "key")?, number(&found, "cells")?);
        // Attempts and states share one sequence, so the attempts up to an event are all but the states.
        let mut states_before: i64 =
            sqlx::query_scalar("SELECT count(*) FROM run_states WHERE run = ? AND sequence <= ?")
                .bind(key)
                .bind(to_sql(after))
                .fetch_one(&self.readers)
                .await
                .map_err(doing())?;
        let rows = sqlx::query(
            "SELECT a.sequence, a.settled, a.failing, NULL AS state, a.cell, a.ordinal, h.name AS host, a.outcome, \
             a.code, a.passed FROM attempts a JOIN hosts h ON h.key = a.host WHERE a.run = ?1 AND a.sequence > ?2 \
             UNION ALL \
             SELECT sequence, settled, failing, state, 0, 0, '', 0, NULL, 0 FROM run_states \
             WHERE run = ?1 AND sequence > ?2 ORDER BY 1 LIMIT ?3",
        )
        .bind(key)
        .bind(to_sql(after))
        .bind(i64::from(limit.min(PAGE_MOST)))
        .fetch_all(&self.readers)
        .await
        .map_err(doing())?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let sequence = number(row, "sequence")?;
            let changed: Option<i64> = column(row, "state")?;
            states_before += i64::from(changed.is_some());
            let progress = Progress {
                cells,
                settled: number(row, "settled")?,
                running: 0,
                failing: number(row, "failing")?,
                attempts: sequence.saturating_sub(from_sql(states_before)),
            };
            let kind = match changed {
                Some(code) => EventKind::State(state(code)?),
                None => EventKind::Attempt {
                    attempt: attempt_id(run, row)?,
                    host: name(row, "host")?,
                    outcome: outcome(column(row, "outcome")?, column(row, "code")?)?,
                    passed: column::<i64>(row, "passed")? != 0,
                },
            };
            events.push(EventRow {
                sequence,
                progress,
                kind,
            });
        }
        Ok(events)
    }

    pub(super) async fn read_short_log(
        &self,
        attempt: &AttemptId,
    ) -> Result<Option<Vec<u8>>, Error> {
        sqlx::query_scalar(
            "SELECT stored FROM logs WHERE run = (SELECT key FROM runs WHERE id = ?) AND cell = ? AND ordinal = ?",
        )
        .bind(attempt.run.as_str())
        .bind(to_sql(attempt.cell))
        .bind(i64::from(attempt.ordinal))
        .fetch_optional(&self.readers)
        .await
        .map_err(Error::while_doing("read a log"))
    }
}

fn attempt_id(run: &RunId, row: &SqliteRow) -> Result<AttemptId, Error> {
    let ordinal = u32::try_from(column::<i64>(row, "ordinal")?).unwrap_or(u32::MAX);
    Ok(AttemptId {
        run: run.clone(),
        cell: number(row, "cell")?,
        ordinal,
    })
}

fn ended(
    run: &RunId,
    row: &SqliteRow,
    sets: &BTreeMap<i64, Arc<CaseSet>>,
) -> Result<EndedRow, Error> {
    let rest: Option<String> = column(row, "rest")?;
    let rest: Rest = match rest {
        Some(text) => from_json("details of an attempt", &text)?,
        None => Rest::default(),
    };
    let set: Option<i64> = column(row, "case_set")?;
    let identity: Option<Vec<u8>> = column(row, "identity")?;
    let log = match column::<Option<i64>>(row, "log_bytes")? {
        None => LogPlace::Empty,
        Some(0) => LogPlace::Inline(String::new()),
        Some(bytes) => LogPlace::Uploaded {
            bytes: from_sql(bytes),
        },
    };
    Ok(EndedRow {
        attempt: attempt_id(run, row)?,
        sequence: number(row, "sequence")?,
        host: name(row, "host")?,
        outcome: outcome(column(row, "outcome")?, column(row, "code")?)?,
        blame: blame(column(row, "blame")?)?,
        passed: column::<i64>(row, "passed")? != 0,
        settled: number(row, "settled")?,
        failing: number(row, "failing")?,
        wall_ms: number(row, "wall_ms")?,
        queue_ms: number(row, "queue_ms")?,
        start_us: number(row, "start_us")?,
        cpu_us: number(row, "cpu_us")?,
        peak_memory_bytes: number(row, "peak_memory_bytes")?,
        identity: identity.as_deref().map(digest).transpose()?,
        cases: Cases {
            set: set.and_then(|key| sets.get(&key).cloned()),
            exceptions: rest.exceptions,
            problems: rest.problems,
        },
        detail: rest.detail,
        changed: rest.changed,
        artifacts: rest.artifacts,
        log,
        short_log: Vec::new(),
    })
}
