//! User namespaces: each running container's own range of host ids. A namespace is made once for its range
//! and serves one container after the other; it holds nothing but its map. May not: give one
//! range to two containers at once, nor a range that another executor of this host holds.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;

use crate::Error;
use crate::sys::process::{self, CloneFlags, Side};

/// Host ids of one container: those inside are 0 to 65535.
pub(crate) const RANGE: u32 = 65_536;
/// The first host id in use: above what systemd and distributions hand out, below its ids for foreign images.
const FIRST: u32 = 0x7000_0000;
/// Ranges that one executor uses, and so the containers it runs at once at most.
pub(crate) const RANGES: u32 = 256;
/// Executors on one host at most.
const BLOCKS: u32 = 8;
/// Where executors of one host agree on blocks of ranges.
const LOCKS: &str = "/run/regatta";

/// The ranges of this executor.
#[derive(Debug)]
pub(crate) struct Ranges {
    first: u32,
    /// Held as long as this executor lives.
    _block: Flock<File>,
    namespaces: Vec<Option<OwnedFd>>,
    taken: Vec<bool>,
}

/// One range in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    index: usize,
    /// The host id of the container's root.
    pub first: u32,
}

impl Ranges {
    /// Takes the first block that no other executor of this host holds.
    pub(crate) fn claim() -> Result<Self, Error> {
        fs::create_dir_all(LOCKS).map_err(|error| Error::io("make", Path::new(LOCKS), &error))?;
        for block in 0..BLOCKS {
            let path = Path::new(LOCKS).join(format!("ids-{block}"));
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path);
            let file = file.map_err(|error| Error::io("open", &path, &error))?;
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return Ok(Self {
                    first: FIRST + block * RANGES * RANGE,
                    _block: lock,
                    namespaces: (0..RANGES).map(|_| None).collect(),
                    taken: (0..RANGES).map(|_| false).collect(),
                });
            }
        }
        Err(Error::Host(format!(
            "{BLOCKS} executors run on this host already (they hold {LOCKS}/ids-*); stop one of them"
        )))
    }

    /// Takes a free range; none if all are in use.
    pub(crate) fn take(&mut self) -> Option<Range> {
        let index = self.taken.iter().position(|taken| !taken)?;
        *self.taken.get_mut(index)? = true;
        let offset = u32::try_from(index).ok()?;
        Some(Range {
            index,
            first: self.first + offset * RANGE,
        })
    }

    /// Gives a range back, once nothing of its container runs any more.
    pub(crate) fn give_back(&mut self, range: Range) {
        if let Some(taken) = self.taken.get_mut(range.index) {
            *taken = false;
        }
    }

    /// The user namespace of a range.
    pub(crate) fn namespace(&mut self, range: Range) -> Result<BorrowedFd<'_>, Errno> {
        let place = self.namespaces.get_mut(range.index).ok_or(Errno::EINVAL)?;
        if place.is_none() {
            *place = Some(make(range.first)?);
        }
        place.as_ref().map(AsFd::as_fd).ok_or(Errno::EINVAL)
    }
}

/// Makes a user namespace whose ids 0 to 65535 are `first` and up.
pub(crate) fn make(first: u32) -> Result<OwnedFd, Errno> {
    let flags = CloneFlags {
        namespaces: libc::CLONE_NEWUSER,
        ..CloneFlags::default()
    };
    match process::clone(flags, None)? {
        Side::Child => {
            // Only lives until its namespace was opened; SIGKILL ends it.
            let _tied = process::die_with_parent();
            loop {
                let _any = process::wait_signal();
            }
        }
        Side::Parent { pid, pidfd } => {
            let opened = map(pid, first);
            process::signal(pidfd.as_fd(), libc::SIGKILL)?;
            process::wait_exit(pidfd.as_fd())?;
            opened
        }
    }
}

fn map(pid: i32, first: u32) -> Result<OwnedFd, Errno> {
    let line = format!("0 {first} {RANGE}\n");
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), &line).map_err(|error| errno(&error))?;
    }
    let file = File::open(format!("/proc/{pid}/ns/user")).map_err(|error| errno(&error))?;
    Ok(file.into())
}

/// The error number in an I/O error.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
