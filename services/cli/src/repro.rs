//! `repro`: one cell of a run, once more, with the same image and the same matrix. May not: compare or conclude; it
//! shows what the test wrote.

use std::process::ExitCode;

use regatta_model::matrix::Matrix;
use regatta_model::report::CellReport;
use regatta_model::run::Submission;

use crate::args::ReproArgs;
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::local::{self, Need};
use crate::run::{finish, processors};
use crate::watch;

pub(crate) async fn repro(context: &Context, options: ReproArgs) -> Result<ExitCode, Failure> {
    let key = uuid::Uuid::new_v4().to_string();
    let work = async |client: &Client| {
        let id = crate::runs::resolve(client, &options.run).await?;
        let cell: CellReport = client
            .get(&format!("api/v1/runs/{id}/cells/{}", options.cell))
            .await?;
        let mut submission: Submission =
            client.get(&format!("api/v1/runs/{id}/submission")).await?;
        let matrix = narrowed(&submission, &cell)?;
        if options.shell {
            anstream::print!("{}", by_hand(&matrix, &submission)?);
            return Ok(ExitCode::SUCCESS);
        }
        submission.matrix = matrix.to_json().to_string();
        let run = client.submit(&submission, &key).await?;
        context.say(format!(
            "run {}: cell {} of {id} again",
            run.run, options.cell
        ));
        let watched = watch::watch(context, client, run.run.as_str()).await?;
        finish(context, client, run.run.as_str(), &[], watched).await
    };
    local::with(context, Need::Attempts(processors()), work).await
}

/// The run's matrix over this one cell, without a comparison.
fn narrowed(submission: &Submission, cell: &CellReport) -> Result<Matrix, Failure> {
    let wrong =
        |errors: regatta_model::matrix::Diagnostics| Failure::platform(errors.render(false));
    let mut json = Matrix::parse(&submission.matrix, &submission.file)
        .map_err(wrong)?
        .to_json();
    if let Some(map) = json.as_object_mut() {
        map.shift_remove("compare");
    }
    let wanted: Vec<_> = cell
        .axes
        .iter()
        .map(|(axis, value)| (axis.clone(), vec![value.clone()]))
        .collect();
    Matrix::parse(&json.to_string(), &submission.file)
        .and_then(|matrix| matrix.only(&wanted))
        .map_err(wrong)
}

/// The commands that do by hand what an attempt of this cell does.
fn by_hand(matrix: &Matrix, submission: &Submission) -> Result<String, Failure> {
    use std::fmt::Write as _;
    let plan = matrix
        .plan(0, &submission.pins)
        .map_err(Failure::platform)?;
    let mut text = format!("# the image of this cell is {}\n", plan.image);
    let mut image = plan.image.to_string();
    for (step, network) in [(plan.setup.as_ref(), "host"), (Some(&plan.test), "none")] {
        let Some(step) = step else { continue };
        let last = network == "none";
        let mut words = vec![
            "regatta".to_owned(),
            "exec".to_owned(),
            quoted(&image),
            format!("--network {network}"),
        ];
        words.extend(
            step.env
                .iter()
                .map(|(name, value)| format!("--env {}", quoted(&format!("{name}={value}")))),
        );
        words.extend(
            step.user
                .iter()
                .map(|user| format!("--user {}", quoted(user))),
        );
        words.extend(
            step.workdir
                .iter()
                .map(|workdir| format!("--workdir {}", quoted(workdir))),
        );
        if !last {
            "regatta-repro".clone_into(&mut image);
            words.push("--commit regatta-repro".to_owned());
        }
        words.push("--".to_owned());
        words.extend(step.run.argv().iter().map(|word| quoted(word)));
        let _ = writeln!(text, "{}", words.join(" "));
    }
    Ok(text)
}

/// A word as a shell takes it whole.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
