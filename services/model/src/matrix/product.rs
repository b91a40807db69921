//! The product of the axes without what is excluded: counted, numbered and decoded by arithmetic.
//!
//! Cells are numbered in the order of the file, the last axis fastest. Going through the axes in that
//! order, all that matters about the values chosen so far is which excludes they have begun to match:
//! a *state*, which is a set of bits. Its bits are of two kinds: "this group of values of a later axis
//! is forbidden", and "this rest of an exclude, over two or more later axes, must not match". Equal
//! states have equal futures, so counts are taken once per state. For the first axes the states are
//! kept as nodes with cumulative counts, in which a number is found by bisection; for the last
//! few, where counting is a handful of steps, they are counted anew each time.
//!
//! May not: search the excludes for a cell, or take memory by the cell. What it takes is bounded by
//! the constants below; excludes that would take more are refused.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Most cells of a matrix: what JSON numbers hold exactly.
pub const CELLS_MOST: u64 = 1 << 53;

/// Most steps that compiling the excludes of one matrix may take.
pub const STEPS_MOST: u64 = 30_000_000;

/// Most bytes that states may take while they are compiled, about.
pub const STATE_BYTES_MOST: usize = 96 << 20;

/// Most steps that counting the last axes anew may take; the axes before them are kept as nodes.
const TAIL_STEPS: u64 = 1000;

/// From so many steps on, a count is remembered while excludes are compiled.
const REMEMBER_STEPS: u64 = 8;

/// Excludes as the product takes them: per exclude, axes in ascending order with the values (sorted)
/// that it matches. An axis that is not named matches with all its values.
pub(super) type Exclude = Vec<(usize, Vec<u32>)>;

/// The excludes tie the axes together in more ways than [`STEPS_MOST`] and [`STATE_BYTES_MOST`] allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooEntangled;

/// A search took more steps than it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfSteps;

/// A product of axes without its excluded combinations.
pub(super) trait Product: Send + Sync {
    /// How many combinations there are.
    fn count(&self) -> u64;

    /// The combination with this number: an index into the values of each axis.
    fn unrank(&self, number: u64) -> Option<Vec<u32>>;

    /// The number of a combination, if it is not excluded.
    fn rank(&self, values: &[u32]) -> Option<u64>;

    /// Any combination whose values are all allowed: per axis the values (sorted), or all.
    fn find(
        &self,
        allowed: &[Option<Vec<u32>>],
        steps: &mut u64,
    ) -> Result<Option<Vec<u32>>, OutOfSteps>;
}

/// Compiles `excludes` over axes of these sizes. The product of the sizes is at most [`CELLS_MOST`].
pub(super) fn compile(
    sizes: &[usize],
    excludes: &[Exclude],
) -> Result<Arc<dyn Product>, TooEntangled> {
    let plan = Plan::of(sizes, excludes);
    Ok(match plan.bits.div_ceil(64) {
        0 | 1 => Arc::new(Diagram::<1>::build(&plan)?),
        2 => Arc::new(Diagram::<2>::build(&plan)?),
        3 | 4 => Arc::new(Diagram::<4>::build(&plan)?),
        5..=8 => Arc::new(Diagram::<8>::build(&plan)?),
        9..=16 => Arc::new(Diagram::<16>::build(&plan)?),
        17..=64 => Arc::new(Diagram::<64>::build(&plan)?),
        _ => return Err(TooEntangled),
    })
}

/// A set of bits.
type State<const W: usize> = [u64; W];

/// One bit of a state.
#[derive(Clone, Copy)]
struct Bit {
    word: usize,
    mask: u64,
}

impl Bit {
    fn new(number: usize) -> Self {
        Self {
            word: number / 64,
            mask: 1 << (number % 64),
        }
    }

    fn is_in<const W: usize>(self, state: &State<W>) -> bool {
        state
            .get(self.word)
            .is_some_and(|word| word & self.mask != 0)
    }
}

fn with_bits<const W: usize>(bits: &[usize]) -> State<W> {
    let mut state = [0; W];
    for bit in bits {
        let bit = Bit::new(*bit);
        if let Some(word) = state.get_mut(bit.word) {
            *word |= bit.mask;
        }
    }
    state
}

