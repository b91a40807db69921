//! `bisect`: the first bad value of an ordered axis, where tests also fail by chance. May not: conclude anything itself; that
//! is `verdict::bisect`'s and the sequential test's.

mod search;

use std::process::ExitCode;

use regatta_verdict::bisect::Answer;
use regatta_verdict::sequential::Answer as Confirmed;
use serde::Serialize;

use crate::args::BisectArgs;
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::local::{self, Need, processors};
use crate::pin;
use search::{Outcome, Search};

/// What a bisection came to.
#[derive(Serialize)]
struct Found<'a> {
    axis: &'a str,
    /// `found`, `none`, `range` or `unconfirmed`.
    result: &'static str,
    last_good: Option<&'a str>,
    first_bad: Option<&'a str>,
    /// That this is so: of the value that was found, of none, or of the range.
    probability: f64,
    /// That nothing broke between the ends.
    none: f64,
    /// That a value is the first bad one, of those where it is not negligible, the most probable first.
    posterior: Vec<Belief<'a>>,
    /// Runs that were submitted.
    runs: usize,
    /// Attempts of values.
    attempts: u32,
    rounds: u32,
    text: String,
}

/// How probable it is that a value is the first bad one.
#[derive(Serialize)]
struct Belief<'a> {
    value: &'a str,
    probability: f64,
}

/// Beliefs below this are not listed.
const LISTED_LEAST: f64 = 0.001;

pub(crate) async fn bisect(context: &Context, options: BisectArgs) -> Result<ExitCode, Failure> {
    let source = pin::read(context, &options.file)?;
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
    let work = async |client: &Client| {
        let mut search = Search::new(context, client, &source, &options, &values);
        search.run(slots).await
    };
    let outcome = local::with(context, Need::Attempts(slots), work).await?;
    let found = found(&options, &values, &outcome);
    if context.global.json {
        crate::output::print_json(&found)?;
    } else {
        anstream::println!("{}", found.text);
    }
    Ok(ExitCode::from(match found.result {
        "found" => 1,
        "none" => 0,
        _ => 3,
    }))
}

fn found<'a>(options: &'a BisectArgs, values: &'a [String], outcome: &Outcome) -> Found<'a> {
    let value = |place: usize| values.get(place).map(String::as_str);
    let (axis, what) = (&options.axis, options.case.as_deref().unwrap_or("the test"));
    let mut posterior: Vec<Belief<'a>> = values
        .iter()
        .zip(&outcome.posterior.values)
        .filter(|(_, probability)| **probability >= LISTED_LEAST)
        .map(|(value, probability)| Belief {
            value,
            probability: *probability,
        })
        .collect();
    posterior.sort_by(|one, other| other.probability.total_cmp(&one.probability));
    let (result, ends, probability, text) = match outcome.answer {
        Answer::Found {
            good,
            bad,
            probability,
        } => {
            let ends = (value(good), value(bad));
            let (good, bad) = (ends.0.unwrap_or_default(), ends.1.unwrap_or_default());
            let sure = percent(probability);
            match outcome.confirmed {
                Some(Confirmed::Regressed) | None => (
                    "found",
                    ends,
                    probability,
                    format!(
                        "{axis} {bad} is the first that fails {what}, with a probability of {sure}; {good} is the last that \
                         passes it."
                    ),
                ),
                Some(_) => (
                    "unconfirmed",
                    ends,
                    probability,
                    format!(
                        "{axis} {bad} is probably the first that fails {what} ({sure}), but beside {good} the difference is not \
                         certain."
                    ),
                ),
            }
        }
        Answer::NoCulprit { probability } => (
            "none",
            (None, None),
            probability,
            format!(
                "Nothing broke {what} between {axis} {} and {} (probability {}): they fail equally often.",
                value(0).unwrap_or_default(),
                values.last().map_or("", String::as_str),
                percent(probability),
            ),
        ),
        Answer::Range {
            good,
            bad,
            probability,
            ..
        } => (
            "range",
            (value(good), value(bad)),
            probability,
            format!(
                "The first that fails {what} is after {axis} {} and not after {} (probability {}), if there is one: {} attempts do \
                 not tell more.",
                value(good).unwrap_or_default(),
                value(bad).unwrap_or_default(),
                percent(probability),
                outcome.attempts,
            ),
        ),
        Answer::Untestable => (
            "range",
            (None, None),
            0.0,
            format!("Fewer than two values of {axis} can be tested."),
        ),
    };
    Found {
        axis,
        result,
        last_good: ends.0,
        first_bad: ends.1,
        probability,
        none: outcome.posterior.none,
        posterior,
        runs: outcome.runs,
        attempts: outcome.attempts,
        rounds: outcome.rounds,
        text: format!(
            "{text} {} attempts in {} rounds.",
            outcome.attempts, outcome.rounds
        ),
    }
}

/// A probability for people: never 100% where it is not.
fn percent(probability: f64) -> String {
    format!("{:.1}%", (probability * 1000.0).floor() / 10.0)
}
