//! Where metrics changed their level along many versions: a line each, and in pages a plot with the levels drawn. May not:
//! conclude anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regatta_model::report::{AttemptReport, LevelChange, Levels, Report, amount};

use super::escaped;

/// Changes that are listed.
const LISTED_MOST: usize = 50;

/// Series that are drawn.
const PLOTS_MOST: usize = 8;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 130.0;
const LEFT: f64 = 76.0;
const EDGE: f64 = 14.0;

/// What changed, each with the cells that it is of; and in a sentence how much was looked at.
pub(super) fn lines(levels: &Levels) -> (Vec<(String, &LevelChange)>, String) {
    let changes = levels.changes.iter().take(LISTED_MOST);
    let lines = changes.map(|one| (line(one), one)).collect();
    let all = u64::try_from(levels.changes.len()).unwrap_or(u64::MAX) + levels.more;
    let plural = if all == 1 { "" } else { "s" };
    let rest = format!(
        "{} series along {}: {all} change{plural} of level",
        levels.series, levels.axis
    );
    (lines, rest)
}

/// The values of the other axes.
fn line(change: &LevelChange) -> String {
    let values = change.axes.iter();
    let values = values.map(|(axis, value)| format!("{axis}={value}"));
    values.collect::<Vec<_>>().join(" ")
}

/// A table and plots; nothing where no level changed.
pub(super) fn html(report: &Report, out: &mut String) {
    let Some(levels) = &report.levels else { return };
    let (lines, rest) = lines(levels);
    let _ = writeln!(
        out,
        "<section id=\"levels\">\n<h2>Levels along {}</h2>\n<p>{}</p>",
        escaped(&levels.axis),
        escaped(&rest)
    );
    if !lines.is_empty() {
        out.push_str("<div class=\"scroll\"><table>\n");
        for (cells, one) in &lines {
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&one.first),
                escaped(&one.metric),
                one.change.name(),
                escaped(&one.told()),
                escaped(cells)
            );
        }
        out.push_str("</table></div>\n");
    }
    let mut drawn: Vec<(&str, &BTreeMap<String, String>)> = Vec::new();
    for change in &levels.changes {
        let series = (change.metric.as_str(), &change.axes);
        if drawn.len() < PLOTS_MOST && !drawn.contains(&series) {
            drawn.push(series);
            plot(report, levels, change, out);
        }
    }
    out.push_str("</section>\n");
}

/// What an attempt measured, in the unit that the report tells levels in.
fn measured(attempt: &AttemptReport, metric: &str) -> Option<f64> {
    match metric {
        "wall_ms" => Some((attempt.seconds * 1e3).max(1.0)),
        "cpu_us" => Some(attempt.cpu_seconds * 1e6),
        // Exact up to 2^32 KiB.
        "peak_memory_bytes" => {
            let kib = u32::try_from(attempt.peak_memory_bytes >> 10).unwrap_or(u32::MAX);
            Some(f64::from(kib) * 1024.0)
        }
        name => attempt.metrics.get(name).map(|metric| metric.value),
    }
}

/// The middle one of what the passing attempts of each cell of a series measured, by its place on the axis.
fn values(report: &Report, levels: &Levels, of: &LevelChange) -> BTreeMap<usize, f64> {
    let axis = report.axes.iter().find(|axis| axis.name == levels.axis);
    let places: BTreeMap<&str, usize> = axis
        .into_iter()
        .flat_map(|axis| axis.values.iter().map(String::as_str).zip(0..))
        .collect();
    let cells = report.cells.iter().filter(|cell| {
        let same = |(axis, value): (&String, &String)| cell.axes.get(axis) == Some(value);
        of.axes.iter().all(same)
    });
    let value = |cell: &regatta_model::report::CellReport| {
        let place = places.get(cell.axes.get(&levels.axis)?.as_str())?;
        let passed = cell.attempts.iter().filter(|attempt| attempt.passed);
        let told = passed.filter_map(|attempt| measured(attempt, &of.metric));
        let mut told: Vec<f64> = told.filter(|value| *value > 0.0).collect();
        told.sort_by(f64::total_cmp);
        Some((*place, *told.get(told.len().saturating_sub(1) / 2)?))
    };
    cells.filter_map(value).collect()
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// One series: a dot each value, and its levels as lines.
fn plot(report: &Report, levels: &Levels, of: &LevelChange, out: &mut String) {
    let values = values(report, levels, of);
    let axis = report.axes.iter().find(|axis| axis.name == levels.axis);
    let Some(axis) = axis.filter(|_| !values.is_empty()) else {
        return;
    };
    let most = values.values().copied().fold(of.from.max(of.to), f64::max) * 1.05;
    let wide = (WIDTH - LEFT - EDGE) / number(axis.values.len());
    let x = |place: usize| LEFT + wide * (number(place) + 0.5);
    let y = |value: f64| HEIGHT - EDGE - (HEIGHT - 2.0 * EDGE) * (value / most).clamp(0.0, 1.0);
    let cells = line(of);
    let title = format!("{} {cells}", of.metric);
    let _ = writeln!(
        out,
        "<div class=\"scroll\"><svg class=\"plot\" role=\"img\" aria-label=\"{} along {}, with its levels\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\"><text x=\"{LEFT}\" y=\"10\">{}</text>",
        escaped(title.trim_end()),
        escaped(&levels.axis),
        escaped(title.trim_end()),
    );
    for value in [0.0, most / 1.05] {
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - EDGE,
            LEFT - 6.0,
            y(value) + 4.0,
            escaped(&amount(value, &of.unit)),
            at = y(value),
        );
    }
    out.push('\n');
    for (place, value) in &values {
        let name = axis.values.get(*place).map_or("", String::as_str);
        let words = format!("{} {name}: {}", levels.axis, amount(*value, &of.unit));
        let _ = writeln!(
            out,
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"><title>{}</title></circle>",
            x(*place),
            y(*value),
            escaped(&words)
        );
    }
    let place = |name: &String| axis.values.iter().position(|value| value == name);
    let same = |one: &&LevelChange| one.metric == of.metric && one.axes == of.axes;
    for change in levels.changes.iter().filter(same) {
        let parts = [
            (&change.since, &change.last, change.from),
            (&change.first, &change.until, change.to),
        ];
        for (begin, end, level) in parts {
            if let (Some(begin), Some(end)) = (place(begin), place(end)) {
                let _ = writeln!(
                    out,
                    "<line class=\"level\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                    x(begin) - wide / 2.0,
                    x(end) + wide / 2.0,
                    at = y(level),
                );
            }
        }
        if let Some(first) = place(&change.first) {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                x(first),
                HEIGHT - 2.0,
                escaped(&change.first)
            );
        }
    }
    out.push_str("</svg></div>\n");
}
