//! What the tasks of an agent share: the state, the executor's link, the store, the slots. May not: decide
//! (that is `reconcile`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use regatta_image::Store;
use regatta_model::container::{ContainerSpec, Ended, Ending};
use regatta_model::{AttemptId, Incarnation};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::Layout;
use crate::canary;
use crate::executor::{End, Error as LinkError, Link};
use crate::failure::{Failure, blocking};
use crate::outbox_writer::OutboxWriter;
use crate::pace::Pace;
use crate::prepare::Moulds;
use crate::reconcile::{Moment, Reconcile};
use crate::server::Server;

/// What the server wants of an attempt that has a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Go on.
    Run,
    /// Give up: nothing of it runs.
    Drop,
    /// End its container.
    Stop,
}

/// Changes together, under one lock that is never held across a wait.
pub(crate) struct State {
    pub(crate) reconcile: Reconcile,
    pub(crate) pace: Pace,
    /// The tasks of attempts, by what is wished of them.
    pub(crate) tasks: BTreeMap<AttemptId, TaskHandle>,
    /// Containers beside the attempts' that live as long as the lease: set-ups.
    pub(crate) beside: BTreeSet<String>,
}

/// An attempt's task.
pub(crate) struct TaskHandle {
    pub(crate) wish: watch::Sender<Wish>,
    pub(crate) task: tokio::task::JoinHandle<()>,
    /// When it got its place.
    pub(crate) began: Option<Instant>,
}

/// Shared by all tasks of an agent.
pub(crate) struct Host {
    pub(crate) layout: Layout,
    pub(crate) store: Store,
    pub(crate) server: Server,
    pub(crate) slots: Semaphore,
    pub(crate) outbox: OutboxWriter,
    pub(crate) link: watch::Receiver<Option<Arc<Link>>>,
    pub(crate) moulds: Moulds,
    pub(crate) canary: canary::Standing,
    state: Mutex<State>,
    began: Instant,
    news: watch::Sender<u64>,
    numbers: AtomicU64,
}

