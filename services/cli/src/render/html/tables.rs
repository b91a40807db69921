//! The grids: cells by their axes, and cases along one axis. May not: say anything by colour alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regatta_model::report::{CaseGrid, CaseMark, CaseRow, Report};

use super::{counted, many};
use crate::render::grid::Grid;
use crate::render::{Mark, axes_text, cases_text, escaped};

/// Above so many columns, their heads stand upright.
const COLUMNS_FLAT: usize = 10;

/// Most columns of the grid of cells.
const COLUMNS_SHOWN: usize = 100;

/// Lines named in front of a row.
const LINES_SHOWN: usize = 3;

fn open(columns: usize, caption: &str, out: &mut String) {
    let many = if columns > COLUMNS_FLAT {
        " class=\"many\""
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "<div class=\"scroll\"><table{many}>\n<caption>{}</caption>\n<thead>",
        escaped(caption)
    );
}

fn close(out: &mut String) {
    out.push_str("</tbody>\n</table></div>\n");
}

/// Marks that appear, with their words.
fn legend(marks: &[(&str, &str)], out: &mut String) {
    out.push_str("<ul class=\"legend\" aria-label=\"Legend\">");
    for (sign, word) in marks {
        let _ = write!(out, "<li><span class=\"{word}\">{sign}</span>{word}</li>");
    }
    out.push_str("</ul>\n");
}

fn mark(word: &str, sign: &str, title: &str, out: &mut String) {
    let _ = write!(
        out,
        "<td class=\"mark {word}\" title=\"{}\"><span role=\"img\" aria-label=\"{word}\">{sign}</span></td>",
        escaped(title)
    );
}

/// All cells, one axis across; where there is one axis only, a row each.
pub(super) fn cells(report: &Report, out: &mut String) {
    let grid = Grid::of(report);
    if grid.rows.is_empty() {
        return;
    }
    out.push_str("<section id=\"cells\">\n<h2>Cells</h2>\n");
    let mut seen: Vec<Mark> = Vec::new();
    match grid.across {
        Some(across) => wide(&grid, across, &mut seen, out),
        None => long(&grid, &mut seen, out),
    }
    let legend_of = Mark::ALL.iter().filter(|mark| seen.contains(mark));
    let marks: Vec<(&str, &str)> = legend_of.map(|mark| (mark.sign(), mark.word())).collect();
    legend(&marks, out);
    if grid.more > 0 {
        let _ = writeln!(
            out,
            "<p class=\"faint\">... and {}; those that passed are left out first</p>",
            counted(many(grid.more), "more row")
        );
    }
    let listed = many(report.cells.len());
    if listed < report.counts.cells {
        let _ = writeln!(
            out,
            "<p class=\"faint\">{} that simply passed are not listed</p>",
            counted(report.counts.cells - listed, "cell")
        );
    }
    out.push_str("</section>\n");
}

fn wide(grid: &Grid<'_>, across: &str, seen: &mut Vec<Mark>, out: &mut String) {
    let columns = grid.columns.iter().take(COLUMNS_SHOWN);
    open(grid.columns.len(), &format!("Across: {across}"), out);
    out.push_str("<tr>");
    for head in &grid.down {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escaped(head));
    }
    for value in columns {
        let _ = write!(
            out,
            "<th scope=\"col\" class=\"value\">{}</th>",
            escaped(value)
        );
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    for (values, cells) in &grid.rows {
        out.push_str("<tr>");
        for value in values {
            let _ = write!(out, "<th scope=\"row\">{}</th>", escaped(value));
        }
        for cell in cells.iter().take(COLUMNS_SHOWN) {
            let Some(cell) = cell else {
                out.push_str("<td></td>");
                continue;
            };
            let own = Mark::of(cell);
            if !seen.contains(&own) {
                seen.push(own);
            }
            let title = format!(
                "cell {}, {}: {}, {}",
                cell.cell,
                axes_text(cell),
                own.word(),
                cases_text(cell)
            );
            mark(own.word(), own.sign(), &title, out);
        }
        out.push_str("</tr>\n");
    }
    close(out);
    let more = grid.columns.len().saturating_sub(COLUMNS_SHOWN);
    if more > 0 {
        let _ = writeln!(
            out,
            "<p class=\"faint\">... and {}</p>",
            counted(many(more), "more column")
        );
    }
}

