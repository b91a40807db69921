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
mod postgres;
mod queries;
mod reads;
mod records;
mod rows;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use regatta_model::run::RunState;
use regatta_model::{AttemptId, CellNumber, Digest, HostName, RunId};

pub use blobs::{BlobKey, BlobStream, Blobs, SIGNED_FOR, Signed};
pub use error::Error;
pub use records::{
    Batch, Candidate, CaseSet, Cases, Committed, Distrusted, EarlierRow, EndedRow, EventKind,
    EventRow, HostRecord, Leadership, NewRun, Policy, RunHead, RunRecord, StateRow, Submitted,
};

/// Most rows that one read gives.
pub const PAGE_MOST: u32 = 1000;

/// Most names of hosts, digests of case sets and ids of runs whose keys a writer remembers.
const KEYS_MOST: usize = 50_000;

/// Rows that one sweep removes: few enough that commits don't wait for it.
pub const SWEEP_ROWS: u32 = 5_000;

/// A database.
#[async_trait]
pub trait Store: Send + Sync {
    /// Records a batch in one transaction. Once it returned, what it holds outlives the process and the machine's power.
    ///
    /// An attempt that is recorded already stays as it is and is counted in [`Committed::doubled`].
    async fn commit(&self, batch: &Batch) -> Result<Committed, Error>;

    /// Takes the leader's lease for `lease_ms` where it is free or over (the epoch grows), or renews it where `candidate`
    /// has it; tells who has it then.
    async fn lead(&self, candidate: &Candidate, lease_ms: u64) -> Result<Leadership, Error>;

    /// Lets go of the lease, if it is `candidate`'s.
    async fn resign(&self, candidate: &Candidate) -> Result<(), Error>;

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

    /// The cells of a run of which this host ended an attempt that is not blamed on host or platform, in order.
    async fn cells_of(&self, run: &RunId, host: &HostName) -> Result<Vec<CellNumber>, Error>;

    /// The newest finished runs of the matrix `name` that were submitted before `run`, the newest first.
    async fn finished_before(
        &self,
        name: &str,
        run: &RunId,
        limit: u32,
    ) -> Result<Vec<RunRecord>, Error>;

    /// The newest finished runs of the matrix `name`, the newest first.
    async fn finished(&self, name: &str, limit: u32) -> Result<Vec<RunHead>, Error>;

    /// What earlier runs say of cells of this one, by cell.
    async fn earlier(&self, run: &RunId) -> Result<Vec<EarlierRow>, Error>;

    /// One ended attempt.
    async fn attempt(&self, attempt: &AttemptId) -> Result<Option<EndedRow>, Error>;

    /// The names of a set of cases that some recorded attempt has.
    async fn case_set(&self, digest: &Digest) -> Result<Option<CaseSet>, Error>;

    /// What happened to a run after its event number `after`, in order.
    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, Error>;

    /// A short log as its agent sent it.
    async fn short_log(&self, attempt: &AttemptId) -> Result<Option<Vec<u8>>, Error>;

    /// Runs that ended before this moment, in milliseconds since 1970, the oldest first.
    async fn over_before(&self, before_ms: u64, limit: u32) -> Result<Vec<RunHead>, Error>;

    /// Pruned runs of which something is left, the oldest first.
    async fn pruned(&self, limit: u32) -> Result<Vec<RunId>, Error>;

    /// Removes [`SWEEP_ROWS`] rows of a pruned run at most, as the leader of `epoch`; says whether nothing is left of it.
    async fn sweep(&self, epoch: u64, run: &RunId) -> Result<bool, Error>;

    /// Makes what ended attempts take smaller, once their runs are over, where that is worth it; says whether there may be
    /// more. Takes as long as it takes, and keeps nobody from reading or writing.
    async fn pack(&self) -> Result<bool, Error>;

    /// Bytes that the database takes, without what it would use again before it grew.
    async fn bytes(&self) -> Result<u64, Error>;

    /// How many runs are in which state.
    async fn runs_by_state(&self) -> Result<Vec<(RunState, u64)>, Error>;

    /// All hosts, by name.
    async fn hosts(&self) -> Result<Vec<HostRecord>, Error>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), Error>;

    /// Ends all connections.
    async fn close(&self);
}

/// Opens the database at `url` (`sqlite://PATH`, made where there is none, or `postgres://USER@HOST:PORT/DATABASE`), and
/// brings its schema up to date.
///
/// Refuses: another kind of database, a schema newer than this program knows, an SQLite database that another server
/// uses.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(postgres::Postgres::open(url).await?));
    }
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
        .filter(|path| !path.is_empty())
        .ok_or_else(|| {
            Error::NotSupported(format!(
                "{url:?} names no database that Regatta knows; expected sqlite://PATH or postgres://USER@HOST:PORT/DATABASE"
            ))
        })?;
    Ok(Arc::new(sqlite::Sqlite::open(path.as_ref()).await?))
}

/// Refuses a database whose schema `found` is newer than these migrations know.
fn refuse_newer(
    migrations: &sqlx::migrate::Migrator,
    found: Option<i64>,
    database: &str,
) -> Result<(), Error> {
    let versions = migrations.iter().map(|migration| migration.version);
    let known = versions.max().unwrap_or_default();
    match found.filter(|found| *found > known) {
        Some(found) => Err(Error::Newer {
            database: database.to_owned(),
            found,
            known,
        }),
        None => Ok(()),
    }
}
