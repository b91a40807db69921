//! What a matrix's finished runs say together. May not: ask the actor; all of it is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use regatta_model::history::PastRun;
use regatta_model::matrix::Matrix;
use regatta_model::{CellNumber, RunId};
use regatta_store::PAGE_MOST;
use regatta_verdict::history::{Past, PastAttempt};

use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::limits::{HISTORY_ATTEMPTS_MOST, HISTORY_RUNS, HISTORY_RUNS_MOST};
use crate::reports::Rows;
use crate::runs::{MaybeQuery, query};

/// Pairs, because an axis may be given several times.
type Pairs = Vec<(String, String)>;

/// What somebody wants to know.
#[derive(Default)]
struct Asked {
    matrix: Option<String>,
    case: Option<String>,
    axes: BTreeMap<String, String>,
    limit: Option<u32>,
}

impl Asked {
    fn read(pairs: Pairs) -> Answer<Self> {
        let mut asked = Self::default();
        for (key, value) in pairs {
            match key.as_str() {
                "matrix" => asked.matrix = Some(value),
                "case" => asked.case = Some(value),
                "limit" => asked.limit = Some(limit(&value)?),
                "axis" => {
                    let (axis, value) = value.split_once('=').ok_or_else(|| {
                        Refusal::bad(format!("axis={value}: expected axis=AXIS=VALUE"))
                    })?;
                    asked.axes.insert(axis.to_owned(), value.to_owned());
                }
                _ => {
                    return Err(Refusal::bad(format!(
                        "{key:?} is not understood; expected matrix, case, axis or limit"
                    )));
                }
            }
        }
        Ok(asked)
    }
}

fn limit(text: &str) -> Answer<u32> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=HISTORY_RUNS_MOST).contains(limit))
        .ok_or_else(|| {
            Refusal::bad(format!(
                "limit={text}: expected 1 to {HISTORY_RUNS_MOST} (limit HISTORY_RUNS_MOST)"
            ))
        })
}

/// The matrix's name, and what its finished runs say.
async fn collect(app: &App, asked: &Asked) -> Answer<(String, Past)> {
    let name = if let Some(name) = &asked.matrix {
        name.clone()
    } else {
        let newest = app.store.heads(None, 1).await?.into_iter().next();
        let newest = newest.ok_or_else(|| Refusal::not_found("there is no run yet"))?;
        newest.summary.name
    };
    let limit = asked.limit.unwrap_or(HISTORY_RUNS);
    let heads = app.store.finished(&name, limit).await?;
    if heads.is_empty() {
        return Err(Refusal::not_found(format!(
            "there is no finished run of a matrix named {name:?}; `regatta runs` lists runs and their names"
        )));
    }
    let (mut past, mut rows) = (Past::default(), Rows::default());
    let mut axes: Option<Vec<String>> = None;
    let mut attempts = 0_usize;
    for head in heads {
        let run = head.summary.run;
        let Some(record) = app.store.run(&run).await? else {
            continue;
        };
        // A matrix that an older program wrote and this one does not understand says nothing.
        let Ok(matrix) = Matrix::parse(&record.matrix, &record.file) else {
            continue;
        };
        let known = matrix.axes().iter().map(|axis| axis.name.clone());
        axes.get_or_insert_with(|| known.collect());
        past.begin(PastRun {
            run: run.to_string(),
            submitted_ms: head.summary.submitted_ms,
        });
        attempts += read(app, &run, &matrix, asked, &mut past, &mut rows).await?;
        if past.is_full() || attempts > HISTORY_ATTEMPTS_MOST {
            past.cut();
            break;
        }
    }
    let axes = axes.unwrap_or_default();
    if let Some(wrong) = asked.axes.keys().find(|axis| !axes.contains(axis)) {
        return Err(Refusal::bad(format!(
            "matrix {name:?} has no axis {wrong:?}; it has {}",
            axes.join(", ")
        )));
    }
    Ok((name, past))
}

/// Reads a run's attempts, page by page, until no more of them is taken. Tells how many it read.
async fn read(
    app: &App,
    run: &RunId,
    matrix: &Matrix,
    asked: &Asked,
    past: &mut Past,
    rows: &mut Rows,
) -> Answer<usize> {
    let mut read = 0_usize;
    let mut after: Option<(CellNumber, u32)> = None;
    loop {
        let page = app.store.attempts(run, after, PAGE_MOST).await?;
        let Some(last) = page.last() else {
            return Ok(read);
        };
        after = Some((last.attempt.cell, last.attempt.ordinal));
        read += page.len();
        if read > HISTORY_ATTEMPTS_MOST {
            past.cut();
            return Ok(read);
        }
        for row in page {
            let values = matrix.cells().values(row.attempt.cell).unwrap_or_default();
            let values: BTreeMap<String, String> = values
                .into_iter()
                .map(|(axis, value)| (axis.to_owned(), value.to_owned()))
                .collect();
            let wanted = |(axis, value): (&String, &String)| values.get(axis) == Some(value);
            if !asked.axes.iter().all(wanted) {
                continue;
            }
            let attempt = PastAttempt {
                shard: matrix.cells().shard(row.attempt.cell),
                outcome: row.outcome,
                blame: row.blame,
                passed: row.passed,
                names: row.cases.set.as_ref().map(|set| rows.names(set)),
                exceptions: &row.cases.exceptions,
            };
            if !past.add(values, attempt) {
                return Ok(read);
            }
        }
    }
}

/// How a case, or (none) each cell, went.
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    asked: MaybeQuery<Pairs>,
) -> Answer<Response> {
    let asked = Asked::read(query(asked)?)?;
    let _place = app.reports.acquire().await;
    let (name, past) = collect(&app, &asked).await?;
    let history = past.history(&name, asked.case.as_deref());
    if let Some(case) = asked.case.as_deref().filter(|_| history.cells.is_empty()) {
        let cases = past.cases();
        if !cases.contains(case) {
            return Err(Refusal::not_found(unknown(case, &name, &cases)));
        }
    }
    Ok(json(StatusCode::OK, &history))
}

/// Most names that are told where none is meant.
const NEAREST_MOST: usize = 3;

fn unknown(case: &str, matrix: &str, cases: &BTreeSet<&str>) -> String {
    let near = regatta_model::history::nearest(case, cases.iter().copied(), NEAREST_MOST);
    let quoted: Vec<String> = near.iter().map(|name| format!("{name:?}")).collect();
    let help = match quoted.as_slice() {
        [] => format!("; its {} cases have other names", cases.len()),
        names => format!("; did you mean {}?", names.join(" or ")),
    };
    format!("no case of matrix {matrix:?} is named {case:?}{help}")
}

/// Cases that both pass and fail.
pub(crate) async fn flaky(
    State(app): State<Arc<App>>,
    asked: MaybeQuery<Pairs>,
) -> Answer<Response> {
    let asked = Asked::read(query(asked)?)?;
    if asked.case.is_some() {
        return Err(Refusal::bad(
            "case is not understood here; GET /api/v1/history takes one",
        ));
    }
    let _place = app.reports.acquire().await;
    let (name, past) = collect(&app, &asked).await?;
    Ok(json(StatusCode::OK, &past.flaky(&name)))
}
