//! Plans of shards: which shard of a cell runs which case, by how long cases took in earlier runs. Made when a run is submitted,
//! pinned to it, and the same for all its attempts. May not: refuse a submission; what has no plan is split as the test likes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use regatta_model::matrix::Matrix;
use regatta_model::plan::{SHARD_PLAN_BYTES_MOST, ShardUnit};
use regatta_model::run::Pins;
use regatta_model::{Digest, RunId};
use regatta_store::DurationsRow;
use regatta_verdict::shards::{Plan, Timed, expected};

use crate::app::App;
use crate::limits::{PLANNED_CASES_MOST, PLANNED_CELLS_MOST, PLANS_MOST};

/// The plans of a run: those that came with it, as far as they are here; else new ones.
pub(crate) async fn plans(app: &App, matrix: &Matrix, given: &Pins) -> BTreeMap<String, Digest> {
    if matrix.shards() < 2 {
        return BTreeMap::new();
    }
    let Some(groups) = matrix.cells().groups(PLANS_MOST, PLANNED_CELLS_MOST) else {
        return BTreeMap::new();
    };
    if !given.shards.is_empty() {
        let fits =
            |(group, plan): &(&String, &Digest)| groups.contains(*group) && app.images.has(plan);
        let given = given.shards.iter().filter(fits);
        return given.map(|(group, plan)| (group.clone(), *plan)).collect();
    }
    new_plans(app, matrix, groups)
        .await
        .unwrap_or_else(|error| {
            tracing::error!("shards are not balanced by what earlier runs say: {error}");
            BTreeMap::new()
        })
}

async fn new_plans(
    app: &App,
    matrix: &Matrix,
    groups: BTreeSet<String>,
) -> Result<BTreeMap<String, Digest>, String> {
    let mut plans = BTreeMap::new();
    let mut pins: BTreeMap<RunId, Pins> = BTreeMap::new();
    let mut left = PLANNED_CASES_MOST;
    for group in groups {
        let rows = app.store.durations(matrix.name(), &group).await;
        let rows = rows.map_err(|error| error.to_string())?;
        let Some(newest) = rows.first() else {
            continue;
        };
        let cases = rows.iter().map(|row| row.set.names.len()).sum::<usize>();
        let Some(after) = left.checked_sub(cases) else {
            tracing::warn!(
                "some shards are not balanced: {PLANNED_CASES_MOST} cases are looked at (limit PLANNED_CASES_MOST)"
            );
            break;
        };
        left = after;
        if !pins.contains_key(&newest.run) {
            let record = app.store.run(&newest.run).await;
            let record = record.map_err(|error| error.to_string())?;
            pins.insert(
                newest.run.clone(),
                record.map(|record| record.pins).unwrap_or_default(),
            );
        }
        let before = pins.get(&newest.run);
        let before = before.and_then(|pins| pins.shards.get(&group)).copied();
        let (images, unit, total) = (app.images.clone(), matrix.shard_unit(), matrix.shards());
        let planned =
            tokio::task::spawn_blocking(move || plan(&images, &rows, unit, total, before)).await;
        if let Some(plan) = planned.map_err(|error| error.to_string())?? {
            plans.insert(group, plan);
        }
    }
    Ok(plans)
}

/// The plan by what these rows say, in the store. Blocking.
fn plan(
    images: &regatta_image::Store,
    rows: &[DurationsRow],
    unit: ShardUnit,
    total: u32,
    before: Option<Digest>,
) -> Result<Option<Digest>, String> {
    let same_run = rows.chunk_by(|one, next| one.run == next.run);
    let runs: Vec<Vec<Timed<'_>>> = same_run
        .map(|rows| {
            rows.iter()
                .map(|row| Timed {
                    names: &row.set.names,
                    durations: &row.durations,
                })
                .collect()
        })
        .collect();
    let before = before.and_then(|plan| read(images, &plan));
    let Some(plan) = Plan::new(&expected(&runs, unit), total, before) else {
        return Ok(None);
    };
    let kept = images.ingest(plan.to_text().as_bytes(), None);
    kept.map(|(digest, _)| Some(digest))
        .map_err(|error| error.to_string())
}

/// A plan of an earlier run, if it is still here.
fn read(images: &regatta_image::Store, plan: &Digest) -> Option<Plan> {
    let most = u64::try_from(SHARD_PLAN_BYTES_MOST).ok()?;
    let mut text = String::new();
    let blob = images.open_blob(plan).ok()?;
    blob.take(most).read_to_string(&mut text).ok()?;
    Some(Plan::parse(&text))
}
