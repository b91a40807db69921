//! Control groups, version 2: one tree. May not: make a group outside `regatta/INSTANCE`, except the
//! leaf that our own processes move to when systemd delegated a group to them.
//!
//! There is no device controller in version 2 but a BPF program. Containers need none: their /dev holds
//! single devices bound from the host, and in a user namespace nobody can make a device node or
//! open one on a file system mounted there.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regatta_model::container::Limits;

use super::Usage;
use super::files::{self, Claimed, Error};

/// The controllers that bound containers.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Where our own processes go when their group gets groups below it.
const LEAF: &str = "regatta-processes";
/// How often processes are moved there, since new ones may start meanwhile.
const MOVES_MOST: u32 = 16;
/// The period that a quota in `cpu.max` is a share of, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel's smallest quota, in microseconds.
const CPU_QUOTA_LEAST_US: u64 = 1_000;

/// Our parent.
#[derive(Debug)]
pub(super) struct Tree {
    base: PathBuf,
    instance: String,
    parent: Claimed,
    controllers: BTreeSet<String>,
}

impl Tree {
    pub(super) fn open(mount: &Path, own: &str, instance: &str) -> Result<Self, Error> {
        let base = base(mount, own);
        let root = files::directory(&base)?;
        enable(root.as_fd())?;
        let (ours, parent) = files::claim(root.as_fd(), instance)?;
        files::remove_abandoned(ours.as_fd());
        enable(ours.as_fd())?;
        let controllers = enable(parent.as_fd())?;
        Ok(Self {
            base,
            instance: instance.to_owned(),
            parent,
            controllers,
        })
    }

