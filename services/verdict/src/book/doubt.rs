//! What an open run says of hosts, and what it comes to without one of them. May not: decide whom to trust.

use std::collections::BTreeSet;

use regatta_model::next::Next;
use regatta_model::{Blame, CellNumber, HostName, Ordinal};

use super::Book;
use crate::judge::AttemptFacts;
use crate::trust;

/// A cell that was judged anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Reopened {
    /// Which.
    pub cell: CellNumber,
    /// Its last attempt.
    pub ordinal: Ordinal,
    /// What is wanted now.
    pub next: Next,
}

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

    /// Blames a host for all that it ended of these cells, whose facts are at hand, and judges them anew.
    pub fn distrust(&mut self, host: &HostName, cells: &[CellNumber]) -> Vec<Reopened> {
        let mut judged = Vec::new();
        for cell in cells {
            let Some(begun) = self.begun.get_mut(cell) else {
                continue;
            };
            let theirs = |facts: &&mut AttemptFacts| facts.host == *host && facts.is_decisive();
            for facts in begun.facts.iter_mut().filter(theirs) {
                facts.blame = Some(Blame::Host);
            }
            let ordinal = begun.facts.last().map_or(1, |facts| facts.ordinal);
            let (next, _) = self.judge(*cell, true);
            judged.push(Reopened {
                cell: *cell,
                ordinal,
                next,
            });
        }
        judged
    }

    /// What is wanted of a cell now.
    pub fn wanted(&mut self, cell: CellNumber) -> Next {
        self.judge(cell, true).0
    }
}
