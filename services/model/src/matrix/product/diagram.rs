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
    /// The first value.
    pub(super) first: u32,
    pub(super) next: Next,
    /// Cells of the node up to the end of this run.
    pub(super) end: u64,
}

/// A compiled product.
pub(super) struct Diagram<const W: usize> {
    pub(super) levels: Vec<Level<W>>,
    pub(super) root: State<W>,
    pub(super) start: Next,
    pub(super) count: u64,
    /// Per node, where its runs end; they begin where those of the node before end.
    pub(super) nodes: Vec<usize>,
    pub(super) runs: Vec<Run>,
    /// States of the axis `tail`.
    pub(super) tails: Vec<State<W>>,
    /// The first axis that is counted anew.
    pub(super) tail: usize,
}

type Memory<const W: usize, V> = HashMap<State<W>, V, BuildHasherDefault<Fold>>;

/// What is remembered while a diagram is built.
struct Build<const W: usize> {
    counts: Vec<Memory<W, u64>>,
    nodes: Vec<Memory<W, (Next, u64)>>,
    steps: u64,
    bytes: usize,
}

impl<const W: usize> Build<W> {
    fn step(&mut self, steps: u64) -> Result<(), TooEntangled> {
        self.steps += steps;
        if self.steps > STEPS_MOST {
            Err(TooEntangled)
        } else {
            Ok(())
        }
    }

    fn store(&mut self, bytes: usize) -> Result<(), TooEntangled> {
        self.bytes += bytes;
        if self.bytes > STATE_BYTES_MOST {
            Err(TooEntangled)
        } else {
            Ok(())
        }
    }
}

impl<const W: usize> Diagram<W> {
    /// Compiles the excludes.
    pub(super) fn build(groups: &Groups) -> Result<Self, TooEntangled> {
        let entries = groups.axes.iter().flat_map(|axis| &axis.groups);
        let states: usize = entries.map(|group| 1 + group.follows.len()).sum();
        if states.saturating_mul(size_of::<State<W>>()) > STATE_BYTES_MOST {
            return Err(TooEntangled);
        }
        let mut levels: Vec<Level<W>> = Vec::with_capacity(groups.axes.len());
        for axis in groups.axes.iter().rev() {
            let (free, quiet) = levels
                .last()
                .map_or((1, true), |level| (level.free, level.quiet));
            levels.push(Level::new(axis, free, quiet));
        }
        levels.reverse();
        let tail = tail(&mut levels);
        let memory = |count: usize| (0..count).map(|_| HashMap::default()).collect();
        let mut build = Build {
            counts: memory(levels.len()),
            nodes: Vec::new(),
            steps: 0,
            bytes: 0,
        };
        build.nodes.resize_with(tail + 1, HashMap::default);
        let mut diagram = Self {
            root: with_bits(&groups.root),
            start: Next::Dead,
            count: 0,
            nodes: Vec::new(),
            runs: Vec::new(),
            tails: Vec::new(),
            tail,
            levels,
        };
        if !groups.nothing {
            let root = diagram.root;
            (diagram.start, diagram.count) = diagram.node(0, &root, &mut build)?;
        }
        diagram.nodes.shrink_to_fit();
        diagram.runs.shrink_to_fit();
        diagram.tails.shrink_to_fit();
        Ok(diagram)
    }

    /// The node of `state` before axis `at`, and its cells.
    fn node(
        &mut self,
        at: usize,
        state: &State<W>,
        build: &mut Build<W>,
    ) -> Result<(Next, u64), TooEntangled> {
        let Some(level) = self.levels.get(at) else {
            return Ok((Next::Free, 1));
        };
        if level.quiet && *state == [0; W] {
            return Ok((Next::Free, level.free));
        }
        if let Some(known) = build.nodes.get(at).and_then(|known| known.get(state)) {
            return Ok(*known);
        }
        let (next, count) = if at == self.tail {
            let count = count(&self.levels, at, state, build)?;
            self.tails.push(*state);
            (next(self.tails.len() - 1)?, count)
        } else {
            self.branch(at, state, build)?
        };
        let found = if count == 0 {
            (Next::Dead, 0)
        } else {
            (next, count)
        };
        build.store(2 * size_of::<State<W>>() + 32)?;
        if let Some(known) = build.nodes.get_mut(at) {
            known.insert(*state, found);
        }
        Ok(found)
    }

    /// A node with its runs.
    fn branch(
        &mut self,
        at: usize,
        state: &State<W>,
        build: &mut Build<W>,
    ) -> Result<(Next, u64), TooEntangled> {
        let count = self.levels.get(at).map_or(0, |level| level.runs.len());
        let mut runs: Vec<Run> = Vec::new();
        let mut end = 0;
        let mut last_each = 0;
        for number in 0..count {
            build.step(1)?;
            let Some(level) = self.levels.get(at) else {
                break;
            };
            let Some((first, length, group)) = level.runs.get(number).copied() else {
                break;
            };
            let (next, each) = match level.after(state, group) {
                Some(after) => self.node(at + 1, &after, build)?,
                None => (Next::Dead, 0),
            };
            end += each * u64::from(length);
            match runs.last_mut() {
                Some(run) if run.next == next && last_each == each => run.end = end,
                _ => runs.push(Run { first, next, end }),
            }
            last_each = each;
        }
        build.store(runs.len() * size_of::<Run>())?;
        self.runs.append(&mut runs);
        self.nodes.push(self.runs.len());
        Ok((next(self.nodes.len() - 1)?, end))
    }
}

fn next(place: usize) -> Result<Next, TooEntangled> {
    u32::try_from(place).map(Next::At).map_err(|_| TooEntangled)
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
    tail
}

/// The cells after `state` before axis `at`, each counted once.
fn count<const W: usize>(
    levels: &[Level<W>],
    at: usize,
    state: &State<W>,
    build: &mut Build<W>,
) -> Result<u64, TooEntangled> {
    build.step(1)?;
    let Some(level) = levels.get(at) else {
        return Ok(1);
    };
    if level.quiet && *state == [0; W] {
        return Ok(level.free);
    }
    if at + 1 == levels.len() {
        return Ok(level.plain_left(state));
    }
    if let Some(known) = build.counts.get(at).and_then(|known| known.get(state)) {
        return Ok(*known);
    }
    let mut total = 0;
    level.branches(state, |values, after| {
        total += values * count(levels, at + 1, after, build)?;
        Ok(())
    })?;
    if level.remember {
        build.store(size_of::<State<W>>() + 16)?;
        if let Some(known) = build.counts.get_mut(at) {
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
