//! `history` and `flaky`: what a matrix's finished runs say together. May not: count; the server does.

use std::process::ExitCode;

use regatta_model::history::{FlakyCases, History, Mark, MarkCounts};

use crate::args::{FlakyArgs, HistoryArgs, PastArgs};
use crate::client::Client;
use crate::color::Paint;
use crate::context::{Context, Failure, key_value};
use crate::local::{self, Need};
use crate::output::print_json;

/// The query of a path.
fn asked(path: &str, past: &PastArgs, case: Option<&str>) -> Result<String, Failure> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &past.limit.to_string());
    if let Some(matrix) = &past.matrix {
        query.append_pair("matrix", matrix);
    }
    if let Some(case) = case {
        query.append_pair("case", case);
    }
    for axis in &past.axis {
        key_value("axis", axis, "AXIS=VALUE, like --axis library=2.0")?;
        query.append_pair("axis", axis);
    }
    Ok(format!("api/v1/{path}?{}", query.finish()))
}

/// Fails where no finished run of a matrix has a case of this name.
pub(crate) async fn known(client: &Client, matrix: &str, case: &str) -> Result<(), Failure> {
    let past = PastArgs {
        matrix: Some(matrix.to_owned()),
        axis: Vec::new(),
        limit: 20,
    };
    let path = asked("history", &past, Some(case))?;
    client.get::<History>(&path).await.map(|_| ())
}

pub(crate) async fn history(context: &Context, options: &HistoryArgs) -> Result<ExitCode, Failure> {
    let case = options.case.as_deref().filter(|case| *case != "-");
    let path = asked("history", &options.past, case)?;
    let work = async |client: &Client| client.get::<History>(&path).await;
    let history = local::with(context, Need::Records, work).await?;
    if context.global.json {
        print_json(&history)?;
        return Ok(ExitCode::SUCCESS);
    }
    anstream::print!("{}", strips(&history, context.paint()));
    cut(context, history.whole, history.runs.len());
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn flaky(context: &Context, options: &FlakyArgs) -> Result<ExitCode, Failure> {
    let path = asked("flaky", &options.past, None)?;
    let work = async |client: &Client| client.get::<FlakyCases>(&path).await;
    let flaky = local::with(context, Need::Records, work).await?;
    if context.global.json {
        print_json(&flaky)?;
        return Ok(ExitCode::SUCCESS);
    }
    anstream::print!("{}", ranking(&flaky));
    cut(context, flaky.whole, flaky.runs.len());
    Ok(ExitCode::SUCCESS)
}

/// Says that not all runs were read.
fn cut(context: &Context, whole: bool, runs: usize) {
    if !whole {
        context.say(format_args!(
            "not all of {runs} runs was read: the last cells, or the oldest runs, are missing (limits CELLS_MOST, HEARD_MOST); \
             --axis or a lower --limit asks for less"
        ));
    }
}

fn runs(count: usize) -> String {
    format!("{count} {}", if count == 1 { "run" } else { "runs" })
}

fn strips(history: &History, paint: Paint) -> String {
    let what = history.case.as_deref().unwrap_or("each cell");
    let mut text = format!(
        "{what} in {} of {}, the newest last\n",
        runs(history.runs.len()),
        history.matrix
    );
    let name = |axes: &std::collections::BTreeMap<String, String>| {
        let values = axes.iter().map(|(axis, value)| format!("{axis}={value}"));
        values.collect::<Vec<_>>().join(" ")
    };
    let names: Vec<String> = history.cells.iter().map(|cell| name(&cell.axes)).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or_default();
    for (name, cell) in names.iter().zip(&history.cells) {
        let strip: String = cell.marks.iter().map(|mark| shown(*mark, paint)).collect();
        let mut line = format!("{name:<width$}  {strip}  {}", told(&cell.counts));
        if let Some(since) = &cell.since {
            line = format!("{line}, since run {since}");
        }
        text = format!("{text}{}\n", line.trim_start());
    }
    if history.cells.is_empty() {
        text.push_str("no attempt decides\n");
    }
    text
}

fn shown(mark: Mark, paint: Paint) -> String {
    match mark {
        Mark::Passed => paint.good("✓"),
        Mark::Failed => paint.bad("✗"),
        Mark::Flaky => paint.doubtful("~"),
        Mark::Out => "·".to_owned(),
    }
}

/// How often it failed.
fn told(counts: &MarkCounts) -> String {
    if counts.failed == 0 {
        return format!("failed 0 of {}", counts.runs);
    }
    let percent = |share: f64| format!("{:.0}", 100.0 * share);
    format!(
        "failed {} of {} ({}%, 95% {} to {}%)",
        counts.failed,
        counts.runs,
        percent(counts.rate),
        percent(counts.low),
        percent(counts.high)
    )
}

fn ranking(flaky: &FlakyCases) -> String {
    let asked = format!("{} of {}", runs(flaky.runs.len()), flaky.matrix);
    if flaky.cases.is_empty() {
        return format!("no case both passed and failed in a cell of {asked}\n");
    }
    let mut text = format!("what both passed and failed in a cell of {asked}\n");
    for case in &flaky.cases {
        let name = case.case.as_deref().unwrap_or("(no case tells why)");
        let counts = &case.counts;
        let transitions = match counts.transitions {
            1 => "1 transition".to_owned(),
            transitions => format!("{transitions} transitions"),
        };
        let mut line = format!(
            "{:>5.2}  {name}: {transitions}, {} in {}, last in run {}",
            case.score,
            told(counts),
            if case.cells == 1 {
                "1 cell".to_owned()
            } else {
                format!("{} cells", case.cells)
            },
            case.last
        );
        if counts.flaky > 0 {
            let within = format!("both within a run {} times", counts.flaky);
            line = format!("{line}, {}", within.replace(" 1 times", " once"));
        }
        text = format!("{text}{line}\n");
    }
    if flaky.more > 0 {
        text = format!("{text}{} further cases\n", flaky.more);
    }
    text
}
