//! From a container's end and what it left to an outcome: results, log, artifacts, blame. Uploads what is too long
//! to go with the outcome. May not: change what the container's end says.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use regatta_model::container::Ended;
use regatta_model::plan::Keep;
use regatta_model::wire::{Artifact, EndedAttempt, LogPlace};
use regatta_model::{AttemptId, Blame, Outcome};
use regatta_verdict::judge::passed_attempt;

use crate::collect::{self, Left, Packed};
use crate::failure::{Failure, blocking};
use crate::host::Host;
use crate::measure;
use crate::outbox::OUTCOME_MOST;
use crate::outcome;
use crate::records::{Places, Record};
use crate::server::Error;
use crate::uploads::Upload;

/// Between two tries of an upload: the first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Most kept writable layers on a host; the oldest go first.
const KEPT_MOST: usize = 32;

/// Puts an attempt's outcome together. Waits as long as an upload needs a server that does not answer.
pub(crate) async fn conclude(
    host: &Arc<Host>,
    record: Record,
    ended: Ended,
    places: &Places,
) -> Result<EndedAttempt, Failure> {
    let (mut outcome, packed, left) = {
        let (places, layout) = (places.clone(), host.layout.clone());
        blocking(move || {
            let gathered = gather(record, ended, &places);
            if places.kept.exists() {
                drop_oldest_kept(&layout);
            }
            gathered
        })
        .await?
    };
    let uploads = !left.is_empty() || matches!(packed, Packed::File(_));
    outcome.files = uploads
        .then(|| host.server.files_by(outcome.generation))
        .flatten();
    if !left.is_empty() {
        outcome.artifacts = artifacts(host, &mut outcome, left).await;
    }
    outcome.log = match packed {
        Packed::Place(place) => place,
        Packed::File(bytes) => {
            upload_log(host, &outcome.attempt, outcome.files, places, bytes).await
        }
    };
    Ok(outcome)
}

/// A log of the daemon's own making (a set-up's), as an attempt's.
pub(crate) async fn log_place(
    host: &Arc<Host>,
    attempt: &AttemptId,
    by: Option<u64>,
    log: &std::path::Path,
    places: &Places,
) -> Result<LogPlace, Failure> {
    let (log, to) = (log.to_owned(), places.clone());
    let packed = blocking(move || {
        fs::create_dir_all(&to.directory)?;
        collect::pack_log(&log, &to.packed_log)
    })
    .await?;
    match packed.map_err(|error| Failure::host("the set-up's log", &error))? {
        Packed::Place(place) => Ok(place),
        Packed::File(bytes) => Ok(upload_log(host, attempt, by, places, bytes).await),
    }
}

/// All that can be said without the network. Blocking.
fn gather(record: Record, ended: Ended, places: &Places) -> (EndedAttempt, Packed, Vec<Left>) {
    let plan = &record.plan;
    let judged = outcome::judge(&ended.ending, plan.test.timeout_ms, &plan.limits);
    let mut details = Vec::from([judged.detail]);
    let ran = !matches!(judged.outcome, Outcome::HostLost | Outcome::Cancelled);
    let mut results = regatta_model::case::Results::default();
    let mut metrics = regatta_model::metric::Metrics::new();
    let mut blame = judged.blame;
    let mut passed = false;
    if ran {
        let measured = measure::read(&places.results);
        results = collect::results(&places.results, &plan.results, &measured.files);
        metrics = measured.metrics;
        let problems = measured.problems.into_iter();
        details.extend(problems.map(|problem| format!("metrics: {problem}")));
        if plan.shard.is_some() {
            collect::of_shard(&places.results, judged.outcome, &plan.results, &mut results);
        } else {
            // Nobody needs to know.
            results.durations.clear();
        }
        if blame != Some(Blame::Host) {
            let found = passed_attempt(judged.outcome, &results);
            (passed, blame) = (found.0, found.1);
        }
    }
    let mut lines = String::new();
    if ran && !passed && results.failures().next().is_none() {
        // No case tells why, so its output has to.
        lines = collect::decisive(&places.log);
    }
    let mut left = Vec::new();
    if !matches!(judged.outcome, Outcome::HostLost) {
        let (files, bytes) = (collect::ARTIFACTS_MOST, collect::ARTIFACT_BYTES_MOST);
        let (found, problems) = collect::find(&places.artifacts, &plan.artifacts, files, bytes);
        details.extend(
            problems
                .into_iter()
                .map(|problem| format!("artifacts: {problem}")),
        );
        left = found;
    }
    let packed = collect::pack_log(&places.log, &places.packed_log).unwrap_or_else(|error| {
        details.push(format!("its log was lost: {error}"));
        Packed::Place(LogPlace::Empty)
    });
    if plan.keep == Keep::OnFailure && ran && !passed {
        // The directory beside it stays; `image commit` finds the layer there.
        drop(fs::write(&places.kept, b""));
    }
    let mut outcome = EndedAttempt {
        attempt: record.attempt,
        generation: record.generation,
        incarnation: record.incarnation,
        outcome: judged.outcome,
        blame,
        detail: String::new(),
        wall_ms: ended.wall_ms,
        queue_ms: record.queue_ms,
        start_us: ended.start_us,
        cpu_us: ended.cpu_us,
        peak_memory_bytes: ended.peak_memory_bytes,
        metrics,
        identity: Some(record.identity),
        changed: ended.changed,
        results,
        log: LogPlace::Empty,
        artifacts: Vec::new(),
        files: None,
    };
    bound(&mut outcome);
    let detail = [join(details), lines].join("\n");
    detail.trim().clone_into(&mut outcome.detail);
    (outcome, packed, left)
}

