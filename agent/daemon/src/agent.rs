//! The agent: opens everything, takes up what an earlier agent left, and runs until told to end. May not: decide
//! (`reconcile`) or carry out (`attempt`).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regatta_image::Store;
use regatta_model::HostName;
use regatta_model::container::Status;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attempt::{self, Job};
use crate::canary;
use crate::executor::{self, Life, Link};
use crate::host::{Host, TaskHandle, Wish};
use crate::layers::Layers;
use crate::outbox::Outbox;
use crate::outbox_writer::OutboxWriter;
use crate::reconcile::{Action, Reconcile};
use crate::records::{self, Places, container_id};
use crate::server::{Address, Server};
use crate::{Layout, sync};

/// Between two starts of an executor that keeps dying: the first pause, and the longest.
const RESTART_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// An executor that lived at least so long did not die of its start.
const RESTART_CALM: Duration = Duration::from_secs(30);

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its server.
    pub server: Address,
    /// This host's name in the fleet.
    pub name: HostName,
    /// Attempts at once; 1 at least.
    pub slots: u32,
    /// Its data directory.
    pub data: PathBuf,
    /// Labels that matrices can ask for, besides `arch`.
    pub labels: BTreeMap<String, String>,
    /// Whether an executor that it starts ends with it.
    pub life: Life,
    /// The program that has the command `executor`; none: this one.
    pub program: Option<PathBuf>,
}

/// Why an agent cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one uses the data directory.
    #[error("another agent works in {}: give this one a --data of its own", .0.display())]
    InUse(PathBuf),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {error}", .directory.display())]
    Data {
        /// Which.
        directory: PathBuf,
        /// Why.
        error: String,
    },
    /// There is no executor.
    #[error(transparent)]
    Executor(#[from] executor::Error),
    /// The server's address cannot be used.
    #[error(transparent)]
    Server(#[from] crate::server::Error),
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    options: Options,
}

impl Agent {
    /// An agent that does nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Works until `shutdown`: then it takes nothing new, tells the server what ended, and leaves what runs to the
    /// executor (which ends it with the lease, or at once where it is bound to this process).
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let options = self.options;
        let layout = Layout::new(&options.data);
        let root = layout.root().to_owned();
        let data = |error: &dyn std::fmt::Display| Error::Data {
            directory: root.clone(),
            error: error.to_string(),
        };
        layout.prepare().map_err(|error| data(&error))?;
        let _lock = lock(&layout)?;
        let server = Server::new(options.server.clone())?;
        let executor = executor::Options {
            program: options.program.clone(),
            life: options.life,
        };
        let (first, store, outbox) = {
            let (layout, executor) = (layout.clone(), executor.clone());
            let opened = tokio::task::spawn_blocking(move || {
                let link = executor::ensure(&layout, &executor)?;
                clean(&layout);
                Ok::<_, executor::Error>((
                    link,
                    Store::open(&layout.images()).map_err(|error| error.to_string()),
                    Outbox::open(&layout.outbox()).map_err(|error| error.to_string()),
                ))
            });
            let (link, store, outbox) = opened.await.map_err(|error| data(&error))??;
            (
                link,
                store.map_err(|error| data(&error))?,
                outbox.map_err(|error| data(&error))?,
            )
        };
        let mut reconcile = Reconcile::new(options.slots.max(1), first.incarnation());
        for (attempt, generation) in outbox.attempts() {
            reconcile.adopt_ended(attempt.clone(), generation);
        }
        let first = Arc::new(first);
        let (links, link) = watch::channel(Some(Arc::clone(&first)));
        let host = Host::new(
            layout,
            store,
            server,
            OutboxWriter::new(outbox),
            link,
            reconcile,
        );
        let host = Arc::new(host);
        take_up(&host, &first).await.map_err(|error| data(&error))?;
        drop(first);
        let keeper = tokio::spawn(keep_executor(Arc::clone(&host), links, executor));
        // A person who runs something on this machine sees for themselves what fails.
        let canaries = (options.life == Life::Own).then(|| {
            host.canary.begin();
            tokio::spawn(canary::keep(Arc::clone(&host)))
        });
        sync::serve(&host, &options, shutdown).await;
        for task in canaries.into_iter().chain([keeper]) {
            task.abort();
            drop(task.await);
        }
        let tasks = std::mem::take(&mut host.state().tasks);
        for task in tasks.into_values() {
            task.task.abort();
            drop(task.task.await);
        }
        // An executor that is bound to this process ends here, and with it all its containers.
        let ended = tokio::task::spawn_blocking(move || drop(host));
        drop(ended.await);
        Ok(())
    }
}