fn and<const W: usize>(mut state: State<W>, other: &State<W>) -> State<W> {
    state
        .iter_mut()
        .zip(other)
        .for_each(|(word, other)| *word &= other);
    state
}

fn or<const W: usize>(mut state: State<W>, other: &State<W>) -> State<W> {
    state
        .iter_mut()
        .zip(other)
        .for_each(|(word, other)| *word |= other);
    state
}

/// The rest of an exclude: axes and the groups of values that it matches.
type Rest = Vec<(usize, Vec<usize>)>;

/// What the excludes ask of each axis, before states have a width.
struct Plan {
    axes: Vec<PlanAxis>,
    bits: usize,
    /// Bits that are set before any value is chosen.
    root: Vec<usize>,
    /// The only combination there could be is excluded: an exclude matches everything.
    nothing: bool,
}

#[derive(Default)]
struct PlanAxis {
    /// Values that the same excludes name form a group.
    group_of: Vec<usize>,
    groups: Vec<PlanGroup>,
    /// Rests that this axis goes on with: their bit, the groups that match, and the bits that follow.
    rests: Vec<(usize, Vec<usize>, Vec<usize>)>,
    /// Bits that mean nothing any more once this axis is decided.
    spent: Vec<usize>,
}

#[derive(Default)]
struct PlanGroup {
    size: u32,
    first: u32,
    /// The bit that forbids the group.
    atom: Option<usize>,
    /// The bits that choosing a value of the group sets.
    begins: Vec<usize>,
}

impl Plan {
    fn of(sizes: &[usize], excludes: &[Exclude]) -> Self {
        let mut axes = group(sizes, excludes);
        let mut rests = BTreeMap::new();
        let mut plan = Self {
            axes: Vec::new(),
            bits: 0,
            root: Vec::new(),
            nothing: false,
        };
        for exclude in excludes {
            let rest = in_groups(&axes, exclude);
            let Some(((axis, groups), after)) = rest.split_first() else {
                plan.nothing = true;
                continue;
            };
            if after.is_empty() {
                let bits = plan.bits_of(&mut axes, &mut rests, &rest);
                plan.root.extend(bits);
                continue;
            }
            let bits = plan.bits_of(&mut axes, &mut rests, after);
            for group in groups {
                let begun = axes
                    .get_mut(*axis)
                    .and_then(|axis| axis.groups.get_mut(*group));
                if let Some(begun) = begun {
                    begun.begins.extend(&bits);
                }
            }
        }
        plan.axes = axes;
        plan
    }

    /// The bits that say that `rest` must not match, made where they are new.
    fn bits_of(
        &mut self,
        axes: &mut [PlanAxis],
        rests: &mut BTreeMap<Rest, usize>,
        rest: &[(usize, Vec<usize>)],
    ) -> Vec<usize> {
        let Some(((at, groups), after)) = rest.split_first() else {
            return Vec::new();
        };
        if after.is_empty() {
            let Some(axis) = axes.get_mut(*at) else {
                return Vec::new();
            };
            let mut bits = Vec::with_capacity(groups.len());
            for group in groups {
                let Some(group) = axis.groups.get_mut(*group) else {
                    continue;
                };
                let atom = *group.atom.get_or_insert_with(|| {
                    axis.spent.push(self.bits);
                    self.bits += 1;
                    self.bits - 1
                });
                bits.push(atom);
            }
            return bits;
        }
        if let Some(bit) = rests.get(rest) {
            return vec![*bit];
        }
        let bit = self.bits;
        self.bits += 1;
        rests.insert(rest.to_vec(), bit);
        let follow = self.bits_of(axes, rests, after);
        if let Some(axis) = axes.get_mut(*at) {
            axis.spent.push(bit);
            axis.rests.push((bit, groups.clone(), follow));
        }
        vec![bit]
    }
}

