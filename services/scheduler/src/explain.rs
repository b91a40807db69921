//! Why something of a run waits. May not: change anything, or guess: each reason is one that [`crate::place`] goes by.

use std::collections::BTreeSet;

use regatta_model::RunId;
use regatta_model::wait::{Explanation, OTHERS_TOLD_MOST, Wait};

use crate::Scheduler;
use crate::event::{Health, Policy};
use crate::host::{Host, HostIndex};
use crate::run::{Run, RunIndex};

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Scheduler {
    /// What an open run waits for; none where it is over or was never known. Takes time in proportion to hosts and
    /// to the runs that go before it.
    pub fn explain(&self, id: &RunId) -> Option<Explanation> {
        let index = *self.run_ids.get(id)?;
        let run = self.runs.get(&index)?;
        let cells = run
            .cells
            .saturating_sub(run.settled)
            .saturating_sub(run.placed);
        let waits = match run.stopped {
            Some((why, _)) => vec![Wait::Stopped {
                why: why.to_owned(),
            }],
            None if run.wants.is_empty() && run.next_fresh().is_none() => Vec::new(),
            None => self.waits(index, run),
        };
        Some(Explanation { cells, waits })
    }

    fn waits(&self, id: RunIndex, run: &Run) -> Vec<Wait> {
        if self.hosts.is_empty() {
            return vec![Wait::NoHost];
        }
        let carrying = || self.hosts.iter().filter(|host| host.carries(&run.labels));
        let Some(biggest) = carrying().max_by_key(|host| size(host)) else {
            let labels = run.labels.clone();
            return vec![Wait::NoHostWithLabels { labels }];
        };
        let hosts = || self.hosts.iter().enumerate();
        // What a host is that has not spoken since the server's start is not known.
        let fitting =
            || hosts().filter(|(index, host)| self.unheard.contains(index) || host.could_run(run));
        if fitting().next().is_none() {
            return vec![Wait::NoHostHolds {
                asked: run.asked,
                host: biggest.name.clone(),
                biggest: biggest.capacity,
            }];
        }
        let mut waits = Vec::new();
        if !run.fresh && !self.open {
            let hosts = count(self.unheard.len());
            waits.push(Wait::Adopting { hosts });
        }
        let number = |counts: &dyn Fn(HostIndex, &Host) -> bool| {
            count(
                fitting()
                    .filter(|(index, host)| counts(*index, host))
                    .count(),
            )
        };
        let suspect = number(&|_, host| host.health == Health::Suspect);
        let lost = number(&|_, host| host.health == Health::Lost);
        let put_aside =
            number(&|_, host| host.health == Health::Ready && host.policy != Policy::Active);
        let able = number(&|_, host| host.is_able());
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
            return waits;
        }
        if let Some(left) = run.reruns.closed()
            && run.next_fresh().is_none()
            && run.wants.values().all(|want| want.rerun)
        {
            waits.push(Wait::Reruns { left });
            return waits;
        }
        if able == 0 {
            return waits;
        }
        let kept = self.reserved_before(id);
        let has_places = |host: &Host| host.is_able() && host.room > 0 && host.exclusive == 0;
        let with_places = number(&|_, host| has_places(host));
        let with_room = number(&|index, host| {
            let open = run.asked.is_none() || !kept.contains(&index);
            has_places(host) && host.fits(run) && open
        });
        if with_room > 0 {
            if run.next_fresh().is_none() {
                let attempts = count(run.wants.len());
                waits.push(Wait::AnotherHost { attempts });
            }
            return waits;
        }
        if with_places == 0 {
            let taken: u64 = fitting().map(|(_, host)| u64::from(host.placed)).sum();
            waits.push(Wait::PlacesTaken {
                own: run.placed,
                others: taken.saturating_sub(run.placed),
            });
        } else {
            let reserved = self.reserved_for(run).and_then(|host| self.hosts.get(host));
            waits.push(Wait::ResourcesTaken {
                asked: run.asked,
                alone: run.exclusive,
                hosts: with_places,
                kept: number(&|index, _| kept.contains(&index)),
                reserved: reserved.map(|host| host.name.clone()),
            });
        }
        let rival = |other: &&Run| fitting().any(|(_, host)| host.could_run(other));
        let most = usize::try_from(OTHERS_TOLD_MOST).unwrap_or(usize::MAX);
        let runs = count(self.runs_before(id).filter(rival).take(most).count());
        if runs > 0 {
            waits.push(Wait::OthersFirst { runs });
        }
        waits
    }

    /// Hosts that are reserved for runs that go before this one.
    fn reserved_before(&self, id: RunIndex) -> BTreeSet<HostIndex> {
        let before = self.runs_before(id);
        before
            .filter_map(|other| self.reserved_for(other))
            .collect()
    }

    /// Runs whose turn it is before this one's.
    fn runs_before(&self, id: RunIndex) -> impl Iterator<Item = &Run> {
        let before = self.queue.runs().take_while(move |other| *other != id);
        before.filter_map(|other| self.runs.get(&other))
    }
}

/// By what the biggest host is found: its memory first.
fn size(host: &Host) -> (u64, u64) {
    (host.capacity.memory_bytes, host.capacity.cpu_millis)
}
