//! Control groups: what bounds a container, and what finds all that it started. One face over cgroup
//! v1, v2 and hosts that have both. May not: touch any group that is not below our own
//! parent, except to move its own processes out of a group that systemd delegated to it.
//!
//! The tree is `regatta/INSTANCE/c-NAME` below each mounted hierarchy (on v2 below the delegated group,
//! where there is one). An instance is one executor, so that two of them on a host never end
//! each other's containers. Everything is reached through directory descriptors: it works from
//! any mount namespace.

mod files;
mod mounts;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use regatta_model::container::Limits;

pub use self::files::Error;
use self::mounts::Mounts;

/// How often [`Cgroup::kill_all`] and [`Cgroup::remove`] look again, with growing pauses: two seconds in all.
const ROUNDS_MOST: u32 = 24;
/// The longest such pause.
const PAUSE_MOST: Duration = Duration::from_millis(128);
/// Groups that one sweep ends at most; a host holds far fewer.
const SWEPT_MOST: usize = 100_000;
/// The length of a container's name and of an instance's.
const NAME_MOST: usize = 128;

/// This host's control groups, with a parent of our own in each hierarchy that bounds containers.
#[derive(Debug)]
pub struct Hierarchy {
    tree: Arc<Tree>,
}

#[derive(Debug)]
enum Tree {
    V1(v1::Tree),
    V2(v2::Tree),
}

/// One container's group (in each hierarchy). Dropping it leaves the group; see [`Cgroup::remove`].
#[derive(Debug)]
pub struct Cgroup {
    tree: Arc<Tree>,
    name: String,
    entry: Held,
}

#[derive(Debug)]
enum Held {
    Tasks(Vec<OwnedFd>),
    Directory(OwnedFd),
}

/// How a new process gets into the group.
#[derive(Debug)]
pub enum Entry<'a> {
    /// v1: it writes `0` to each of these. (Writing to `cgroup.procs` would wait for an RCU grace period.)
    Tasks(&'a [OwnedFd]),
    /// v2: `clone3` takes this with `CLONE_INTO_CGROUP`.
    Directory(BorrowedFd<'a>),
}

/// What a container used, as its groups tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all that ever ran in it, in microseconds.
    pub cpu_us: u64,
    /// Most memory at once, in bytes; 0 where the kernel does not tell.
    pub peak_memory_bytes: u64,
    /// Processes that the kernel ended for the memory limit.
    pub oom_kills: u64,
    /// How often a new process was refused for the limit of processes.
    pub processes_refused: u64,
}

impl Hierarchy {
    /// Finds the host's hierarchies and makes our parent `regatta/INSTANCE` in each.
    ///
    /// `instance` names the executor: 1 to 128 letters, digits, `-`, `_`, `.`.
    ///
    /// # Errors
    /// No hierarchy is mounted, or the parent cannot be made.
    pub fn detect(instance: &str) -> Result<Self, Error> {
        let instance = checked(instance)?;
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|e| Error::new(format!("cannot read {path}"), &e))
        };
        let mounts = Mounts::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        let tree = if mounts.bounds_by_v1() {
            Tree::V1(v1::Tree::open(&mounts, instance)?)
        } else if let Some(mount) = &mounts.v2 {
            Tree::V2(v2::Tree::open(mount, &mounts.own, instance)?)
        } else {
            return Err(Error::saying(
                "this host mounts no control groups that bound memory and processes; mount them with \
                 \"mount -t cgroup2 cgroup2 /sys/fs/cgroup\"",
            ));
        };
        Ok(Self {
            tree: Arc::new(tree),
        })
    }

    /// `v1` or `v2`, and the controllers that bound containers: a line for host facts.
    pub fn describe(&self) -> String {
        let (version, controllers) = match &*self.tree {
            Tree::V1(tree) => ("v1", tree.controllers()),
            Tree::V2(tree) => ("v2", tree.controllers()),
        };
        let names: Vec<&str> = controllers.iter().map(String::as_str).collect();
        format!("cgroup {version}: {}", names.join(" "))
    }

    /// Which controllers bound containers here.
    pub fn controllers(&self) -> BTreeSet<String> {
        match &*self.tree {
            Tree::V1(tree) => tree.controllers(),
            Tree::V2(tree) => tree.controllers(),
        }
    }

    /// Makes the group of a container with its limits; nothing is in it.
    ///
    /// `name` is 1 to 128 letters, digits, `-`, `_`, `.`.
    ///
    /// # Errors
    /// The name is taken or wrong, a limit's controller is missing, or the kernel refuses. Nothing stays then.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Cgroup, Error> {
        let name = format!("c-{}", checked(name)?);
        let entry = match &*self.tree {
            Tree::V1(tree) => Held::Tasks(tree.create(&name, limits)?),
            Tree::V2(tree) => Held::Directory(tree.create(&name, limits)?),
        };
        Ok(Cgroup {
            tree: Arc::clone(&self.tree),
            name,
            entry,
        })
    }

    /// Ends and removes every group below our parent: what a dead executor left. Says how many there were.
    ///
    /// # Errors
    /// A group that will not end. All others are gone then.
    pub fn sweep(&self) -> Result<usize, Error> {
        let names = self.tree.names()?;
        let mut problem = None;
        for name in names.iter().take(SWEPT_MOST) {
            let ended = self
                .tree
                .kill_all(name)
                .and_then(|()| self.tree.remove(name));
            problem = problem.or(ended.err());
        }
        problem.map_or(Ok(names.len()), Err)
    }

    /// Removes our parent, once nothing is below it any more.
    ///
    /// # Errors
    /// Something is still below it.
    pub fn close(self) -> Result<(), Error> {
        match &*self.tree {
            Tree::V1(tree) => tree.close(),
            Tree::V2(tree) => tree.close(),
        }
    }
}

