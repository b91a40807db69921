//! What can go wrong with images, each as a sentence that names the place and, where there is one, the
//! way out. May not: hold a path of the inside of the store where the image's own words suffice.

use std::io;
use std::path::Path;

use regatta_model::Digest;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something about an image did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried, without "cannot".
        doing: String,
        /// Its answer.
        source: io::Error,
    },
    /// No image of this name or digest is in the store.
    #[error(
        "no image {name:?} in the local store; `regatta image ls` lists what is there, \
         `regatta image pull` fetches one"
    )]
    NoImage {
        /// The name as it was given.
        name: String,
    },
    /// A blob that something refers to is not in the store.
    #[error("blob {digest} is not in the local store; pull or load the image again")]
    NoBlob {
        /// Which.
        digest: Digest,
    },
    /// Content is not what its digest or size says.
    #[error(
        "{what} is not what it claims to be: expected {expected}, found {found}; it is not used"
    )]
    Mismatch {
        /// What was verified.
        what: String,
        /// The digest or size that was promised.
        expected: String,
        /// The digest or size of what came.
        found: String,
    },
    /// A limit was reached.
    #[error("{what} is beyond the limit {limit} of {most}{}", way_out(.limit))]
    Limit {
        /// What reached it.
        what: String,
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        most: u64,
    },
    /// An archive holds an entry that no honest archive needs.
    #[error("refused archive entry {name:?}: {why}")]
    Hostile {
        /// The entry's name, shortened and printable.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Data that does not have the form it must have.
    #[error("{what} cannot be used: {why}")]
    Malformed {
        /// Which data.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A request that cannot be carried out as it was put.
    #[error("{0}")]
    Refused(String),
    /// Another process holds what is needed.
    #[error("{what} is in use by another process ({why}); try again when it has ended")]
    Busy {
        /// What is held.
        what: String,
        /// By whom or what for.
        why: String,
    },
    /// A registry did not do what was asked.
    #[error("registry {registry}: {why}")]
    Registry {
        /// Host and port.
        registry: String,
        /// A sentence.
        why: String,
    },
    /// A build stopped.
    #[error("{file}:{line}: {why}")]
    Build {
        /// The Containerfile.
        file: String,
        /// Its line, from 1; 0 where no line is to blame.
        line: usize,
        /// A sentence.
        why: String,
    },
}

impl Error {
    /// An operating system's error with what was tried ("read FILE").
    pub fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        // A reader of this crate passes its own errors through `io::Error`.
        match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::Io {
                doing: doing.into(),
                source,
            },
        }
    }

    /// An operating system's error at a path of this host.
    pub fn at(verb: &str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::io(format!("{verb} {}", path.display()), source)
    }

    /// Data of the wrong form.
    pub fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed {
            what: what.into(),
            why: why.into(),
        }
    }

    /// An entry that is refused. `name` is shortened.
    pub fn hostile(name: &[u8], why: impl Into<String>) -> Self {
        Self::Hostile {
            name: shown(name),
            why: why.into(),
        }
    }

    /// A limit that was reached.
    pub fn limit(what: impl Into<String>, limit: &'static str, most: u64) -> Self {
        Self::Limit {
            what: what.into(),
            limit,
            most,
        }
    }
}

/// How a limit is raised, where it can be.
fn way_out(limit: &str) -> String {
    crate::limits::variable(limit).map_or_else(String::new, |name| format!("; {name} sets another"))
}

/// Longest name that an error repeats, in bytes.
const SHOWN_MOST: usize = 120;

/// A name from outside in a form that is safe to print: shortened, and no control characters once it
/// is printed with `{:?}`.
pub(crate) fn shown(name: &[u8]) -> String {
    let short = name.get(..SHOWN_MOST).unwrap_or(name);
    let mut text = String::from_utf8_lossy(short).into_owned();
    if short.len() < name.len() {
        text.push('…');
    }
    text
}