fn long(grid: &Grid<'_>, seen: &mut Vec<Mark>, out: &mut String) {
    open(3, "A row each", out);
    out.push_str("<tr>");
    for head in grid.down.iter().chain(&["verdict", "cases"]) {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escaped(head));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    for (values, cells) in &grid.rows {
        for cell in cells.iter().flatten() {
            let own = Mark::of(cell);
            if !seen.contains(&own) {
                seen.push(own);
            }
            out.push_str("<tr>");
            for value in values {
                let _ = write!(out, "<th scope=\"row\">{}</th>", escaped(value));
            }
            let _ = writeln!(
                out,
                "<td class=\"{word}\">{} {word}</td><td>{}</td></tr>",
                own.sign(),
                escaped(&cases_text(cell)),
                word = own.word(),
            );
        }
    }
    close(out);
}

const MARKS: [CaseMark; 7] = [
    CaseMark::Passed,
    CaseMark::Regressed,
    CaseMark::Failed,
    CaseMark::Fixed,
    CaseMark::Flaky,
    CaseMark::Skipped,
    CaseMark::Unresolved,
];

/// Sign and word.
const fn shown(mark: CaseMark) -> (&'static str, &'static str) {
    let known = match mark {
        CaseMark::Skipped => return ("–", "skipped"),
        CaseMark::Passed => Mark::Passed,
        CaseMark::Failed => Mark::Failed,
        CaseMark::Flaky => Mark::Flaky,
        CaseMark::Regressed => Mark::Regressed,
        CaseMark::Fixed => Mark::Fixed,
        CaseMark::Unresolved => Mark::Unresolved,
    };
    (known.sign(), known.word())
}

/// Cases that did not pass everywhere, along an axis.
pub(super) fn cases(report: &Report, grid: &CaseGrid, out: &mut String) {
    out.push_str("<section id=\"cases\">\n<h2>Cases that did not pass everywhere</h2>\n");
    let lines = grid
        .rows
        .iter()
        .any(|row| row.lines.iter().any(|line| !line.is_empty()));
    let all = lines_of(report, &grid.axis);
    open(grid.values.len(), &format!("Across: {}", grid.axis), out);
    out.push_str("<tr><th scope=\"col\">case</th>");
    if lines {
        out.push_str("<th scope=\"col\">with</th>");
    }
    for value in &grid.values {
        let _ = write!(
            out,
            "<th scope=\"col\" class=\"value\">{}</th>",
            escaped(value)
        );
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    for row in &grid.rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\" class=\"case\">{}</th>",
            escaped(&row.case)
        );
        if lines {
            let _ = write!(out, "<td>{}</td>", escaped(&with(row, all)));
        }
        for (value, own) in grid.values.iter().zip(&row.marks) {
            match own.map(shown) {
                None => out.push_str("<td></td>"),
                Some((sign, word)) => mark(word, sign, &format!("{value}: {word}"), out),
            }
        }
        out.push_str("</tr>\n");
    }
    close(out);
    let seen = |mark: &&CaseMark| {
        grid.rows
            .iter()
            .any(|row| row.marks.contains(&Some(**mark)))
    };
    let marks: Vec<(&str, &str)> = MARKS.iter().filter(seen).map(|mark| shown(*mark)).collect();
    legend(&marks, out);
    let mut left = Vec::new();
    if grid.more_cases > 0 {
        left.push(counted(grid.more_cases, "more case"));
    }
    if grid.more_values > 0 {
        left.push(format!(
            "{} of {}",
            counted(grid.more_values, "more value"),
            grid.axis
        ));
    }
    if !left.is_empty() {
        let _ = writeln!(
            out,
            "<p class=\"faint\">... and {}</p>",
            escaped(&left.join(", "))
        );
    }
    out.push_str("</section>\n");
}

/// How many lines of cells there are; 0: the report does not list all of its cells.
fn lines_of(report: &Report, axis: &str) -> u64 {
    if many(report.cells.len()) < report.counts.cells {
        return 0;
    }
    let others = report.cells.iter().map(|cell| {
        let values = cell.axes.iter().filter(|(name, _)| name.as_str() != axis);
        values.collect::<Vec<_>>()
    });
    many(others.collect::<BTreeSet<_>>().len())
}

/// The other axes' values of a row's lines, of so many in all.
fn with(row: &CaseRow, all: u64) -> String {
    if row.count == all {
        return "all".to_owned();
    }
    let line = |line: &BTreeMap<String, String>| {
        let values: Vec<String> = line
            .iter()
            .map(|(axis, value)| format!("{axis}={value}"))
            .collect();
        values.join(" ")
    };
    let named: Vec<String> = row.lines.iter().take(LINES_SHOWN).map(line).collect();
    let more = row.count.saturating_sub(many(named.len()));
    let named = named.join(", ");
    if more > 0 {
        format!("{named} and {more} more")
    } else {
        named
    }
}
