//! PostgreSQL: for fleets. Several servers use one database; one of them leads and writes, and the database refuses
//! what a deposed one writes. May not: hold a transaction open while nothing is asked of the database.

mod heads;
mod keys;
mod lead;
mod pack;
mod partition;
mod sweep;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use regatta_model::run::RunState;
use regatta_model::{AttemptId, CellNumber, Digest, HostName, RunId};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::Mutex;

use keys::Keys;

use crate::reads::Reads;
use crate::{
    Batch, Candidate, CaseSet, Committed, EarlierRow, EndedRow, Error, EventRow, HostRecord,
    Leadership, RunHead, RunRecord, Store, Submitted,
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/postgres");

/// Connections that read.
const READERS: u32 = 8;
/// How long to wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long the database works on one statement at most.
const STATEMENT_MS: &str = "15000";
/// How long the database waits for the rest of a transaction before it gives it up: a server that stands still in the
/// middle of one does not keep another one from leading.
const IDLE_IN_TRANSACTION_MS: &str = "4000";
/// How long the database lets sent bytes go unacknowledged before it takes a client for gone.
const TCP_MS: &str = "8000";
/// How long a batch may take until its connection is given up.
const COMMIT_WITHIN: Duration = Duration::from_secs(20);

/// A PostgreSQL database.
pub(crate) struct Postgres {
    options: PgConnectOptions,
    writer: PgPool,
    /// One connection for the lease alone, which must not wait for a batch.
    lease: PgPool,
    reads: Reads<sqlx::Postgres>,
    /// Also the lock that orders commits.
    keys: Mutex<Keys>,
}

impl Postgres {
    pub(crate) async fn open(url: &str) -> Result<Self, Error> {
        let options: PgConnectOptions = url.parse().map_err(|source| {
            Error::NotSupported(format!(
                "--database is no URL of a PostgreSQL database ({source}); expected \
                 postgres://USER@HOST:PORT/DATABASE"
            ))
        })?;
        let options = options.application_name("regatta").options([
            ("statement_timeout", STATEMENT_MS),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_MS,
            ),
            ("tcp_user_timeout", TCP_MS),
        ]);
        let pool = |most: u32| {
            PgPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(CONNECT_WITHIN)
                .connect_lazy_with(options.clone())
        };
        let store = Self {
            writer: pool(1),
            lease: pool(1),
            reads: Reads::new(pool(READERS)),
            keys: Mutex::default(),
            options,
        };
        migrate(&store.writer, &shown(&store.options)).await?;
        Ok(store)
    }
}

/// The database as messages name it: without the password.
fn shown(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(
        || options.get_host().to_owned(),
        |socket| socket.display().to_string(),
    );
    let port = options.get_port();
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    format!("postgres://{host}:{port}/{database}")
}

async fn migrate(pool: &PgPool, database: &str) -> Result<(), Error> {
    let unreachable = |source| Error::Unreachable {
        database: database.to_owned(),
        source,
    };
    let table: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await
        .map_err(unreachable)?;
    if table {
        let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(pool)
            .await
            .map_err(Error::while_doing("tell its schema version"))?;
        crate::refuse_newer(&MIGRATIONS, found, database)?;
    }
    MIGRATIONS.run(pool).await.map_err(|source| Error::Migrate {
        database: database.to_owned(),
        source,
    })
}

#[async_trait]
impl Store for Postgres {
    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        tokio::time::timeout(COMMIT_WITHIN, self.write(batch))
            .await
            .unwrap_or(Err(Error::Late {
                seconds: COMMIT_WITHIN.as_secs(),
            }))
    }

    async fn lead(&self, candidate: &Candidate, lease_ms: u64) -> Result<Leadership, Error> {
        self.take_or_renew(candidate, lease_ms).await
    }

    async fn resign(&self, candidate: &Candidate) -> Result<(), Error> {
        self.let_go(candidate).await
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
        self.pack_one().await
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
        self.lease.close().await;
        self.writer.close().await;
    }
}
