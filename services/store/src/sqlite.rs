//! SQLite: the embedded default. One connection writes, several read; the write-ahead log keeps them apart.
//! May not: be used by two servers at once (a lock file sees to it).

mod attempts;
mod column;
mod read;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use regatta_model::run::RunState;
use regatta_model::{AttemptId, CellNumber, Digest, HostName, RunId};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::Mutex;

use crate::{
    Batch, CaseSet, Committed, EndedRow, Error, EventRow, HostRecord, RunHead, RunRecord, Store,
    Submitted,
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How long a connection waits for another one's transaction.
const BUSY_FOR: Duration = Duration::from_secs(10);
/// Connections that read.
const READERS: u32 = 4;
/// Most names of hosts and digests of case sets whose keys are remembered.
const KEYS_MOST: usize = 50_000;
/// Most case sets whose names are remembered for reading.
const SETS_MOST: usize = 256;

/// An SQLite database.
pub(crate) struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Also the lock that orders commits.
    keys: Mutex<Keys>,
    sets: std::sync::Mutex<HashMap<i64, Arc<CaseSet>>>,
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
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(Error::while_doing("be opened for reading"))?;
        Ok(Self {
            writer,
            readers,
            keys: Mutex::default(),
            sets: std::sync::Mutex::default(),
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
        let known = MIGRATIONS
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or_default();
        if let Some(found) = found.filter(|found| *found > known) {
            return Err(Error::Newer {
                path: path.to_owned(),
                found,
                known,
            });
        }
    }
    MIGRATIONS.run(pool).await.map_err(|source| Error::Migrate {
        path: path.to_owned(),
        source,
    })
}

#[async_trait]
impl Store for Sqlite {
    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        self.write(batch).await
    }

    async fn head(&self, run: &RunId) -> Result<Option<RunHead>, Error> {
        self.read_head(run).await
    }

    async fn heads(&self, before: Option<&RunId>, limit: u32) -> Result<Vec<RunHead>, Error> {
        self.read_heads(before, limit).await
    }

    async fn open_runs(&self) -> Result<Vec<RunRecord>, Error> {
        self.read_open_runs().await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>, Error> {
        self.read_run(run).await
    }

    async fn submitted(&self, key: &str) -> Result<Option<Submitted>, Error> {
        self.read_submitted(key).await
    }

    async fn attempts(
        &self,
        run: &RunId,
        after: Option<(CellNumber, u32)>,
        limit: u32,
    ) -> Result<Vec<EndedRow>, Error> {
        self.read_attempts(run, after, limit).await
    }

    async fn attempts_of(&self, run: &RunId, cells: &[CellNumber]) -> Result<Vec<EndedRow>, Error> {
        self.read_attempts_of(run, cells).await
    }

    async fn attempt(&self, attempt: &AttemptId) -> Result<Option<EndedRow>, Error> {
        self.read_attempt(attempt).await
    }

    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, Error> {
        self.read_events(run, after, limit).await
    }

    async fn short_log(&self, attempt: &AttemptId) -> Result<Option<Vec<u8>>, Error> {
        self.read_short_log(attempt).await
    }

    async fn runs_by_state(&self) -> Result<Vec<(RunState, u64)>, Error> {
        self.read_runs_by_state().await
    }

    async fn hosts(&self) -> Result<Vec<HostRecord>, Error> {
        self.read_hosts().await
    }

    async fn ping(&self) -> Result<(), Error> {
        let doing = "answer";
        let _: i64 = sqlx::query_scalar("SELECT 1")
            .fetch_one(&self.readers)
            .await
            .map_err(Error::while_doing(doing))?;
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
