//! Rows as a database gives them, and the values that they stand for. Every number is a 64-bit one here, however
//! narrow its column is. May not: run a query.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_model::case::CaseException;
use regatta_model::metric::Metrics;
use regatta_model::run::{Progress, RunSummary};
use regatta_model::wire::{Artifact, LogPlace};
use regatta_model::{AttemptId, Digest, Incarnation, RunId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use crate::codes::{blame, from_sql, outcome, policy, state};
use crate::{
    CaseSet, Cases, EndedRow, Error, EventKind, EventRow, HostRecord, RunHead, RunRecord, Submitted,
};

/// What only few attempts have, as JSON; short names, since there may be millions.
#[derive(Default, Serialize, Deserialize)]
struct Rest<'a> {
    #[serde(rename = "x", default, skip_serializing_if = "<[_]>::is_empty")]
    exceptions: Cow<'a, [CaseException]>,
    #[serde(rename = "p", default, skip_serializing_if = "<[_]>::is_empty")]
    problems: Cow<'a, [String]>,
    #[serde(rename = "d", default, skip_serializing_if = "str::is_empty")]
    detail: Cow<'a, str>,
    #[serde(rename = "c", default, skip_serializing_if = "<[_]>::is_empty")]
    changed: Cow<'a, [String]>,
    #[serde(rename = "a", default, skip_serializing_if = "<[_]>::is_empty")]
    artifacts: Cow<'a, [Artifact]>,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    #[serde(rename = "m", default, skip_serializing_if = "no_metrics")]
    metrics: Cow<'a, Metrics>,
}

fn no_metrics(metrics: &Metrics) -> bool {
    metrics.is_empty()
}

/// What of an attempt has no column of its own; nothing where it has nothing of that.
pub(crate) fn rest(row: &EndedRow) -> Result<Option<String>, Error> {
    let rest = Rest {
        exceptions: Cow::Borrowed(&row.cases.exceptions),
        problems: Cow::Borrowed(&row.cases.problems),
        detail: Cow::Borrowed(&row.detail),
        changed: Cow::Borrowed(&row.changed),
        artifacts: Cow::Borrowed(&row.artifacts),
        files: row.files,
        metrics: Cow::Borrowed(&row.metrics),
    };
    let json = to_json(&rest)?;
    Ok(Some(json).filter(|json| json != "{}"))
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::Corrupt(format!("a value that is no JSON ({error})")))
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Corrupt(format!("{what} that cannot be read ({error})")))
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|error| Error::Corrupt(format!("a name that is none ({error})")))
}

fn digest(bytes: &[u8]) -> Result<Digest, Error> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| Error::Corrupt(format!("a digest of {} bytes", bytes.len())))?;
    Ok(Digest::from_bytes(bytes))
}

fn attempt_id(run: &RunId, cell: i64, ordinal: i64) -> AttemptId {
    AttemptId {
        run: run.clone(),
        cell: from_sql(cell),
        ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX),
    }
}

/// Where a run stands.
#[derive(FromRow)]
pub(crate) struct HeadColumns {
    id: String,
    name: String,
    state: i64,
    submitted_ms: i64,
    ended_ms: Option<i64>,
    cells: i64,
    settled: i64,
    failing: i64,
    attempts: i64,
    sequence: i64,
    cancelled: i64,
    rerun_after: Option<i64>,
    deep: i64,
    bisecting: i64,
}

impl HeadColumns {
    pub(crate) fn head(self) -> Result<RunHead, Error> {
        Ok(RunHead {
            summary: RunSummary {
                run: name(&self.id)?,
                name: self.name,
                state: state(self.state)?,
                submitted_ms: from_sql(self.submitted_ms),
                ended_ms: self.ended_ms.map(from_sql),
                deep: self.deep != 0,
                bisecting: self.bisecting != 0,
                progress: Progress {
                    cells: from_sql(self.cells),
                    settled: from_sql(self.settled),
                    running: 0,
                    failing: from_sql(self.failing),
                    attempts: from_sql(self.attempts),
                },
            },
            sequence: from_sql(self.sequence),
            cancelled: self.cancelled != 0,
            rerun_after: self.rerun_after.map(from_sql),
        })
    }
}

/// A run with its submission.
#[derive(FromRow)]
pub(crate) struct RunColumns {
    #[sqlx(flatten)]
    head: HeadColumns,
    file: String,
    matrix: String,
    pins: String,
}

impl RunColumns {
    pub(crate) fn record(self) -> Result<RunRecord, Error> {
        Ok(RunRecord {
            head: self.head.head()?,
            file: self.file,
            matrix: self.matrix,
            pins: from_json("pins", &self.pins)?,
        })
    }
}

/// A run that a client's key led to.
#[derive(FromRow)]
pub(crate) struct SubmittedColumns {
    id: String,
    body: Vec<u8>,
}

impl SubmittedColumns {
    pub(crate) fn submitted(self) -> Result<Submitted, Error> {
        Ok(Submitted {
            run: name(&self.id)?,
            body: digest(&self.body)?,
        })
    }
}

