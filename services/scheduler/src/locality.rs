//! Which of a run's fresh cells a host should rather have: one whose image and set-up it has already. May not: leave a
//! place idle, change whose turn it is, or pass a cell over more than [`PASSED_MOST`] times in a row.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use regatta_model::matrix::Kind;
use regatta_model::wire::SOON_MOST;
use regatta_model::{CellNumber, Digest, HostName};

use crate::Scheduler;
use crate::host::Host;
use crate::run::{Pick, Run};

/// How often in a row the first fresh cell of a run is passed over at most, for cells that are nearer to a host.
pub(crate) const PASSED_MOST: u32 = 256;

/// Most idle hosts that are asked first whether they have what waits.
pub(crate) const NEAR_SEEN_MOST: usize = 1024;

/// Most images and set-ups that a host is taken to have because it was given attempts that need them.
const COMING_MOST: usize = 64;

/// Most runs that are looked at for what a host needs soon.
const SOON_RUNS_MOST: usize = 16;

impl Host {
    fn has(&self, digest: &Digest) -> bool {
        self.ready.contains(digest) || self.coming.contains(digest)
    }

    /// Whether it is known to have anything.
    pub(crate) fn has_any(&self) -> bool {
        !self.ready.is_empty() || !self.coming.is_empty()
    }

    /// How much of what a kind is made from is here: 0 nothing, 1 the image, 2 all.
    fn nearness(&self, kind: &Kind) -> u8 {
        if !self.has(&kind.image) {
            return 0;
        }
        1 + u8::from(kind.setup.is_none_or(|setup| self.has(&setup)))
    }

    /// It was given an attempt of this kind: it will have all that it needs.
    pub(crate) fn expect(&mut self, kind: &Kind) {
        for digest in std::iter::once(kind.image).chain(kind.setup) {
            if self.ready.contains(&digest) {
                continue;
            }
            if self.coming.len() >= COMING_MOST {
                self.coming.clear();
            }
            self.coming.insert(digest);
        }
    }

    /// Takes in what it says that it has. What it fetches is not yet among that.
    pub(crate) fn tells_ready(&mut self, ready: &[Digest]) {
        if self.ready.len() != ready.len() || !ready.iter().all(|one| self.ready.contains(one)) {
            self.ready = ready.iter().copied().collect();
        }
        if self.held.is_empty() {
            self.coming.clear();
        }
    }
}

impl Run {
    /// The kind of a cell, where it is known.
    pub(crate) fn kind(&self, cell: CellNumber) -> Option<&Kind> {
        self.kinds.all().get(self.kinds.of(cell)?)
    }

    /// The kinds that have fresh cells, and the first one of each.
    fn fronts(&self) -> impl Iterator<Item = (&Kind, CellNumber)> {
        let fronts = self.kinds.all().iter().zip(self.fronts.iter().copied());
        fronts.filter(|(_, front)| *front < self.cells)
    }

    /// The fresh cell that a host gets in place of the first one; that one, unless another is nearer.
    pub(crate) fn nearest_fresh(&self, host: &Host) -> Option<CellNumber> {
        let first = self.next_fresh()?;
        if self.fronts.is_empty() || self.passed >= PASSED_MOST {
            return Some(first);
        }
        let own = self.kind(first).map_or(0, |kind| host.nearness(kind));
        let near = self
            .fronts()
            .map(|(kind, front)| (host.nearness(kind), Reverse(front)));
        let nearest = near.filter(|(nearness, _)| *nearness > own).max();
        Some(nearest.map_or(first, |(_, Reverse(front))| front))
    }

    /// Whether the host has the image of what was picked.
    pub(crate) fn is_near(&self, host: &Host, pick: Pick) -> bool {
        let cell = match pick {
            Pick::Fresh(cell) => Some(cell),
            Pick::Want(number) => self.wants.get(&number).map(|want| want.cell),
        };
        cell.and_then(|cell| self.kind(cell))
            .is_some_and(|kind| host.nearness(kind) > 0)
    }

    /// Moves the front of the cell's kind to the first fresh cell of it.
    pub(crate) fn advance_front(&mut self, cell: CellNumber) {
        if !self.fronts.is_empty()
            && let Some(kind) = self.kinds.of(cell)
        {
            self.advance_kind(kind);
        }
    }

    /// Finds the fronts of a new run. Where all cells are of one kind, none is kept.
    pub(crate) fn find_fronts(&mut self) {
        let kinds = self.kinds.all().len();
        if kinds > 1 {
            self.fronts = vec![0; kinds];
            (0..kinds).for_each(|kind| self.advance_kind(kind));
        }
    }

    fn advance_kind(&mut self, kind: usize) {
        let Some(front) = self.fronts.get(kind) else {
            return;
        };
        let mut next = *front;
        while let Some(cell) = self
            .kinds
            .next(kind, next)
            .filter(|cell| *cell < self.cells)
        {
            let fresh = self.fresh_from(cell);
            if fresh == cell {
                break;
            }
            next = fresh;
        }
        let front = self.kinds.next(kind, next).unwrap_or(self.cells);
        if let Some(kept) = self.fronts.get_mut(kind) {
            *kept = front.min(self.cells);
        }
    }
}

impl Scheduler {
    /// Images that a host lacks and will likely need next, of what waits now: at most [`SOON_MOST`].
    pub fn soon(&self, name: &HostName) -> Vec<Digest> {
        let mut soon = Vec::new();
        let host = self.host_names.get(name);
        let host = host.and_then(|index| self.hosts.get(*index));
        let Some(host) = host.filter(|host| host.is_able()) else {
            return soon;
        };
        let mut seen = BTreeSet::new();
        for run in self.queue.runs().take(SOON_RUNS_MOST) {
            let Some(run) = self.runs.get(&run).filter(|run| host.could_run(run)) else {
                continue;
            };
            // It goes on with what it has, as long as there is any of that.
            if run.fronts().any(|(kind, _)| host.nearness(kind) > 0) {
                continue;
            }
            let want = run.wants.values().next().map(|want| want.cell);
            let next = want.into_iter().chain(run.next_fresh());
            let images = next
                .filter_map(|cell| run.kind(cell))
                .map(|kind| kind.image);
            soon.extend(images.filter(|image| !host.has(image) && seen.insert(*image)));
            if soon.len() >= SOON_MOST {
                break;
            }
        }
        soon.truncate(SOON_MOST);
        soon
    }
}
