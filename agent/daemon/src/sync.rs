//! The loop that speaks with the server: at once when attempts ended or places are free, else as the server
//! says. May not: decide what is held; it carries `reconcile`'s words there and its answers back.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use regatta_model::AttemptId;
use regatta_model::case::ToldResults;
use regatta_model::wire::{HostFacts, PROTOCOL, Sets, SyncRequest, SyncResponse};
use tokio_util::sync::CancellationToken;

use crate::agent::{Options, carry_out};
use crate::ahead;
use crate::crash::{self, ACKNOWLEDGED, FORGOTTEN};
use crate::failure::blocking;
use crate::host::Host;
use crate::kernel_log::KernelLog;
use crate::reconcile::Moment;
use crate::records::{Places, container_id};
use crate::server::Error;

/// Longest time that the server is asked to wait with an empty answer, in milliseconds.
const POLL_MOST_MS: u64 = 5_000;

/// While attempts wait here anyway, outcomes are gathered for so long before they are told.
const GATHER: Duration = Duration::from_millis(10);

/// An empty answer that came sooner than this was no long poll: the next one waits for [`CALM`].
const HASTY: Duration = Duration::from_millis(20);

/// See [`HASTY`].
const CALM: Duration = Duration::from_millis(500);

/// Between two tries to reach the server: the first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Least pause after a refusal, in milliseconds.
const REFUSED_MS: u64 = 1_000;

/// How long a look at the host is good for.
const FACTS: Duration = Duration::from_secs(10);

/// How long the last outcomes may take on their way at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// A lease is renewed at the executor only when it grew by this part of itself.
const RENEW_PART: u64 = 8;

/// One agent's conversation with its server.
struct Conversation<'a> {
    host: &'a Arc<Host>,
    options: &'a Options,
    sequence: u64,
    facts: Option<(Instant, HostFacts)>,
    kernel: Arc<Mutex<KernelLog>>,
    lease_ms: u64,
    next_sync_ms: u64,
    renewed: Moment,
    reached: bool,
    /// Why the server refuses this host, as it said last.
    refused: String,
    /// Which names of cases it need not be told.
    sets: Sets,
}

/// What a sync came to.
struct Told {
    started: usize,
    took: Duration,
    /// The server has nothing for this host.
    refused: bool,
    /// It asked for names that it had not asked for in its answer before.
    names_wanted: bool,
}

/// A sync on its way.
struct Exchange {
    request: SyncRequest<ToldResults>,
    sent: Moment,
    began: Instant,
}

/// Speaks with the server until `shutdown`.
pub(crate) async fn serve(host: &Arc<Host>, options: &Options, shutdown: CancellationToken) {
    let mut talk = Conversation {
        host,
        options,
        sequence: 0,
        facts: None,
        kernel: Arc::new(Mutex::new(KernelLog::open())),
        lease_ms: 0,
        next_sync_ms: 0,
        renewed: Moment(0),
        reached: false,
        refused: String::new(),
        sets: Sets::default(),
    };
    talk.serve(&shutdown).await;
    host.state().reconcile.close();
    let farewell = async {
        while !host.outbox.is_empty().await {
            let exchange = talk.exchange(0).await;
            let Ok(answer) = host.server.sync(&exchange.request).await else {
                break;
            };
            talk.take(exchange, answer).await;
        }
    };
    drop(tokio::time::timeout(FAREWELL, farewell).await);
}

