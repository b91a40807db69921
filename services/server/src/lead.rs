//! Who leads: this server, while it holds the lease of the database, or another one. The term of a leader is one life
//! of the actor; whoever leads again begins a new one from what is recorded. May not: decide anything that the actor
//! does.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use regatta_store::{Candidate, Leadership, Store};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::actor::{self, ActorHandle, Term};
use crate::crash::{self, CHOSEN};
use crate::limits::{LEADER_LEASE_MS, LEADER_POLL, LEADER_RENEW_EVERY};
use crate::retention;

/// What this server is at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) enum Role {
    /// It does not know who leads: nobody, or the database is away.
    #[default]
    Unknown,
    /// It decides.
    Leading(ActorHandle),
    /// Another one decides, and can be reached at this URL.
    Following(Arc<str>),
}

/// Until when this server leads, by its own clock. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lease(Arc<RwLock<Instant>>);

impl Lease {
    /// A lease as it was told to who asked at `asked`: a clock that is slower than the database's by 5% is still safe.
    fn new(asked: Instant, led: &Leadership) -> Self {
        Self(Arc::new(RwLock::new(Self::end(asked, led))))
    }

    fn end(asked: Instant, led: &Leadership) -> Instant {
        let left = Duration::from_millis(led.left_ms / 20 * 19);
        // A lease for ever is one for a century.
        let century = Duration::from_hours(24 * 365 * 100);
        asked + left.min(century)
    }

    fn renew(&self, asked: Instant, led: &Leadership) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Self::end(asked, led);
    }

    pub(crate) fn until(&self) -> Instant {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is over. What was decided before may contradict another leader from then on.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until()
    }
}

/// What leading needs.
pub(crate) struct Campaign {
    pub(crate) shared: actor::Shared,
    /// Where other servers reach this one.
    pub(crate) address: String,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) shutdown: CancellationToken,
}

/// Starts to stand for leader. Once this returned, the server leads with all that is recorded taken up, or follows.
pub(crate) async fn start(campaign: Campaign) -> Result<JoinHandle<()>, Error> {
    let (told, first) = oneshot::channel();
    let task = tokio::spawn(campaign.run(told));
    match first.await {
        Ok(Ok(())) => Ok(task),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Options(
            "the server was told to end while it started".to_owned(),
        )),
    }
}

type First = Option<oneshot::Sender<Result<(), Error>>>;

/// Tells whoever started this how it began; later ones read the log.
fn tell(first: &mut First, result: Result<(), Error>) {
    match (first.take(), result) {
        (Some(first), result) => drop(first.send(result)),
        (None, Err(error)) => tracing::error!("this server cannot lead: {error}"),
        (None, Ok(())) => {}
    }
}

impl Campaign {
    fn store(&self) -> &dyn Store {
        self.shared.store.as_ref()
    }

    async fn run(self, first: oneshot::Sender<Result<(), Error>>) {
        let mut first = Some(first);
        while !self.shutdown.is_cancelled() {
            // A new name for each term: what an earlier one of this server decided is another leader's, too.
            let candidate = Candidate {
                id: uuid::Uuid::new_v4().to_string(),
                address: self.address.clone(),
            };
            let stood = tokio::select! {
                stood = self.stand(&candidate, &mut first) => stood,
                () = self.shutdown.cancelled() => return,
            };
            let (epoch, lease) = stood;
            self.serve_term(&candidate, epoch, lease, &mut first).await;
            self.set(Role::Unknown);
            if let Err(error) = self.store().resign(&candidate).await {
                tracing::warn!("the lease is left to run out: {error}");
            }
        }
    }

    /// Asks for the lease until it is had.
    async fn stand(&self, candidate: &Candidate, first: &mut First) -> (u64, Lease) {
        loop {
            let asked = Instant::now();
            let pause = match self.store().lead(candidate, LEADER_LEASE_MS).await {
                Ok(led) if led.leader == *candidate => {
                    return (led.epoch, Lease::new(asked, &led));
                }
                Ok(led) => {
                    self.follow(&led);
                    tell(first, Ok(()));
                    LEADER_POLL.min(Duration::from_millis(led.left_ms + 20))
                }
                Err(error) => {
                    tracing::warn!("who leads is not known: {error}");
                    self.set(Role::Unknown);
                    tell(first, Ok(()));
                    LEADER_POLL
                }
            };
            sleep(pause).await;
        }
    }

    fn follow(&self, led: &Leadership) {
        let address: Arc<str> = led.leader.address.as_str().into();
        let known = matches!(&*self.role.borrow(), Role::Following(known) if *known == address);
        if !known {
            tracing::info!("the server at {address} leads, epoch {}", led.epoch);
            self.set(Role::Following(address));
        }
    }

    fn set(&self, role: Role) {
        let leads = matches!(role, Role::Leading(_));
        self.shared.metrics.leader.set(i64::from(leads));
        if !leads {
            self.shared.metrics.clear_gauges();
            self.shared.live.clear();
        }
        self.role.send_replace(role);
    }

    /// Leads for as long as the lease is renewed and nothing contradicts.
    async fn serve_term(&self, candidate: &Candidate, epoch: u64, lease: Lease, first: &mut First) {
        crash::point(CHOSEN);
        let begun = Instant::now();
        let term = Term {
            epoch,
            lease: lease.clone(),
            end: self.shutdown.child_token(),
        };
        let end = term.end.clone();
        let renewing = self.renew(candidate, epoch, &lease);
        tokio::pin!(renewing);
        let started = tokio::select! {
            started = actor::start(self.shared.clone(), term) => started,
            () = &mut renewing => return,
            () = end.cancelled() => return,
        };
        let (handle, task) = match started {
            Ok(started) => started,
            Err(error) => {
                tell(first, Err(error));
                // Whatever it was, others may fare better; and this one should not hammer the database.
                return sleep(LEADER_POLL).await;
            }
        };
        let took = begun.elapsed().as_millis();
        tracing::info!("this server leads, epoch {epoch}, {took} ms after it was chosen");
        tokio::spawn(retention::keep_short(
            self.shared.clone(),
            handle.clone(),
            epoch,
            end.clone(),
        ));
        self.set(Role::Leading(handle));
        tell(first, Ok(()));
        let watched = end.clone();
        tokio::select! {
            () = &mut renewing => {}
            () = watched.cancelled() => {}
        }
        // First nobody is sent to this actor any more, then it ends with what it was told before.
        self.set(Role::Unknown);
        end.cancel();
        if let Err(error) = task.await {
            tracing::error!("the server's actor failed: {error}");
        }
    }

    /// Renews the lease until it is lost.
    async fn renew(&self, candidate: &Candidate, epoch: u64, lease: &Lease) {
        loop {
            sleep_until(lease.until().min(Instant::now() + LEADER_RENEW_EVERY)).await;
            let asked = Instant::now();
            if lease.is_over() {
                tracing::warn!("this server leads no more: its lease is over");
                return;
            }
            let left = lease.until() - asked;
            match timeout(left, self.store().lead(candidate, LEADER_LEASE_MS)).await {
                Ok(Ok(led)) if led.leader == *candidate && led.epoch == epoch => {
                    lease.renew(asked, &led);
                }
                Ok(Ok(led)) => {
                    tracing::warn!(
                        "this server leads no more: the one at {} does",
                        led.leader.address
                    );
                    return;
                }
                Ok(Err(error)) => tracing::warn!("the leader's lease is not renewed: {error}"),
                Err(_) => tracing::warn!("the leader's lease is not renewed in time"),
            }
        }
    }
}
