//! What lasts: submissions, ended attempts, hosts with their policies; and blobs (logs, artifacts).
//!
//! For: the server. The only crate with SQL.
//! May depend on: `model`. May not: decide anything; it writes what it is told and gives it back.
//!
//! Architecture Invariant: an attempt has at most one recorded outcome; the database itself refuses a second.
//! Architecture Invariant: a batch is recorded as a whole or not at all.
//! Architecture Invariant: every read is bounded by a limit that the caller gives or that has a name here.

mod blobs;
mod codes;
mod error;
mod records;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use regatta_model::run::RunState;
use regatta_model::{AttemptId, CellNumber, RunId};

pub use blobs::{BlobKey, BlobStream, Blobs};
pub use error::Error;
pub use records::{
    Batch, CaseSet, Cases, Committed, EndedRow, EventKind, EventRow, HostRecord, NewRun, Policy,
    RunHead, RunRecord, StateRow, Submitted,
};

/// Most rows that one read gives.
pub const PAGE_MOST: u32 = 1000;

/// A database.
#[async_trait]
pub trait Store: Send + Sync {
    /// Records a batch in one transaction. Once it returned, what it holds outlives the process and the machine's power.
    ///
    /// An attempt that is recorded already stays as it is and is counted in [`Committed::doubled`].
    async fn commit(&self, batch: &Batch) -> Result<Committed, Error>;

    /// Where a run stands.
    async fn head(&self, run: &RunId) -> Result<Option<RunHead>, Error>;

    /// The newest runs that were submitted before `before`, the newest first.
    async fn heads(&self, before: Option<&RunId>, limit: u32) -> Result<Vec<RunHead>, Error>;

    /// Runs that are not over, the oldest first.
    async fn open_runs(&self) -> Result<Vec<RunRecord>, Error>;

    /// A run with its submission.
    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>, Error>;

    /// The run that a client's idempotency key led to.
    async fn submitted(&self, key: &str) -> Result<Option<Submitted>, Error>;

    /// Ended attempts of a run after `after` (cell and ordinal), by cell and ordinal.
    async fn attempts(
        &self,
        run: &RunId,
        after: Option<(CellNumber, u32)>,
        limit: u32,
    ) -> Result<Vec<EndedRow>, Error>;

    /// Ended attempts of some cells of a run, by cell and ordinal.
    async fn attempts_of(&self, run: &RunId, cells: &[CellNumber]) -> Result<Vec<EndedRow>, Error>;

    /// One ended attempt.
    async fn attempt(&self, attempt: &AttemptId) -> Result<Option<EndedRow>, Error>;

    /// What happened to a run after its event number `after`, in order.
    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, Error>;

    /// A short log as its agent sent it.
    async fn short_log(&self, attempt: &AttemptId) -> Result<Option<Vec<u8>>, Error>;

    /// How many runs are in which state.
    async fn runs_by_state(&self) -> Result<Vec<(RunState, u64)>, Error>;

    /// All hosts, by name.
    async fn hosts(&self) -> Result<Vec<HostRecord>, Error>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), Error>;

    /// Ends all connections.
    async fn close(&self);
}

/// Opens the database at `url` (`sqlite://PATH`), makes it where there is none, and brings its schema up to date.
///
/// Refuses: another kind of database, a schema newer than this program knows, a database that another server uses.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Err(Error::NotSupported(
            "PostgreSQL is not supported yet; use --database sqlite://PATH".to_owned(),
        ));
    }
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
        .filter(|path| !path.is_empty())
        .ok_or_else(|| {
            Error::NotSupported(format!(
                "{url:?} names no database that Regatta knows; expected sqlite://PATH"
            ))
        })?;
    Ok(Arc::new(sqlite::Sqlite::open(path.as_ref()).await?))
}