    pub(super) fn controllers(&self) -> BTreeSet<String> {
        self.controllers.clone()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    pub(super) fn create(&self, name: &str, limits: &Limits) -> Result<OwnedFd, Error> {
        let needed = [
            ("memory", limits.memory_bytes.is_some()),
            ("cpu", limits.cpu_millis.is_some()),
            ("pids", limits.processes.is_some()),
        ];
        for (controller, _) in needed.into_iter().filter(|(_, needed)| *needed) {
            if !self.controllers.contains(controller) {
                return Err(super::missing(controller));
            }
        }
        super::make_new(self.fd(), name)?;
        let made = files::directory_in(self.fd(), name).and_then(|directory| {
            bound(directory.as_fd(), limits)?;
            Ok(directory)
        });
        if made.is_err() {
            let _ = files::remove(self.fd(), name);
        }
        made
    }

    pub(super) fn usage(&self, name: &str) -> Usage {
        let keyed = |file: &str, key: &str| files::keyed(self.fd(), &format!("{name}/{file}"), key);
        Usage {
            cpu_us: keyed("cpu.stat", "usage_usec").unwrap_or(0),
            peak_memory_bytes: files::number(self.fd(), &format!("{name}/memory.peak"))
                .unwrap_or(0),
            oom_kills: keyed("memory.events", "oom_kill").unwrap_or(0),
            processes_refused: keyed("pids.events", "max").unwrap_or(0),
        }
    }

    pub(super) fn names(&self) -> Result<BTreeSet<String>, Error> {
        files::groups(self.fd())
    }

    pub(super) fn kill(&self, name: &str) -> bool {
        let populated = files::keyed(self.fd(), &format!("{name}/cgroup.events"), "populated");
        if populated.unwrap_or(0) == 0 {
            return true;
        }
        if files::write(self.fd(), &format!("{name}/cgroup.kill"), "1").is_ok() {
            return false;
        }
        // Before Linux 5.14: one by one, frozen meanwhile so that none can get away by forking.
        let freeze = format!("{name}/cgroup.freeze");
        let _ = files::write(self.fd(), &freeze, "1");
        for id in files::processes(self.fd(), name) {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = files::write(self.fd(), &freeze, "0");
        false
    }

    pub(super) fn try_remove(&self, name: &str) -> Result<bool, Error> {
        files::remove(self.fd(), name)
    }

    pub(super) fn close(&self) -> Result<(), Error> {
        let root = files::directory(&self.base)?;
        let ours = files::directory_in(root.as_fd(), "regatta")?;
        if !files::remove(ours.as_fd(), &self.instance)? {
            return Err(super::busy(&self.instance));
        }
        // Another executor's parent may be beside it.
        if files::groups(ours.as_fd())?.is_empty() {
            files::remove(root.as_fd(), "regatta")?;
        }
        Ok(())
    }
}

/// Sets a new group's limits.
fn bound(directory: BorrowedFd<'_>, limits: &Limits) -> Result<(), Error> {
    if let Some(bytes) = limits.memory_bytes {
        files::write(directory, "memory.max", &bytes.to_string())?;
        // A kernel without swap lacks the file.
        let swap = files::write(directory, "memory.swap.max", "0");
        swap.or_else(|e| e.unless(Errno::ENOENT))?;
    }
    if let Some(millis) = limits.cpu_millis {
        let quota = (millis.saturating_mul(CPU_PERIOD_US) / 1_000).max(CPU_QUOTA_LEAST_US);
        files::write(directory, "cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
    }
    if let Some(processes) = limits.processes {
        files::write(directory, "pids.max", &processes.to_string())?;
    }
    Ok(())
}

/// Where our parent goes: the nearest group around us that systemd delegated, else the mount's root.
fn base(mount: &Path, own: &str) -> PathBuf {
    let relative = own.trim_start_matches('/');
    if relative.split('/').any(|part| part == "..") {
        return mount.to_path_buf();
    }
    let start = mount.join(relative);
    let around = start.ancestors().take_while(|path| path.starts_with(mount));
    around
        .into_iter()
        .find(|path| delegated(path))
        .unwrap_or(mount)
        .to_path_buf()
}

/// Whether systemd marked a group as given away (`Delegate=yes`).
#[expect(unsafe_code, reason = "nix has no getxattr")]
fn delegated(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    [c"trusted.delegate", c"user.delegate"].iter().any(|name| {
        let mut value = [0_u8; 8];
        // SAFETY: both names end with NUL, and the buffer is as long as it is said to be.
        let length = unsafe {
            libc::getxattr(
                path.as_ptr(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        length >= 1 && value.first() == Some(&b'1')
    })
}

/// Lets the groups below use the controllers, as many as there are; says which do.
fn enable(directory: BorrowedFd<'_>) -> Result<BTreeSet<String>, Error> {
    let file = "cgroup.subtree_control";
    for controller in CONTROLLERS {
        let order = format!("+{controller}");
        // No group but the root may have both processes and groups that are bounded.
        if files::write(directory, file, &order).is_err_and(|e| e.errno() == Some(Errno::EBUSY)) {
            evacuate(directory)?;
            let _ = files::write(directory, file, &order);
        }
    }
    let enabled = files::read(directory, file).unwrap_or_default();
    let ours = CONTROLLERS
        .iter()
        .filter(|name| enabled.split_whitespace().any(|on| on == **name));
    Ok(ours.map(|name| (*name).to_owned()).collect())
}

/// Moves the processes of a group into a leaf below it.
fn evacuate(directory: BorrowedFd<'_>) -> Result<(), Error> {
    let leaf = files::make(directory, LEAF)?;
    for _ in 0..MOVES_MOST {
        let text = files::read(directory, "cgroup.procs").unwrap_or_default();
        if text.trim().is_empty() {
            return Ok(());
        }
        for id in text.lines().filter(|id| *id != "0") {
            // One that has ended meanwhile need not move.
            let _ = files::write(leaf.as_fd(), "cgroup.procs", id);
        }
    }
    Err(Error::saying(
        "the control group that Regatta runs in holds processes that do not move; start it as a service \
         of its own with Delegate=yes",
    ))
}
