//! Hosts that become free for a run whose attempts are big: small ones would fill every gap before it is wide enough. May
//! not: take anything from a run that goes first.
//!
//! A run whose turn it is and that does not fit beside what a host holds is passed over, and who comes after it is
//! placed. Once that has gone on for `reserve_after_ms`, one host is reserved for the run: of those that come after it,
//! only what asks for nothing is placed there until it fits; nothing at all for a run whose attempts have their host to
//! themselves. One host at a time, and at most one in that time. Where
//! another host lacks less, the reservation moves there.

use regatta_model::Resources;

use crate::Scheduler;
use crate::event::Moment;
use crate::host::{Host, HostIndex};
use crate::run::{Run, RunIndex};

/// What is kept of a run that others pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reserve {
    /// The first moment at which it was passed over, or when the host that was reserved last had room for it.
    since: Option<Moment>,
    /// The reserved host.
    host: Option<HostIndex>,
}

impl Reserve {
    /// A host got an attempt of the run.
    pub(crate) fn placed(&mut self, now: Moment, host: HostIndex) {
        if self.host == Some(host) {
            (self.since, self.host) = (Some(now), None);
        }
    }
}

impl Scheduler {
    /// The host that becomes free for a run.
    pub(crate) fn reserved_for(&self, run: &Run) -> Option<HostIndex> {
        let host = run.reserve.host?;
        let still = self.able.contains(&host) && self.hosts.get(host)?.could_run(run);
        still.then_some(host)
    }

    /// These runs do not fit on the host, whose turn it was, and `next` would be placed there. Says whether the host is
    /// reserved for one of them instead.
    pub(crate) fn pass_over(
        &mut self,
        now: Moment,
        host: HostIndex,
        passed: &[RunIndex],
        next: RunIndex,
    ) -> bool {
        let small = self.runs.get(&next).is_none_or(|run| run.asked.is_none());
        for index in passed {
            let Some(run) = self.runs.get(index) else {
                continue;
            };
            // What asks for nothing is in the way of nobody but who wants the host to himself.
            if small && !run.exclusive {
                continue;
            }
            let lacks = |host: HostIndex| match self.hosts.get(host) {
                // The attempts that have to end first.
                Some(host) if run.exclusive => Resources {
                    cpu_millis: host.taking.into(),
                    memory_bytes: 0,
                },
                host => run.asked.less(&host.map(Host::spare).unwrap_or_default()),
            };
            let reserved = self.reserved_for(run);
            let better = reserved.is_none_or(|other| is_less(&lacks(host), &lacks(other)));
            let since = run.reserve.since.unwrap_or(now);
            let due = now >= since.plus(self.config.reserve_after_ms);
            if let Some(run) = self.runs.get_mut(index) {
                run.reserve.since = Some(since);
                if due && better {
                    run.reserve.host = Some(host);
                    return true;
                }
            }
        }
        false
    }
}

/// Whether `one` is less than `other` in some way, and more in none.
fn is_less(one: &Resources, other: &Resources) -> bool {
    other.holds(one) && one != other
}
