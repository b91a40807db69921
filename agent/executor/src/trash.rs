//! Removes directories of ended containers without holding up the loop: they are moved aside, and a child process
//! removes them. May not: touch anything that was not moved aside first.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::sys::process::{self, CloneFlags, Side};
use crate::token::Token;

/// The place aside, and who clears it.
#[derive(Debug)]
pub(crate) struct Trash {
    directory: PathBuf,
    next: u64,
    waiting: bool,
    cleaner: Option<OwnedFd>,
}

impl Trash {
    /// What lies there from a former life is removed at once.
    pub(crate) fn open(state: &Path) -> Result<Self, crate::Error> {
        let directory = state.join("trash");
        let _absent = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)
            .map_err(|error| crate::Error::io("make", &directory, &error))?;
        Ok(Self {
            directory,
            next: 0,
            waiting: false,
            cleaner: None,
        })
    }

    /// Takes these directories away. What lies on another file system is removed here and now.
    pub(crate) fn discard(&mut self, paths: &[PathBuf]) {
        for path in paths {
            self.next += 1;
            let aside = self.directory.join(self.next.to_string());
            match fs::rename(path, aside) {
                Ok(()) => self.waiting = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => drop(fs::remove_dir_all(path)),
            }
        }
    }

    /// Starts a child that clears, if there is something and none is at it.
    pub(crate) fn start(&mut self, epoll: &Epoll) {
        if !self.waiting || self.cleaner.is_some() {
            return;
        }
        match process::clone(CloneFlags::default(), None) {
            Ok(Side::Child) => {
                let _tied = process::die_with_parent();
                self.clear();
                process::exit(0)
            }
            Ok(Side::Parent { pidfd, .. }) => {
                self.waiting = false;
                let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Trash.encode());
                if epoll.add(&pidfd, event).is_ok() {
                    self.cleaner = Some(pidfd);
                }
            }
            // The next container's end tries again.
            Err(_) => {}
        }
    }

    fn clear(&self) {
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let _left = fs::remove_dir_all(entry.path());
        }
    }

    /// The child ended.
    pub(crate) fn on_event(&mut self, epoll: &Epoll) {
        if let Some(cleaner) = self.cleaner.take() {
            let _gone = epoll.delete(&cleaner);
            let _reaped = process::take_exit(cleaner.as_fd());
        }
        self.start(epoll);
    }

    /// Clears what is left, at the end of this executor.
    pub(crate) fn close(&mut self) {
        if let Some(cleaner) = self.cleaner.take() {
            let _reaped = process::wait_exit(cleaner.as_fd());
        }
        self.clear();
    }
}
