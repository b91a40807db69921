//! The grid: cells laid out by axes, rows and columns. May not: choose colours or markup.

use std::collections::BTreeMap;

use regatta_model::report::{CellReport, Report};

/// Most rows that a grid shows; what passed wholly is left out first.
pub(super) const ROWS_MOST: usize = 60;

/// Cells laid out: one axis across, all others down.
pub(super) struct Grid<'a> {
    /// Names of the axes that make the rows.
    pub(super) down: Vec<&'a str>,
    /// The axis across; none: every row is one cell.
    pub(super) across: Option<&'a str>,
    /// Values of the axis across.
    pub(super) columns: Vec<&'a str>,
    /// Rows: the values of the axes down, and a cell (or none) for each column.
    pub(super) rows: Vec<(Vec<&'a str>, Vec<Option<&'a CellReport>>)>,
    /// Rows left out.
    pub(super) more: usize,
}

impl<'a> Grid<'a> {
    /// Lays out a report's cells. The compared axis stands across, else the last one, where there are two at least.
    pub(super) fn of(report: &'a Report) -> Self {
        let names: Vec<&str> = report.axes.iter().map(|axis| axis.name.as_str()).collect();
        let compared = report.compare.as_ref().map(|compare| compare.axis.as_str());
        let across = match names.as_slice() {
            [] | [_] => None,
            [.., last] => Some(compared.filter(|axis| names.contains(axis)).unwrap_or(last)),
        };
        let down: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| Some(*name) != across)
            .collect();
        // Values come in the matrix's order; those that only `include` brought come after.
        let mut columns: Vec<&str> = Vec::new();
        if let Some(across) = across {
            let axis = report.axes.iter().find(|axis| axis.name == across);
            columns.extend(
                axis.iter()
                    .flat_map(|axis| axis.values.iter().map(String::as_str)),
            );
            for value in report.cells.iter().filter_map(|cell| cell.axes.get(across)) {
                if !columns.contains(&value.as_str()) {
                    columns.push(value);
                }
            }
            // A report of a large run leaves passing cells out; so columns without any cell go too.
            columns.retain(|value| {
                report
                    .cells
                    .iter()
                    .any(|cell| cell.axes.get(across).is_some_and(|v| v == value))
            });
        } else {
            columns.push("");
        }
        let place: BTreeMap<&str, usize> = columns
            .iter()
            .enumerate()
            .map(|(i, value)| (*value, i))
            .collect();
        let mut row_of: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
        let mut rows: Vec<(Vec<&str>, Vec<Option<&CellReport>>)> = Vec::new();
        for cell in &report.cells {
            let value = |name: &str| cell.axes.get(name).map_or("", String::as_str);
            let head: Vec<&str> = down.iter().map(|name| value(name)).collect();
            let row = *row_of.entry(head.clone()).or_insert_with(|| {
                rows.push((head, vec![None; columns.len()]));
                rows.len() - 1
            });
            let column = across.map_or(Some(0), |across| place.get(value(across)).copied());
            let slot = rows
                .get_mut(row)
                .and_then(|(_, cells)| cells.get_mut(column?));
            if let Some(slot) = slot {
                *slot = Some(cell);
            }
        }
        let more = rows.len().saturating_sub(ROWS_MOST);
        if more > 0 {
            let plain = |row: &(Vec<&str>, Vec<Option<&CellReport>>)| {
                row.1
                    .iter()
                    .flatten()
                    .all(|cell| super::Mark::of(cell) == super::Mark::Passed)
            };
            let mut left = more;
            rows.retain(|row| {
                let drop = left > 0 && plain(row);
                left -= usize::from(drop);
                !drop
            });
            rows.truncate(ROWS_MOST);
        }
        Self {
            down,
            across,
            columns,
            rows,
            more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::sample;

    #[test]
    fn the_compared_axis_stands_across_and_the_others_down() {
        let report = sample();
        let grid = Grid::of(&report);
        assert_eq!((grid.down, grid.across), (vec!["python"], Some("lib")));
        assert_eq!(grid.columns, ["1.0", "2.0"]);
        let heads: Vec<_> = grid.rows.iter().map(|row| row.0[0]).collect();
        assert_eq!(heads, ["3.9", "3.10"]);
        assert_eq!(grid.rows[0].1[1].unwrap().cell, 1);
    }

    #[test]
    fn rows_that_passed_are_left_out_first() {
        let mut report = sample();
        report.compare = None;
        report.axes.truncate(1);
        let failing = report.cells[1].clone();
        let passing = report.cells[0].clone();
        report.cells = (0..200)
            .map(|n| {
                let mut cell = if n == 150 {
                    failing.clone()
                } else {
                    passing.clone()
                };
                cell.axes = BTreeMap::from([("python".into(), format!("3.{n}"))]);
                cell
            })
            .collect();
        let grid = Grid::of(&report);
        assert_eq!((grid.rows.len(), grid.more), (ROWS_MOST, 200 - ROWS_MOST));
        assert!(grid.rows.iter().any(|row| row.0 == ["3.150"]));
    }
}
