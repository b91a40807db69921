//! All that is left to chance in a world: one seed decides it. May not: read a clock or the system's randomness.

use fastrand::Rng;

/// What a seed decides, in the order in which it is asked.
#[derive(Debug)]
pub struct Chance(Rng);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// One of `low..=high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// An index below `count`; 0 where there is nothing to choose.
    pub fn index(&mut self, count: usize) -> usize {
        self.0.usize(0..count.max(1))
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.0.u64(0..1000) < permille
    }
}
