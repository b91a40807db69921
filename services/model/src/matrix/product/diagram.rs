//! Builds the nodes of a product: counts once per state, in bounded steps and bytes.
//! May not: be asked for a cell; that is `number`.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::groups::Groups;
use super::level::{Level, State, with_bits};
use super::{STATE_BYTES_MOST, STEPS_MOST, TooEntangled};

/// Most steps that counting the last axes anew may take; the axes before them are kept as nodes.
const TAIL_STEPS: u64 = 2000;

/// From so many steps on, a count is remembered while the diagram is built.
const REMEMBER_STEPS: u64 = 8;

/// What follows a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Dead,
    /// All combinations of the later axes.
    Free,
    /// A node; at the axis [`Diagram::tail`], a state.
    At(u32),
}

/// Values one after the other with the same future, within a node.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Cells of the node up to the end of this run.
    pub(super) end: u64,
    /// The first value.
    pub(super) first: u32,
    /// [`Next`] in one word: most of a diagram's memory is runs.
    next: u32,
}

impl Run {
    const DEAD: u32 = u32::MAX;
    const FREE: u32 = u32::MAX - 1;

    fn new(first: u32, next: Next) -> Self {
        let next = match next {
            Next::Dead => Self::DEAD,
            Next::Free => Self::FREE,
            Next::At(place) => place,
        };
        Self {
            end: 0,
            first,
            next,
        }
    }

    /// What follows each of its values.
    pub(super) fn next(&self) -> Next {
        match self.next {
            Self::DEAD => Next::Dead,
            Self::FREE => Next::Free,
            place => Next::At(place),
        }
    }
}

/// A compiled product.
pub(super) struct Diagram<const W: usize> {
    pub(super) levels: Vec<Level<W>>,
    pub(super) root: State<W>,
    pub(super) start: Next,
    pub(super) count: u64,
    /// Per node, where its runs end; they begin where those of the node before end. The nodes of an
    /// axis stand together, and before those of the next axis.
    pub(super) nodes: Vec<usize>,
    pub(super) runs: Vec<Run>,
    /// States of the axis `tail`.
    pub(super) tails: Vec<State<W>>,
    /// The first axis that is counted anew.
    pub(super) tail: usize,
}

type Memory<const W: usize, V> = HashMap<State<W>, V, BuildHasherDefault<Fold>>;

/// What building may still take.
struct Budget {
    steps: u64,
    bytes: usize,
}

impl Budget {
    fn step(&mut self) -> Result<(), TooEntangled> {
        self.steps = self.steps.checked_sub(1).ok_or(TooEntangled)?;
        Ok(())
    }

    fn store(&mut self, bytes: usize) -> Result<(), TooEntangled> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(TooEntangled)?;
        Ok(())
    }
}

impl<const W: usize> Diagram<W> {
    /// Compiles the excludes.
    pub(super) fn build(groups: &Groups) -> Result<Self, TooEntangled> {
        let mut budget = Budget {
            steps: STEPS_MOST,
            bytes: STATE_BYTES_MOST,
        };
        let entries = groups.axes.iter().flat_map(|axis| &axis.groups);
        let states: usize = entries.map(|group| 1 + group.follows.len()).sum();
        budget.store(states.saturating_mul(size_of::<State<W>>()))?;
        let mut levels: Vec<Level<W>> = Vec::with_capacity(groups.axes.len());
        for axis in groups.axes.iter().rev() {
            let (free, quiet) = levels
                .last()
                .map_or((1, true), |level| (level.free, level.quiet));
            levels.push(Level::new(axis, free, quiet));
        }
        levels.reverse();
        let mut diagram = Self {
            root: with_bits(&groups.root),
            start: Next::Dead,
            count: 0,
            nodes: Vec::new(),
            runs: Vec::new(),
            tails: Vec::new(),
            tail: tail(&mut levels),
            levels,
        };
        if !groups.nothing {
            let widths = diagram.expand(&mut budget)?;
            diagram.add_up(&widths, &mut budget)?;
        }
        diagram.nodes.shrink_to_fit();
        diagram.runs.shrink_to_fit();
        diagram.tails.shrink_to_fit();
        Ok(diagram)
    }

    /// Makes the nodes, axis by axis, each state once; counts nothing yet. How many nodes each axis has.
    fn expand(&mut self, budget: &mut Budget) -> Result<Vec<usize>, TooEntangled> {
        let quiet = self.levels.first().is_none_or(|level| level.quiet);
        if quiet && self.root == [0; W] {
            self.start = Next::Free;
            return Ok(Vec::new());
        }
        self.start = Next::At(0);
        let mut states = vec![self.root];
        let mut widths = Vec::with_capacity(self.tail);
        for (at, level) in self.levels.iter().enumerate().take(self.tail) {
            // After the last axis nothing is left to choose.
            let quiet = self.levels.get(at + 1).is_none_or(|next| next.quiet);
            let base = if at + 1 == self.tail {
                0
            } else {
                self.nodes.len() + states.len()
            };
            widths.push(states.len());
            let mut known: Memory<W, u32> = HashMap::default();
            let mut following: Vec<State<W>> = Vec::new();
            for state in &states {
                let begin = self.runs.len();
                for (first, _, group) in &level.runs {
                    budget.step()?;
                    let next = match level.after(state, *group) {
                        None => Next::Dead,
                        Some(after) if quiet && after == [0; W] => Next::Free,
                        Some(after) => {
                            let place = u32::try_from(base + following.len());
                            let place = place.map_err(|_| TooEntangled)?;
                            Next::At(*known.entry(after).or_insert_with(|| {
                                following.push(after);
                                place
                            }))
                        }
                    };
                    let run = Run::new(*first, next);
                    let before = self.runs.get(begin..).and_then(<[Run]>::last);
                    if before.is_none_or(|before| before.next != run.next) {
                        budget.store(size_of::<Run>())?;
                        self.runs.push(run);
                    }
                }
                self.nodes.push(self.runs.len());
            }
            budget.store(following.len() * (2 * size_of::<State<W>>() + 16))?;
            states = following;
        }
        self.tails = states;
        Ok(widths)
    }

