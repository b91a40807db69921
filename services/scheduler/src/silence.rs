//! When so many hosts are silent at once that the server should doubt itself rather than them: its own network, its own
//! standing still. May not: keep a host from being lost for longer than [`crate::Config::doubt_ms`].
//!
//! What all hosts of one rack do together is one event, and its rack explains it.

use std::collections::BTreeSet;

use crate::Scheduler;
use crate::event::{Effect, Health, Moment};
use crate::host::{Host, HostIndex};
use crate::spread::rack;

/// Hosts of the smallest fleet of which a third says anything.
const FLEET_LEAST: usize = 10;

/// What is kept of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silence {
    /// Since when more hosts are silent than the fleet's own faults explain.
    since: Option<Moment>,
    /// When that was looked at last, and whether it was so.
    seen: Option<(Moment, bool)>,
}

impl Scheduler {
    /// The moment until which a host whose time is over is still not taken for lost; none where it is.
    pub(crate) fn doubts_itself(
        &mut self,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) -> Option<Moment> {
        let many = match self.silence.seen {
            Some((at, many)) if at == now => many,
            _ => self.too_many_are_silent(now),
        };
        self.silence.seen = Some((now, many));
        if !many {
            self.silence.since = None;
            return None;
        }
        if self.silence.since.is_none() {
            self.silence.since = Some(now);
            effects.push(Effect::Doubted {
                silent: self.silent(now).count(),
            });
        }
        let end = self.silence.since?.plus(self.config.doubt_ms);
        // Looked at again soon: once fewer are silent, those that still are are lost.
        let again = now.plus(self.config.suspect_after_ms / 2).min(end);
        (now < end).then_some(again)
    }

    /// Hosts that are silent and not lost yet.
    fn silent(&self, now: Moment) -> impl Iterator<Item = (HostIndex, &Host)> {
        let since = self.config.suspect_after_ms;
        let is_silent =
            move |host: &Host| host.health != Health::Lost && now >= host.last_sync.plus(since);
        let hosts = self.hosts.iter().enumerate();
        hosts.filter(move |(_, host)| is_silent(host))
    }

    fn too_many_are_silent(&self, now: Moment) -> bool {
        let lost = |host: &&Host| host.health == Health::Lost;
        let known = self.hosts.len() - self.hosts.iter().filter(lost).count();
        let silent = self.silent(now).count();
        if known < FLEET_LEAST || silent * 3 <= known {
            return false;
        }
        let racks: BTreeSet<Option<&str>> = self.silent(now).map(|(_, host)| rack(host)).collect();
        let one_rack = racks.len() == 1 && !racks.contains(&None) && silent < known;
        !one_rack
    }
}