/// Puts the values of each axis into groups.
fn group(sizes: &[usize], excludes: &[Exclude]) -> Vec<PlanAxis> {
    // Which excludes name a value; values that none names share the empty list.
    let mut named: Vec<BTreeMap<u32, Vec<usize>>> = vec![BTreeMap::new(); sizes.len()];
    for (number, exclude) in excludes.iter().enumerate() {
        for (axis, values) in exclude {
            let Some(named) = named.get_mut(*axis) else {
                continue;
            };
            for value in values {
                named.entry(*value).or_default().push(number);
            }
        }
    }
    let axes = sizes.iter().zip(named).map(|(size, mut named)| {
        let mut axis = PlanAxis::default();
        let mut known: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for value in (0..).take(*size) {
            let next = axis.groups.len();
            let group = *known
                .entry(named.remove(&value).unwrap_or_default())
                .or_insert(next);
            if group == next {
                axis.groups.push(PlanGroup {
                    first: value,
                    ..PlanGroup::default()
                });
            }
            if let Some(group) = axis.groups.get_mut(group) {
                group.size += 1;
            }
            axis.group_of.push(group);
        }
        axis
    });
    axes.collect()
}

/// An exclude over groups; axes of which it matches all values are left away.
fn in_groups(axes: &[PlanAxis], exclude: &Exclude) -> Rest {
    let groups = exclude.iter().filter_map(|(at, values)| {
        let axis = axes.get(*at)?;
        let of = |value: &u32| axis.group_of.get(usize::try_from(*value).ok()?).copied();
        let mut groups: Vec<usize> = values.iter().filter_map(of).collect();
        groups.sort_unstable();
        groups.dedup();
        (groups.len() < axis.groups.len()).then_some((*at, groups))
    });
    groups.collect()
}

/// One axis of a diagram.
struct Level<const W: usize> {
    group_of: Vec<usize>,
    groups: Vec<Group<W>>,
    /// Values one after the other in the same group: the first, how many, the group.
    runs: Vec<(u32, u32, usize)>,
    /// How many values choosing sets no bits; they all lead to the same state.
    plain: u64,
    /// Their bits and sizes.
    plain_atoms: Vec<(Bit, u64)>,
    /// Their bits; set where each of these groups is a single value, and bits can just be counted.
    plain_mask: Option<State<W>>,
    /// The other groups.
    special: Vec<usize>,
    rests: Vec<(Bit, Vec<usize>, State<W>)>,
    /// What stays of a state.
    keep: State<W>,
    /// Combinations of this and all later axes, excludes aside.
    free: u64,
    /// Combinations of all later axes, excludes aside.
    free_after: u64,
    /// Whether no exclude begins at this axis or later.
    quiet: bool,
    /// Whether counts from here on are remembered.
    remember: bool,
}

struct Group<const W: usize> {
    size: u64,
    first: u32,
    atom: Option<Bit>,
    begin: State<W>,
    special: bool,
}

impl<const W: usize> Level<W> {
    fn new(plan: &PlanAxis, free_after: u64, quiet_after: bool) -> Self {
        let resting = |group: usize| {
            plan.rests
                .iter()
                .any(|(_, groups, _)| groups.contains(&group))
        };
        let mut resting_groups = vec![false; plan.groups.len()];
        if !plan.rests.is_empty() {
            for (number, known) in resting_groups.iter_mut().enumerate() {
                *known = resting(number);
            }
        }
        let groups: Vec<Group<W>> = plan
            .groups
            .iter()
            .zip(resting_groups)
            .map(|(group, resting)| Group {
                size: group.size.into(),
                first: group.first,
                atom: group.atom.map(Bit::new),
                begin: with_bits(&group.begins),
                special: resting || !group.begins.is_empty(),
            })
            .collect();
        let plain = || groups.iter().filter(|group| !group.special);
        let atoms = plain().filter_map(|group| Some((group.atom?, group.size)));
        let plain_atoms: Vec<(Bit, u64)> = atoms.collect();
        let mut mask = [0; W];
        for (bit, _) in &plain_atoms {
            if let Some(word) = mask.get_mut(bit.word) {
                *word |= bit.mask;
            }
        }
        let mut runs: Vec<(u32, u32, usize)> = Vec::new();
        for (value, group) in (0..).zip(&plan.group_of) {
            match runs.last_mut() {
                Some((_, length, last)) if last == group => *length += 1,
                _ => runs.push((value, 1, *group)),
            }
        }
        let spent: State<W> = with_bits(&plan.spent);
        let size: u64 = groups.iter().map(|group| group.size).sum();
        Self {
            runs,
            plain: plain().map(|group| group.size).sum(),
            plain_mask: plain_atoms
                .iter()
                .all(|(_, size)| *size == 1)
                .then_some(mask),
            plain_atoms,
            special: groups
                .iter()
                .enumerate()
                .filter(|(_, g)| g.special)
                .map(|(at, _)| at)
                .collect(),
            rests: plan
                .rests
                .iter()
                .map(|(bit, groups, follow)| (Bit::new(*bit), groups.clone(), with_bits(follow)))
                .collect(),
            keep: spent.map(|word| !word),
            free: free_after.saturating_mul(size),
            free_after,
            quiet: quiet_after && plan.groups.iter().all(|group| group.begins.is_empty()),
            remember: false,
            group_of: plan.group_of.clone(),
            groups,
        }
    }

