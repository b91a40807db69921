//! Control groups, version 1: one tree for each controller. May not: make a group outside
//! `regatta/INSTANCE`.
//!
//! All containers share one group of the `devices` controller, since they may all use the same devices;
//! every other controller has one for each container.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regatta_model::container::Limits;

use super::Usage;
use super::files::{self, Claimed, Error};
use super::mounts::Mounts;

/// The devices that a container may open: null, zero, full, random, urandom, tty, ptmx, and the
/// terminals of its own /dev/pts.
const DEVICES: [&str; 8] = [
    "c 1:3 rw",
    "c 1:5 rw",
    "c 1:7 rw",
    "c 1:8 rw",
    "c 1:9 rw",
    "c 5:0 rw",
    "c 5:2 rw",
    "c 136:* rw",
];
/// The period that `cpu.cfs_quota_us` is a share of, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel's smallest quota, in microseconds.
const CPU_QUOTA_LEAST_US: u64 = 1_000;

/// Our parent in every hierarchy.
#[derive(Debug)]
pub(super) struct Tree {
    places: Vec<Place>,
    /// The shared group's `tasks`, where the devices are a hierarchy of their own.
    devices: Option<OwnedFd>,
    instance: String,
}

/// One hierarchy: the controllers mounted together, and our parent there.
#[derive(Debug)]
struct Place {
    controllers: Vec<&'static str>,
    mount: PathBuf,
    parent: Claimed,
}

impl Place {
    fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// Whether containers share our parent itself instead of having groups below it.
    fn is_shared(&self) -> bool {
        self.controllers == ["devices"]
    }

    fn set(&self, name: &str, file: &str, value: &str) -> Result<(), Error> {
        files::write(self.fd(), &format!("{name}/{file}"), value)
    }
}

impl Tree {
    pub(super) fn open(mounts: &Mounts, instance: &str) -> Result<Self, Error> {
        let mut together: BTreeMap<&PathBuf, Vec<&'static str>> = BTreeMap::new();
        for (controller, mount) in &mounts.v1 {
            together.entry(mount).or_default().push(controller);
        }
        let mut places = Vec::new();
        let mut devices = None;
        for (mount, controllers) in together {
            let root = files::directory(mount)?;
            let (ours, parent) = files::claim(root.as_fd(), instance)?;
            files::remove_abandoned(ours.as_fd());
            let place = Place {
                controllers,
                mount: mount.clone(),
                parent,
            };
            if place.has("memory") {
                // A kernel that has no such file never swaps for a group of its own will.
                let _ = files::write(place.fd(), "memory.swappiness", "0");
            }
            if place.has("devices") {
                // While groups are below ours the kernel refuses, and it was done before they were made.
                let denied = files::write(place.fd(), "devices.deny", "a");
                denied.or_else(|e| e.unless(Errno::EINVAL))?;
                for device in DEVICES {
                    files::write(place.fd(), "devices.allow", device)?;
                }
            }
            if place.is_shared() {
                let doing = format!("cannot open the tasks of {}", mount.display());
                devices = Some(files::writable(place.fd(), "tasks").map_err(Error::of(doing))?);
            }
            places.push(place);
        }
        Ok(Self {
            places,
            devices,
            instance: instance.to_owned(),
        })
    }

    pub(super) fn controllers(&self) -> BTreeSet<String> {
        let all = self.places.iter().flat_map(|place| &place.controllers);
        all.map(|name| (*name).to_owned()).collect()
    }

