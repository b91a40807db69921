//! Why an attempt never came to its test, with the blame in the type. May not: guess blame from text.

use std::fmt::Display;
use std::path::PathBuf;

use regatta_model::{Blame, Outcome};

/// What kept an attempt from its test.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) blame: Option<Blame>,
    /// For a person.
    pub(crate) detail: String,
    /// Output that tells more, in the format of `model::log`.
    pub(crate) log: Option<PathBuf>,
}

impl Failure {
    fn new(outcome: Outcome, blame: Blame, detail: String) -> Self {
        Self {
            outcome,
            blame: Some(blame),
            detail,
            log: None,
        }
    }

    /// The host could not do its work.
    pub(crate) fn host(what: &str, error: &dyn Display) -> Self {
        Self::new(Outcome::HostLost, Blame::Host, format!("{what}: {error}"))
    }

    /// Something all hosts share did not work.
    pub(crate) fn platform(what: &str, error: &dyn Display) -> Self {
        Self::new(
            Outcome::ImageFailed,
            Blame::Platform,
            format!("{what}: {error}"),
        )
    }

    /// What is tested, or the matrix.
    pub(crate) fn test(outcome: Outcome, detail: String) -> Self {
        Self::new(outcome, Blame::Test, detail)
    }

    /// An image or archive that could not be used: the host's doing where the operating system refused
    /// something, else the platform's, since the same content failed to be what it should be.
    pub(crate) fn image(what: &str, error: &regatta_image::Error) -> Self {
        match error {
            regatta_image::Error::Io { .. } | regatta_image::Error::Busy { .. } => {
                Self::host(what, error)
            }
            _ => Self::platform(what, error),
        }
    }
}

/// Runs what blocks on a thread that may; a panic there is the host's fault, not the process's end.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|error| Failure::host("a task of the agent ended", &error))
}
