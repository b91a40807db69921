//! The one task that owns the scheduler and the open runs. It takes commands in batches, decides, commits once, and
//! only then answers. May not: do anything slow that is not the store's.

mod book;
mod canaries;
mod carry;
mod commands;
mod commit;
mod earlier;
mod facts;
mod handle;
mod live;
mod restore;
mod stall;
mod syncs;
mod trust;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use regatta_model::wire::{Assignment, HostFacts, Stop};
use regatta_model::{AttemptId, Digest, HostName, Incarnation, RunId};
use regatta_scheduler::{Config, Effect, Event, Moment, Restored, Scheduler};
use regatta_store::{Batch, Blobs, EndedRow, Policy, RunHead, Store};
use regatta_verdict::watch::Watch;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::crash::{self, TAKEN_UP};
use crate::lead::Lease;
use crate::limits::{BATCH_MOST, COMMANDS_MOST, TICK_EVERY};
use crate::metrics::Metrics;

use book::OpenRun;
pub(crate) use handle::{ActorHandle, HostInfo, NewSubmission, Rerun, Synced, SyncedEnd};
use handle::{Command, SyncedAnswer};
pub(crate) use live::Live;

/// What the actor shares with the rest of the server.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Blobs,
    pub(crate) images: regatta_image::Store,
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    /// Told of each run that ends and whose regressions are to be traced.
    pub(crate) bisect_wanted: Arc<Notify>,
    /// How long a host may go on without being heard.
    pub(crate) lease_ms: u64,
    /// How long runs that are over are kept.
    pub(crate) keep: Option<Duration>,
    pub(crate) shutdown: CancellationToken,
}

/// The term of a leader: one life of the actor.
pub(crate) struct Term {
    pub(crate) epoch: u64,
    /// Nothing is published once it is over.
    pub(crate) lease: Lease,
    /// Cancelled when the term ends, and by the actor where it finds that it does.
    pub(crate) end: CancellationToken,
}

/// Assignments of an epoch have numbers from `(EPOCH_FIRST + epoch) << GENERATIONS_BITS`. The first ones are above what
/// servers without epochs gave, the microseconds since 1970.
const EPOCH_FIRST: u64 = 1 << 11;
const GENERATIONS_BITS: u32 = 40;

/// A host, as far as the scheduler does not know it.
#[derive(Clone, Debug, Default)]
struct KnownHost {
    incarnation: Incarnation,
    sequence: u64,
    policy: Policy,
    reason: String,
    lost: bool,
    facts: HostFacts,
    watch: Watch,
    /// Images that it was told to need soon, and when.
    announced: BTreeMap<Digest, Instant>,
    /// By how much its wall clock is ahead of this server's, in milliseconds.
    clock_offset_ms: Option<i64>,
    heard: Option<Instant>,
}

/// A sync that is not answered yet.
struct Waiting {
    since: Instant,
    deadline: Instant,
    reply: oneshot::Sender<SyncedAnswer>,
}

/// What is to be said to a host.
#[derive(Default)]
struct Outgoing {
    acknowledged: Vec<AttemptId>,
    /// Boxed: a map makes room for eleven at once.
    start: BTreeMap<AttemptId, Box<Assignment>>,
    stop: BTreeMap<AttemptId, Stop>,
}

/// Something that is still to be done before the batch is decided.
enum Todo {
    /// An effect of the scheduler.
    Effect(Effect),
    /// An attempt ended, and its outcome counts.
    Ended(Box<EndedRow>),
}

/// What one batch of commands came to.
#[derive(Default)]
struct Turn {
    batch: Batch,
    /// Runs that are over, as they are to be recorded.
    over: BTreeMap<RunId, RunHead>,
    touched: BTreeSet<RunId>,
    hosts: BTreeSet<HostName>,
    outgoing: BTreeMap<HostName, Outgoing>,
    /// What is said once the batch is recorded.
    replies: Vec<Box<dyn FnOnce() + Send + Sync>>,
}

/// See the module.
struct Actor {
    commands: mpsc::Receiver<Command>,
    scheduler: Scheduler,
    shared: Shared,
    term: Term,
    begun: Instant,
    /// Time in which nothing could be recorded, and so nobody could be heard: it is nobody's silence.
    stalled: Duration,
    runs: BTreeMap<RunId, OpenRun>,
    hosts: BTreeMap<HostName, KnownHost>,
    waiting: BTreeMap<HostName, Waiting>,
    deadlines: BTreeSet<(Instant, HostName)>,
    todo: VecDeque<Todo>,
    turn: Turn,
    /// Runs by state, of all that were ever submitted.
    states: BTreeMap<&'static str, i64>,
    gauged: Option<Instant>,
    /// What hosts said last while nothing could be recorded, to be heard once that passed.
    unheard: BTreeMap<HostName, Synced>,
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Takes up what is recorded and starts the actor.
pub(crate) async fn start(
    shared: Shared,
    term: Term,
) -> Result<(ActorHandle, JoinHandle<()>), Error> {
    let (sender, receiver) = mpsc::channel(COMMANDS_MOST);
    let hosts = shared.store.hosts().await?;
    let open = shared.store.open_runs().await?;
    let may_hold = |host: &&regatta_store::HostRecord| !host.lost && !open.is_empty();
    let restored = hosts
        .iter()
        .filter(may_hold)
        .map(|host| {
            (
                host.host.clone(),
                host.incarnation,
                handle::scheduler_policy(host.policy),
            )
        })
        .collect();
    let restored = Restored {
        hosts: restored,
        generation: EPOCH_FIRST.saturating_add(term.epoch) << GENERATIONS_BITS,
    };
    let scheduler = Scheduler::new(Config::with_lease(shared.lease_ms), restored);
    let mut actor = Actor {
        commands: receiver,
        scheduler,
        shared,
        term,
        begun: Instant::now(),
        stalled: Duration::ZERO,
        runs: BTreeMap::new(),
        hosts: BTreeMap::new(),
        waiting: BTreeMap::new(),
        deadlines: BTreeSet::new(),
        todo: VecDeque::new(),
        turn: Turn::default(),
        states: BTreeMap::new(),
        gauged: None,
        unheard: BTreeMap::new(),
    };
    actor.take_up(hosts, open).await?;
    crash::point(TAKEN_UP);
    let task = tokio::spawn(actor.run());
    Ok((ActorHandle::new(sender), task))
}

impl Actor {
    async fn run(mut self) {
        // What taking up led to is recorded before anybody is heard.
        self.end_turn().await;
        let end = self.term.end.clone();
        let mut tick = tokio::time::interval(TICK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !end.is_cancelled() {
            self.hear_again().await;
            let first_deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
            let waited = async {
                match first_deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = self.commands.recv() => {
                    let Some(command) = command else { break };
                    self.command(command).await;
                    for _ in 1..BATCH_MOST {
                        let Ok(command) = self.commands.try_recv() else { break };
                        self.command(command).await;
                    }
                }
                _ = tick.tick() => self.apply(Event::Ticked).await,
                () = waited => {}
                () = end.cancelled() => break,
            }
            self.end_turn().await;
        }
        self.commands.close();
        self.release_all();
    }

    /// The scheduler's time.
    fn now(&self) -> Moment {
        let passed = self.begun.elapsed().saturating_sub(self.stalled);
        Moment(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }

    /// Tells the scheduler, and carries out what it answers.
    async fn apply(&mut self, event: Event) {
        let now = self.now();
        let effects = self.scheduler.apply(now, event);
        self.todo.extend(effects.into_iter().map(Todo::Effect));
        self.carry_out().await;
    }
}
