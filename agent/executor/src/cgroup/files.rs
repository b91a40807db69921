//! Small files of a control group, reached through a directory descriptor. May not: follow a symbolic
//! link, or read more than [`FILE_MOST`] bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

/// Longest file that is read, in bytes: ids of 100,000 processes.
const FILE_MOST: u64 = 1 << 20;
/// How deep groups within a group are looked for; containers cannot make any.
const DEPTH_MOST: u32 = 8;

/// What could not be done with a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was tried: a sentence's beginning.
    pub(super) doing: String,
    /// What the kernel said.
    pub(super) errno: Option<Errno>,
}

impl Error {
    pub(super) fn new(doing: String, error: &io::Error) -> Self {
        Self {
            doing,
            errno: error.raw_os_error().map(Errno::from_raw),
        }
    }

    pub(super) fn saying(sentence: &str) -> Self {
        Self {
            doing: sentence.to_owned(),
            errno: None,
        }
    }

    pub(super) fn of(doing: String) -> impl FnOnce(Errno) -> Self {
        move |errno| Self {
            doing,
            errno: Some(errno),
        }
    }

    /// Nothing, if this is what the kernel said; else this error.
    pub(super) fn unless(self, errno: Errno) -> Result<(), Self> {
        if self.errno == Some(errno) {
            Ok(())
        } else {
            Err(self)
        }
    }

    /// The kernel's error number, where the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.doing)?;
        self.errno
            .map_or(Ok(()), |errno| write!(f, ": {}", errno.desc()))
    }
}

impl std::error::Error for Error {}

/// Opens a directory by its path.
pub(super) fn directory(path: &Path) -> Result<OwnedFd, Error> {
    openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
        .map_err(Error::of(format!("cannot open {}", path.display())))
}

/// Opens a directory below another one.
pub(super) fn directory_in(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Error> {
    openat(parent, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
        .map_err(Error::of(format!("cannot open the control group {name}")))
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// Makes a group and opens it; one that is there already is fine.
pub(super) fn make(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Error> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => directory_in(parent, name),
        Err(errno) => Err(Error::of(format!("cannot make the control group {name}"))(
            errno,
        )),
    }
}

/// A group that its holder has for itself as long as it lives.
pub(super) type Claimed = Flock<OwnedFd>;

/// Makes `regatta` below a hierarchy's root and an executor's own group in it, and claims that; also opens `regatta`.
pub(super) fn claim(root: BorrowedFd<'_>, instance: &str) -> Result<(OwnedFd, Claimed), Error> {
    let mut claimed = None;
    super::again(
        || match try_claim(root, instance) {
            Ok(both) => {
                claimed = both;
                Ok(claimed.is_some())
            }
            // Another executor ended and took its empty group, or `regatta` itself, away.
            Err(error) => error.unless(Errno::ENOENT).map(|()| false),
        },
        || format!("another executor uses the control group regatta/{instance}"),
    )?;
    claimed.ok_or_else(|| Error::saying("the control group was not claimed"))
}

fn try_claim(root: BorrowedFd<'_>, instance: &str) -> Result<Option<(OwnedFd, Claimed)>, Error> {
    let ours = make(root, "regatta")?;
    let directory = make(ours.as_fd(), instance)?;
    let Ok(claimed) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else {
        return Ok(None);
    };
    // Between the making and the claiming, another executor may have taken it for a dead one's.
    let now = directory_in(ours.as_fd(), instance)?;
    Ok(is_same(now.as_fd(), claimed.as_fd()).then_some((ours, claimed)))
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Removes the groups of executors that are dead and may never come back, with all that is in them.
///
/// What cannot be removed stays for the next executor.
pub(super) fn remove_abandoned(ours: BorrowedFd<'_>) {
    for name in groups(ours).unwrap_or_default() {
        let Ok(directory) = directory_in(ours, &name) else {
            continue;
        };
        let Ok(claimed) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        for id in processes(ours, &name) {
            // One that has ended meanwhile is what is wanted.
            let _gone = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        for group in groups(claimed.as_fd()).unwrap_or_default() {
            let _stays = super::again(|| remove(claimed.as_fd(), &group), String::new);
        }
        let _stays = remove(ours, &name);
    }
}

/// Opens a file to write to.
pub(super) fn writable(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    openat(
        directory,
        path,
        OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
        Mode::empty(),
    )
}

/// Writes a value into a file of a group.
pub(super) fn write(directory: BorrowedFd<'_>, path: &str, value: &str) -> Result<(), Error> {
    let attempt = || -> Result<(), Errno> {
        let mut file = File::from(writable(directory, path)?);
        file.write_all(value.as_bytes())
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))
    };
    attempt().map_err(Error::of(format!("cannot write {value:?} to {path}")))
}

/// Reads a file of a group; none if it is not there or is no text.
pub(super) fn read(directory: BorrowedFd<'_>, path: &str) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = File::from(openat(directory, path, flags, Mode::empty()).ok()?);
    let mut text = String::new();
    file.take(FILE_MOST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A file's one number.
pub(super) fn number(directory: BorrowedFd<'_>, path: &str) -> Option<u64> {
    read(directory, path)?.trim().parse().ok()
}

/// The number beside `key` in a file of `KEY NUMBER` lines.
pub(super) fn keyed(directory: BorrowedFd<'_>, path: &str, key: &str) -> Option<u64> {
    let text = read(directory, path)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

/// The names of the groups right below a group.
pub(super) fn groups(parent: BorrowedFd<'_>) -> Result<BTreeSet<String>, Error> {
    let doing = || Error::of("cannot list control groups".to_owned());
    let mut directory = Dir::openat(parent, ".", DIRECTORY, Mode::empty()).map_err(doing())?;
    let mut names = BTreeSet::new();
    for entry in directory.iter() {
        let entry = entry.map_err(doing())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Removes a group and those in it; whether it is gone (it is not while a process is in it).
pub(super) fn remove(parent: BorrowedFd<'_>, name: &str) -> Result<bool, Error> {
    remove_to(parent, name, DEPTH_MOST)
}

fn remove_to(parent: BorrowedFd<'_>, name: &str, depth: u32) -> Result<bool, Error> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::EBUSY) => {}
        Err(errno) => {
            return Err(Error::of(format!("cannot remove the control group {name}"))(errno));
        }
    }
    if depth == 0 {
        return Ok(false);
    }
    let directory = match directory_in(parent, name) {
        Err(error) if error.errno == Some(Errno::ENOENT) => return Ok(true),
        other => other?,
    };
    let inner = groups(directory.as_fd())?;
    if inner.is_empty() {
        return Ok(false);
    }
    for group in &inner {
        remove_to(directory.as_fd(), group, depth - 1)?;
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(_) => Ok(false),
    }
}

/// The ids of the processes in a group and in those below it.
pub(super) fn processes(parent: BorrowedFd<'_>, name: &str) -> Vec<i32> {
    let mut ids = Vec::new();
    if let Ok(directory) = directory_in(parent, name) {
        processes_to(directory.as_fd(), DEPTH_MOST, &mut ids);
    }
    ids
}

fn processes_to(directory: BorrowedFd<'_>, depth: u32, ids: &mut Vec<i32>) {
    let text = read(directory, "cgroup.procs").unwrap_or_default();
    // 0 stands for a process that this pid namespace does not see.
    ids.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|id| *id > 0),
    );
    if depth == 0 {
        return;
    }
    for name in groups(directory).unwrap_or_default() {
        if let Ok(inner) = directory_in(directory, &name) {
            processes_to(inner.as_fd(), depth - 1, ids);
        }
    }
}
