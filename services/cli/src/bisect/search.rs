//! The rounds of a bisection: each a run of the values that are asked for, one attempt a cell. May not: word anything but
//! progress.

use std::collections::BTreeMap;

use regatta_model::matrix::Matrix;
use regatta_model::report::{AttemptReport, CellReport, Report, Verdict};
use regatta_model::run::Pins;
use regatta_verdict::bisect::{Answer, Bisection, Policy, Posterior, Step};
use regatta_verdict::judge;
use regatta_verdict::sequential::{Answer as Confirmed, Record, Sides, Told};

use crate::args::BisectArgs;
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::pin::Source;
use crate::run::{give, ready};
use crate::watch::{self, Watched};

/// Runs of the two ends before any other value; with fewer, chance at an end costs many runs (`ops/bench verdict`).
const ENDS: u32 = 3;

/// Values that one round asks for at least, however few places there are: one at a time takes longest to tell that there is
/// nothing to find.
const WIDTH_LEAST: usize = 2;

/// A search.
pub(super) struct Search<'a> {
    context: &'a Context,
    client: &'a Client,
    source: &'a Source,
    options: &'a BisectArgs,
    values: &'a [String],
    bisection: Bisection,
    /// What came of each value's attempts.
    records: Vec<Record>,
    /// Values that are known to be untestable.
    skipped: Vec<bool>,
    /// What all rounds run, once it is known.
    pins: Option<Pins>,
    runs: usize,
    attempts: u32,
    rounds: u32,
}

/// What a search came to.
pub(super) struct Outcome {
    pub(super) answer: Answer,
    /// Whether the first bad value and the one before it differ for certain.
    pub(super) confirmed: Option<Confirmed>,
    pub(super) posterior: Posterior,
    pub(super) runs: usize,
    pub(super) attempts: u32,
    pub(super) rounds: u32,
}

