//! What can go wrong in an executor as a whole, as sentences. May not: tell how one container ended.

use std::io;
use std::path::Path;

/// An executor or its client cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host lacks something, or refused it.
    #[error("{0}")]
    Host(String),
    /// The other side of the socket broke off or said what cannot be understood.
    #[error("the executor's connection: {0}")]
    Connection(String),
}

impl Error {
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::Host(format!("cannot {what} {}: {error}", path.display()))
    }

    pub(crate) fn call(what: &str, errno: nix::errno::Errno) -> Self {
        Self::Host(format!("cannot {what}: {}", errno.desc()))
    }
}