    fn own_groups(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !place.is_shared())
    }

    fn place(&self, controller: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.has(controller))
    }

    pub(super) fn create(&self, name: &str, limits: &Limits) -> Result<Vec<OwnedFd>, Error> {
        let needed = [
            ("memory", limits.memory_bytes.is_some()),
            ("cpu", limits.cpu_millis.is_some()),
            ("pids", limits.processes.is_some()),
        ];
        for (controller, _) in needed.into_iter().filter(|(_, needed)| *needed) {
            if self.place(controller).is_none() {
                return Err(super::missing(controller));
            }
        }
        let mut tasks = Vec::new();
        let mut made = Vec::new();
        for place in self.own_groups() {
            // The cpu controller does nothing without a limit.
            if place.controllers == ["cpu"] && limits.cpu_millis.is_none() {
                continue;
            }
            let done = super::make_new(place.fd(), name).and_then(|()| {
                made.push(place);
                bound(place, name, limits)?;
                let path = format!("{name}/tasks");
                let doing = Error::of(format!("cannot open {path}"));
                tasks.push(files::writable(place.fd(), &path).map_err(doing)?);
                Ok(())
            });
            if let Err(error) = done {
                drop(tasks);
                for place in made {
                    let _ = files::remove(place.fd(), name);
                }
                return Err(error);
            }
        }
        if let Some(devices) = &self.devices {
            tasks.push(
                devices
                    .try_clone()
                    .map_err(|e| Error::new("cannot copy a descriptor".into(), &e))?,
            );
        }
        Ok(tasks)
    }

    pub(super) fn usage(&self, name: &str) -> Usage {
        let number = |controller: &str, file: &str| {
            files::number(self.place(controller)?.fd(), &format!("{name}/{file}"))
        };
        let keyed = |controller: &str, file: &str, key: &str| {
            files::keyed(self.place(controller)?.fd(), &format!("{name}/{file}"), key)
        };
        Usage {
            cpu_us: number("cpuacct", "cpuacct.usage").unwrap_or(0) / 1_000,
            peak_memory_bytes: number("memory", "memory.max_usage_in_bytes").unwrap_or(0),
            oom_kills: keyed("memory", "memory.oom_control", "oom_kill").unwrap_or(0),
            processes_refused: keyed("pids", "pids.events", "max").unwrap_or(0),
        }
    }

    pub(super) fn names(&self) -> Result<BTreeSet<String>, Error> {
        let mut names = BTreeSet::new();
        for place in self.own_groups() {
            names.extend(files::groups(place.fd())?);
        }
        Ok(names)
    }

    /// Sends SIGKILL to all in a group, frozen meanwhile so that none can get away by forking.
    pub(super) fn kill(&self, name: &str) -> bool {
        let freezer = self.place("freezer");
        let state = |value| freezer.map(|place| place.set(name, "freezer.state", value));
        let mut found = BTreeSet::new();
        for place in self.own_groups() {
            found.extend(files::processes(place.fd(), name));
        }
        if found.is_empty() {
            return true;
        }
        let _ = state("FROZEN");
        for place in self.own_groups() {
            found.extend(files::processes(place.fd(), name));
        }
        for id in &found {
            // One that has ended meanwhile is what is wanted.
            let _ = kill(Pid::from_raw(*id), Signal::SIGKILL);
        }
        // A frozen process ends only once it is thawed.
        let _ = state("THAWED");
        false
    }

    pub(super) fn try_remove(&self, name: &str) -> Result<bool, Error> {
        let mut gone = true;
        for place in self.own_groups() {
            gone &= files::remove(place.fd(), name)?;
        }
        Ok(gone)
    }

    pub(super) fn close(&self) -> Result<(), Error> {
        for place in &self.places {
            let root = files::directory(&place.mount)?;
            let ours = files::directory_in(root.as_fd(), "regatta")?;
            if !files::remove(ours.as_fd(), &self.instance)? {
                return Err(super::busy(&self.instance));
            }
            // Another executor's parent may be beside it.
            if files::groups(ours.as_fd())?.is_empty() {
                files::remove(root.as_fd(), "regatta")?;
            }
        }
        Ok(())
    }
}

/// Sets a new group's limits in one hierarchy.
fn bound(place: &Place, name: &str, limits: &Limits) -> Result<(), Error> {
    if let Some(bytes) = limits.memory_bytes.filter(|_| place.has("memory")) {
        place.set(name, "memory.limit_in_bytes", &bytes.to_string())?;
        let both = place.set(name, "memory.memsw.limit_in_bytes", &bytes.to_string());
        // A kernel without swap accounting lacks the file; swappiness 0 is all that can be done there.
        both.or_else(|e| e.unless(Errno::ENOENT))?;
    }
    if let Some(millis) = limits.cpu_millis.filter(|_| place.has("cpu")) {
        let quota = (millis.saturating_mul(CPU_PERIOD_US) / 1_000).max(CPU_QUOTA_LEAST_US);
        place.set(name, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
        place.set(name, "cpu.cfs_quota_us", &quota.to_string())?;
    }
    if let Some(processes) = limits.processes.filter(|_| place.has("pids")) {
        place.set(name, "pids.max", &processes.to_string())?;
    }
    Ok(())
}
