//! What this host is: kernel, processor, memory, disk. Recorded beside outcomes. May not: fail; what the
//! host does not tell is empty or 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use regatta_model::wire::HostFacts;

use crate::observe::observe;

/// Looks at the host. `labels` are the owner's; `arch` is added.
pub fn gather(data: &Path, labels: &BTreeMap<String, String>) -> HostFacts {
    let mut labels = labels.clone();
    labels.insert("arch".to_owned(), std::env::consts::ARCH.to_owned());
    HostFacts {
        kernel: read("/proc/sys/kernel/osrelease"),
        cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels,
        disk_free_bytes: disk_free_bytes(data),
        observed: observe(data),
        ready: Vec::new(),
    }
}

/// The machine's host name as a name in the fleet, or `host` where it is none.
pub fn host_name() -> regatta_model::HostName {
    let name = read("/proc/sys/kernel/hostname");
    let fallback = || {
        "host"
            .parse()
            .unwrap_or_else(|_| unreachable!("a plain word is a name"))
    };
    name.parse().unwrap_or_else(|_| fallback())
}

/// Which boot of the host this is.
pub(crate) fn boot_id() -> String {
    read("/proc/sys/kernel/random/boot_id")
}

/// Bytes free for whoever writes to `data`; 0 where the file system does not tell.
pub fn disk_free_bytes(data: &Path) -> u64 {
    rustix::fs::statvfs(data).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn memory_bytes() -> u64 {
    let total = field(&read("/proc/meminfo"), "MemTotal");
    let kibibytes = total.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
