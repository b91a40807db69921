//! `bisect`: the first bad value of an ordered axis, where tests also fail by chance. May not: conclude anything itself; that
//! is `verdict::bisect`'s and the sequential test's.

use std::process::ExitCode;

use regatta_model::report::{Bisected, BisectedAs};
use regatta_model::run::Pins;
use regatta_verdict::bisect::search::{Search, Wanted};
use regatta_verdict::judge::Policy;

use crate::args::BisectArgs;
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::git::Which;
use crate::history;
use crate::local::{self, Need, processors};
use crate::pin::{self, Source};
use crate::run::{give, ready};
use crate::watch::{self, Watched};

pub(crate) async fn bisect(context: &Context, options: BisectArgs) -> Result<ExitCode, Failure> {
    // `every` leaves commits out so that all others can be run; of these, few are.
    let source = pin::read(context, &options.file, Which::All)?;
    let axes = source.matrix.axes();
    let axis = axes.iter().find(|axis| axis.name == options.axis);
    let axis = axis.ok_or_else(|| {
        let names: Vec<_> = axes.iter().map(|axis| axis.name.as_str()).collect();
        Failure::wrong(format!(
            "--axis {}: the matrix has the axes {}",
            options.axis,
            names.join(", ")
        ))
    })?;
    if !axis.ordered {
        return Err(Failure::wrong(format!(
            "--axis {0}: its values have no order; say `{0}: {{values: [...], ordered: true}}`, the oldest first",
            options.axis
        )));
    }
    let values = axis.values.clone();
    if values.len() < 2 {
        return Err(Failure::wrong(format!(
            "--axis {}: two values at least are needed to look between",
            options.axis
        )));
    }
    let slots = options.jobs.unwrap_or_else(processors);
    let wanted = Wanted {
        axis: options.axis.clone(),
        values: values.clone(),
        names: values.iter().map(|value| axis.named(value)).collect(),
        groups: vec![options.case.iter().cloned().collect()],
        rule: Policy::of(&source.matrix).rule(),
        attempts_most: u32::MAX,
    };
    let work = async |client: &Client| {
        let mut rounds = Rounds {
            context,
            client,
            source: &source,
            options: &options,
            values: &values,
            pins: Pins::default(),
        };
        let found = rounds.run(Search::new(wanted.clone()), slots).await?;
        if let (BisectedAs::None, Some(case)) = (found.result, &options.case) {
            // Nothing breaks a case that there is not.
            let ends = (options.axis.clone(), values.clone());
            let probe = source.matrix.probe(&[ends], true);
            let probe = probe.map_err(Failure::wrong)?;
            history::known(client, probe.name(), case).await?;
        }
        Ok(found)
    };
    let found = local::with(context, Need::Attempts(slots), work).await?;
    if context.global.json {
        crate::output::print_json(&found)?;
    } else {
        anstream::println!("{}", found.text);
    }
    Ok(ExitCode::from(match found.result {
        BisectedAs::Found => 1,
        BisectedAs::None => 0,
        BisectedAs::Searching | BisectedAs::Unconfirmed | BisectedAs::Range => 3,
    }))
}

/// The rounds of a search: each value that is asked for is attempted in a run.
struct Rounds<'a> {
    context: &'a Context,
    client: &'a Client,
    source: &'a Source,
    options: &'a BisectArgs,
    values: &'a [String],
    /// What is known of what rounds run: the same in each.
    pins: Pins,
}

impl Rounds<'_> {
    /// Asks until it is known.
    async fn run(&mut self, mut search: Search, slots: u32) -> Result<Bisected, Failure> {
        let width = usize::try_from(slots).unwrap_or(usize::MAX);
        loop {
            let told = |search: &Search| {
                let told = search.told().into_iter().next();
                told.ok_or_else(|| Failure::platform("nothing is searched for"))
            };
            // Before the next round is counted.
            let now = told(&search)?;
            let layers = search.next(width);
            if layers.is_empty() {
                return told(&search);
            }
            if now.attempts > 0 && now.result == BisectedAs::Searching {
                self.context.say(&now.text);
            }
            self.round(&mut search, layers).await?;
        }
    }

    /// Runs each layer, all at once.
    async fn round(&mut self, search: &mut Search, layers: Vec<Vec<usize>>) -> Result<(), Failure> {
        let all = self.probe(&layers.concat())?;
        let new = ready(self.context, self.client, &all, &self.pins).await?;
        self.pins.images.extend(new.images);
        self.pins.files.extend(new.files);
        let mut runs = Vec::new();
        for layer in layers {
            let key = uuid::Uuid::new_v4().to_string();
            let probe = self.probe(&layer)?;
            let run = give(self.client, &probe, self.pins.clone(), &key).await?;
            runs.push((layer, run.run));
        }
        let mut runs = runs.into_iter();
        while let Some((layer, run)) = runs.next() {
            let watched = watch::watch(self.context, self.client, run.as_str()).await?;
            if watched == Watched::Interrupted {
                // Only the run that was watched is cancelled by that.
                for (_, run) in runs {
                    let path = format!("api/v1/runs/{run}/cancel");
                    self.client.post(&path).await?;
                }
                return Err(Failure::wrong("interrupted").with_status(130));
            }
            let report = self.client.report(run.as_str()).await?;
            let skipped = search.take(&report, &layer).map_err(Failure::platform)?;
            for place in skipped {
                self.context.say(format!(
                    "{} {} cannot be tested and is left out: regatta report {run}",
                    self.options.axis,
                    self.value(place),
                ));
            }
        }
        Ok(())
    }

    fn value(&self, place: usize) -> &str {
        self.values.get(place).map_or("", String::as_str)
    }

    /// The matrix over these values. Who looks for where a case began to fail wants to see it fail, known or not.
    fn probe(&self, places: &[usize]) -> Result<Source, Failure> {
        let values = places.iter().map(|place| self.value(*place).to_owned());
        let wanted = [(self.options.axis.clone(), values.collect::<Vec<_>>())];
        let matrix = self
            .source
            .matrix
            .probe(&wanted, self.options.case.is_some())
            .map_err(|errors| Failure::wrong(errors.render(false)))?;
        Ok(Source {
            text: matrix.to_json().to_string(),
            file: self.source.file.clone(),
            directory: self.source.directory.clone(),
            matrix,
            checkouts: self.source.checkouts.clone(),
        })
    }
}
