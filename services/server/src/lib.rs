//! The control plane: what users and agents speak to.
//!
//! For: the command line (`regatta server`, and `run` without a server). [`Server::start`] is all it needs.
//! May depend on: scheduler (decides where attempts go), verdict (decides what they mean), store (what lasts),
//! image (what is distributed), model. The home of axum, utoipa and prometheus-client.
//!
//! Architecture Invariant: one task, the actor, owns the scheduler and the open runs; everybody else sends it
//! commands through a bounded channel.
//! Architecture Invariant: decide, commit, publish: nobody hears of anything before it is recorded.
//! Architecture Invariant: nothing that a client or an agent sends can panic, hang or fill the disk here; every
//! limit has a name and an error that says it.

mod actor;
mod agents;
mod answer;
mod app;
mod artifacts;
mod attempts;
mod bisect;
mod body;
mod cells;
mod check;
mod crash;
mod direct;
mod disk;
mod events;
mod history;
mod hosts;
mod lead;
mod limits;
mod listen;
mod logs;
mod metrics;
mod openapi;
mod pass_on;
mod pins;
mod registry;
mod reports;
mod retention;
mod runs;
mod sets;
mod shards;
mod submit;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At an address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// Behind a Unix socket; what stands at its path is replaced.
    Unix(PathBuf),
}

/// Where a server does listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// At an address and a port.
    Tcp(SocketAddr),
    /// Behind a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: Listen,
    /// The database, as `store::open` takes it.
    pub database: String,
    /// The blobs, as `store::Blobs::open` takes them.
    pub blobs: String,
    /// The endpoint at which hosts reach the bucket of `blobs`, `https://HOST[:PORT]`; none: the same as this server.
    pub blobs_public_endpoint: Option<String>,
    /// Whether hosts bring large files straight to the bucket, if there is one.
    pub direct_uploads: bool,
    /// The data directory; `server` in it is the server's.
    pub data: PathBuf,
    /// The directory of images; servers that share a database share it, too.
    pub images: PathBuf,
    /// The URL where other servers of the same database reach this one; none: where it listens.
    pub advertise: Option<String>,
    /// Whether it may listen at an address that other machines reach, though nothing protects it yet.
    pub insecure: bool,
    /// How long a host may go on without being heard, in milliseconds; from 1,000 to 3,600,000.
    pub lease_ms: u64,
    /// How long runs that are over are kept; none: for ever.
    pub keep: Option<Duration>,
    /// The commit that this program was built from, for `regatta_build_info`.
    pub commit: String,
}

impl Options {
    /// A server whose database, blobs and images stand in `data`.
    pub fn local(data: &Path, listen: Listen) -> Self {
        let server = data.join("server");
        Self {
            listen,
            database: format!("sqlite://{}", server.join("regatta.db").display()),
            blobs: format!("file://{}", server.join("blobs").display()),
            blobs_public_endpoint: None,
            direct_uploads: true,
            data: data.to_owned(),
            images: data.join("images"),
            advertise: None,
            insecure: false,
            lease_ms: limits::LEASE_MS,
            keep: None,
            commit: option_env!("REGATTA_COMMIT")
                .unwrap_or("unknown")
                .to_owned(),
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option does not fit.
    #[error("{0}")]
    Options(String),
    /// The database or the blobs.
    #[error(transparent)]
    Store(#[from] regatta_store::Error),
    /// The images.
    #[error("the images in the data directory cannot be used: {0}")]
    Images(regatta_image::Error),
    /// The address or the socket.
    #[error("cannot listen at {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// Why.
        source: std::io::Error,
    },
    /// A directory could not be made.
    #[error("cannot make {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// How long a server that is told to end waits for those that it is answering.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The server.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Starts a server in this process. It answers once this returns; it ends with [`Handle::shutdown`], or when the
    /// runtime does.
    pub async fn start(options: Options) -> Result<Handle, Error> {
        if !(limits::LEASE_LEAST_MS..=limits::LEASE_MOST_MS).contains(&options.lease_ms) {
            let (least, most) = (limits::LEASE_LEAST_MS, limits::LEASE_MOST_MS);
            let lease = options.lease_ms;
            return Err(Error::Options(format!(
                "a lease of {lease} ms does not fit; expected {least} to {most} ms"
            )));
        }
        let listener = listen::bind(&options).await?;
        let shutdown = CancellationToken::new();
        let address = listener.address();
        let (app, leading) = app::App::open(&options, &address, shutdown.clone()).await?;
        let router = app::router(Arc::clone(&app));
        let serving = tokio::spawn(listener.serve(router, shutdown.clone()));
        Ok(Handle {
            address,
            shutdown,
            serving,
            leading,
            app,
        })
    }
}

/// A running server.
#[derive(Debug)]
pub struct Handle {
    address: Address,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    leading: JoinHandle<()>,
    app: Arc<app::App>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Until it ends by itself: it found that it cannot go on without saying what is not so. Its log says why.
    pub async fn ended(&self) {
        self.shutdown.cancelled().await;
    }

    /// Ends it: open requests are answered, everything acknowledged is recorded.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        let mut serving = self.serving;
        match tokio::time::timeout(END_WITHIN, &mut serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the listener failed: {error}"),
            Err(_) => serving.abort(),
        }
        if let Err(error) = self.leading.await {
            tracing::error!("the server's task that leads failed: {error}");
        }
        self.app.close().await;
        if let Address::Unix(path) = &self.address {
            drop(std::fs::remove_file(path));
        }
    }
}