impl Tree {
    fn names(&self) -> Result<BTreeSet<String>, Error> {
        match self {
            Self::V1(tree) => tree.names(),
            Self::V2(tree) => tree.names(),
        }
    }

    /// Sends SIGKILL to all that is in a group now; whether there was nothing.
    fn kill(&self, name: &str) -> bool {
        match self {
            Self::V1(tree) => tree.kill(name),
            Self::V2(tree) => tree.kill(name),
        }
    }

    /// Removes a group; whether it is gone.
    fn try_remove(&self, name: &str) -> Result<bool, Error> {
        match self {
            Self::V1(tree) => tree.try_remove(name),
            Self::V2(tree) => tree.try_remove(name),
        }
    }

    fn kill_all(&self, name: &str) -> Result<(), Error> {
        again(
            || Ok(self.kill(name)),
            || format!("processes of the control group {name} do not end"),
        )
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        again(
            || self.try_remove(name),
            || format!("the control group {name} stays busy"),
        )
    }
}

impl Cgroup {
    /// How a new process gets in.
    pub fn entry(&self) -> Entry<'_> {
        use std::os::fd::AsFd as _;
        match &self.entry {
            Held::Tasks(tasks) => Entry::Tasks(tasks),
            Held::Directory(directory) => Entry::Directory(directory.as_fd()),
        }
    }

    /// Sends SIGKILL to all that is in it now, and says whether there was nothing. Does not wait.
    pub fn kill(&self) -> bool {
        self.tree.kill(&self.name)
    }

    /// Ends all that is in it and waits until it is empty, two seconds at most.
    ///
    /// # Errors
    /// Something does not end (it hangs in the kernel).
    pub fn kill_all(&self) -> Result<(), Error> {
        self.tree.kill_all(&self.name)
    }

    /// What was used so far. What the kernel does not tell is 0.
    pub fn usage(&self) -> Usage {
        match &*self.tree {
            Tree::V1(tree) => tree.usage(&self.name),
            Tree::V2(tree) => tree.usage(&self.name),
        }
    }

    /// Removes it if nothing is in it; whether it is gone. Does not wait.
    ///
    /// # Errors
    /// The kernel refuses for another reason than processes in it.
    pub fn try_remove(&self) -> Result<bool, Error> {
        self.tree.try_remove(&self.name)
    }

    /// Removes it; waits two seconds at most for the last process to be gone.
    ///
    /// # Errors
    /// It stays busy, or the kernel refuses.
    pub fn remove(self) -> Result<(), Error> {
        self.tree.remove(&self.name)
    }
}

/// Tries until it is done, with growing pauses, a bounded number of times.
fn again(
    mut done: impl FnMut() -> Result<bool, Error>,
    problem: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut pause = Duration::from_micros(100);
    for _ in 0..ROUNDS_MOST {
        if done()? {
            return Ok(());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MOST);
    }
    Err(Error {
        doing: problem(),
        errno: Some(Errno::EBUSY),
    })
}

/// Makes a group that must be new.
fn make_new(parent: BorrowedFd<'_>, name: &str) -> Result<(), Error> {
    let doing = format!("cannot make the control group {name}");
    mkdirat(parent, name, Mode::from_bits_truncate(0o755)).map_err(Error::of(doing))
}

fn missing(controller: &str) -> Error {
    Error::saying(&format!(
        "this host has no {controller} controller for control groups, which a limit needs; leave the limit \
         out or enable the controller"
    ))
}

fn busy(instance: &str) -> Error {
    Error::saying(&format!(
        "the control group regatta/{instance} still holds containers"
    ))
}

/// A name that is safe as part of a path.
fn checked(name: &str) -> Result<&str, Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_MOST || !name.bytes().all(plain) {
        let shown: String = name.chars().take(40).collect();
        return Err(Error::saying(&format!(
            "{shown:?} cannot name a control group: give 1 to {NAME_MOST} letters, digits, -, _ or ."
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for name in ["", "a/b", "../x", "a b", "a\n", "\u{e9}", &"x".repeat(129)] {
            assert!(checked(name).is_err(), "{name:?}");
        }
        assert!(checked("run-1.cell_2").is_ok());
    }
}
