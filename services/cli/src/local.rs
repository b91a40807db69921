//! A server, an agent and an executor in and under this process, on a private socket in the data directory: what
//! commands use where no server is named. May not: differ from a fleet in anything but where it runs.
//!
//! One process at a time serves a data directory (a lock says which); others speak to it, and the next one takes its
//! place when it ends.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use regatta_daemon::Agent;
use regatta_daemon::executor::Life;
use regatta_daemon::server::Address;
use regatta_server::{Listen, Server};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Place, socket};
use crate::context::{Context, Failure, make_private};

/// A way to this machine's own server.
struct Local {
    client: Client,
    own: Option<Own>,
}

type AgentTask = tokio::task::JoinHandle<Result<(), regatta_daemon::Error>>;

/// What runs in this process.
struct Own {
    server: regatta_server::Handle,
    agent: Option<(CancellationToken, AgentTask)>,
    // Held as long as this process serves the directory.
    _lock: File,
}

/// What a command needs of the local server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To read what was recorded.
    Records,
    /// To run attempts, so many at once.
    Attempts(u32),
}

/// As many attempts at once as there are processors.
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|n| u32::try_from(n.get()).ok())
        .unwrap_or(1)
}

impl Need {
    /// What the lock says of who holds it.
    const fn word(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Attempts(_) => "attempts",
        }
    }
}

/// How long to wait for the process that serves the directory to open its socket, or to end.
const OTHERS_START_WITHIN: Duration = Duration::from_secs(20);

/// How often a command goes on by itself after the process whose server it used ended.
const TAKE_OVERS_MOST: u32 = 5;

/// Does something with the named server, or with this machine's own. Where that runs in another process, and ends
/// with it, this process takes its place and does the work once more: it must bear that.
pub(crate) async fn with<T>(
    context: &Context,
    need: Need,
    work: impl AsyncFn(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut tries = 0;
    loop {
        let mut local = connect(context, need).await?;
        let guest = context.is_local() && local.own.is_none();
        let client = local.client.clone();
        let result = local.doing(work(&client)).await;
        local.stop().await;
        match result {
            Err(failure) if guest && failure.is_unreachable() && tries < TAKE_OVERS_MOST => {
                tries += 1;
                tracing::info!("the process that served this directory ended; going on here");
            }
            result => return result,
        }
    }
}

/// A client of the named server, or of this machine's own.
async fn connect(context: &Context, need: Need) -> Result<Local, Failure> {
    match &context.global.server {
        Some(url) => Ok(Local {
            client: Client::new(&Place::parse(url)?)?,
            own: None,
        }),
        None => start(context, need).await,
    }
}

async fn start(context: &Context, need: Need) -> Result<Local, Failure> {
    let data = context.data();
    make_private(data)?;
    let directory = data.join("server");
    make_private(&directory)?;
    let path = directory.join("lock");
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    let socket = socket(data);
    let deadline = tokio::time::Instant::now() + OTHERS_START_WITHIN;
    loop {
        match lock.try_lock() {
            Ok(()) => {
                lock.set_len(0)?;
                lock.write_all(need.word().as_bytes())?;
                return own(context, need, lock, &socket).await;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) => {
                // Who only reads is gone in a moment, and has nothing that runs attempts: its place is waited for.
                let serves = std::fs::read_to_string(&path).unwrap_or_default();
                if serves != Need::Records.word()
                    && !serves.is_empty()
                    && let Some(client) = other(data).await?
                {
                    return Ok(Local { client, own: None });
                }
                if tokio::time::Instant::now() > deadline {
                    return Err(Failure::platform(format!(
                        "another process serves {} and does not answer; end it, or name another directory with --data",
                        data.display()
                    )));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The server that another process runs on this directory, once it answers.
async fn other(data: &Path) -> Result<Option<Client>, Failure> {
    let place = match std::fs::read_to_string(address_file(data)) {
        Ok(url) => Place::parse(url.trim())?,
        Err(_) => Place::Socket(socket(data)),
    };
    let client = Client::new(&place)?;
    Ok(client.bytes("readyz").await.is_ok().then_some(client))
}

/// Where `regatta server` writes its URL, for commands on the same machine.
pub(crate) fn address_file(data: &Path) -> std::path::PathBuf {
    data.join("server").join("address")
}

async fn own(context: &Context, need: Need, lock: File, socket: &Path) -> Result<Local, Failure> {
    let data = context.data();
    drop(std::fs::remove_file(address_file(data)));
    let options = regatta_server::Options::local(data, Listen::Unix(socket.to_owned()));
    let server = Server::start(options).await.map_err(Failure::platform)?;
    let place = Place::Socket(socket.to_owned());
    let client = Client::new(&place)?;
    let agent = match need {
        Need::Records => None,
        Need::Attempts(slots) => {
            // Started before the agent looks for one, and held by the whole process: an image that is built meanwhile uses
            // the same, and does not take it away at its end.
            let holder = context.clone();
            tokio::task::spawn_blocking(move || holder.executor().map(drop))
                .await
                .map_err(Failure::platform)??;
            let agent = Agent::new(regatta_daemon::Options {
                server: Address::Unix(socket.to_owned()),
                name: regatta_daemon::facts::host_name(),
                slots,
                data: data.to_owned(),
                labels: BTreeMap::new(),
                life: Life::Bound,
                program: None,
            });
            let shutdown = CancellationToken::new();
            Some((shutdown.clone(), tokio::spawn(agent.run(shutdown))))
        }
    };
    Ok(Local {
        client,
        own: Some(Own {
            server,
            agent,
            _lock: lock,
        }),
    })
}

impl Local {
    /// Does something that needs this machine's agent; fails when the agent does.
    async fn doing<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let agent = self.own.as_mut().and_then(|own| own.agent.as_mut());
        let Some((_, task)) = agent else {
            return work.await;
        };
        tokio::select! {
            result = work => result,
            ended = task => {
                // An ended task must not be waited for again.
                if let Some(own) = &mut self.own {
                    own.agent = None;
                }
                Err(match ended {
                    Ok(Err(error)) => Failure::platform(error),
                    Ok(Ok(())) => Failure::platform("this machine's agent ended before its work"),
                    Err(error) => Failure::platform(format!("this machine's agent failed: {error}")),
                })
            }
        }
    }

    /// Ends what this process runs: the agent first, so that its last outcomes are taken.
    async fn stop(self) {
        let Some(own) = self.own else { return };
        if let Some((shutdown, task)) = own.agent {
            shutdown.cancel();
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!("this machine's agent ended with an error: {error}");
                }
                Err(error) => tracing::error!("this machine's agent failed: {error}"),
            }
        }
        own.server.shutdown().await;
    }
}
