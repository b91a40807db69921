//! How big are writable layers on disk? Where the file system has no quotas for directories, looking now and
//! then is all that can be done; a child process does it, so that the loop never waits for a big layer. May
//! not: count beyond its bounds.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::sys::process::{self, CloneFlags, Exit, Side};
use crate::token::Token;

/// Bytes of one block of `st_blocks`.
const BLOCK: u64 = 512;
/// A layer of many small files is bounded too: one file for so many bytes of its limit.
const BYTES_PER_FILE: u64 = 4096;
/// Files that every layer may have, however small its limit.
const FILES_LEAST: u64 = 1024;
/// How often layers are measured, in nanoseconds after the last time.
const PAUSE_NS: u64 = 250_000_000;
/// Layers that one child measures: its exit status names the one that is too big.
const LAYERS_AT_ONCE: usize = 100;

/// A layer and the most bytes it may have.
pub(crate) type Watched = (u64, PathBuf, u64);

/// Measures layers, a few times a second.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    child: Option<(OwnedFd, Vec<u64>)>,
    next_at: u64,
    /// The last container that was measured: the next child begins after it.
    last: u64,
}

impl Gauge {
    /// When to measure next; none while a child is at it.
    pub(crate) fn due(&self) -> Option<u64> {
        self.child.is_none().then_some(self.next_at)
    }

    /// Starts measuring these, if it is time.
    pub(crate) fn start(&mut self, now: u64, mut layers: Vec<Watched>, epoll: &Epoll) {
        if layers.is_empty() || self.due().is_none_or(|due| due > now) {
            return;
        }
        self.next_at = now + PAUSE_NS;
        let last = self.last;
        layers.sort_by_key(|(number, ..)| (*number <= last, *number));
        layers.truncate(LAYERS_AT_ONCE);
        match process::clone(CloneFlags::default(), None) {
            Ok(Side::Child) => {
                let _tied = process::die_with_parent();
                let big = layers
                    .iter()
                    .zip(1..)
                    .find(|((_, path, most), _)| exceeds(path, *most));
                process::exit(big.map_or(0, |(_, status)| status))
            }
            Ok(Side::Parent { pidfd, .. }) => {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Gauge.encode());
                if epoll.add(&pidfd, event).is_ok() {
                    let numbers: Vec<u64> = layers.iter().map(|(number, ..)| *number).collect();
                    self.last = numbers.last().copied().unwrap_or(0);
                    self.child = Some((pidfd, numbers));
                }
            }
            // The next time comes soon.
            Err(_) => {}
        }
    }

    /// The child ended: which container's layer is too big, if one is.
    pub(crate) fn on_event(&mut self, now: u64, epoll: &Epoll) -> Option<u64> {
        let (pidfd, numbers) = self.child.take()?;
        let _gone = epoll.delete(&pidfd);
        self.next_at = now + PAUSE_NS;
        match process::take_exit(pidfd.as_fd()) {
            Ok(Some(Exit::Code(status))) => {
                let place = usize::try_from(status).ok()?.checked_sub(1)?;
                numbers.get(place).copied()
            }
            _ => None,
        }
    }
}

/// Whether the files below a directory take more than `most` bytes on disk, or are too many for that.
fn exceeds(directory: &Path, most: u64) -> bool {
    let files_most = (most / BYTES_PER_FILE).max(FILES_LEAST);
    let mut waiting = vec![directory.to_owned()];
    let (mut bytes, mut files) = (0_u64, 0_u64);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            // Of the entry itself, not of what a link names.
            let Ok(data) = entry.metadata() else { continue };
            files += 1;
            bytes = bytes.saturating_add(data.blocks().saturating_mul(BLOCK));
            if bytes > most || files > files_most {
                return true;
            }
            if data.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_as_big_as_its_files() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("below")).unwrap();
        fs::write(scratch.path().join("below/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", scratch.path().join("link")).unwrap();
        assert!(exceeds(scratch.path(), 90_000));
        assert!(!exceeds(scratch.path(), 200_000));
    }

    #[test]
    fn a_layer_of_many_empty_files_is_too_big_as_well() {
        let scratch = tempfile::tempdir().unwrap();
        for number in 0..FILES_LEAST {
            fs::write(scratch.path().join(number.to_string()), "").unwrap();
        }
        assert!(!exceeds(scratch.path(), 100_000));
        fs::write(scratch.path().join("one-more"), "").unwrap();
        assert!(exceeds(scratch.path(), 100_000));
    }
}