/// What an attempt at a value came to.
enum End {
    Passed,
    Failed,
    /// Nothing was tested.
    Untestable,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        context: &'a Context,
        client: &'a Client,
        source: &'a Source,
        options: &'a BisectArgs,
        values: &'a [String],
    ) -> Self {
        let policy = Policy {
            ends: ENDS,
            ..Policy::default()
        };
        Self {
            context,
            client,
            source,
            options,
            values,
            bisection: Bisection::new(values.len(), policy),
            records: vec![Record::default(); values.len()],
            skipped: vec![false; values.len()],
            pins: None,
            runs: 0,
            attempts: 0,
            rounds: 0,
        }
    }

    /// Asks until it is known, then compares the first bad value with the one before it.
    pub(super) async fn run(&mut self, slots: u32) -> Result<Outcome, Failure> {
        let width = usize::try_from(slots)
            .unwrap_or(WIDTH_LEAST)
            .max(WIDTH_LEAST);
        let answer = loop {
            match self.bisection.step(width) {
                Step::Done(answer) => break answer,
                Step::Probe(places) => {
                    self.round(&places).await?;
                    self.tell();
                }
            }
        };
        let confirmed = match answer {
            Answer::Found { good, bad, .. } => Some(self.confirm(good, bad).await?),
            _ => None,
        };
        Ok(Outcome {
            answer,
            confirmed,
            posterior: self.bisection.posterior(),
            runs: self.runs,
            attempts: self.attempts,
            rounds: self.rounds,
        })
    }

    /// The sequential test of the first bad value against the last good one, with what is known of both.
    async fn confirm(&mut self, good: usize, bad: usize) -> Result<Confirmed, Failure> {
        let rule = judge::Policy::of(&self.source.matrix).rule();
        loop {
            let sides = Sides {
                candidate: self.told(bad),
                baseline: self.told(good),
                earlier: Record::default(),
                reruns: self.told(bad).reruns.runs,
                controls: self.told(good).reruns.runs,
            };
            let answer = sides.answer(&rule);
            let Confirmed::Ask {
                candidate,
                controls,
            } = answer
            else {
                return Ok(answer);
            };
            let mut places = vec![bad; usize::try_from(candidate).unwrap_or(1)];
            places.resize(
                places
                    .len()
                    .saturating_add(usize::try_from(controls).unwrap_or(1)),
                good,
            );
            let before = self.attempts;
            self.round(&places).await?;
            if self.attempts == before {
                // What could be tested before cannot be any more.
                return Ok(Confirmed::Unresolved);
            }
        }
    }

    /// A value's attempts as the sequential test wants them: the first one raised the question.
    fn told(&self, place: usize) -> Told {
        let all = self.records.get(place).copied().unwrap_or_default();
        let first = Record {
            failed: all.failed.min(1),
            runs: all.runs.min(1),
        };
        Told {
            first,
            reruns: Record {
                failed: all.failed.saturating_sub(first.failed),
                runs: all.runs.saturating_sub(first.runs),
            },
        }
    }

    /// One attempt of each of these values; a value that stands there several times gets as many.
    async fn round(&mut self, places: &[usize]) -> Result<(), Failure> {
        self.rounds += 1;
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for place in places {
            *counts.entry(*place).or_default() += 1;
        }
        // Attempts of one value are runs of their own: each is evidence by itself.
        let pins = match &self.pins {
            Some(pins) => pins.clone(),
            None => ready(self.context, self.client, self.source).await?,
        };
        self.pins = Some(pins.clone());
        let deepest = counts.values().copied().max().unwrap_or(0);
        let mut layers = Vec::new();
        for layer in 0..deepest {
            let layer: Vec<usize> = counts
                .iter()
                .filter(|(_, count)| **count > layer)
                .map(|(place, _)| *place)
                .collect();
            let key = uuid::Uuid::new_v4().to_string();
            let narrowed = self.narrowed(&layer)?;
            let run = give(self.client, &narrowed, pins.clone(), &key).await?;
            self.runs += 1;
            layers.push((layer, run.run));
        }
        let mut layers = layers.into_iter();
        while let Some((layer, run)) = layers.next() {
            let watched = watch::watch(self.context, self.client, run.as_str()).await?;
            if watched == Watched::Interrupted {
                // Only the run that was watched is cancelled by that.
                for (_, run) in layers {
                    let path = format!("api/v1/runs/{run}/cancel");
                    self.client.post(&path).await?;
                }
                return Err(Failure::wrong("interrupted").with_status(130));
            }
            let report = self.client.report(run.as_str()).await?;
            for place in layer {
                self.take(&report, place)?;
            }
        }
        Ok(())
    }

    /// Takes in what a run says of a value.
    fn take(&mut self, report: &Report, place: usize) -> Result<(), Failure> {
        let failed = match self.end(report, place) {
            End::Passed => false,
            End::Failed => true,
            End::Untestable => {
                if let Some(skipped) = self.skipped.get_mut(place)
                    && !*skipped
                {
                    *skipped = true;
                    self.context.say(format!(
                        "{} {} cannot be tested and is left out: regatta report {}",
                        self.options.axis,
                        self.value(place),
                        report.run
                    ));
                }
                return self.bisection.skip(place).map_err(Failure::platform);
            }
        };
        self.attempts += 1;
        if let Some(record) = self.records.get_mut(place) {
            record.runs += 1;
            record.failed += u32::from(failed);
        }
        self.bisection
            .record(place, failed)
            .map_err(Failure::platform)
    }

    fn value(&self, place: usize) -> &'a str {
        self.values.get(place).map_or("", String::as_str)
    }

    /// A value fails where one of its cells does.
    fn end(&self, report: &Report, place: usize) -> End {
        let value = self.value(place);
        let cells = report.cells.iter().filter(|cell| {
            let own = cell.axes.get(&self.options.axis);
            own.is_some_and(|own| own == value)
        });
        let mut end = End::Untestable;
        for cell in cells {
            match self.cell(cell) {
                End::Failed => return End::Failed,
                End::Passed => end = End::Passed,
                End::Untestable => {}
            }
        }
        end
    }

    fn cell(&self, cell: &CellReport) -> End {
        // The last attempt of each shard.
        let last: BTreeMap<Option<u32>, &AttemptReport> = cell
            .attempts
            .iter()
            .map(|attempt| (attempt.shard, attempt))
            .collect();
        let any = |is: fn(&AttemptReport) -> bool| last.values().any(|attempt| is(attempt));
        let untested = last.is_empty() || any(|attempt| attempt.outcome == "setup_failed");
        match (&self.options.case, cell.verdict) {
            _ if untested => End::Untestable,
            (_, Verdict::Unresolved) => End::Untestable,
            (Some(case), _) if cell.failing.contains(case) => End::Failed,
            // It broke without saying anything of the case.
            (Some(_), Verdict::Failed) if cell.failing.is_empty() || any(|a| a.whole) => {
                End::Untestable
            }
            (None, Verdict::Failed) => End::Failed,
            _ => End::Passed,
        }
    }

    /// The matrix over these values, an attempt each, without its comparison: here, values are compared by looking between
    /// them.
    fn narrowed(&self, places: &[usize]) -> Result<Source, Failure> {
        let values = places.iter().map(|place| self.value(*place).to_owned());
        let wanted = [(self.options.axis.clone(), values.collect::<Vec<_>>())];
        let mut json = self.source.matrix.to_json();
        if let Some(map) = json.as_object_mut() {
            map.shift_remove("compare");
            map.shift_remove("fail-fast");
            if self.options.case.is_some() {
                // Who looks for where a case began to fail wants to see it fail.
                map.shift_remove("known");
            }
            map.insert("repeat".into(), 1.into());
            map.insert("rerun".into(), serde_json::json!({"at-most": 0}));
        }
        let matrix = Matrix::parse(&json.to_string(), &self.source.file)
            .and_then(|matrix| matrix.only(&wanted))
            .map_err(|errors| Failure::wrong(errors.render(false)))?;
        Ok(Source {
            text: matrix.to_json().to_string(),
            file: self.source.file.clone(),
            directory: self.source.directory.clone(),
            matrix,
        })
    }

    /// What is believed now.
    fn tell(&self) {
        let posterior = self.bisection.posterior();
        let mut beliefs: Vec<(f64, String)> = posterior
            .values
            .iter()
            .enumerate()
            .map(|(place, probability)| (*probability, self.value(place).to_owned()))
            .collect();
        beliefs.push((posterior.none, "none".to_owned()));
        beliefs.sort_by(|one, other| other.0.total_cmp(&one.0));
        let shown: Vec<String> = beliefs
            .iter()
            .take(3)
            .filter(|(probability, _)| *probability >= 0.01)
            .map(|(probability, value)| format!("{value} {:.0}%", (probability * 100.0).floor()))
            .collect();
        self.context.say(format!(
            "round {}, {} attempts: first bad {} is {}",
            self.rounds,
            self.attempts,
            self.options.axis,
            shown.join(", ")
        ));
    }
}
