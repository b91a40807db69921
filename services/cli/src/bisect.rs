//! `bisect`: the first bad value of an ordered axis, by halving. May not: call a value bad on one failing attempt; it
//! believes a run's verdicts, which ask for more where it matters.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use regatta_model::matrix::Matrix;
use regatta_model::report::{CellReport, Report, Verdict};
use serde::Serialize;

use crate::args::BisectArgs;
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::local::{self, Need, processors};
use crate::pin::{self, Source};
use crate::run::hand_in;
use crate::watch::{self, Watched};

/// What a bisection found.
#[derive(Serialize)]
struct Found<'a> {
    axis: &'a str,
    last_good: &'a str,
    first_bad: &'a str,
    runs: usize,
    text: String,
}

pub(crate) async fn bisect(context: &Context, options: BisectArgs) -> Result<ExitCode, Failure> {
    let source = pin::read(context, &options.file)?;
    let axis = source
        .matrix
        .axes()
        .iter()
        .find(|axis| axis.name == options.axis)
        .ok_or_else(|| {
            let names: Vec<_> = source
                .matrix
                .axes()
                .iter()
                .map(|axis| axis.name.as_str())
                .collect();
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
    let runs = AtomicUsize::new(0);
    let work = async |client: &Client| {
        let search = Search {
            context,
            client,
            source: &source,
            options: &options,
            runs: &runs,
        };
        search.halve(&values).await
    };
    let (good, bad) = local::with(context, Need::Attempts(processors()), work).await?;
    let runs = runs.into_inner();
    let (last_good, first_bad) = (text_of(&values, good), text_of(&values, bad));
    let what = options.case.as_deref().unwrap_or("the test");
    let text = format!(
        "{} {first_bad} is the first that fails {what}; {last_good} is the last that passes it.",
        options.axis
    );
    if context.global.json {
        crate::output::print_json(&Found {
            axis: &options.axis,
            last_good,
            first_bad,
            runs,
            text,
        })?;
    } else {
        anstream::println!("{text}");
    }
    Ok(ExitCode::from(1))
}

fn text_of(values: &[String], index: usize) -> &str {
    values.get(index).map_or("", String::as_str)
}

struct Search<'a> {
    context: &'a Context,
    client: &'a Client,
    source: &'a Source,
    options: &'a BisectArgs,
    runs: &'a AtomicUsize,
}

impl Search<'_> {
    /// Indices of the last good and the first bad value.
    async fn halve(&self, values: &[String]) -> Result<(usize, usize), Failure> {
        let (mut good, mut bad) = (0, values.len() - 1);
        let ends = self
            .is_bad(&[text_of(values, good), text_of(values, bad)])
            .await?;
        match ends.as_slice() {
            [true, ..] => {
                return Err(Failure::wrong(format!(
                    "{} {} fails already: begin with an older value",
                    self.options.axis,
                    text_of(values, good)
                )));
            }
            [_, false] => {
                return Err(Failure::wrong(format!(
                    "{} {} passes: nothing is broken between the ends",
                    self.options.axis,
                    text_of(values, bad)
                )));
            }
            _ => {}
        }
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            let is_bad = self
                .is_bad(&[text_of(values, middle)])
                .await?
                .contains(&true);
            if is_bad {
                bad = middle;
            } else {
                good = middle;
            }
            self.context.say(format!(
                "{} {} is {}; {} left to look at",
                self.options.axis,
                text_of(values, middle),
                if is_bad { "bad" } else { "good" },
                bad - good - 1
            ));
        }
        Ok((good, bad))
    }

    /// Runs some values' cells, and tells of each value whether it is bad.
    async fn is_bad(&self, values: &[&str]) -> Result<Vec<bool>, Failure> {
        let wanted = vec![(
            self.options.axis.clone(),
            values.iter().map(|&value| value.to_owned()).collect(),
        )];
        let source = self.narrowed(&wanted)?;
        let key = uuid::Uuid::new_v4().to_string();
        let run = hand_in(self.context, self.client, &source, &key).await?;
        self.runs.fetch_add(1, Ordering::Relaxed);
        let client = self.client;
        if watch::watch(self.context, client, run.run.as_str()).await? == Watched::Interrupted {
            return Err(Failure::wrong("interrupted").with_status(130));
        }
        let report = client.report(run.run.as_str()).await?;
        values
            .iter()
            .map(|value| self.judge(&report, value))
            .collect()
    }

    /// The matrix over these values, without its comparison: here, values are compared by looking between them.
    fn narrowed(&self, wanted: &[(String, Vec<String>)]) -> Result<Source, Failure> {
        let mut json = self.source.matrix.to_json();
        if let Some(map) = json.as_object_mut() {
            map.shift_remove("compare");
        }
        let matrix = Matrix::parse(&json.to_string(), &self.source.file)
            .and_then(|matrix| matrix.only(wanted))
            .map_err(|errors| Failure::wrong(errors.render(false)))?;
        Ok(Source {
            text: matrix.to_json().to_string(),
            file: self.source.file.clone(),
            directory: self.source.directory.clone(),
            matrix,
        })
    }

    fn judge(&self, report: &Report, value: &str) -> Result<bool, Failure> {
        let mut cells = report
            .cells
            .iter()
            .filter(|cell| {
                cell.axes
                    .get(&self.options.axis)
                    .is_some_and(|v| v == value)
            })
            .peekable();
        let unresolved = |cell: &CellReport| cell.verdict == Verdict::Unresolved;
        if cells.peek().is_none() || cells.clone().any(unresolved) {
            return Err(Failure::platform(format!(
                "{} {value} has no verdict: regatta report {}",
                self.options.axis, report.run
            )));
        }
        Ok(cells.any(|cell| match &self.options.case {
            Some(case) => cell.failing.contains(case),
            None => cell.verdict == Verdict::Failed,
        }))
    }
}
