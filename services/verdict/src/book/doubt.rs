//! What an open run says of hosts, and what it comes to without one of them. May not: decide whom to trust.

use std::collections::BTreeSet;

use regatta_model::next::Next;
use regatta_model::{Blame, CellNumber, HostName};

use super::Book;
use super::budget::reruns;
use crate::judge::AttemptFacts;
use crate::trust;

impl Book {
    /// Hosts that failed what others passed, now that this cell has its verdict: each with how often a good host fails so.
    pub fn charges(&mut self, cell: CellNumber) -> Vec<(HostName, f64)> {
        let attempts = self.attempts;
        let Some(begun) = self.begun.get_mut(&cell).filter(|begun| !begun.charged) else {
            return Vec::new();
        };
        let mut charged = Vec::new();
        for (place, least) in trust::charges(&begun.facts, 0.0) {
            let Some(facts) = begun.facts.get(place) else {
                continue;
            };
            let all: u32 = self.unconfirmed.values().sum();
            let own = self.unconfirmed.get(&facts.host).copied().unwrap_or(0);
            // Of what other hosts ran, as nearly as one can tell without counting each host's attempts.
            let chance = trust::chance(all - own, attempts);
            charged.push((facts.host.clone(), chance.max(least)));
        }
        begun.charged = !charged.is_empty();
        for (host, _) in &charged {
            *self.unconfirmed.entry(host.clone()).or_default() += 1;
        }
        charged
    }

    /// Those of `cells` and of the cells at hand whose verdicts this host had a part in.
    pub fn decided_by(&self, host: &HostName, cells: Vec<CellNumber>) -> Vec<CellNumber> {
        let at_hand = self.begun.iter().filter(|(_, begun)| {
            let mut facts = begun.facts.iter();
            facts.any(|facts| facts.host == *host && facts.is_decisive())
        });
        let mut decided: BTreeSet<CellNumber> = at_hand.map(|(cell, _)| *cell).collect();
        decided.extend(cells.into_iter().filter(|cell| self.passed.contains(*cell)));
        decided.into_iter().collect()
    }

    /// Blames a host for all that it ended of these cells, whose facts are at hand, and judges them anew. What is wanted
    /// comes as one: were one cell told of after the other, a run would be over once all that was told is settled.
    pub fn distrust(&mut self, host: &HostName, cells: &[CellNumber]) -> Next {
        let theirs = |facts: &&mut AttemptFacts| facts.host == *host && facts.is_decisive();
        for cell in cells {
            let Some(begun) = self.begun.get_mut(cell) else {
                continue;
            };
            let before = reruns(&begun.facts, &self.policy);
            for facts in begun.facts.iter_mut().filter(theirs) {
                facts.blame = Some(Blame::Host);
            }
            self.reruns -= before - reruns(&begun.facts, &self.policy);
        }
        let mut all = Next::default();
        for cell in cells {
            let (next, _) = self.judge(*cell, true);
            all.settles.extend(next.settled.then_some(*cell));
            all.settles.extend(next.settles);
            all.failed |= next.failed;
            all.again.extend(next.again);
        }
        self.keep_what_holds(&mut all);
        all.reruns_left = self.reruns_left();
        all
    }

    /// What was said of a cell first may no longer be so.
    pub(super) fn keep_what_holds(&self, next: &mut Next) {
        next.settles.retain(|cell| self.verdict(*cell).is_some());
        next.again
            .retain(|again| self.verdict(again.cell).is_none());
    }

    /// What is wanted after an attempt of a cell, where a host was distrusted between that and the telling of it. `said`
    /// was wanted before; what it opened stays open until it is told.
    pub fn wanted(&mut self, cell: CellNumber, said: Next) -> Next {
        let (mut next, _) = self.judge(cell, true);
        next.settles.extend(said.settles);
        next.again.extend(said.again);
        self.keep_what_holds(&mut next);
        next.reruns_left = self.reruns_left();
        next
    }
}
