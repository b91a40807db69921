//! What is looked for once a run is over, where nothing else wants the places. Where its matrix says `rerun: {deep: true}` and
//! something is unresolved, it goes on. Where it says `bisect`, the leader looks for where regressions began among the values
//! that the run left out, by runs of its own. A search is told by the keys of its submissions: whoever leads next begins it
//! anew, finds the same runs, and goes on where they end. May not: conclude anything; that is `verdict`'s.

mod gaps;
mod probes;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use regatta_model::RunId;
use regatta_model::report::{Comparison, FindingKind, GapSearch, Report, Searches};
use regatta_verdict::bisect::search::{Search, Wanted};
use regatta_verdict::judge::Policy;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::actor::{ActorHandle, Rerun};
use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::attempts::matrix;
use crate::lead::Role;
use crate::limits::{BISECT_AGAIN_AFTER, BISECT_WIDTH, BISECTIONS_MOST};
use crate::reports;
use crate::runs::run_id;
use gaps::Gap;
use probes::Probes;

/// Searches for as long as this server leads, whenever it does.
pub(crate) async fn keep(app: Arc<App>) {
    let mut role = app.role.clone();
    loop {
        let leader = match &*role.borrow_and_update() {
            Role::Leading(leader) => Some(leader.clone()),
            Role::Following(_) | Role::Unknown => None,
        };
        let work = async {
            match leader {
                Some(leader) => search_all(&app, &leader).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work => {}
            changed = role.changed() => if changed.is_err() { return },
            () = app.shutdown.cancelled() => return,
        }
    }
}

/// Searches in every run that waits for it, the oldest first.
async fn search_all(app: &Arc<App>, leader: &ActorHandle) {
    let mut searches: JoinSet<RunId> = JoinSet::new();
    let mut open = BTreeSet::new();
    loop {
        match app.store.bisecting(BISECTIONS_MOST).await {
            Ok(runs) => {
                for run in runs {
                    if !open.insert(run.clone()) {
                        continue;
                    }
                    let (app, leader) = (Arc::clone(app), leader.clone());
                    searches.spawn(async move {
                        search(&app, &leader, &run).await;
                        run
                    });
                }
            }
            Err(error) => tracing::warn!("which runs are to be searched is not known: {error}"),
        }
        tokio::select! {
            () = app.bisect_wanted.notified() => {}
            Some(ended) = searches.join_next(), if !searches.is_empty() => match ended {
                Ok(run) => drop(open.remove(&run)),
                Err(error) => tracing::error!("a search for where a regression began failed: {error}"),
            },
            () = sleep(BISECT_AGAIN_AFTER), if open.is_empty() => {}
        }
    }
}

/// Searches in one run until it is known, cannot be, or nobody wants to know any more.
async fn search(app: &App, leader: &ActorHandle, run: &RunId) {
    while is_wanted(app, run).await {
        let Err(refusal) = try_search(app, leader, run).await else {
            return;
        };
        if !refusal.is_passing() {
            let why = refusal.detail();
            tracing::warn!("where the regressions of run {run} began is not looked for: {why}");
            let given_up = leader.bisected(run.clone(), "[]".to_owned(), false).await;
            if given_up.is_ok() {
                return;
            }
        }
        sleep(BISECT_AGAIN_AFTER).await;
    }
}

/// Whether somebody wants to know still, as far as that is known.
async fn is_wanted(app: &App, run: &RunId) -> bool {
    match app.store.head(run).await {
        Ok(head) => head.is_some_and(|head| head.summary.bisecting),
        Err(_) => true,
    }
}

async fn try_search(app: &App, leader: &ActorHandle, run: &RunId) -> Answer<()> {
    let (record, own) = matrix(app, run).await?;
    let report = {
        let _place = app.reports.acquire().await;
        reports::unsearched(app.store.as_ref(), &own, &record.head.summary).await?
    };
    if own.rerun().deep && !record.head.summary.deep && is_unresolved(&report) {
        match leader.rerun(run.clone(), Rerun::Unresolved).await {
            // What is left to be looked for is so once it is over again.
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.is_passing() => return Err(refusal),
            // No further attempt would tell more.
            Err(_) => {}
        }
    }
    let Some(mut left) = own.bisect() else {
        return say(leader, run, &[], false).await;
    };
    let mut found: Vec<GapSearch> = Vec::new();
    for (number, gap) in gaps::of(&own, &report)?.into_iter().enumerate() {
        let mut search = Search::new(Wanted {
            axis: gap.axis.clone(),
            values: gap.values.clone(),
            names: gap.names.clone(),
            groups: gap.groups.clone(),
            rule: Policy::of(&own).rule(),
            attempts_most: left,
        });
        let mut probes = Probes::new((app, leader), (&record, &own), &gap, number);
        let stopped = loop {
            let layers = search.next(BISECT_WIDTH);
            found.truncate(number);
            found.push(told(&gap, &search, &probes, None));
            if layers.is_empty() {
                break None;
            }
            say(leader, run, &found, true).await?;
            if let Some(stopped) = probes.round(&mut search, layers).await? {
                break Some(stopped);
            }
        };
        left = left.saturating_sub(search.attempts());
        match stopped {
            None => {}
            Some(probes::Stopped::NotWanted) => return Ok(()),
            Some(probes::Stopped::Because(why)) => {
                found.truncate(number);
                found.push(told(&gap, &search, &probes, Some(why)));
            }
        }
    }
    say(leader, run, &found, false).await
}

/// Whether further reruns may tell what the run does not.
fn is_unresolved(report: &Report) -> bool {
    let mut findings = report.findings.iter();
    let mut cells = report
        .cells
        .iter()
        .filter_map(|cell| cell.comparison.as_ref());
    findings.any(|finding| finding.kind == FindingKind::Unresolved)
        || cells.any(|comparison| comparison.result == Comparison::Unresolved)
}

fn told(gap: &Gap, search: &Search, probes: &Probes<'_>, stopped: Option<String>) -> GapSearch {
    GapSearch {
        axis: gap.axis.clone(),
        last_good: gap.last_good.clone(),
        first_bad: gap.first_bad.clone(),
        with: gap.with.clone(),
        found: search.told(),
        runs: probes.runs().to_vec(),
        stopped,
    }
}

async fn say(
    leader: &ActorHandle,
    run: &RunId,
    found: &[GapSearch],
    searching: bool,
) -> Answer<()> {
    let said = serde_json::to_string(found).map_err(|error| Refusal::busy(error.to_string()))?;
    leader.bisected(run.clone(), said, searching).await
}

/// What the searches of a run came to, so far.
pub(crate) async fn show(State(app): State<Arc<App>>, Path(run): Path<String>) -> Answer<Response> {
    let run = run_id(&run)?;
    let head = crate::runs::head(&app, &run).await?;
    let searches = Searches {
        searching: head.summary.bisecting,
        gaps: reports::searched(app.store.as_ref(), &run).await?,
    };
    Ok(json(StatusCode::OK, &searches))
}