impl Conversation<'_> {
    async fn serve(&mut self, shutdown: &CancellationToken) {
        let mut news = self.host.news();
        let mut pause = PAUSES.0;
        // The first sync, and each after an error, does not wait at the server.
        let mut wait_ms = 0;
        loop {
            news.mark_unchanged();
            let exchange = self.exchange(wait_ms).await;
            // Only the waiting is ever given up. What an answer says is done to its end: an attempt that is held and has
            // no task would be held for ever.
            let answer = tokio::select! {
                answer = self.host.server.sync(&exchange.request) => Some(answer),
                // While the server has nothing to say, this host may have.
                Ok(()) = news.changed(), if wait_ms > 0 => None,
                () = shutdown.cancelled() => return,
            };
            let next = match answer {
                None => Some(0),
                Some(Ok(answer)) => {
                    pause = PAUSES.0;
                    let told = self.take(exchange, answer).await;
                    let next = self.until_next(&mut news, &told, wait_ms);
                    shutdown.run_until_cancelled(next).await
                }
                Some(Err(error)) => {
                    self.unheard(&error);
                    let paused = tokio::time::sleep(jittered(pause));
                    pause = PAUSES.1.min(pause * 2);
                    shutdown.run_until_cancelled(paused).await.map(|()| 0)
                }
            };
            let Some(next) = next else { return };
            wait_ms = next;
            if wait_ms == 0 && self.has_work_waiting() {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// The server was not reached, or made no sense.
    fn unheard(&mut self, error: &Error) {
        self.sets.unheard();
        if self.reached {
            tracing::warn!("{error}; containers run on for their lease");
        }
        self.reached = false;
        self.host.server.try_next();
        let pass = self.host.state().reconcile.passed(self.host.now());
        carry_out(self.host, pass);
    }

    fn has_work_waiting(&self) -> bool {
        self.host.state().reconcile.waiting() > 0
    }

    /// Waits until there is a reason for the next sync. Gives how long the server may wait then.
    async fn until_next(
        &self,
        news: &mut tokio::sync::watch::Receiver<u64>,
        told: &Told,
        waited_ms: u64,
    ) -> u64 {
        if told.refused {
            tokio::time::sleep(Duration::from_millis(
                self.next_sync_ms.clamp(REFUSED_MS, 60_000),
            ))
            .await;
            return 0;
        }
        let poll_ms = POLL_MOST_MS
            .min(self.next_sync_ms)
            .min(self.lease_ms / 3)
            .max(1);
        let free = self.host.state().reconcile.free();
        if told.names_wanted || news.has_changed().unwrap_or(false) {
            return 0;
        }
        let pause = if free == 0 {
            Duration::from_millis(self.next_sync_ms.clamp(10, self.lease_ms.max(30) / 3))
        } else if waited_ms > 0 && told.started == 0 && told.took < HASTY {
            CALM.min(Duration::from_millis(poll_ms))
        } else {
            return poll_ms;
        };
        match tokio::time::timeout(pause, news.changed()).await {
            Ok(_) => 0,
            Err(_) if free == 0 => 0,
            Err(_) => poll_ms,
        }
    }

    /// What the server is told next.
    async fn exchange(&mut self, wait_ms: u64) -> Exchange {
        let ended = self.host.outbox.batch(&self.sets).await;
        let mut facts = self.facts().await;
        let (canaries, lack) = self.host.canary.told();
        facts.observed.canaries = canaries;
        facts.observed.lacks.extend(lack);
        facts.ready = self.host.moulds.soon.ready(&facts.ready);
        self.sequence += 1;
        let told: BTreeSet<AttemptId> = ended.iter().map(|end| end.attempt.clone()).collect();
        let ahead = self.host.ahead();
        let mut state = self.host.state();
        let slots = state.reconcile.slots();
        state.reconcile.set_queue(ahead);
        let request = SyncRequest {
            protocol: PROTOCOL,
            host: self.options.name.clone(),
            incarnation: state.reconcile.incarnation(),
            sequence: self.sequence,
            facts,
            slots,
            free: state.reconcile.free(),
            holding: state.reconcile.holding(&told),
            ended,
            wait_ms: if told.is_empty() { wait_ms } else { 0 },
            clock_ms: wall_ms(),
        };
        Exchange {
            request,
            sent: self.host.now(),
            began: Instant::now(),
        }
    }

    /// Does what the server answered, to its end.
    async fn take(&mut self, exchange: Exchange, answer: SyncResponse) -> Told {
        let Exchange {
            request,
            sent,
            began,
        } = exchange;
        let took = began.elapsed();
        if request.wait_ms == 0 {
            self.host.state().pace.sync(took.as_secs_f64() * 1000.0);
        }
        if !self.reached {
            tracing::info!("the server at {} answers", self.host.server.address());
        }
        self.reached = true;
        let started = answer.start.len();
        let refused = !answer.refused.is_empty();
        if answer.refused != self.refused {
            if refused {
                tracing::error!("the server refuses this host: {}", answer.refused);
            }
            self.refused.clone_from(&answer.refused);
        }
        tracing::debug!(
            free = request.free,
            holding = request.holding.len(),
            ended = request.ended.len(),
            wait_ms = request.wait_ms,
            ?took,
            started,
            acknowledged = answer.acknowledged.len(),
            stopped = answer.stop.len(),
            "synced"
        );
        let wanted = self.sets.are_wanted();
        self.sets.heard(&answer);
        self.carry_out(sent, answer).await;
        Told {
            started,
            took,
            refused,
            names_wanted: self.sets.are_wanted() && !wanted,
        }
    }

    async fn facts(&mut self) -> HostFacts {
        match &self.facts {
            Some((when, facts)) if when.elapsed() < FACTS => facts.clone(),
            _ => {
                let (root, labels) = (
                    self.host.layout.root().to_owned(),
                    self.options.labels.clone(),
                );
                let kernel = Arc::clone(&self.kernel);
                let host = Arc::clone(self.host);
                let facts = blocking(move || {
                    let mut facts = crate::facts::gather(&root, &labels);
                    let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
                    facts.observed.kernel = kernel.look();
                    facts.ready = ahead::ready(&host);
                    facts
                });
                let facts = facts.await;
                let facts = facts.unwrap_or_default();
                self.facts = Some((Instant::now(), facts.clone()));
                facts
            }
        }
    }

    async fn carry_out(&mut self, sent: Moment, answer: SyncResponse) {
        self.lease_ms = answer.lease_ms;
        self.next_sync_ms = answer.next_sync_ms;
        self.host.canary.want(answer.canaries);
        ahead::fetch(self.host, &answer.soon);
        let actions = self.host.state().reconcile.answered(sent, answer);
        // First what runs: its lease must not end over what follows.
        self.renew().await;
        let acknowledged = carry_out(self.host, actions);
        if acknowledged.is_empty() {
            return;
        }
        crash::point(ACKNOWLEDGED);
        if let Err(error) = self.host.outbox.acknowledge(&acknowledged).await {
            tracing::warn!("cannot tidy the outbox: {error}");
        }
        crash::point(FORGOTTEN);
        let layout = self.host.layout.clone();
        let cleared = blocking(move || {
            for attempt in acknowledged {
                if let Err(error) = Places::new(&layout, &attempt).clear() {
                    tracing::warn!("cannot remove the directory of {attempt}: {error}");
                }
            }
        });
        drop(cleared.await);
    }

    /// Tells the executor how long everything may go on.
    async fn renew(&mut self) {
        let (ids, left, end) = {
            let state = self.host.state();
            let now = self.host.now();
            let left = state.reconcile.lease_left_ms(now);
            let running = state.reconcile.running();
            let ids: Vec<String> = running
                .iter()
                .map(container_id)
                .chain(state.beside.iter().cloned())
                .collect();
            (ids, left, Moment(now.0.saturating_add(left)))
        };
        let grew = end.0.saturating_sub(self.renewed.0) > self.lease_ms / RENEW_PART;
        let link = self.host.link.borrow().clone();
        let Some(link) = link.filter(|_| grew && !ids.is_empty()) else {
            return;
        };
        match blocking(move || link.renew(ids, left)).await {
            Ok(Ok(())) => self.renewed = end,
            Ok(Err(error)) => tracing::warn!("cannot renew leases: {error}"),
            Err(failure) => tracing::warn!("cannot renew leases: {}", failure.detail),
        }
    }
}

/// Now, by this host's wall clock, in milliseconds since 1970.
fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A pause between half and one and a half of `pause`, so that a fleet does not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1024;
    pause / 2 + pause * u32::try_from(random).unwrap_or(512) / 1024
}
