//! What excludes ask of each axis: its values in groups that the same excludes name, and the bits that
//! a state needs. May not: know how wide a state is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Exclude, TooEntangled};

/// Most bits that are handed out before places are shared; also bounds the lists below.
const MARKS_MOST: usize = 1 << 18;

/// All axes with their groups, and the bits.
pub(super) struct Groups {
    pub(super) axes: Vec<AxisGroups>,
    /// How many bits a state needs.
    pub(super) bits: usize,
    /// Bits that are set before any value is chosen.
    pub(super) root: Vec<usize>,
    /// An exclude matches everything.
    pub(super) nothing: bool,
}

/// An axis with its groups.
#[derive(Default)]
pub(super) struct AxisGroups {
    /// The group of each value.
    pub(super) of: Vec<usize>,
    pub(super) groups: Vec<Group>,
    /// Bits that mean nothing any more once this axis is decided.
    pub(super) spent: Vec<usize>,
}

/// Values that the same excludes name.
#[derive(Default)]
pub(super) struct Group {
    pub(super) size: u32,
    pub(super) first: u32,
    /// The bit that forbids the group.
    pub(super) atom: Option<usize>,
    /// Bits that choosing a value of the group sets.
    pub(super) begins: Vec<usize>,
    /// Bits that choosing a value of the group sets where another one is set.
    pub(super) follows: Vec<(usize, Vec<usize>)>,
}

/// The rest of an exclude: axes and the groups of values that it matches.
type Rest = Vec<(usize, Vec<usize>)>;

/// A bit before places are shared: from which axis on it may be set, and which axis spends it.
struct Mark {
    from: usize,
    to: usize,
}

/// Hands out bits.
#[derive(Default)]
struct Marks {
    all: Vec<Mark>,
    rests: BTreeMap<Rest, usize>,
    spare: usize,
}

impl Marks {
    /// A new bit.
    fn mark(&mut self, from: usize, to: usize) -> usize {
        self.all.push(Mark { from, to });
        self.all.len() - 1
    }

    /// Counts what is kept besides.
    fn keep(&mut self, entries: usize) -> Result<(), TooEntangled> {
        self.spare += entries;
        let most = self.all.len().saturating_add(self.spare) > MARKS_MOST;
        if most { Err(TooEntangled) } else { Ok(()) }
    }

    /// The bits that say that `rest` must not match, known after the axis `since`; new where needed.
    fn bits_of(
        &mut self,
        axes: &mut [AxisGroups],
        rest: &[(usize, Vec<usize>)],
        since: Option<usize>,
    ) -> Result<Vec<usize>, TooEntangled> {
        let Some(((at, groups), after)) = rest.split_first() else {
            return Ok(Vec::new());
        };
        let from = since.map_or(0, |since| since + 1);
        self.keep(groups.len())?;
        if !after.is_empty() {
            if let Some(bit) = self.rests.get(rest).copied() {
                self.begin(bit, from);
                return Ok(vec![bit]);
            }
            let bit = self.mark(from, *at);
            self.rests.insert(rest.to_vec(), bit);
            let follow = self.bits_of(axes, after, Some(*at))?;
            self.keep(follow.len().saturating_mul(groups.len()))?;
            for group in groups {
                let group = axes
                    .get_mut(*at)
                    .and_then(|axis| axis.groups.get_mut(*group));
                if let Some(group) = group {
                    group.follows.push((bit, follow.clone()));
                }
            }
            return Ok(vec![bit]);
        }
        let mut bits = Vec::with_capacity(groups.len());
        for group in groups {
            let group = axes
                .get_mut(*at)
                .and_then(|axis| axis.groups.get_mut(*group));
            let Some(group) = group else { continue };
            let atom = match group.atom {
                Some(atom) => atom,
                None => *group.atom.insert(self.mark(from, *at)),
            };
            self.begin(atom, from);
            bits.push(atom);
        }
        Ok(bits)
    }

    /// A bit may be set from this axis on.
    fn begin(&mut self, bit: usize, from: usize) {
        if let Some(mark) = self.all.get_mut(bit) {
            mark.from = mark.from.min(from);
        }
    }