impl Host {
    pub(crate) fn new(
        layout: Layout,
        store: Store,
        server: Server,
        outbox: OutboxWriter,
        link: watch::Receiver<Option<Arc<Link>>>,
        reconcile: Reconcile,
    ) -> Self {
        let slots = usize::try_from(reconcile.slots()).unwrap_or(1);
        Self {
            moulds: Moulds::new(&layout),
            canary: canary::Standing::new(),
            layout,
            store,
            server,
            slots: Semaphore::new(slots),
            outbox,
            link,
            state: Mutex::new(State {
                reconcile,
                pace: Pace::default(),
                tasks: BTreeMap::new(),
                beside: BTreeSet::new(),
            }),
            began: Instant::now(),
            news: watch::channel(0).0,
            numbers: AtomicU64::new(0),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, by the agent's monotonic clock.
    pub(crate) fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// How many attempts are to wait here besides those that run.
    pub(crate) fn ahead(&self) -> u32 {
        let state = self.state();
        let began = state.tasks.values().filter_map(|task| task.began).min();
        let running_ms = began.map_or(0.0, |began| began.elapsed().as_secs_f64() * 1000.0);
        state.pace.ahead(state.reconcile.slots(), running_ms)
    }

    /// Something happened that the server should hear of soon.
    pub(crate) fn tell(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// To wait for what [`Host::tell`] tells.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// A number that this process gives once.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The executor's link, once there is one.
    pub(crate) async fn link(&self) -> Option<Arc<Link>> {
        let mut link = self.link.clone();
        let live = |link: &Option<Arc<Link>>| link.as_ref().is_some_and(|link| !link.is_gone());
        link.wait_for(live).await.ok().and_then(|link| link.clone())
    }

    /// Runs a container to its end; a change of `wish` to anything but `Run` stops it. Gives the life of the executor that
    /// ran it, too.
    pub(crate) async fn contain(
        &self,
        spec: ContainerSpec,
        mut wish: watch::Receiver<Wish>,
    ) -> Result<(Ended, Incarnation), Failure> {
        let link = self.link().await;
        let link = link.ok_or_else(|| Failure::host("the agent", &"it ends"))?;
        let id = spec.id.clone();
        let incarnation = link.incarnation();
        let (sender, mut told) = oneshot::channel();
        let link_there = Arc::clone(&link);
        let started =
            blocking(move || link_there.start(spec, |end| drop(sender.send(end)))).await?;
        match started {
            Ok(()) => {}
            Err(LinkError::Refused(message)) => {
                return Err(Failure::host(
                    "the executor refused the container",
                    &message,
                ));
            }
            Err(_) => return Ok((self.find_again(&id, incarnation, wish).await?, incarnation)),
        }
        let end = tokio::select! {
            end = &mut told => end,
            () = unwanted(&mut wish) => {
                stop(&link, &id).await?;
                told.await
            }
        };
        match end {
            Ok(End::Ended(ended)) => Ok((*ended, incarnation)),
            Ok(End::Lost) | Err(_) => {
                Ok((self.find_again(&id, incarnation, wish).await?, incarnation))
            }
        }
    }

    /// Waits for the end of a container that was started through a link that is gone, or by an agent that is.
    pub(crate) async fn find_again(
        &self,
        id: &str,
        incarnation: Incarnation,
        mut wish: watch::Receiver<Wish>,
    ) -> Result<Ended, Failure> {
        loop {
            let link = self.link().await;
            let link = link.ok_or_else(|| Failure::host("the agent", &"it ends"))?;
            let (sender, mut told) = oneshot::channel();
            let (follower, name) = (Arc::clone(&link), id.to_owned());
            let known =
                blocking(move || follower.follow(&name, |end| drop(sender.send(end)))).await?;
            match known {
                Ok(Some(())) => {}
                Ok(None) => return Ok(lost(id)),
                Err(_) => continue,
            }
            let end = tokio::select! {
                end = &mut told => end,
                () = unwanted(&mut wish) => {
                    stop(&link, id).await?;
                    told.await
                }
            };
            match end {
                Ok(End::Ended(ended)) if link.incarnation() == incarnation => return Ok(*ended),
                // Whatever a later life says: it was not there.
                Ok(End::Ended(ended)) => {
                    return Ok(Ended {
                        ending: Ending::ExecutorLost,
                        ..*ended
                    });
                }
                Ok(End::Lost) | Err(_) => {}
            }
        }
    }

    /// The executor need not know this container any more.
    pub(crate) async fn forget(&self, id: &str) {
        let link = self.link.borrow().clone();
        let Some(link) = link else { return };
        let id = id.to_owned();
        let forgotten = blocking(move || link.forget(&id)).await;
        if let Ok(Err(LinkError::Refused(message))) = forgotten {
            tracing::debug!("the executor does not forget: {message}");
        }
    }
}

/// Waits until an attempt is to be given up or stopped.
pub(crate) async fn unwanted(wish: &mut watch::Receiver<Wish>) {
    if wish.wait_for(|wish| *wish != Wish::Run).await.is_err() {
        // Nobody is left who could wish anything.
        std::future::pending::<()>().await;
    }
}

async fn stop(link: &Arc<Link>, id: &str) -> Result<(), Failure> {
    let (link, id) = (Arc::clone(link), id.to_owned());
    // It may have ended meanwhile; whoever waits hears of that.
    drop(blocking(move || link.stop(&id)).await?);
    Ok(())
}

/// The end of a container that no executor knows any more.
fn lost(id: &str) -> Ended {
    Ended {
        id: id.to_owned(),
        ending: Ending::ExecutorLost,
        start_us: 0,
        wall_ms: 0,
        cpu_us: 0,
        peak_memory_bytes: 0,
        oom_kills: 0,
        output_bytes: 0,
        output_dropped: 0,
        changed: Vec::new(),
        changed_more: false,
    }
}