    /// How many plain values `state` allows.
    fn plain_left(&self, state: &State<W>) -> u64 {
        let gone: u64 = match &self.plain_mask {
            Some(mask) => state
                .iter()
                .zip(mask)
                .map(|(a, b)| u64::from((a & b).count_ones()))
                .sum(),
            None => {
                let gone = self.plain_atoms.iter().filter(|(bit, _)| bit.is_in(state));
                gone.map(|(_, size)| *size).sum()
            }
        };
        self.plain.saturating_sub(gone)
    }

    /// The state after a plain value.
    fn after_plain(&self, state: &State<W>) -> State<W> {
        and(*state, &self.keep)
    }

    /// The state after a value of `group`; none where `state` forbids it.
    fn after(&self, state: &State<W>, number: usize) -> Option<State<W>> {
        let group = self.groups.get(number)?;
        if group.atom.is_some_and(|atom| atom.is_in(state)) {
            return None;
        }
        let mut next = and(*state, &self.keep);
        if group.special {
            next = or(next, &group.begin);
            for (bit, groups, follow) in &self.rests {
                if bit.is_in(state) && groups.binary_search(&number).is_ok() {
                    next = or(next, follow);
                }
            }
        }
        Some(next)
    }
}

/// A node's place, or what is counted without one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Dead,
    /// All combinations of the later axes.
    Free,
    /// A node of the next axis.
    Node(usize),
    /// A state of the first axis that is counted anew.
    Tail(usize),
}

/// One value after the other with the same future, within a node.
struct Run {
    /// The first value.
    first: u32,
    /// Cells of the node up to the end of this run.
    end: u64,
    /// Cells of one value.
    each: u64,
    next: Next,
}

struct Diagram<const W: usize> {
    levels: Vec<Level<W>>,
    root: State<W>,
    start: Next,
    count: u64,
    /// Per node, the place of its runs.
    nodes: Vec<(usize, usize)>,
    runs: Vec<Run>,
    tails: Vec<State<W>>,
    /// The first axis that is counted anew.
    tail: usize,
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
    fn step(&mut self) -> Result<(), TooEntangled> {
        self.steps += 1;
        if self.steps > STEPS_MOST {
            Err(TooEntangled)
        } else {
            Ok(())
        }
    }

    fn store(&mut self, bytes: usize) -> Result<(), TooEntangled> {
        self.bytes += bytes + size_of::<State<W>>();
        if self.bytes > STATE_BYTES_MOST {
            Err(TooEntangled)
        } else {
            Ok(())
        }
    }
}

