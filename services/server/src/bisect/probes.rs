//! The runs of a search: submitted, waited for, and read. May not: know what is searched for.

use std::time::Duration;

use regatta_model::matrix::Matrix;
use regatta_model::run::{RunState, Submission};
use regatta_model::{Digest, RunId};
use regatta_store::RunRecord;
use regatta_verdict::bisect::search::Search;
use tokio::time::{sleep, timeout};

use super::gaps::Gap;
use crate::actor::ActorHandle;
use crate::answer::{Answer, Refusal};
use crate::app::App;
use crate::attempts::matrix;
use crate::limits::EVENTS_EVERY;
use crate::pins::wrong_matrix;
use crate::{reports, submit};

/// A run of which nothing is heard is asked after again.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Why a search ended before it was done.
pub(super) enum Stopped {
    /// The run that it is for was cancelled, goes on, or is gone.
    NotWanted,
    /// For this reason.
    Because(String),
}

/// The runs of one gap's search.
pub(super) struct Probes<'a> {
    app: &'a App,
    leader: &'a ActorHandle,
    /// The run that the search is for.
    record: &'a RunRecord,
    matrix: &'a Matrix,
    gap: &'a Gap,
    /// The gap's number among those of the run.
    number: usize,
    rounds: u32,
    runs: Vec<RunId>,
}

impl<'a> Probes<'a> {
    pub(super) fn new(
        (app, leader): (&'a App, &'a ActorHandle),
        (record, matrix): (&'a RunRecord, &'a Matrix),
        gap: &'a Gap,
        number: usize,
    ) -> Self {
        Self {
            app,
            leader,
            record,
            matrix,
            gap,
            number,
            rounds: 0,
            runs: Vec::new(),
        }
    }

    pub(super) fn runs(&self) -> &[RunId] {
        &self.runs
    }

    /// Runs what a round asks for, all at once, and tells the search what came of it.
    pub(super) async fn round(
        &mut self,
        search: &mut Search,
        layers: Vec<Vec<usize>>,
    ) -> Answer<Option<Stopped>> {
        self.rounds += 1;
        let mut open = Vec::new();
        for (nth, layer) in layers.into_iter().enumerate() {
            match self.submit(&layer, nth).await {
                Ok(run) => open.push((layer, run)),
                Err(refusal) if refusal.is_passing() => return Err(refusal),
                Err(refusal) => {
                    let why = refusal.detail().to_owned();
                    self.cancel(open.into_iter().map(|(_, run)| run)).await?;
                    return Ok(Some(Stopped::Because(why)));
                }
            }
        }
        self.runs.extend(open.iter().map(|(_, run)| run.clone()));
        let mut open = open.into_iter();
        while let Some((layer, run)) = open.next() {
            let Some(state) = self.over(&run).await? else {
                let rest = open.map(|(_, run)| run);
                self.cancel(std::iter::once(run).chain(rest)).await?;
                return Ok(Some(Stopped::NotWanted));
            };
            if state == RunState::Cancelled {
                self.cancel(open.map(|(_, run)| run)).await?;
                let why = format!("run {run} of it was cancelled");
                return Ok(Some(Stopped::Because(why)));
            }
            let (record, own) = matrix(self.app, &run).await?;
            let report = {
                let _place = self.app.reports.acquire().await;
                reports::report(self.app.store.as_ref(), &own, &record.head.summary).await?
            };
            search
                .take(&report, &layer)
                .map_err(|error| Refusal::conflict("bisect", error.to_string()))?;
        }
        Ok(None)
    }

    async fn submit(&self, layer: &[usize], nth: usize) -> Answer<RunId> {
        let values = layer.iter().filter_map(|place| self.gap.values.get(*place));
        let with = self.gap.with.iter();
        let mut wanted: Vec<(String, Vec<String>)> = with
            .map(|(axis, value)| (axis.clone(), vec![value.clone()]))
            .collect();
        wanted.push((self.gap.axis.clone(), values.cloned().collect()));
        // Who looks for where a case began to fail wants to see it fail, known or not.
        let probe = self
            .matrix
            .probe(&wanted, true)
            .and_then(|probe| probe.last_of_all())
            .map_err(|errors| wrong_matrix(&errors))?;
        let submission = Submission {
            matrix: probe.to_json().to_string(),
            file: self.record.file.clone(),
            pins: self.record.pins.clone(),
        };
        let summary = &self.record.head.summary;
        let body = Digest::of_canonical(&submission);
        let key = format!(
            "bisect {} {} {} {} {nth} {}",
            summary.run, self.record.head.sequence, self.number, self.rounds, body
        );
        let submission = submit::keyed(self.app, submission, key, body).await?;
        Ok(self.leader.submit(submission).await?.run)
    }

    /// Waits for a run's end. None: nobody wants to know what came of it any more.
    async fn over(&self, run: &RunId) -> Answer<Option<RunState>> {
        let mut changed = self.app.live.watch();
        let wanted_by = &self.record.head.summary.run;
        loop {
            changed.mark_unchanged();
            let store = &self.app.store;
            let wanted = store.head(wanted_by).await?;
            if wanted.is_none_or(|head| !head.summary.bisecting) {
                return Ok(None);
            }
            let Some(head) = store.head(run).await? else {
                return Ok(None);
            };
            if head.summary.state.is_over() {
                return Ok(Some(head.summary.state));
            }
            // Many things are recorded each second in a busy fleet.
            sleep(EVENTS_EVERY).await;
            if let Ok(Err(_)) = timeout(HEARD_WITHIN, changed.changed()).await {
                return Err(Refusal::ending());
            }
        }
    }

    async fn cancel(&self, runs: impl Iterator<Item = RunId>) -> Answer<()> {
        for run in runs {
            self.leader.cancel(run).await?;
        }
        Ok(())
    }
}
