//! How many attempts are fetched ahead: as many as end while a sync is under way, measured. May not: read
//! a clock.

/// Attempts at least this long are not fetched ahead, in milliseconds: another host may be free sooner.
pub const SHORT_MS: f64 = 500.0;

/// Most attempts fetched ahead, as a multiple of the slots.
pub const AHEAD_MOST: u32 = 16;

/// Weight of the newest measurement in the moving averages.
const WEIGHT: f64 = 0.1;

/// Moving averages of what attempts and syncs take.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    attempt_ms: Option<f64>,
    sync_ms: Option<f64>,
}

impl Pace {
    /// An attempt occupied its slot for so long, in milliseconds.
    pub fn attempt(&mut self, ms: f64) {
        self.attempt_ms = Some(average(self.attempt_ms, ms));
    }

    /// A sync that did not wait took so long, in milliseconds.
    pub fn sync(&mut self, ms: f64) {
        self.sync_ms = Some(average(self.sync_ms, ms));
    }

    /// How many attempts are to wait here besides those that run, the longest of them for `running_ms` now.
    pub fn ahead(&self, slots: u32, running_ms: f64) -> u32 {
        let (Some(attempt), Some(sync)) = (self.attempt_ms, self.sync_ms) else {
            return 0;
        };
        if attempt.max(running_ms) >= SHORT_MS {
            return 0;
        }
        // Twice: the outcome's way to the disk and the server's own work lie between, too.
        let rounds = (2.0 * sync / attempt.max(0.5)).ceil() + 1.0;
        let rounds = (1..AHEAD_MOST)
            .find(|n| f64::from(*n) >= rounds)
            .unwrap_or(AHEAD_MOST);
        slots.saturating_mul(rounds)
    }
}

fn average(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + WEIGHT * (new - old))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_attempts_are_not_fetched_ahead_and_short_ones_cover_a_sync() {
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(2, 0.0), 0, "nothing is known yet");
        pace.attempt(5_000.0);
        pace.sync(10.0);
        assert_eq!(pace.ahead(2, 0.0), 0);
        let mut pace = Pace::default();
        pace.attempt(10.0);
        pace.sync(20.0);
        assert_eq!(pace.ahead(2, 0.0), 10);
        assert_eq!(pace.ahead(2, 600.0), 0, "one is long after all");
        pace.sync(1e9);
        assert_eq!(pace.ahead(2, 0.0), 2 * AHEAD_MOST);
    }
}