impl<const W: usize> Diagram<W> {
    fn build(plan: &Plan) -> Result<Self, TooEntangled> {
        let mut levels: Vec<Level<W>> = Vec::with_capacity(plan.axes.len());
        for axis in plan.axes.iter().rev() {
            let (free, quiet) = levels
                .last()
                .map_or((1, true), |level| (level.free, level.quiet));
            levels.push(Level::new(axis, free, quiet));
        }
        levels.reverse();
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
        let mut diagram = Self {
            root: with_bits(&plan.root),
            start: Next::Dead,
            count: 0,
            nodes: Vec::new(),
            runs: Vec::new(),
            tails: Vec::new(),
            tail,
            levels,
        };
        let memories = || diagram.levels.iter().map(|_| HashMap::default());
        let mut build = Build {
            counts: memories().collect(),
            nodes: Vec::new(),
            steps: 0,
            bytes: 0,
        };
        build.nodes = diagram.levels.iter().map(|_| HashMap::default()).collect();
        if !plan.nothing {
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
        let found = if at >= self.tail {
            let count = self.count_building(at, state, build)?;
            self.tails.push(*state);
            (Next::Tail(self.tails.len() - 1), count)
        } else {
            self.branch(at, state, build)?
        };
        let found = if found.1 == 0 { (Next::Dead, 0) } else { found };
        build.store(64)?;
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
        let Some(level) = self.levels.get(at) else {
            return Ok((Next::Free, 1));
        };
        let values: Vec<_> = level.runs.clone();
        let mut runs: Vec<Run> = Vec::new();
        let mut end = 0;
        for (first, length, group) in values {
            build.step()?;
            let after = self
                .levels
                .get(at)
                .and_then(|level| level.after(state, group));
            let (next, each) = match after {
                Some(after) => self.node(at + 1, &after, build)?,
                None => (Next::Dead, 0),
            };
            end += each * u64::from(length);
            match runs.last_mut() {
                Some(run) if run.next == next && run.each == each => run.end = end,
                _ => runs.push(Run {
                    first,
                    end,
                    each,
                    next,
                }),
            }
        }
        build.store(runs.len() * size_of::<Run>())?;
        let place = self.runs.len();
        self.runs.append(&mut runs);
        self.nodes.push((place, self.runs.len()));
        Ok((Next::Node(self.nodes.len() - 1), end))
    }

    /// The cells after `state` before axis `at`, remembered.
    fn count_building(
        &self,
        at: usize,
        state: &State<W>,
        build: &mut Build<W>,
    ) -> Result<u64, TooEntangled> {
        build.step()?;
        let Some(level) = self.levels.get(at) else {
            return Ok(1);
        };
        if level.quiet && *state == [0; W] {
            return Ok(level.free);
        }
        if at + 1 == self.levels.len() {
            return Ok(level.plain_left(state));
        }
        if !level.remember {
            build.steps += REMEMBER_STEPS;
            return Ok(self.count_from(at, state));
        }
        if let Some(known) = build.counts.get(at).and_then(|known| known.get(state)) {
            return Ok(*known);
        }
        let mut total = 0;
        let plain = level.plain_left(state);
        if plain > 0 {
            total += plain * self.count_building(at + 1, &level.after_plain(state), build)?;
        }
        for group in &level.special {
            if let Some(after) = level.after(state, *group) {
                let size = level.groups.get(*group).map_or(0, |group| group.size);
                total += size * self.count_building(at + 1, &after, build)?;
            }
        }
        build.store(16)?;
        if let Some(known) = build.counts.get_mut(at) {
            known.insert(*state, total);
        }
        Ok(total)
    }

    /// The cells after `state` before axis `at`.
    fn count_from(&self, at: usize, state: &State<W>) -> u64 {
        let Some(level) = self.levels.get(at) else {
            return 1;
        };
        if level.quiet && *state == [0; W] {
            return level.free;
        }
        let plain = level.plain_left(state);
        if at + 1 == self.levels.len() {
            return plain;
        }
        let mut total = 0;
        if plain > 0 {
            total += plain * self.count_from(at + 1, &level.after_plain(state));
        }
        for group in &level.special {
            if let Some(after) = level.after(state, *group) {
                let size = level.groups.get(*group).map_or(0, |group| group.size);
                total += size * self.count_from(at + 1, &after);
            }
        }
        total
    }

    /// The cells of each run of values after `state` before axis `at`: first value, length, cells of one
    /// value, the state after it.
    fn runs_of<'a>(
        &'a self,
        at: usize,
        state: &'a State<W>,
    ) -> impl Iterator<Item = (u32, u32, u64, State<W>)> + 'a {
        let level = self.levels.get(at);
        let plain = level.map(|level| {
            let after = level.after_plain(state);
            (self.count_from(at + 1, &after), after)
        });
        let runs = level
            .into_iter()
            .flat_map(|level| level.runs.iter().map(move |run| (level, *run)));
        runs.map(move |(level, (first, length, number))| {
            let special = level.groups.get(number).is_some_and(|group| group.special);
            match (level.after(state, number), plain) {
                (Some(_), Some((each, after))) if !special => (first, length, each, after),
                (Some(after), _) => (first, length, self.count_from(at + 1, &after), after),
                (None, _) => (first, length, 0, [0; W]),
            }
        })
    }

    fn runs_at(&self, node: usize) -> &[Run] {
        let place = self.nodes.get(node).copied().unwrap_or_default();
        self.runs.get(place.0..place.1).unwrap_or_default()
    }
}

