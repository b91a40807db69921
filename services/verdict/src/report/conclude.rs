//! What a run comes to as a whole. May not: compare cells.

use regatta_model::CellNumber;
use regatta_model::report::{Comparison, Conclusion, Verdict};
use regatta_model::run::RunState;

use super::Builder;
use super::compare::Compared;

impl Builder<'_> {
    /// A cell that broke something fails, however often that passes there.
    pub(super) fn count_regressed(&mut self, compared: &Compared) {
        for (number, comparison) in &compared.cells {
            if comparison.result == Comparison::Regressed
                && let Some(cell) = self.cells.get_mut(number)
                && cell.verdict == Verdict::Flaky
            {
                cell.verdict = Verdict::Failed;
                self.counts.flaky -= 1;
                self.counts.failed += 1;
            }
        }
    }

    /// What the run comes to. Cells that are allowed to fail do not count.
    pub(super) fn conclude(
        &self,
        compared: &Compared,
        allowed: &dyn Fn(CellNumber) -> bool,
    ) -> Conclusion {
        let any = |wanted: Comparison| {
            compared
                .cells
                .iter()
                .any(|(cell, c)| c.result == wanted && !allowed(*cell))
        };
        let any_verdict = |wanted: Verdict| {
            self.cells
                .iter()
                .any(|(cell, c)| c.verdict == wanted && !allowed(*cell))
        };
        let (untold, comparing) = (self.has_untold(allowed), self.matrix.compare().is_some());
        match self.run.state {
            RunState::Cancelled => Conclusion::Cancelled,
            _ if comparing && any(Comparison::Regressed) => Conclusion::Regressed,
            _ if !comparing && any_verdict(Verdict::Failed) => Conclusion::Failed,
            _ if untold || any_verdict(Verdict::Unresolved) => Conclusion::Unresolved,
            _ if comparing && any(Comparison::Unresolved) => Conclusion::Unresolved,
            _ => Conclusion::Passed,
        }
    }

    /// Whether a cell that must not fail has no attempt that ended.
    fn has_untold(&self, allowed: &dyn Fn(CellNumber) -> bool) -> bool {
        let told = self.cells.len() + self.plain.iter().flatten().count();
        let untold = self
            .counts
            .cells
            .saturating_sub(u64::try_from(told).unwrap_or(u64::MAX));
        // Only small runs are looked at cell by cell: in a large one, one cell without an attempt is enough.
        untold > 0
            && (self.is_large()
                || self
                    .matrix
                    .cells()
                    .numbers()
                    .any(|c| !self.cells.contains_key(&c) && !allowed(c)))
    }
}