    /// Gives bits whose times do not meet the same place: per bit its place, and how many places there are.
    fn share(&self) -> (Vec<usize>, usize) {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|bit| self.all.get(*bit).map(|mark| (mark.from, mark.to)));
        let mut places = vec![0; self.all.len()];
        // Places that are free, and those in use by the axis that spends them.
        let (mut free, mut used) = (BTreeSet::new(), BTreeMap::<usize, Vec<usize>>::new());
        let mut count = 0;
        for bit in order {
            let Some(mark) = self.all.get(bit) else {
                continue;
            };
            // What axis `n` spends may be set anew by axis `n`, for use from `n + 1` on.
            let later = used.split_off(&mark.from);
            free.extend(used.into_values().flatten());
            used = later;
            let place = free.pop_first().unwrap_or_else(|| {
                count += 1;
                count - 1
            });
            used.entry(mark.to).or_default().push(place);
            if let Some(at) = places.get_mut(bit) {
                *at = place;
            }
        }
        (places, count)
    }
}

impl Groups {
    /// Works out groups and bits.
    pub(super) fn of(sizes: &[usize], excludes: &[Exclude]) -> Result<Self, TooEntangled> {
        let mut axes = group(sizes, excludes);
        let mut marks = Marks::default();
        let mut root = Vec::new();
        let mut nothing = false;
        for exclude in excludes {
            let rest = in_groups(&axes, exclude);
            match rest.split_first() {
                None => nothing = true,
                Some((_, [])) => root.extend(marks.bits_of(&mut axes, &rest, None)?),
                Some(((axis, groups), after)) => {
                    let bits = marks.bits_of(&mut axes, after, Some(*axis))?;
                    marks.keep(bits.len().saturating_mul(groups.len()))?;
                    for group in groups {
                        let begun = axes
                            .get_mut(*axis)
                            .and_then(|axis| axis.groups.get_mut(*group));
                        if let Some(begun) = begun {
                            begun.begins.extend(&bits);
                        }
                    }
                }
            }
        }
        let (places, bits) = marks.share();
        let place = |bit: &mut usize| *bit = places.get(*bit).copied().unwrap_or(0);
        root.iter_mut().for_each(place);
        for group in axes.iter_mut().flat_map(|axis| &mut axis.groups) {
            group.atom.iter_mut().for_each(place);
            group.begins.iter_mut().for_each(place);
            for (bit, follow) in &mut group.follows {
                place(bit);
                follow.iter_mut().for_each(place);
            }
        }
        for (mark, place) in marks.all.iter().zip(&places) {
            if let Some(axis) = axes.get_mut(mark.to) {
                axis.spent.push(*place);
            }
        }
        Ok(Self {
            axes,
            bits,
            root,
            nothing,
        })
    }
}

/// Puts the values of each axis into groups.
fn group(sizes: &[usize], excludes: &[Exclude]) -> Vec<AxisGroups> {
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
        let mut axis = AxisGroups::default();
        let mut known: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for value in (0..).take(*size) {
            let next = axis.groups.len();
            let group = *known
                .entry(named.remove(&value).unwrap_or_default())
                .or_insert(next);
            if group == next {
                axis.groups.push(Group {
                    first: value,
                    ..Group::default()
                });
            }
            if let Some(group) = axis.groups.get_mut(group) {
                group.size += 1;
            }
            axis.of.push(group);
        }
        axis
    });
    axes.collect()
}

/// An exclude over groups; axes of which it matches all values are left away.
fn in_groups(axes: &[AxisGroups], exclude: &Exclude) -> Rest {
    let groups = exclude.iter().filter_map(|(at, values)| {
        let axis = axes.get(*at)?;
        let of = |value: &u32| axis.of.get(usize::try_from(*value).ok()?).copied();
        let mut groups: Vec<usize> = values.iter().filter_map(of).collect();
        groups.sort_unstable();
        groups.dedup();
        (groups.len() < axis.groups.len()).then_some((*at, groups))
    });
    groups.collect()
}
