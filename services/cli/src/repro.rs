//! `repro`: one cell of a run, once more, with the same image and the same matrix. May not: compare or conclude; it
//! shows what the test wrote.

use std::collections::BTreeMap;
use std::process::ExitCode;

use regatta_model::Digest;
use regatta_model::container::Network;
use regatta_model::matrix::{Matrix, axis_variable};
use regatta_model::plan::{AttemptPlan, Shard, StepPlan};
use regatta_model::report::CellReport;
use regatta_model::run::Submission;

use crate::args::ReproArgs;
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::local::{self, Need, processors};
use crate::output::finish;
use crate::render::telling_attempt;
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
        submission.pins.shards = plans(&matrix, &submission, &cell)?;
        if options.shell {
            anstream::print!(
                "{}",
                by_hand(&matrix, shard(&cell, options.cell), &submission)?
            );
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

/// The plan of the cell's shards, by the key that it has in the narrowed matrix: without a comparison, cells are split each
/// by itself.
fn plans(
    narrowed: &Matrix,
    submission: &Submission,
    cell: &CellReport,
) -> Result<BTreeMap<String, Digest>, Failure> {
    let whole = Matrix::parse(&submission.matrix, &submission.file)
        .map_err(|errors| Failure::platform(errors.render(false)))?;
    let plan = submission.pins.shards.get(&whole.cells().group(cell.cell));
    let plan = plan.map(|plan| (narrowed.cells().group(0), *plan));
    Ok(plan.into_iter().collect())
}

/// The run's matrix over this one cell, without a comparison.
fn narrowed(submission: &Submission, cell: &CellReport) -> Result<Matrix, Failure> {
    let wrong =
        |errors: regatta_model::matrix::Diagnostics| Failure::platform(errors.render(false));
    let mut json = Matrix::parse(&submission.matrix, &submission.file)
        .map_err(wrong)?
        .to_json();
    if let Some(map) = json.as_object_mut() {
        for key in ["compare", "metrics", "bisect"] {
            map.shift_remove(key);
        }
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

/// Which shard somebody means, from 0: the one with this number or, where that is the cell's own, the one that says how it ended.
fn shard(cell: &CellReport, number: u64) -> u64 {
    let telling = || telling_attempt(cell).and_then(|attempt| attempt.shard);
    match number.saturating_sub(cell.cell) {
        0 => telling().map_or(0, |shard| u64::from(shard.saturating_sub(1))),
        shard => shard,
    }
}

/// The commands that do by hand what an attempt of this cell does, as far as `exec` can.
fn by_hand(matrix: &Matrix, shard: u64, submission: &Submission) -> Result<String, Failure> {
    use std::fmt::Write as _;
    let plan = matrix
        .plan(shard, &submission.pins)
        .map_err(Failure::platform)?;
    let mut text = format!("# the image of this cell is {}\n", plan.image);
    for file in &plan.files {
        let _ = writeln!(
            text,
            "# its `files` for {} are not copied here: exec cannot",
            file.to
        );
    }
    if plan.shard.is_some_and(|shard| shard.plan.is_some()) {
        let told = "the plan of its shards is not copied here: exec cannot, and without it a shard runs other tests";
        let _ = writeln!(text, "# {told}; `regatta repro` without --shell has it");
    }
    let mut image = plan.image.to_string();
    if let Some(setup) = &plan.setup {
        let words = words(&image, setup, &plan, &[("CI", "true")]);
        let _ = writeln!(
            text,
            "{} --commit regatta-repro -- {}",
            words,
            command(setup)
        );
        "regatta-repro".clone_into(&mut image);
    }
    let axes = plan
        .axes
        .iter()
        .map(|(axis, value)| (axis_variable(axis), value.as_str()));
    let axes: Vec<(String, &str)> = axes.collect();
    let mut env = vec![
        ("CI", "true"),
        ("REGATTA_RESULTS", "/tmp"),
        ("REGATTA_ARTIFACTS", "/tmp"),
    ];
    env.extend(axes.iter().map(|(name, value)| (name.as_str(), *value)));
    let number = |number: fn(Shard) -> u32| plan.shard.map(|shard| number(shard).to_string());
    let (total, index) = (number(|shard| shard.total), number(|shard| shard.index));
    if let (Some(total), Some(index)) = (&total, &index) {
        env.push(("TEST_TOTAL_SHARDS", total));
        env.push(("TEST_SHARD_INDEX", index));
        env.push(("TEST_SHARD_STATUS_FILE", "/tmp/.shard-status"));
    }
    let mut test = words(&image, &plan.test, &plan, &env);
    for volume in &plan.volumes {
        let mode = if volume.writable { "rw" } else { "ro" };
        let _ = write!(
            test,
            " --volume {}",
            quoted(&format!("{}:{}:{mode}", volume.name, volume.at))
        );
    }
    let _ = writeln!(text, "{test} -- {}", command(&plan.test));
    Ok(text)
}

/// `regatta exec` with a step's environment, user, directory, network and limits.
fn words(image: &str, step: &StepPlan, plan: &AttemptPlan, env: &[(&str, &str)]) -> String {
    let network = match step.network {
        Network::None => "none",
        Network::Host => "host",
    };
    let mut words = vec![
        "regatta exec".to_owned(),
        quoted(image),
        format!("--network {network}"),
    ];
    let own = step
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in env.iter().copied().chain(own) {
        words.push(format!("--env {}", quoted(&format!("{name}={value}"))));
    }
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
    words.push(format!("--timeout {}ms", step.timeout_ms));
    let limits = &plan.limits;
    words.extend(limits.memory_bytes.map(|bytes| format!("--memory {bytes}")));
    words.extend(limits.cpu_millis.map(|millis| format!("--cpus {millis}m")));
    words.extend(limits.processes.map(|most| format!("--processes {most}")));
    words.extend(limits.disk_bytes.map(|bytes| format!("--disk {bytes}")));
    words.extend(limits.files.map(|most| format!("--files {most}")));
    words.join(" ")
}

fn command(step: &StepPlan) -> String {
    step.run
        .argv()
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ")
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