/// An outcome must fit into a sync: without its cases rather than not at all.
fn bound(outcome: &mut EndedAttempt) {
    let names: usize = outcome
        .results
        .names
        .iter()
        .map(|name| name.len() + 8)
        .sum();
    let exceptions = &outcome.results.exceptions;
    let messages: usize = exceptions.iter().map(|e| 2 * e.message.len() + 64).sum();
    let changed: usize = outcome.changed.iter().map(|path| 2 * path.len() + 8).sum();
    // Twice: JSON escapes; what is left is for artifacts and the rest.
    if 2 * (names + messages + changed) > OUTCOME_MOST - (OUTCOME_MOST / 4) {
        outcome.changed.clear();
        outcome.results = regatta_model::case::Results {
            found: true,
            problems: vec![format!(
                "there are {} cases, more than one report to the server holds ({OUTCOME_MOST} bytes)",
                outcome.results.names.len()
            )],
            ..regatta_model::case::Results::default()
        };
    }
}

async fn upload_log(
    host: &Arc<Host>,
    attempt: &AttemptId,
    by: Option<u64>,
    places: &Places,
    bytes: u64,
) -> LogPlace {
    let mut patience = Patience::default();
    loop {
        let log = Upload::Log(&places.packed_log);
        let sent = host.server.upload(attempt, by, log).await;
        match sent {
            Ok(()) => return LogPlace::Uploaded { bytes },
            Err(error) if error.is_passing() => patience.wait(error).await,
            Err(error) => {
                tracing::warn!("the log of {attempt} was not taken: {error}");
                return LogPlace::Empty;
            }
        }
    }
}

/// Uploads artifacts one after the other, up to one that the server refuses; that is told.
async fn artifacts(host: &Arc<Host>, outcome: &mut EndedAttempt, left: Vec<Left>) -> Vec<Artifact> {
    let mut taken = Vec::new();
    for left in left {
        let mut patience = Patience::default();
        let sent = loop {
            let artifact = Upload::Artifact(&left);
            let (attempt, by) = (&outcome.attempt, outcome.files);
            match host.server.upload(attempt, by, artifact).await {
                Err(error) if error.is_passing() => patience.wait(error).await,
                sent => break sent,
            }
        };
        if let Err(error) = sent {
            let told = format!("artifact {}: {error}", left.name);
            outcome.detail = join([std::mem::take(&mut outcome.detail), told]);
            break;
        }
        taken.push(Artifact {
            path: left.name,
            bytes: left.bytes,
        });
    }
    taken
}

/// Sentences after one another; empty ones are none.
fn join(details: impl IntoIterator<Item = String>) -> String {
    let some: Vec<String> = details
        .into_iter()
        .filter(|detail| !detail.is_empty())
        .collect();
    some.join("; ")
}

/// Growing pauses between tries.
struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Patience {
    async fn wait(&mut self, error: Error) {
        tracing::debug!("an upload waits: {error}");
        tokio::time::sleep(self.0).await;
        self.0 = PAUSES.1.min(self.0 * 2);
    }
}

/// Removes the oldest kept writable layers above [`KEPT_MOST`]. Blocking.
fn drop_oldest_kept(layout: &crate::Layout) {
    let Ok(entries) = fs::read_dir(layout.attempts()) else {
        return;
    };
    let kept = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let made = fs::metadata(path.join("kept")).ok()?.modified().ok()?;
        Some((made, path))
    };
    let mut kept: Vec<_> = entries.filter_map(kept).collect();
    kept.sort();
    for (_, path) in kept.iter().take(kept.len().saturating_sub(KEPT_MOST)) {
        drop(fs::remove_dir_all(path));
    }
}
