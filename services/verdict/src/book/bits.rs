//! A set of cell numbers: a bit each, in blocks that are made when they are needed. May not: know what a cell is.

use std::collections::BTreeMap;

use regatta_model::CellNumber;

const WORDS: usize = 64;
/// Cells of one block.
const BLOCK: u64 = 64 * 64;

/// A set of cell numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    blocks: BTreeMap<u64, Box<[u64; WORDS]>>,
}

fn place(cell: CellNumber) -> (u64, usize, u64) {
    let within = cell % BLOCK;
    (
        cell / BLOCK,
        usize::try_from(within / 64).unwrap_or(0),
        1 << (within % 64),
    )
}

impl Bits {
    pub(super) fn insert(&mut self, cell: CellNumber) {
        let (block, word, bit) = place(cell);
        let block = self
            .blocks
            .entry(block)
            .or_insert_with(|| Box::new([0; WORDS]));
        if let Some(word) = block.get_mut(word) {
            *word |= bit;
        }
    }

    pub(super) fn remove(&mut self, cell: CellNumber) {
        let (block, word, bit) = place(cell);
        if let Some(word) = self
            .blocks
            .get_mut(&block)
            .and_then(|block| block.get_mut(word))
        {
            *word &= !bit;
        }
    }

    pub(super) fn contains(&self, cell: CellNumber) -> bool {
        let (block, word, bit) = place(cell);
        self.blocks
            .get(&block)
            .and_then(|block| block.get(word))
            .is_some_and(|word| word & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_not_taken_out() {
        let mut bits = Bits::default();
        for cell in [0, 63, 64, 4095, 4096, u64::MAX] {
            assert!(!bits.contains(cell));
            bits.insert(cell);
            assert!(bits.contains(cell));
        }
        bits.remove(64);
        assert!(!bits.contains(64) && bits.contains(63) && !bits.contains(65));
    }
}
