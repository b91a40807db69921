//! How the store fails. May not: hide which place it happened at.

use std::path::PathBuf;

/// Why something was not recorded or not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Asked for something that does not exist in this version.
    #[error("{0}")]
    NotSupported(String),
    /// The database belongs to a newer program.
    #[error(
        "the database {database} has schema version {found}, and this program knows versions up to {known}: \
         it was used by a newer Regatta; run that one, or name another database with --database"
    )]
    Newer {
        /// The database.
        database: String,
        /// Its version.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// A second server would contradict the first.
    #[error(
        "another server uses the database {path}; stop it, or name another database with --database"
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A directory or a file could not be made.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No connection to the database.
    #[error(
        "the database {database} cannot be reached: {source}; see that it runs, and that user, password and database in \
         --database are right"
    )]
    Unreachable {
        /// The database, without its password.
        database: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The database did not take a batch in time; whether it will be recorded is not known.
    #[error("the database did not take what was to be recorded within {seconds} s")]
    Late {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another server leads: nothing was written.
    #[error("another server leads by now: {0}")]
    Deposed(String),
    /// The database could not do it.
    #[error("the database could not {doing}: {source}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("the schema of the database {database} could not be brought up to date: {source}")]
    Migrate {
        /// The database.
        database: String,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// What the database holds is not what this program writes.
    #[error("the database holds {0}, which this program never writes; restore it from a backup")]
    Corrupt(String),
    /// The bucket for blobs does not answer as it must.
    #[error("the bucket {bucket} at {endpoint} cannot keep blobs: {why}; {mend}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// The store that has it.
        endpoint: String,
        /// Why.
        why: String,
        /// What to do.
        mend: String,
    },
    /// A blob could not be written or read.
    #[error("the blob {key} could not be {doing}: {source}")]
    Blob {
        /// Which.
        key: String,
        /// `written`, `read`, ...
        doing: &'static str,
        /// Why.
        source: object_store::Error,
    },
    /// A blob is longer than it may be.
    #[error("{key} is longer than the {most} bytes that are kept of one ({limit})")]
    TooLong {
        /// Which.
        key: String,
        /// The limit in bytes.
        most: u64,
        /// The limit's name.
        limit: &'static str,
    },
    /// Whoever sent a blob stopped in the middle.
    #[error("{key} was not sent whole: {why}")]
    Cut {
        /// Which.
        key: String,
        /// Why.
        why: String,
    },
}

impl Error {
    /// Whether the same may succeed later. False: what was to be written contradicts what is there, or nothing will
    /// ever be read there.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Database { source, .. } => match source {
                sqlx::Error::Database(error) => error.kind() == sqlx::error::ErrorKind::Other,
                sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } => false,
                _ => true,
            },
            Self::Bucket { .. }
            | Self::Blob { .. }
            | Self::File { .. }
            | Self::Cut { .. }
            | Self::Late { .. }
            | Self::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// Wraps an error of the database, telling what was tried.
    pub(crate) fn while_doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}
