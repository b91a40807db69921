//! Further attempts of cells, that wait to be placed. May not: place them.

use std::cmp::Reverse;

use regatta_model::{CellNumber, Ordinal};

use super::cell::{Open, Want, WantKey};
use super::{Run, WAITING_MOST};
use crate::event::Moment;
use crate::host::HostIndex;

impl Run {
    /// What waits of a cell, in the order in which it was asked for.
    pub(crate) fn wants_of(&self, cell: CellNumber) -> &[WantKey] {
        self.open.get(&cell).map_or(&[], |open| &open.wants)
    }

    /// Sees to it that so many attempts of the cell are under way or waiting.
    pub(crate) fn want(
        &mut self,
        cell: CellNumber,
        attempts: u32,
        reruns: u32,
        avoid: &[HostIndex],
        now: Moment,
    ) {
        if cell >= self.cells || attempts == 0 {
            return;
        }
        let held: Vec<Ordinal> = self.held_of(cell).map(|(ordinal, _)| ordinal).collect();
        if self.is_settled(cell) {
            self.settled -= 1;
            let last = self.odd.remove(&cell).unwrap_or(self.repeat);
            self.open.insert(
                cell,
                Open {
                    last,
                    floor: last,
                    leaving: held.clone(),
                    ..Open::default()
                },
            );
        }
        let open = self.open.entry(cell).or_default();
        let staying = held.iter().filter(|held| !open.leaving.contains(held));
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let staying = count(staying.count());
        let has = staying.saturating_add(count(open.wants.len()));
        let first = attempts.saturating_sub(reruns);
        // Hosts may have lost what was asked for before: what was a rerun is none then.
        for (place, want) in (staying..).zip(&open.wants) {
            if let Some(want) = self.wants.get_mut(want) {
                want.rerun = place >= first;
            }
        }
        for place in has..attempts.min(WAITING_MOST) {
            let key = (Reverse(open.last), self.next_want);
            self.wants.insert(
                key,
                Want {
                    cell,
                    avoid: avoid.to_vec(),
                    rerun: place >= first,
                    since: now,
                },
            );
            open.wants.push(key);
            self.next_want += 1;
        }
        self.update_rounds(cell);
        self.advance();
        self.advance_front(cell);
    }
}