/// One agent in a data directory.
fn lock(layout: &Layout) -> Result<File, Error> {
    let path = layout.root().join("agent.lock");
    let data = |error: std::io::Error| Error::Data {
        directory: layout.root().to_owned(),
        error: error.to_string(),
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(data)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse(layout.root().to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(data(error)),
    }
}

/// Removes what a dead agent left half made.
fn clean(layout: &Layout) {
    for directory in [layout.setups(), layout.all_files()] {
        if let Err(error) = Layers::new(directory.clone()).clean() {
            tracing::warn!("cannot clean {}: {error}", directory.display());
        }
    }
    let entries = fs::read_dir(layout.setups())
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries.filter(|e| e.file_name().to_string_lossy().starts_with("failed-")) {
        drop(fs::remove_file(entry.path()));
    }
}

/// Goes on with the containers of an earlier agent that have a record; ends and forgets the others.
async fn take_up(host: &Arc<Host>, link: &Arc<Link>) -> Result<(), String> {
    let (reader, layout) = (Arc::clone(link), host.layout.clone());
    let read = tokio::task::spawn_blocking(move || {
        let known = reader.list().map_err(|error| error.to_string())?;
        let mut records = Vec::new();
        let entries = fs::read_dir(layout.attempts()).map_err(|error| error.to_string())?;
        for directory in entries.flatten().map(|entry| entry.path()) {
            match records::read(&directory) {
                Some(record) => records.push(record),
                None => drop(Places::within(directory).clear()),
            }
        }
        Ok::<_, String>((known, records))
    });
    let (known, records) = read.await.map_err(|error| error.to_string())??;
    let mut known: BTreeMap<String, Status> = known
        .into_iter()
        .map(|status| (status.id.clone(), status))
        .collect();
    for record in records {
        let places = Places::new(&host.layout, &record.attempt);
        let id = container_id(&record.attempt);
        let held = host.state().reconcile.generation(&record.attempt).is_some();
        let never_started = !known.contains_key(&id) && record.incarnation == link.incarnation();
        if held || places.kept.exists() || never_started {
            // Its outcome is written down, it is only kept, or the server will say it again.
            if !held {
                drop(tokio::task::spawn_blocking(move || places.clear()).await);
            }
            continue;
        }
        known.remove(&id);
        let attempt = record.attempt.clone();
        let (wish, wished) = watch::channel(Wish::Run);
        let mut state = host.state();
        state.reconcile.adopt(attempt.clone(), record.generation);
        let task = tokio::spawn(attempt::resume(Arc::clone(host), record, wished));
        state.tasks.insert(
            attempt,
            TaskHandle {
                wish,
                task,
                began: None,
            },
        );
    }
    // Attempts without a record, and what a dead set-up left. Other commands' containers are their own.
    // They are gone before anything starts: an attempt may be said again under the same name.
    let mut ending = tokio::task::JoinSet::new();
    for id in known.into_keys().filter(|id| {
        ["a-", "s-", canary::PREFIX]
            .iter()
            .any(|of| id.starts_with(of))
    }) {
        let link = Arc::clone(link);
        tracing::info!("ending container {id}, which nobody waits for");
        ending.spawn_blocking(move || link.end(&id));
    }
    ending.join_all().await;
    Ok(())
}

/// Starts another executor whenever one is gone.
async fn keep_executor(
    host: Arc<Host>,
    links: watch::Sender<Option<Arc<Link>>>,
    options: executor::Options,
) {
    let (first, longest) = RESTART_PAUSES;
    let mut pause = first;
    loop {
        let link = links.borrow().clone();
        let lived = std::time::Instant::now();
        if let Some(link) = link {
            link.gone().await;
        }
        links.send_replace(None);
        if lived.elapsed() > RESTART_CALM {
            pause = first;
        }
        tracing::warn!("the executor is gone; starting another one");
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
        let (layout, options) = (host.layout.clone(), options.clone());
        let started =
            tokio::task::spawn_blocking(move || executor::ensure(&layout, &options)).await;
        match started {
            Ok(Ok(link)) => {
                let actions = host.state().reconcile.reborn(link.incarnation());
                links.send_replace(Some(Arc::new(link)));
                carry_out(&host, actions);
                host.tell();
            }
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("{error}"),
        }
    }
}

/// Has actions done by the tasks of their attempts. Gives those that were acknowledged.
pub(crate) fn carry_out(host: &Arc<Host>, actions: Vec<Action>) -> Vec<regatta_model::AttemptId> {
    let mut acknowledged = Vec::new();
    if !actions.is_empty() {
        // Those that were dropped and have cleared up behind them.
        host.state()
            .tasks
            .retain(|_, task| !task.task.is_finished());
    }
    for action in actions {
        let mut state = host.state();
        match action {
            Action::Start {
                attempt,
                generation,
                plan,
            } => {
                let (wish, wished) = watch::channel(Wish::Run);
                let before = state.tasks.remove(&attempt).map(|task| task.task);
                let job = Job {
                    attempt: attempt.clone(),
                    generation,
                    plan: *plan,
                    wish: wished,
                    before,
                };
                let task = tokio::spawn(attempt::run(Arc::clone(host), job));
                state.tasks.insert(
                    attempt,
                    TaskHandle {
                        wish,
                        task,
                        began: None,
                    },
                );
            }
            Action::Drop { attempt } => {
                if let Some(task) = state.tasks.get(&attempt) {
                    task.wish.send_replace(Wish::Drop);
                }
            }
            Action::Stop { attempt } => {
                if let Some(task) = state.tasks.get(&attempt) {
                    task.wish.send_replace(Wish::Stop);
                }
            }
            Action::Acknowledged { attempt } => {
                state.tasks.remove(&attempt);
                acknowledged.push(attempt);
            }
        }
    }
    acknowledged
}
