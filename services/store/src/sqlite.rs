//! SQLite: the embedded default. One connection writes, several read; the write-ahead log keeps them apart.
//! May not: be used by two servers at once (a lock file sees to it).

mod sweep;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use regatta_model::run::RunState;
use regatta_model::{AttemptId, CellNumber, Digest, HostName, RunId};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::Mutex;

use crate::codes::from_sql;
use crate::reads::Reads;
use crate::{
    Batch, Candidate, CaseSet, Committed, EarlierRow, EndedRow, Error, EventRow, HostRecord,
    Leadership, RunHead, RunRecord, Store, Submitted,
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How long a connection waits for another one's transaction.
const BUSY_FOR: Duration = Duration::from_secs(10);
/// Connections that read.
const READERS: u32 = 4;

/// An SQLite database.
pub(crate) struct Sqlite {
    writer: SqlitePool,
    reads: Reads<sqlx::Sqlite>,
    /// Also the lock that orders commits.
    keys: Mutex<Keys>,
    /// Grows with every start.
    epoch: u64,
    /// Held for as long as the database is in use.
    _lock: File,
}

/// Keys of rows that other rows refer to; only what is committed.
#[derive(Clone, Default)]
struct Keys {
    hosts: HashMap<HostName, i64>,
    sets: HashMap<Digest, i64>,
    runs: HashMap<RunId, i64>,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was acknowledged survives the loss of power too; a commit holds many attempts.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_FOR);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(Error::while_doing("be opened"))?;
        migrate(&writer, path).await?;
        let epoch: i64 = sqlx::query_scalar(
            "INSERT INTO leader (one, epoch) VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET epoch = epoch + 1 \
             RETURNING epoch",
        )
        .fetch_one(&writer)
        .await
        .map_err(Error::while_doing("begin an epoch"))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(Error::while_doing("be opened for reading"))?;
        Ok(Self {
            writer,
            reads: Reads::new(readers),
            keys: Mutex::default(),
            epoch: from_sql(epoch),
            _lock: lock,
        })
    }
}

/// Takes the lock that says: this database has its server.
fn lock(path: &Path) -> Result<File, Error> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        std::fs::create_dir_all(directory).map_err(|source| Error::File {
            path: directory.to_owned(),
            source,
        })?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|source| Error::File {
            path: name.clone(),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(Error::File { path: name, source }),
    }
}

async fn migrate(pool: &SqlitePool, path: &Path) -> Result<(), Error> {
    let doing = || Error::while_doing("tell its schema version");
    let table: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations'")
            .fetch_optional(pool)
            .await
            .map_err(doing())?;
    if table.is_some() {
        let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(pool)
            .await
            .map_err(doing())?;
        crate::refuse_newer(&MIGRATIONS, found, &path.to_string_lossy())?;
    }
    MIGRATIONS.run(pool).await.map_err(|source| Error::Migrate {
        database: path.to_string_lossy().into_owned(),
        source,
    })
}

#[async_trait]
impl Store for Sqlite {
    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        self.write(batch).await
    }

    /// The file's lock is the lease: whoever opened the database leads.
    async fn lead(&self, candidate: &Candidate, lease_ms: u64) -> Result<Leadership, Error> {
        Ok(Leadership {
            epoch: self.epoch,
            leader: candidate.clone(),
            left_ms: lease_ms,
        })
    }

    async fn resign(&self, _: &Candidate) -> Result<(), Error> {
        Ok(())
    }

    async fn head(&self, run: &RunId) -> Result<Option<RunHead>, Error> {
        self.reads.head(run).await
    }

    async fn heads(&self, before: Option<&RunId>, limit: u32) -> Result<Vec<RunHead>, Error> {
        self.reads.heads(before, limit).await
    }

    async fn open_runs(&self) -> Result<Vec<RunRecord>, Error> {
        self.reads.open_runs().await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>, Error> {
        self.reads.run(run).await
    }

    async fn submitted(&self, key: &str) -> Result<Option<Submitted>, Error> {
        self.reads.submitted(key).await
    }

    async fn attempts(
        &self,
        run: &RunId,
        after: Option<(CellNumber, u32)>,
        limit: u32,
    ) -> Result<Vec<EndedRow>, Error> {
        self.reads.attempts(run, after, limit).await
    }

    async fn attempts_of(&self, run: &RunId, cells: &[CellNumber]) -> Result<Vec<EndedRow>, Error> {
        self.reads.attempts_of(run, cells).await
    }

    async fn cells_of(&self, run: &RunId, host: &HostName) -> Result<Vec<CellNumber>, Error> {
        self.reads.cells_of(run, host).await
    }

    async fn attempt(&self, attempt: &AttemptId) -> Result<Option<EndedRow>, Error> {
        self.reads.attempt(attempt).await
    }

    async fn case_set(&self, digest: &Digest) -> Result<Option<CaseSet>, Error> {
        self.reads.case_set(digest).await
    }

    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, Error> {
        self.reads.events(run, after, limit).await
    }

    async fn short_log(&self, attempt: &AttemptId) -> Result<Option<Vec<u8>>, Error> {
        self.reads.short_log(attempt).await
    }

    async fn finished_before(
        &self,
        name: &str,
        run: &RunId,
        limit: u32,
    ) -> Result<Vec<RunRecord>, Error> {
        self.reads.finished_before(name, run, limit).await
    }

    async fn finished(&self, name: &str, limit: u32) -> Result<Vec<RunHead>, Error> {
        self.reads.finished(name, limit).await
    }

    async fn earlier(&self, run: &RunId) -> Result<Vec<EarlierRow>, Error> {
        self.reads.earlier(run).await
    }

    async fn over_before(&self, before_ms: u64, limit: u32) -> Result<Vec<RunHead>, Error> {
        self.reads.over_before(before_ms, limit).await
    }

    async fn pruned(&self, limit: u32) -> Result<Vec<RunId>, Error> {
        self.reads.pruned(limit).await
    }

    async fn sweep(&self, epoch: u64, run: &RunId) -> Result<bool, Error> {
        self.sweep_run(epoch, run).await
    }

    async fn pack(&self) -> Result<bool, Error> {
        // Its tables are their own indexes, and their pages as full.
        Ok(false)
    }

    async fn bytes(&self) -> Result<u64, Error> {
        self.size().await
    }

    async fn runs_by_state(&self) -> Result<Vec<(RunState, u64)>, Error> {
        self.reads.runs_by_state().await
    }

    async fn hosts(&self) -> Result<Vec<HostRecord>, Error> {
        self.reads.hosts().await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.reads.ping().await
    }

    async fn close(&self) {
        self.reads.close().await;
        self.writer.close().await;
    }
}
