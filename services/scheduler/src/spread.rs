//! Where a further attempt of a cell should rather run: on another host than the cell's attempts before, on another rack,
//! on another model of processor, so that what is wrong with one of them does not decide alone. May not: let anything
//! wait for what no host offers, or longer than [`crate::Config::avoid_ms`].

use std::collections::BTreeMap;

use crate::Scheduler;
use crate::event::Moment;
use crate::host::{Host, HostIndex};
use crate::run::{Run, Want};

/// The label that names a host's rack, or whatever fails as one.
const RACK: &str = "rack";

/// Most hosts that are looked at for whether another one could run a want.
const OTHERS_SEEN_MOST: usize = 1000;

/// What racks and processors the hosts have that may get work, and how many of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variety {
    racks: BTreeMap<String, u32>,
    cpus: BTreeMap<String, u32>,
}

impl Variety {
    /// Counts a host that may get work from now on.
    pub(crate) fn add(&mut self, host: &Host) {
        for (counts, trait_) in [(&mut self.racks, rack(host)), (&mut self.cpus, cpu(host))] {
            if let Some(trait_) = trait_ {
                *counts.entry(trait_.to_owned()).or_default() += 1;
            }
        }
    }

    /// Counts a host no longer.
    pub(crate) fn remove(&mut self, host: &Host) {
        for (counts, trait_) in [(&mut self.racks, rack(host)), (&mut self.cpus, cpu(host))] {
            let Some(trait_) = trait_ else { continue };
            if let Some(count) = counts.get_mut(trait_) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(trait_);
                }
            }
        }
    }
}

/// The host's rack, where its labels tell it.
pub(crate) fn rack(host: &Host) -> Option<&str> {
    host.labels.get(RACK).map(String::as_str)
}

/// The model of the host's processors, where it is known.
fn cpu(host: &Host) -> Option<&str> {
    Some(host.cpu.as_str()).filter(|cpu| !cpu.is_empty())
}

impl Scheduler {
    /// Whether a host may have this further attempt now. It waits longest for another host, two thirds of that time for
    /// another rack, and one third for another model of processor.
    pub(crate) fn may_run(&self, now: Moment, index: HostIndex, run: &Run, want: &Want) -> bool {
        let most = self.config.avoid_ms;
        let waits_still = |millis: u64| now < want.since.plus(millis);
        if want.avoid.is_empty() || !waits_still(most) {
            return true;
        }
        let Some(host) = self.hosts.get(index) else {
            return false;
        };
        let elsewhere = |other: &HostIndex| {
            let other_host = self.hosts.get(*other);
            !want.avoid.contains(other) && other_host.is_some_and(|host| host.could_run(run))
        };
        if want.avoid.contains(&index) && self.able.iter().take(OTHERS_SEEN_MOST).any(elsewhere) {
            return false;
        }
        // Whether this host shares with an avoided one what some other host has not. Hosts that do not carry the run's
        // labels count too: at worst it waits its short time in vain.
        let shares = |of: fn(&Host) -> Option<&str>, offered: &BTreeMap<String, u32>| {
            let avoided = || {
                let hosts = want.avoid.iter().filter_map(|other| self.hosts.get(*other));
                hosts.filter_map(of)
            };
            of(host).is_some_and(|own| avoided().any(|other| other == own))
                && offered
                    .keys()
                    .any(|offer| avoided().all(|other| other != offer))
        };
        let same_rack = waits_still(most / 3 * 2) && shares(rack, &self.variety.racks);
        let same_cpu = waits_still(most / 3) && shares(cpu, &self.variety.cpus);
        !same_rack && !same_cpu
    }
}
