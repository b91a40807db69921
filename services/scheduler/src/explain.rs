//! Why something of a run waits. May not: change anything, or guess: each reason is one that [`crate::place`] goes by.

use regatta_model::RunId;
use regatta_model::wait::{Explanation, Wait};

use crate::Scheduler;
use crate::event::{Health, Policy};
use crate::host::Host;
use crate::run::Run;

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Scheduler {
    /// What an open run waits for; none where it is over or was never known. Takes time in proportion to hosts.
    pub fn explain(&self, id: &RunId) -> Option<Explanation> {
        let run = self
            .run_ids
            .get(id)
            .and_then(|index| self.runs.get(index))?;
        let cells = run
            .cells
            .saturating_sub(run.settled)
            .saturating_sub(run.placed);
        let waits = match run.stopped {
            Some((why, _)) => vec![Wait::Stopped {
                why: why.to_owned(),
            }],
            None if run.wants.is_empty() && run.next_fresh().is_none() => Vec::new(),
            None => self.waits(run),
        };
        Some(Explanation { cells, waits })
    }

    fn waits(&self, run: &Run) -> Vec<Wait> {
        if self.hosts.is_empty() {
            return vec![Wait::NoHost];
        }
        let fitting = || self.hosts.iter().filter(|host| host.carries(&run.labels));
        if fitting().next().is_none() {
            let labels = run.labels.clone();
            return vec![Wait::NoHostWithLabels { labels }];
        }
        let mut waits = Vec::new();
        if !run.fresh && !self.open {
            let hosts = count(self.unheard.len());
            waits.push(Wait::Adopting { hosts });
        }
        let number =
            |counts: &dyn Fn(&Host) -> bool| count(fitting().filter(|host| counts(host)).count());
        let suspect = number(&|host| host.health == Health::Suspect);
        let lost = number(&|host| host.health == Health::Lost);
        let put_aside =
            number(&|host| host.health == Health::Ready && host.policy != Policy::Active);
        let able = number(&Host::is_able);
        if able == 0 || suspect + lost > able {
            waits.push(Wait::HostsNotAble {
                suspect,
                lost,
                put_aside,
            });
        }
        if let Some(most) = run.parallel
            && run.held_count() >= u64::from(most)
        {
            waits.push(Wait::Parallel { most });
        } else if able > 0 && number(&|host| host.is_able() && host.room > 0) == 0 {
            let taken: u64 = fitting().map(|host| u64::from(host.placed)).sum();
            waits.push(Wait::PlacesTaken {
                own: run.placed,
                others: taken.saturating_sub(run.placed),
            });
        } else if able > 0 && run.next_fresh().is_none() {
            let attempts = count(run.wants.len());
            waits.push(Wait::AnotherHost { attempts });
        }
        waits
    }
}
