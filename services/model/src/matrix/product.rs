//! The product of the axes without what is excluded: counted, numbered and decoded by arithmetic.
//!
//! Cells are numbered in the order of the file, the last axis fastest. Going through the axes in that
//! order, all that matters about the values chosen so far is which excludes they have begun to match:
//! a *state*, which is a set of bits. Its bits are of two kinds: "this group of values of a later axis
//! is forbidden", and "this rest of an exclude, over two or more later axes, must not match". Equal
//! states have equal futures, so counts are taken once per state (`diagram`). For the first axes the
//! states are kept as nodes with cumulative counts, in which a number is found by bisection; for the
//! last few, where counting is a handful of steps, they are counted anew each time (`number`).
//!
//! May not: search the excludes for a cell, or take memory by the cell. What it takes is bounded by
//! the constants below; excludes that would take more are refused.

mod diagram;
mod groups;
mod level;
mod number;

use std::sync::Arc;

use diagram::Diagram;
use groups::Groups;

/// Most cells of a matrix: what JSON numbers hold exactly.
pub const CELLS_MOST: u64 = 1 << 53;

/// Most steps that compiling the excludes of one matrix may take.
pub const STEPS_MOST: u64 = 20_000_000;

/// Most bytes that compiling the excludes of one matrix may take, about.
pub const STATE_BYTES_MOST: usize = 64 << 20;

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
    let groups = Groups::of(sizes, excludes)?;
    Ok(match groups.bits.div_ceil(64) {
        0 | 1 => Arc::new(Diagram::<1>::build(&groups)?),
        2 => Arc::new(Diagram::<2>::build(&groups)?),
        3 | 4 => Arc::new(Diagram::<4>::build(&groups)?),
        5..=8 => Arc::new(Diagram::<8>::build(&groups)?),
        9..=16 => Arc::new(Diagram::<16>::build(&groups)?),
        17..=64 => Arc::new(Diagram::<64>::build(&groups)?),
        _ => return Err(TooEntangled),
    })
}