    /// Counts, from the last axis to the first.
    fn add_up(&mut self, widths: &[usize], budget: &mut Budget) -> Result<(), TooEntangled> {
        let mut counts = (0..self.levels.len())
            .map(|_| HashMap::default())
            .collect::<Vec<_>>();
        let mut tails = Vec::with_capacity(self.tails.len());
        for state in &self.tails {
            tails.push(count(&self.levels, self.tail, state, &mut counts, budget)?);
        }
        let of = |next: Next, free: u64, is_tail: bool, runs: &[Run], nodes: &[usize]| {
            let Next::At(place) = next else {
                return if next == Next::Free { free } else { 0 };
            };
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            if is_tail {
                return tails.get(place).copied().unwrap_or(0);
            }
            let last = nodes
                .get(place)
                .and_then(|end| runs.get(end.checked_sub(1)?));
            last.map_or(0, |run| run.end)
        };
        let mut after = self.nodes.len();
        for (at, level) in self.levels.iter().enumerate().take(self.tail).rev() {
            let begin = after - widths.get(at).copied().unwrap_or(0);
            let size = u32::try_from(level.group_of.len()).unwrap_or(u32::MAX);
            for node in begin..after {
                let start = node
                    .checked_sub(1)
                    .and_then(|before| self.nodes.get(before))
                    .copied();
                let end = self.nodes.get(node).copied().unwrap_or(0);
                let mut total = 0;
                for place in start.unwrap_or(0)..end {
                    let Some(run) = self.runs.get(place).copied() else {
                        break;
                    };
                    let until = self.runs.get(place + 1).filter(|_| place + 1 < end);
                    let length = until
                        .map_or(size, |run| run.first)
                        .saturating_sub(run.first);
                    let is_tail = at + 1 == self.tail;
                    let each = of(
                        run.next(),
                        level.free_after,
                        is_tail,
                        &self.runs,
                        &self.nodes,
                    );
                    total += each * u64::from(length);
                    if let Some(run) = self.runs.get_mut(place) {
                        run.end = total;
                    }
                }
            }
            after = begin;
        }
        let free = self.levels.first().map_or(1, |level| level.free);
        self.count = of(self.start, free, self.tail == 0, &self.runs, &self.nodes);
        Ok(())
    }
}

/// From which axis on to count anew; also says which counts to remember.
fn tail<const W: usize>(levels: &mut [Level<W>]) -> usize {
    let mut tail = levels.len();
    let (mut steps, mut work) = (1u64, 1u64);
    for (at, level) in levels.iter_mut().enumerate().rev() {
        let branches = u64::try_from(level.special.len() + 1).unwrap_or(u64::MAX);
        work = work.saturating_mul(branches);
        level.remember = work > REMEMBER_STEPS;
        let runs = u64::try_from(level.runs.len()).unwrap_or(u64::MAX);
        steps = steps.saturating_mul(branches).saturating_add(runs);
        if steps <= TAIL_STEPS && tail == at + 1 {
            tail = at;
        }
    }
    // Its own states are counted once anyway.
    if let Some(level) = levels.get_mut(tail) {
        level.remember = false;
    }
    tail
}

/// The cells after `state` before axis `at`, each counted once.
fn count<const W: usize>(
    levels: &[Level<W>],
    at: usize,
    state: &State<W>,
    counts: &mut [Memory<W, u64>],
    budget: &mut Budget,
) -> Result<u64, TooEntangled> {
    budget.step()?;
    let Some(level) = levels.get(at) else {
        return Ok(1);
    };
    if level.quiet && *state == [0; W] {
        return Ok(level.free);
    }
    if at + 1 == levels.len() {
        return Ok(level.plain_left(state));
    }
    if let Some(known) = counts.get(at).and_then(|known| known.get(state)) {
        return Ok(*known);
    }
    let mut total = 0;
    level.branches(state, |values, after| {
        total += values * count(levels, at + 1, after, counts, budget)?;
        Ok(())
    })?;
    if level.remember {
        budget.store(size_of::<State<W>>() + 16)?;
        if let Some(known) = counts.get_mut(at) {
            known.insert(*state, total);
        }
    }
    Ok(total)
}

/// A quick hash of a state's words, mixed by multiplication. States are no free choice of anybody, and
/// how many are kept is bounded by [`STATE_BYTES_MOST`].
#[derive(Default)]
pub(super) struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            let word: [u8; 8] = word.try_into().unwrap_or_default();
            self.write_u64(u64::from_le_bytes(word));
        }
        for byte in words.remainder() {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15)
            * u128::from(0xd6e8_feb8_6659_fd93_u64 ^ word.rotate_left(32));
        let high = u64::try_from(wide >> 64).unwrap_or_default();
        let low = u64::try_from(wide & u128::from(u64::MAX)).unwrap_or_default();
        self.0 = high ^ low;
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }
}
