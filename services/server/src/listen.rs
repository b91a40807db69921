//! Taking connections, bounded in number and in idleness. May not: know what is said on them.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener as AxumListener;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{BUFFER_MOST, CONNECTION_IDLE, CONNECTIONS_MOST};
use crate::{Address, Error, Listen, Options};

/// A bound address.
pub(crate) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

/// Binds what the options say, unless it would let strangers in.
pub(crate) async fn bind(options: &Options) -> Result<Listener, Error> {
    match &options.listen {
        Listen::Tcp(address) => {
            if !address.ip().is_loopback() && !options.insecure {
                return Err(Error::Options(format!(
                    "{address} can be reached from other machines, and nothing checks yet who speaks there: whoever \
                     reaches it can run commands on every host. Listen on 127.0.0.1, or say --insecure where the \
                     network itself keeps strangers out"
                )));
            }
            let failed = |source| Error::Listen {
                at: address.to_string(),
                source,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            Ok(Listener::Tcp(listener, bound))
        }
        Listen::Unix(path) => {
            let failed = |source| Error::Listen {
                at: path.display().to_string(),
                source,
            };
            if let Some(directory) = path.parent() {
                let failed = |source| Error::Directory {
                    path: directory.to_owned(),
                    source,
                };
                std::fs::create_dir_all(directory).map_err(failed)?;
            }
            match std::fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
            let listener = UnixListener::bind(path).map_err(failed)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
                .map_err(failed)?;
            Ok(Listener::Unix(listener, path.clone()))
        }
    }
}

impl Listener {
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(_, address) => Address::Tcp(*address),
            Self::Unix(_, path) => Address::Unix(path.clone()),
        }
    }

    /// Serves until the token is cancelled and everybody was answered.
    pub(crate) async fn serve(self, router: Router, shutdown: CancellationToken) {
        // Made once: a bare router would be put together anew for every connection, and kept by it.
        let router = router.with_state(());
        match self {
            Self::Tcp(listener, _) => accept(Bounded::new(listener), router, shutdown).await,
            Self::Unix(listener, _) => accept(Bounded::new(listener), router, shutdown).await,
        }
    }
}

/// Takes connections until the end, then waits for those that are being answered.
async fn accept<L: AxumListener>(mut listener: Bounded<L>, router: Router, end: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some((io, _)) = end.run_until_cancelled(listener.accept()).await {
        connections.spawn(speak(io, router.clone(), end.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One connection until its end. It speaks HTTP/1.1 and nothing else: a server that also looked for the preface of
/// HTTP/2 would read its first bytes by themselves, after which buffers have twice the size for as long as it lasts.
async fn speak<I>(io: I, router: Router, end: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .max_buf_size(BUFFER_MOST)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = if let Some(ended) = end.run_until_cancelled(connection.as_mut()).await {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    if let Err(error) = ended {
        tracing::trace!("a connection failed: {error}");
    }
}

/// A listener with a bounded number of connections.
struct Bounded<L> {
    inner: L,
    places: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    fn new(inner: L) -> Self {
        Self {
            inner,
            places: Arc::new(Semaphore::new(CONNECTIONS_MOST)),
        }
    }
}

impl<L> AxumListener for Bounded<L>
where
    L: AxumListener,
{
    type Io = Guarded<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed, so a place always comes; without one nothing is counted.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (io, address) = self.inner.accept().await;
        (Guarded::new(io, place), address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection that gives its place back, and fails where nothing moves on it for [`CONNECTION_IDLE`].
struct Guarded<I> {
    io: I,
    idle: Pin<Box<Sleep>>,
    moved: Instant,
    _place: Option<OwnedSemaphorePermit>,
}

impl<I> Guarded<I> {
    fn new(io: I, place: Option<OwnedSemaphorePermit>) -> Self {
        let now = Instant::now();
        Self {
            io,
            idle: Box::pin(sleep_until(now + CONNECTION_IDLE)),
            moved: now,
            _place: place,
        }
    }

    fn note<T>(&mut self, polled: &Poll<T>) {
        if polled.is_ready() {
            self.moved = Instant::now();
        }
    }

    /// Ready once nothing moved for too long.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.idle.as_mut().poll(context).is_ready() {
            let end = self.moved + CONNECTION_IDLE;
            if end <= Instant::now() + Duration::from_millis(1) {
                return Poll::Ready(());
            }
            self.idle.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(context, buffer);
        this.note(&polled);
        if polled.is_pending() && this.poll_idle(context).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(context, buffer);
        this.note(&polled);
        if polled.is_pending() && this.poll_idle(context).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(context, buffers);
        this.note(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
