//! Where everything lies in a host's data directory. May not: read or write it, but for making
//! directories.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use regatta_model::{AttemptId, Digest};

/// A host's data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, which need not exist yet; an absolute path is best, since an executor
    /// may have another working directory.
    pub fn new(root: &Path) -> Self {
        Self {
            root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()),
        }
    }

    /// Makes the data directory (mode 0700) and those in it that the daemon writes to.
    pub fn prepare(&self) -> io::Result<()> {
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&self.root)?;
        for name in [
            "setup", "files", "volumes", "cache", "attempts", "outbox", "exec", "executor",
        ] {
            private.create(self.root.join(name))?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image store's directory.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// All set-up layers.
    pub fn setups(&self) -> PathBuf {
        self.root.join("setup")
    }

    /// One set-up layer; its root is `fs` in it, its output `log`.
    pub fn setup(&self, key: &Digest) -> PathBuf {
        self.setups().join(key.hex())
    }

    /// All `files` layers.
    pub fn all_files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// One `files` layer; its root is `fs` in it.
    pub fn files(&self, key: &Digest) -> PathBuf {
        self.all_files().join(key.hex())
    }

    /// A volume by its checked name.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// A build's cache mount; `id` may hold any characters.
    pub fn cache(&self, id: &str) -> PathBuf {
        self.root
            .join("cache")
            .join(Digest::of(id.as_bytes()).hex())
    }

    /// All attempts that are not acknowledged.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts")
    }

    /// One attempt's directory.
    pub fn attempt(&self, attempt: &AttemptId) -> PathBuf {
        self.attempts().join(attempt_name(attempt))
    }

    /// Logs of containers for persons, while they run.
    pub fn execs(&self) -> PathBuf {
        self.root.join("exec")
    }

    /// Outcomes that are not acknowledged.
    pub fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    /// The executor's state.
    pub fn executor(&self) -> PathBuf {
        self.root.join("executor")
    }

    /// The executor's socket.
    pub fn socket(&self) -> PathBuf {
        self.executor().join("socket")
    }
}

/// An attempt's name in the file system and, after `a-`, as a container: `RUN-CELL-ORDINAL`.
pub fn attempt_name(attempt: &AttemptId) -> String {
    format!("{}-{}-{}", attempt.run, attempt.cell, attempt.ordinal)
}
