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

/// The page `/metrics/hosts`.
pub(crate) fn hosts_page(hosts: &[HostInfo]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("regatta_host");
    let slots = Family::<HostLabel, Gauge>::default();
    let held = Family::<HostLabel, Gauge>::default();
    let up = Family::<HostLabel, Gauge>::default();
    let active = Family::<HostLabel, Gauge>::default();
    let silent = Family::<HostLabel, Seconds>::default();
    let disk = Family::<HostLabel, Gauge>::default();
    let unconfirmed = Family::<HostLabel, Gauge>::default();
    registry.register(
        "slots",
        "Attempts that the host can run at once",
        slots.clone(),
    );
    registry.register("held", "Attempts that the host holds", held.clone());
    registry.register("ready", "Whether the host speaks in time", up.clone());
    registry.register("active", "Whether the host may get work", active.clone());
    registry.register(
        "silent_seconds",
        "Time since the host spoke",
        silent.clone(),
    );
    registry.register(
        "disk_free_bytes",
        "Bytes free where the host's data lives",
        disk.clone(),
    );
    registry.register(
        "unconfirmed_failures",
        "Failures that other hosts did not confirm, since the host was trusted last",
        unconfirmed.clone(),
    );
    let lacks = Family::<HostLabel, Gauge>::default();
    let nodes = Family::<HostLabel, Gauge>::default();
    let pressure = Family::<PressureLabels, Seconds>::default();
    registry.register(
        "lacks",
        "What keeps the host from working, as it says itself",
        lacks.clone(),
    );
    registry.register(
        "files_free",
        "Files that can still be made where the host's data lives",
        nodes.clone(),
    );
    registry.register(
        "pressure_ratio",
        "Part of the last ten seconds in which some task of the host waited for this",
        pressure.clone(),
    );
    let canaries = Family::<CanaryLabels, Counter>::default();
    let clock = Family::<HostLabel, Seconds>::default();
    registry.register(
        "canaries",
        "Canaries that ended on the host, so far as this server heard",
        canaries.clone(),
    );
    registry.register(
        "clock_offset_seconds",
        "Time by which the host's wall clock is ahead of this server's",
        clock.clone(),
    );
    for info in hosts {
        for (result, count) in [("passed", info.canaries.0), ("failed", info.canaries.1)] {
            let host = info.name.to_string();
            canaries
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
                pressure
                    .get_or_create(&PressureLabels { host, resource })
                    .set(f64::from(permille) / 1000.0);
            }
        }
        let label = HostLabel {
            host: info.name.to_string(),
        };
        slots.get_or_create(&label).set(info.slots.into());
        held.get_or_create(&label).set(info.held.into());
        up.get_or_create(&label)
            .set((info.health == Health::Ready).into());
        active
            .get_or_create(&label)
            .set((info.policy == Policy::Active).into());
        if let Some(ms) = info.clock_offset_ms {
            clock.get_or_create(&label).set(crate::hosts::seconds(ms));
        }
        if let Some(seconds) = info.silent_seconds {
            silent.get_or_create(&label).set(seconds);
        }
        lacks
            .get_or_create(&label)
            .set(level(u64::try_from(observed.lacks.len()).unwrap_or(0)));
        if let Some(free) = observed.nodes_free {
            nodes.get_or_create(&label).set(level(free));
        }
        unconfirmed
            .get_or_create(&label)
            .set(info.trust.charged.into());
        disk.get_or_create(&label)
            .set(level(info.facts.disk_free_bytes));
    }
    encode(&registry)
}
