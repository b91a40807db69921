//! Writing where runs stand: their states and heads. May not: write anything of an attempt.

use sqlx::PgConnection;

use super::keys::Keys;
use crate::codes::{of_state, to_sql};
use crate::{Error, RunHead, StateRow};

pub(super) async fn insert_states(
    db: &mut PgConnection,
    keys: &mut Keys,
    states: &[StateRow],
) -> Result<(), Error> {
    if states.is_empty() {
        return Ok(());
    }
    keys.know_runs(db, states.iter().map(|state| &state.run))
        .await?;
    let mut columns: [Vec<i64>; 6] = Default::default();
    for state in states {
        let values = [
            keys.run(&state.run)?,
            to_sql(state.sequence),
            of_state(state.state),
            to_sql(state.at_ms),
            to_sql(state.settled),
            to_sql(state.failing),
        ];
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    let mut query = sqlx::query(
        "INSERT INTO run_states (run, sequence, state, at_ms, settled, failing) SELECT * FROM \
         unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) ON CONFLICT DO NOTHING",
    );
    for column in columns {
        query = query.bind(column);
    }
    query
        .execute(db)
        .await
        .map(drop)
        .map_err(Error::while_doing("record runs' states"))
}

pub(super) async fn update_heads(db: &mut PgConnection, heads: &[RunHead]) -> Result<(), Error> {
    if heads.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = heads.iter().map(|head| head.summary.run.as_str()).collect();
    let mut columns: [Vec<i64>; 8] = Default::default();
    for head in heads {
        let summary = &head.summary;
        let values = [
            of_state(summary.state),
            i64::from(head.cancelled),
            to_sql(head.sequence),
            to_sql(summary.progress.settled),
            to_sql(summary.progress.failing),
            to_sql(summary.progress.attempts),
            i64::from(summary.deep),
            i64::from(summary.bisecting),
        ];
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    let ended: Vec<Option<i64>> = heads
        .iter()
        .map(|head| head.summary.ended_ms.map(to_sql))
        .collect();
    let rerun: Vec<Option<i64>> = heads
        .iter()
        .map(|head| head.rerun_after.map(to_sql))
        .collect();
    let mut query = sqlx::query(
        "UPDATE runs SET state = new.state, cancelled = new.cancelled, sequence = new.sequence, settled = new.settled, \
         failing = new.failing, attempts = new.attempts, deep = new.deep, bisecting = new.bisecting, \
         ended_ms = new.ended_ms, rerun_after = new.rerun_after \
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
         $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) \
         AS new (id, state, cancelled, sequence, settled, failing, attempts, deep, bisecting, ended_ms, rerun_after) \
         WHERE runs.id = new.id",
    )
    .bind(ids);
    for column in columns {
        query = query.bind(column);
    }
    query
        .bind(ended)
        .bind(rerun)
        .execute(db)
        .await
        .map(drop)
        .map_err(Error::while_doing("record where runs stand"))
}
