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
/// Ranges of one block: an executor takes another block when the ones that it has are in use.
const BLOCK: u32 = 64;
/// Blocks of one host.
const BLOCKS: u32 = 60;
/// Blocks of one executor at most.
const BLOCKS_OF_ONE: u32 = 4;
/// Ranges that one executor uses, and so the containers it runs at once at most.
pub(crate) const RANGES: u32 = BLOCK * BLOCKS_OF_ONE;
/// Where executors of one host agree on blocks of ranges.
const LOCKS: &str = "/run/regatta";

/// The ranges of this executor.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// The first ids of its blocks; each is held as long as this executor lives.
    blocks: Vec<(u32, Flock<File>)>,
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
        let mut ranges = Self {
            blocks: Vec::new(),
            namespaces: Vec::new(),
            taken: Vec::new(),
        };
        if ranges.grow()? {
            return Ok(ranges);
        }
        Err(Error::Host(format!(
            "the executors that run on this host already hold all {BLOCKS} blocks of ids ({LOCKS}/ids-*); stop one of them"
        )))
    }

    /// Takes a further block; says whether there was one.
    fn grow(&mut self) -> Result<bool, Error> {
        fs::create_dir_all(LOCKS).map_err(|error| Error::io("make", Path::new(LOCKS), &error))?;
        for block in 0..BLOCKS {
            let first = FIRST + block * BLOCK * RANGE;
            if self.blocks.iter().any(|(own, _)| *own == first) {
                continue;
            }
            let path = Path::new(LOCKS).join(format!("ids-{block}"));
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path);
            let file = file.map_err(|error| Error::io("open", &path, &error))?;
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                self.blocks.push((first, lock));
                self.namespaces.extend((0..BLOCK).map(|_| None));
                self.taken.extend((0..BLOCK).map(|_| false));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a free range; none if all are in use, and no further block can be had.
    pub(crate) fn take(&mut self) -> Option<Range> {
        let free = |taken: &[bool]| taken.iter().position(|taken| !taken);
        let index = match free(&self.taken) {
            Some(index) => index,
            None if self.taken.len() < usize::try_from(RANGES).ok()? && self.grow().ok()? => {
                free(&self.taken)?
            }
            None => return None,
        };
        let place = u32::try_from(index).ok()?;
        let block = usize::try_from(place / BLOCK).ok()?;
        let first = self.blocks.get(block)?.0 + place % BLOCK * RANGE;
        *self.taken.get_mut(index)? = true;
        Some(Range { index, first })
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
