//! Reading back what was written. May not: write.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use regatta_model::case::CaseException;
use regatta_model::run::{Progress, RunState, RunSummary};
use regatta_model::wire::{Artifact, LogPlace};
use regatta_model::{AttemptId, CellNumber, Digest, HostName, Incarnation, RunId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite as Database};

use super::{SETS_MOST, Sqlite};
use crate::codes::{blame, from_sql, outcome, policy, state, to_sql};
use crate::records::EventKind;
use crate::{
    CaseSet, Cases, EndedRow, Error, EventRow, HostRecord, PAGE_MOST, RunHead, RunRecord, Submitted,
};

/// Most cells whose attempts one query names.
const CELLS_MOST: usize = 1000;

const ATTEMPT: &str = "SELECT a.cell, a.ordinal, a.sequence, h.name AS host, a.outcome, a.code, a.blame, a.passed, \
     a.settled, a.failing, a.wall_ms, a.queue_ms, a.start_us, a.cpu_us, a.peak_memory_bytes, a.identity, \
     a.case_set, a.log_bytes, a.rest \
     FROM attempts a JOIN hosts h ON h.key = a.host JOIN runs r ON r.key = a.run WHERE r.id = ";

const HEAD: &str = "SELECT id, name, state, submitted_ms, ended_ms, cells, settled, failing, attempts, sequence, \
     cancelled, rerun_after, file, matrix, pins FROM runs ";

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

fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Corrupt(format!("{what} that cannot be read ({error})")))
}

fn column<'r, T>(row: &'r SqliteRow, name: &str) -> Result<T, Error>
where
    T: sqlx::Decode<'r, Database> + sqlx::Type<Database>,
{
    row.try_get(name)
        .map_err(Error::while_doing("give a column"))
}

fn number(row: &SqliteRow, name: &str) -> Result<u64, Error> {
    column::<i64>(row, name).map(from_sql)
}

fn name<T: std::str::FromStr>(row: &SqliteRow, column_name: &str) -> Result<T, Error>
where
    T::Err: std::fmt::Display,
{
    let text: String = column(row, column_name)?;
    text.parse()
        .map_err(|error| Error::Corrupt(format!("a name that is none ({error})")))
}

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
        let mut query = QueryBuilder::<Database>::new(HEAD);
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
        let mut query = QueryBuilder::<Database>::new(HEAD);
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

fn digest(bytes: &[u8]) -> Result<Digest, Error> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| Error::Corrupt(format!("a digest of {} bytes", bytes.len())))?;
    Ok(Digest::from_bytes(bytes))
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