/// A value and what is left of a number after `skip` values of `each` cells.
fn split(first: u32, number: u64, each: u64) -> Option<(u32, u64)> {
    let skip = u32::try_from(number.checked_div(each)?).ok()?;
    Some((first.checked_add(skip)?, number % each))
}

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
        let mut state = [0; W];
        for (at, level) in self.levels.iter().enumerate() {
            let value;
            match next {
                Next::Dead => return None,
                Next::Free => (value, number) = split(0, number, level.free_after)?,
                Next::Node(node) => {
                    let runs = self.runs_at(node);
                    let place = runs.partition_point(|run| run.end <= number);
                    let run = runs.get(place)?;
                    let before = place.checked_sub(1).and_then(|at| runs.get(at));
                    let start = before.map_or(0, |run| run.end);
                    (value, number) = split(run.first, number - start, run.each)?;
                    next = run.next;
                }
                Next::Tail(_) if level.quiet && at > self.tail && state == [0; W] => {
                    next = Next::Free;
                    (value, number) = split(0, number, level.free_after)?;
                }
                Next::Tail(place) => {
                    if at == self.tail {
                        state = *self.tails.get(place)?;
                    }
                    let mut found = None;
                    for (first, length, each, after) in self.runs_of(at, &state) {
                        let cells = u64::from(length) * each;
                        if number < cells {
                            found = Some((first, each, after));
                            break;
                        }
                        number -= cells;
                    }
                    let (first, each, after) = found?;
                    (value, number) = split(first, number, each)?;
                    state = after;
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
        let mut state = [0; W];
        for (at, (level, value)) in self.levels.iter().zip(values).enumerate() {
            let group = *level.group_of.get(usize::try_from(*value).ok()?)?;
            match next {
                Next::Dead => return None,
                Next::Free => number += u64::from(*value) * level.free_after,
                Next::Node(node) => {
                    let runs = self.runs_at(node);
                    let place = runs
                        .partition_point(|run| run.first <= *value)
                        .checked_sub(1)?;
                    let run = runs.get(place)?;
                    let before = place.checked_sub(1).and_then(|at| runs.get(at));
                    let start = before.map_or(0, |run| run.end);
                    number += start + u64::from(value - run.first) * run.each;
                    next = run.next;
                }
                Next::Tail(place) => {
                    if at == self.tail {
                        state = *self.tails.get(place)?;
                    }
                    let after = level.after(&state, group)?;
                    for (first, length, each, _) in self.runs_of(at, &state) {
                        let skipped = value.saturating_sub(first).min(length);
                        number += u64::from(skipped) * each;
                        if first + length > *value {
                            break;
                        }
                    }
                    state = after;
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

impl<const W: usize> Diagram<W> {
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
        let mut tried_plain = false;
        let mut attempt = |value: u32, number: usize, steps: &mut u64| {
            *steps = steps.checked_sub(1).ok_or(OutOfSteps)?;
            let special = level.groups.get(number).is_some_and(|group| group.special);
            if !special && tried_plain {
                return Ok(false);
            }
            let Some(after) = level.after(state, number) else {
                return Ok(false);
            };
            tried_plain |= !special;
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

/// A quick hash of a state's words, mixed by multiplication. What is hashed is bounded by
/// [`STATE_BYTES_MOST`], and states are no free choice of anybody.
#[derive(Default)]
struct Fold(u64);

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
