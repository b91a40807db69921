//! The page `/metrics/hosts`, made anew for each who asks. May not: keep a series of a host that is gone.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use regatta_scheduler::{Health, Policy};

use super::{Seconds, encode, level};
use crate::actor::HostInfo;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HostLabel {
    host: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PressureLabels {
    host: String,
    resource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CanaryLabels {
    host: String,
    result: &'static str,
}

/// The families of the page.
#[derive(Default)]
struct Families {
    slots: Family<HostLabel, Gauge>,
    held: Family<HostLabel, Gauge>,
    up: Family<HostLabel, Gauge>,
    active: Family<HostLabel, Gauge>,
    silent: Family<HostLabel, Seconds>,
    disk: Family<HostLabel, Gauge>,
    unconfirmed: Family<HostLabel, Gauge>,
    lacks: Family<HostLabel, Gauge>,
    nodes: Family<HostLabel, Gauge>,
    pressure: Family<PressureLabels, Seconds>,
    canaries: Family<CanaryLabels, Counter>,
    clock: Family<HostLabel, Seconds>,
}

impl Families {
    /// Registers all of them.
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "slots",
            "Attempts that the host can run at once",
            self.slots.clone(),
        );
        registry.register("held", "Attempts that the host holds", self.held.clone());
        registry.register("ready", "Whether the host speaks in time", self.up.clone());
        registry.register(
            "active",
            "Whether the host may get work",
            self.active.clone(),
        );
        registry.register(
            "silent_seconds",
            "Time since the host spoke",
            self.silent.clone(),
        );
        registry.register(
            "disk_free_bytes",
            "Bytes free where the host's data lives",
            self.disk.clone(),
        );
        registry.register(
            "unconfirmed_failures",
            "Failures that other hosts did not confirm, since the host was trusted last",
            self.unconfirmed.clone(),
        );
        registry.register(
            "lacks",
            "What keeps the host from working, as it says itself",
            self.lacks.clone(),
        );
        registry.register(
            "files_free",
            "Files that can still be made where the host's data lives",
            self.nodes.clone(),
        );
        registry.register(
            "pressure_ratio",
            "Part of the last ten seconds in which some task of the host waited for this",
            self.pressure.clone(),
        );
        registry.register(
            "canaries",
            "Canaries that ended on the host, so far as this server heard",
            self.canaries.clone(),
        );
        registry.register(
            "clock_offset_seconds",
            "Time by which the host's wall clock is ahead of this server's",
            self.clock.clone(),
        );
    }

    /// Takes in a host.
    fn set(&self, info: &HostInfo) {
        for (result, count) in [("passed", info.canaries.0), ("failed", info.canaries.1)] {
            let host = info.name.to_string();
            self.canaries
                .get_or_create(&CanaryLabels { host, result })
                .inc_by(count);
        }
        let observed = &info.facts.observed;
        let parts = [
            ("cpu", observed.pressure.cpu),
            ("memory", observed.pressure.memory),
            ("io", observed.pressure.io),
        ];
        for (resource, permille) in parts {
            let host = info.name.to_string();
            if let Some(permille) = permille {
                self.pressure
                    .get_or_create(&PressureLabels { host, resource })
                    .set(f64::from(permille) / 1000.0);
            }
        }
        let label = HostLabel {
            host: info.name.to_string(),
        };
        self.slots.get_or_create(&label).set(info.slots.into());
        self.held.get_or_create(&label).set(info.held.into());
        self.up
            .get_or_create(&label)
            .set((info.health == Health::Ready).into());
        self.active
            .get_or_create(&label)
            .set((info.policy == Policy::Active).into());
        if let Some(ms) = info.clock_offset_ms {
            self.clock
                .get_or_create(&label)
                .set(crate::hosts::seconds(ms));
        }
        if let Some(seconds) = info.silent_seconds {
            self.silent.get_or_create(&label).set(seconds);
        }
        self.lacks
            .get_or_create(&label)
            .set(level(u64::try_from(observed.lacks.len()).unwrap_or(0)));
        if let Some(free) = observed.nodes_free {
            self.nodes.get_or_create(&label).set(level(free));
        }
        self.unconfirmed
            .get_or_create(&label)
            .set(info.trust.charged.into());
        self.disk
            .get_or_create(&label)
            .set(level(info.facts.disk_free_bytes));
    }
}

/// The page `/metrics/hosts`.
pub(crate) fn hosts_page(hosts: &[HostInfo]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("regatta_host");
    let families = Families::default();
    families.register(&mut registry);
    for info in hosts {
        families.set(info);
    }
    encode(&registry)
}
