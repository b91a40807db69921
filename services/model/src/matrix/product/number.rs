//! Asks a compiled product: numbers to combinations and back, and whether there is one of some kind.
//! A number costs one bisection per axis; for the last axes, a handful of counts.
//! May not: change the diagram.

use super::diagram::{Diagram, Next, Run};
use super::level::State;
use super::{OutOfSteps, Product};

impl<const W: usize> Product for Diagram<W> {
    fn count(&self) -> u64 {
        self.count
    }

    fn unrank(&self, mut number: u64) -> Option<Vec<u32>> {
        if number >= self.count {
            return None;
        }
        let mut values = Vec::with_capacity(self.levels.len());
        let mut next = self.start;
        let mut state = None;
        for (at, level) in self.levels.iter().enumerate() {
            let value;
            match next {
                Next::Dead => return None,
                Next::Free => (value, number) = split(0, number, level.free_after)?,
                Next::At(node) if at < self.tail => {
                    let runs = self.runs_of(node);
                    let (run, start, each) = run_at(
                        runs,
                        runs.partition_point(|run| run.end <= number),
                        level.group_of.len(),
                    )?;
                    (value, number) = split(run.first, number - start, each)?;
                    next = run.next();
                }
                Next::At(place) => {
                    let before = state.or_else(|| self.tail_state(place))?;
                    let mut found = None;
                    self.counted(at, &before, |first, length, each, after| {
                        let cells = u64::from(length) * each;
                        if number < cells {
                            found = Some((first, each, *after));
                            return false;
                        }
                        number -= cells;
                        true
                    });
                    let (first, each, after) = found?;
                    (value, number) = split(first, number, each)?;
                    state = Some(after);
                }
            }
            values.push(value);
        }
        Some(values)
    }

    fn rank(&self, values: &[u32]) -> Option<u64> {
        if values.len() != self.levels.len() {
            return None;
        }
        let mut number = 0;
        let mut next = self.start;
        let mut state = None;
        for (at, (level, value)) in self.levels.iter().zip(values).enumerate() {
            let group = *level.group_of.get(usize::try_from(*value).ok()?)?;
            match next {
                Next::Dead => return None,
                Next::Free => number += u64::from(*value) * level.free_after,
                Next::At(node) if at < self.tail => {
                    let runs = self.runs_of(node);
                    let place = runs
                        .partition_point(|run| run.first <= *value)
                        .checked_sub(1)?;
                    let (run, start, each) = run_at(runs, place, level.group_of.len())?;
                    number += start + u64::from(value - run.first) * each;
                    next = run.next();
                }
                Next::At(place) => {
                    let before = state.or_else(|| self.tail_state(place))?;
                    let after = level.after(&before, group)?;
                    self.counted(at, &before, |first, length, each, _| {
                        let skipped = value.saturating_sub(first).min(length);
                        number += u64::from(skipped) * each;
                        first.saturating_add(length) <= *value
                    });
                    state = Some(after);
                }
            }
        }
        Some(number)
    }

    fn find(
        &self,
        allowed: &[Option<Vec<u32>>],
        steps: &mut u64,
    ) -> Result<Option<Vec<u32>>, OutOfSteps> {
        if self.count == 0 {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(self.levels.len());
        let found = self.search(0, &self.root, allowed, steps, &mut values)?;
        Ok(found.then_some(values))
    }
}

/// The value that `number` falls on, counted from `first` with `each` cells a value, and what is left.
fn split(first: u32, number: u64, each: u64) -> Option<(u32, u64)> {
    let skip = u32::try_from(number.checked_div(each)?).ok()?;
    Some((first.checked_add(skip)?, number % each))
}

/// A run, the cells before it, and the cells of each of its values. `size` is that of the axis.
fn run_at(runs: &[Run], place: usize, size: usize) -> Option<(Run, u64, u64)> {
    let run = *runs.get(place)?;
    let start = place
        .checked_sub(1)
        .and_then(|at| runs.get(at))
        .map_or(0, |run| run.end);
    let end = runs
        .get(place + 1)
        .map_or_else(|| u32::try_from(size).ok(), |run| Some(run.first))?;
    let each = (run.end - start).checked_div(u64::from(end.checked_sub(run.first)?))?;
    Some((run, start, each))
}

impl<const W: usize> Diagram<W> {
    fn runs_of(&self, node: u32) -> &[Run] {
        let node = usize::try_from(node).unwrap_or(usize::MAX);
        let end = self.nodes.get(node).copied().unwrap_or(0);
        let start = node
            .checked_sub(1)
            .and_then(|before| self.nodes.get(before))
            .copied();
        self.runs.get(start.unwrap_or(0)..end).unwrap_or_default()
    }

    fn tail_state(&self, place: u32) -> Option<State<W>> {
        self.tails.get(usize::try_from(place).ok()?).copied()
    }

    /// The cells after `state` before axis `at`.
    fn count_from(&self, at: usize, state: &State<W>) -> u64 {
        let Some(level) = self.levels.get(at) else {
            return 1;
        };
        if level.quiet && *state == [0; W] {
            return level.free;
        }
        if at + 1 == self.levels.len() {
            return level.plain_left(state);
        }
        let mut total = 0;
        let counted = level.branches(state, |values, after| {
            total += values * self.count_from(at + 1, after);
            Ok(())
        });
        counted.map_or(0, |()| total)
    }

    /// Counts the values of axis `at` after `state`, run by run, until `each` has enough: first value,
    /// length, cells of each value, the state after it.
    fn counted(
        &self,
        at: usize,
        state: &State<W>,
        mut each: impl FnMut(u32, u32, u64, &State<W>) -> bool,
    ) {
        let Some(level) = self.levels.get(at) else {
            return;
        };
        let plain = level.after_plain(state);
        let mut plain_count = None;
        for (first, length, group) in &level.runs {
            let Some(after) = level.after(state, *group) else {
                if each(*first, *length, 0, &plain) {
                    continue;
                }
                return;
            };
            let count = if after == plain {
                *plain_count.get_or_insert_with(|| self.count_from(at + 1, &plain))
            } else {
                self.count_from(at + 1, &after)
            };
            if !each(*first, *length, count, &after) {
                return;
            }
        }
    }

    /// Extends `values` from axis `at` on to a combination that `allowed` allows.
    fn search(
        &self,
        at: usize,
        state: &State<W>,
        allowed: &[Option<Vec<u32>>],
        steps: &mut u64,
        values: &mut Vec<u32>,
    ) -> Result<bool, OutOfSteps> {
        let Some(level) = self.levels.get(at) else {
            return Ok(true);
        };
        let plain = level.after_plain(state);
        let mut tried_plain = false;
        let mut attempt = |value: u32, group: usize, steps: &mut u64| {
            *steps = steps.checked_sub(1).ok_or(OutOfSteps)?;
            let Some(after) = level.after(state, group) else {
                return Ok(false);
            };
            if after == plain && std::mem::replace(&mut tried_plain, true) {
                return Ok(false);
            }
            values.push(value);
            let found = self.search(at + 1, &after, allowed, steps, values)?;
            if !found {
                values.pop();
            }
            Ok(found)
        };
        match allowed.get(at).and_then(Option::as_ref) {
            Some(allowed) => {
                for value in allowed {
                    let group = usize::try_from(*value)
                        .ok()
                        .and_then(|at| level.group_of.get(at));
                    if let Some(group) = group
                        && attempt(*value, *group, steps)?
                    {
                        return Ok(true);
                    }
                }
            }
            None => {
                for (number, group) in level.groups.iter().enumerate() {
                    if attempt(group.first, number, steps)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}