/// A host.
#[derive(FromRow)]
pub(crate) struct HostColumns {
    name: String,
    incarnation: i64,
    policy: i64,
    reason: String,
    lost: i64,
    facts: String,
    trust: String,
    seen_ms: i64,
}

impl HostColumns {
    pub(crate) fn host(self) -> Result<HostRecord, Error> {
        Ok(HostRecord {
            host: name(&self.name)?,
            incarnation: Incarnation(from_sql(self.incarnation)),
            policy: policy(self.policy)?,
            reason: self.reason,
            lost: self.lost != 0,
            facts: serde_json::from_str(&self.facts).unwrap_or_default(),
            trust: self.trust,
            seen_ms: from_sql(self.seen_ms),
        })
    }
}

/// A set of cases.
#[derive(FromRow)]
pub(crate) struct CaseSetColumns {
    digest: Vec<u8>,
    names: String,
}

impl CaseSetColumns {
    pub(crate) fn set(self) -> Result<CaseSet, Error> {
        Ok(CaseSet {
            digest: digest(&self.digest)?,
            names: from_json("names of cases", &self.names)?,
        })
    }
}

/// An ended attempt.
#[derive(FromRow)]
pub(crate) struct AttemptColumns {
    cell: i64,
    ordinal: i64,
    sequence: i64,
    host: String,
    outcome: i64,
    code: Option<i64>,
    blame: Option<i64>,
    passed: i64,
    settled: i64,
    failing: i64,
    wall_ms: i64,
    queue_ms: i64,
    start_us: i64,
    cpu_us: i64,
    peak_memory_bytes: i64,
    identity: Option<Vec<u8>>,
    /// The key of its set of cases.
    pub(crate) case_set: Option<i64>,
    log_bytes: Option<i64>,
    rest: Option<String>,
}

impl AttemptColumns {
    pub(crate) fn ended(
        self,
        run: &RunId,
        sets: &BTreeMap<i64, Arc<CaseSet>>,
    ) -> Result<EndedRow, Error> {
        let rest: Rest<'static> = match &self.rest {
            Some(text) => from_json("details of an attempt", text)?,
            None => Rest::default(),
        };
        let log = match self.log_bytes {
            None => LogPlace::Empty,
            Some(0) => LogPlace::Inline(String::new()),
            Some(bytes) => LogPlace::Uploaded {
                bytes: from_sql(bytes),
            },
        };
        Ok(EndedRow {
            attempt: attempt_id(run, self.cell, self.ordinal),
            sequence: from_sql(self.sequence),
            host: name(&self.host)?,
            outcome: outcome(self.outcome, self.code)?,
            blame: blame(self.blame)?,
            passed: self.passed != 0,
            settled: from_sql(self.settled),
            failing: from_sql(self.failing),
            wall_ms: from_sql(self.wall_ms),
            queue_ms: from_sql(self.queue_ms),
            start_us: from_sql(self.start_us),
            cpu_us: from_sql(self.cpu_us),
            peak_memory_bytes: from_sql(self.peak_memory_bytes),
            identity: self.identity.as_deref().map(digest).transpose()?,
            cases: Cases {
                set: self.case_set.and_then(|key| sets.get(&key).cloned()),
                exceptions: rest.exceptions.into_owned(),
                problems: rest.problems.into_owned(),
                durations: Vec::new(),
            },
            metrics: rest.metrics.into_owned(),
            detail: rest.detail.into_owned(),
            changed: rest.changed.into_owned(),
            artifacts: rest.artifacts.into_owned(),
            files: rest.files,
            log,
            short_log: Vec::new(),
        })
    }
}

/// An ended attempt or a changed state, as an event of its run.
#[derive(FromRow)]
pub(crate) struct EventColumns {
    sequence: i64,
    settled: i64,
    failing: i64,
    /// Where it is a changed state.
    state: Option<i64>,
    cell: i64,
    ordinal: i64,
    host: String,
    outcome: i64,
    code: Option<i64>,
    passed: i64,
}

impl EventColumns {
    pub(crate) fn is_state(&self) -> bool {
        self.state.is_some()
    }

    /// `states`: how many of the run's events up to this one are changed states.
    pub(crate) fn event(self, run: &RunId, cells: u64, states: u64) -> Result<EventRow, Error> {
        let sequence = from_sql(self.sequence);
        Ok(EventRow {
            sequence,
            progress: Progress {
                cells,
                settled: from_sql(self.settled),
                running: 0,
                failing: from_sql(self.failing),
                // Attempts and states share one sequence, so the attempts up to an event are all but the states.
                attempts: sequence.saturating_sub(states),
            },
            kind: match self.state {
                Some(code) => EventKind::State(state(code)?),
                None => EventKind::Attempt {
                    attempt: attempt_id(run, self.cell, self.ordinal),
                    host: name(&self.host)?,
                    outcome: outcome(self.outcome, self.code)?,
                    passed: self.passed != 0,
                },
            },
        })
    }
}
