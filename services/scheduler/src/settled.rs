//! Which cells have a verdict: a bit each, and nothing for the whole blocks at the front, which is what a run mostly
//! consists of. May not: know what a cell is.

use std::collections::BTreeMap;

use regatta_model::CellNumber;

/// Words of a block.
const WORDS: usize = 64;
/// Cells of a block.
pub(crate) const BLOCK: u64 = 64 * 64;

/// A set of cell numbers that mostly fills up from the front.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// Blocks before this one are full and not kept.
    full: u64,
    blocks: BTreeMap<u64, Box<[u64; WORDS]>>,
}

/// Block, word and bit of a cell.
fn place(cell: CellNumber) -> (u64, usize, u64) {
    let within = cell % BLOCK;
    (
        cell / BLOCK,
        usize::try_from(within / 64).unwrap_or(0),
        1 << (within % 64),
    )
}

impl Settled {
    /// Adds a cell.
    pub(crate) fn insert(&mut self, cell: CellNumber) {
        let (number, word, bit) = place(cell);
        if number < self.full {
            return;
        }
        let block = self
            .blocks
            .entry(number)
            .or_insert_with(|| Box::new([0; WORDS]));
        let Some(word) = block.get_mut(word) else {
            return;
        };
        *word |= bit;
        if *word != u64::MAX {
            return;
        }
        while self
            .blocks
            .get(&self.full)
            .is_some_and(|b| b.iter().all(|w| *w == u64::MAX))
        {
            self.blocks.remove(&self.full);
            self.full += 1;
        }
    }

    /// How many blocks are kept.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether the cell is in.
    pub(crate) fn contains(&self, cell: CellNumber) -> bool {
        let (number, word, bit) = place(cell);
        let in_block = |block: &[u64; WORDS]| block.get(word).is_some_and(|w| w & bit != 0);
        number < self.full
            || self
                .blocks
                .get(&number)
                .is_some_and(|block| in_block(block))
    }

    /// The first cell from `from` on that is not in.
    pub(crate) fn next_out(&self, from: CellNumber) -> CellNumber {
        let mut cell = from.max(self.full * BLOCK);
        loop {
            let (number, word, _) = place(cell);
            let Some(block) = self.blocks.get(&number) else {
                return cell;
            };
            let word = block.get(word).copied().unwrap_or(0);
            // Bits below the cell count as in, so that the first zero is at the cell or behind it.
            let below = (1 << (cell % 64)) - 1;
            let ahead = (word | below).trailing_ones();
            if ahead < 64 {
                return cell / 64 * 64 + u64::from(ahead);
            }
            cell = (cell / 64 + 1) * 64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
        #[test]
        fn it_is_the_set_of_what_was_put_in(
            cells in prop::collection::vec(0..3 * BLOCK, 0..200), fill in 0..3 * BLOCK,
        ) {
            let index = |cell: u64| usize::try_from(cell).unwrap();
            let (mut settled, mut model) = (Settled::default(), vec![false; index(4 * BLOCK)]);
            for cell in (0..fill).chain(cells.iter().copied()) {
                settled.insert(cell);
                model[index(cell)] = true;
            }
            for cell in cells.iter().flat_map(|c| [*c, c + 1, c / 2]).chain([0, fill, 3 * BLOCK]) {
                prop_assert_eq!(settled.contains(cell), model[index(cell)]);
                let ahead = model[index(cell)..].iter().position(|is_in| !is_in).unwrap();
                prop_assert_eq!(index(settled.next_out(cell)), index(cell) + ahead);
            }
            prop_assert!(settled.blocks.len() <= 3);
        }
    }

    #[test]
    fn a_front_that_is_whole_costs_nothing() {
        let mut settled = Settled::default();
        (0..100 * BLOCK).for_each(|cell| settled.insert(cell));
        assert_eq!((settled.full, settled.blocks.len()), (100, 0));
        assert_eq!(settled.next_out(0), 100 * BLOCK);
    }
}
