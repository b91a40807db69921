//! One axis of a diagram: how a state goes on with each value. May not: look at other axes.

use super::groups::AxisGroups;

/// A set of bits.
pub(super) type State<const W: usize> = [u64; W];

/// One bit of a state.
#[derive(Clone, Copy)]
pub(super) struct Bit {
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

/// The state with these bits.
pub(super) fn with_bits<const W: usize>(bits: &[usize]) -> State<W> {
    let mut state = [0; W];
    for bit in bits {
        let bit = Bit::new(*bit);
        if let Some(word) = state.get_mut(bit.word) {
            *word |= bit.mask;
        }
    }
    state
}

fn or<const W: usize>(mut state: State<W>, other: &State<W>) -> State<W> {
    state
        .iter_mut()
        .zip(other)
        .for_each(|(word, other)| *word |= other);
    state
}

/// One axis of a diagram.
pub(super) struct Level<const W: usize> {
    /// The group of each value.
    pub(super) group_of: Vec<usize>,
    pub(super) groups: Vec<Group<W>>,
    /// Values one after the other in the same group: the first, how many, the group.
    pub(super) runs: Vec<(u32, u32, usize)>,
    /// The groups that may set bits; all others lead to the same state.
    pub(super) special: Vec<usize>,
    /// Combinations of this and all later axes, excludes aside.
    pub(super) free: u64,
    /// Combinations of all later axes, excludes aside.
    pub(super) free_after: u64,
    /// Whether no exclude begins at this axis or later.
    pub(super) quiet: bool,
    /// Whether counts from here on are remembered while the diagram is built.
    pub(super) remember: bool,
    /// How many values are in groups that are not special.
    plain: u64,
    /// The bits and sizes of those groups.
    plain_atoms: Vec<(Bit, u64)>,
    /// Their bits; there where each of these groups is a single value, so that bits can just be counted.
    plain_mask: Option<State<W>>,
    /// What stays of a state.
    keep: State<W>,
}

/// Values of an axis that excludes do not tell apart.
pub(super) struct Group<const W: usize> {
    pub(super) size: u64,
    /// Its first value.
    pub(super) first: u32,
    pub(super) special: bool,
    atom: Option<Bit>,
    begin: State<W>,
    follows: Vec<(Bit, State<W>)>,
}

impl<const W: usize> Level<W> {
    /// An axis, given how it goes on after it.
    pub(super) fn new(axis: &AxisGroups, free_after: u64, quiet_after: bool) -> Self {
        let groups: Vec<Group<W>> = axis.groups.iter().map(Group::new).collect();
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
        for (value, group) in (0..).zip(&axis.of) {
            match runs.last_mut() {
                Some((_, length, last)) if last == group => *length += 1,
                _ => runs.push((value, 1, *group)),
            }
        }
        let spent: State<W> = with_bits(&axis.spent);
        let size: u64 = groups.iter().map(|group| group.size).sum();
        let special = groups.iter().enumerate().filter(|(_, group)| group.special);
        Self {
            runs,
            special: special.map(|(at, _)| at).collect(),
            free: free_after.saturating_mul(size),
            free_after,
            quiet: quiet_after && axis.groups.iter().all(|group| group.begins.is_empty()),
            remember: false,
            plain: plain().map(|group| group.size).sum(),
            plain_mask: plain_atoms
                .iter()
                .all(|(_, size)| *size == 1)
                .then_some(mask),
            plain_atoms,
            keep: spent.map(|word| !word),
            group_of: axis.of.clone(),
            groups,
        }
    }

    /// How many values of groups that are not special `state` allows.
    pub(super) fn plain_left(&self, state: &State<W>) -> u64 {
        let gone: u64 = if let Some(mask) = &self.plain_mask {
            let gone = state
                .iter()
                .zip(mask)
                .map(|(word, mask)| (word & mask).count_ones());
            gone.map(u64::from).sum()
        } else {
            let gone = self.plain_atoms.iter().filter(|(bit, _)| bit.is_in(state));
            gone.map(|(_, size)| *size).sum()
        };
        self.plain.saturating_sub(gone)
    }

    /// The state after a value that sets no bits.
    pub(super) fn after_plain(&self, state: &State<W>) -> State<W> {
        let mut state = *state;
        state
            .iter_mut()
            .zip(&self.keep)
            .for_each(|(word, keep)| *word &= keep);
        state
    }

    /// The state after a value of a group; none where `state` forbids it.
    pub(super) fn after(&self, state: &State<W>, number: usize) -> Option<State<W>> {
        let group = self.groups.get(number)?;
        if group.atom.is_some_and(|atom| atom.is_in(state)) {
            return None;
        }
        let mut next = self.after_plain(state);
        if group.special {
            next = or(next, &group.begin);
            for (bit, follow) in &group.follows {
                if bit.is_in(state) {
                    next = or(next, follow);
                }
            }
        }
        Some(next)
    }

    /// The different states that follow, and how many values lead to each; first the one where nothing
    /// new is set.
    pub(super) fn branches(
        &self,
        state: &State<W>,
        mut each: impl FnMut(u64, &State<W>) -> Result<(), super::TooEntangled>,
    ) -> Result<(), super::TooEntangled> {
        let plain = self.after_plain(state);
        let mut values = self.plain_left(state);
        for number in &self.special {
            if let (Some(after), Some(group)) =
                (self.after(state, *number), self.groups.get(*number))
            {
                if after == plain {
                    values += group.size;
                } else {
                    each(group.size, &after)?;
                }
            }
        }
        if values > 0 {
            each(values, &plain)
        } else {
            Ok(())
        }
    }
}

impl<const W: usize> Group<W> {
    fn new(group: &super::groups::Group) -> Self {
        let follows = group.follows.iter();
        Self {
            size: group.size.into(),
            first: group.first,
            special: !group.begins.is_empty() || !group.follows.is_empty(),
            atom: group.atom.map(Bit::new),
            begin: with_bits(&group.begins),
            follows: follows
                .map(|(bit, follow)| (Bit::new(*bit), with_bits(follow)))
                .collect(),
        }
    }
}
