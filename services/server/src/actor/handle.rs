//! How the rest of the server speaks to the actor. May not: wait for ever.

use std::sync::Arc;

use regatta_image::store::Hold;
use regatta_model::matrix::Matrix;
use regatta_model::run::{Pins, RunSummary};
use regatta_model::wait::Explanation;
use regatta_model::wire::{Held, HostFacts, SyncResponse};
use regatta_model::{Digest, HostName, Incarnation, RunId};
use regatta_scheduler::{Health, Policy};
use regatta_store::{BisectionRow, EndedRow};
use regatta_verdict::trust::Trust;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};

use crate::answer::{Answer, Refusal};
use crate::limits::ANSWER_WITHIN;

/// A checked submission.
pub(crate) struct NewSubmission {
    pub(crate) source: String,
    pub(crate) file: String,
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) pins: Pins,
    /// Keeps what is pinned from being pruned.
    pub(crate) holds: Vec<Hold>,
    pub(crate) idempotency_key: Option<String>,
    /// The digest of what the client sent.
    pub(crate) body: Digest,
}

/// A checked sync.
pub(crate) struct Synced {
    pub(crate) host: HostName,
    pub(crate) incarnation: Incarnation,
    pub(crate) sequence: u64,
    pub(crate) facts: HostFacts,
    pub(crate) slots: u32,
    pub(crate) free: u32,
    pub(crate) holding: Vec<Held>,
    pub(crate) ended: Vec<SyncedEnd>,
    /// What ended, too, but cannot be taken in before the names of its cases came.
    pub(crate) withheld: Vec<Held>,
    pub(crate) wait: Duration,
    /// By how much its wall clock is ahead of this server's, in milliseconds.
    pub(crate) clock_offset_ms: Option<i64>,
}

/// An ended attempt that an agent tells; the row lacks what the actor adds.
pub(crate) struct SyncedEnd {
    pub(crate) generation: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) row: EndedRow,
}

/// The answer to a sync.
#[derive(Debug, Default)]
pub(crate) struct SyncedAnswer {
    pub(crate) response: SyncResponse,
    /// How long it waited for something to say.
    pub(crate) waited: Duration,
}

/// A host, as pages and metrics show it.
#[derive(Clone, Debug)]
pub(crate) struct HostInfo {
    pub(crate) name: HostName,
    pub(crate) incarnation: Incarnation,
    pub(crate) health: Health,
    pub(crate) policy: Policy,
    pub(crate) reason: String,
    pub(crate) slots: u32,
    pub(crate) free: u32,
    pub(crate) held: u32,
    /// None where it did not speak since the server started.
    pub(crate) silent_seconds: Option<f64>,
    pub(crate) facts: HostFacts,
    pub(crate) trust: Trust,
    /// Canaries that passed and failed, in this life of the server.
    pub(crate) canaries: (u64, u64),
    /// By how much its wall clock is ahead of this server's, in milliseconds.
    pub(crate) clock_offset_ms: Option<i64>,
}

pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What of a run that is over gets further attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rerun {
    /// Every cell that did not pass, one.
    Failed,
    /// Every cell of which more attempts would tell what is unresolved, as many as that takes.
    Unresolved,
}

/// What the actor is asked.
pub(super) enum Command {
    Submit(Box<NewSubmission>, Reply<Answer<RunSummary>>),
    Sync(Box<Synced>, Reply<SyncedAnswer>),
    Cancel(RunId, Reply<Answer<RunSummary>>),
    Rerun(RunId, Rerun, Reply<Answer<RunSummary>>),
    Policy {
        host: HostName,
        policy: Policy,
        reason: String,
        reply: Reply<Answer<HostInfo>>,
    },
    /// Hides runs that are over; tells how many.
    Prune(Vec<RunId>, Reply<Answer<u64>>),
    /// What the search for where a run's regressions began came to, and whether it goes on.
    Bisected(BisectionRow, Reply<Answer<()>>),
    Explain(RunId, Reply<Option<Explanation>>),
    Hosts(Reply<Vec<HostInfo>>),
}

/// The way to the actor. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ActorHandle {
    commands: mpsc::Sender<Command>,
}

impl ActorHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    async fn ask<T>(
        &self,
        within: Duration,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands
                .send(command(reply))
                .await
                .map_err(|_| Refusal::ending())?;
            answer.await.map_err(|_| Refusal::ending())
        };
        timeout(within, asked).await.unwrap_or_else(|_| {
            let seconds = within.as_secs();
            Err(Refusal::busy(format!(
                "the database did not take it within {seconds} seconds; it may still be recorded: ask again with the \
                 same idempotency key"
            )))
        })
    }

    pub(crate) async fn submit(&self, submission: NewSubmission) -> Answer<RunSummary> {
        self.ask(ANSWER_WITHIN, |reply| {
            Command::Submit(Box::new(submission), reply)
        })
        .await?
    }

    pub(crate) async fn sync(&self, synced: Synced) -> Answer<SyncedAnswer> {
        let within = ANSWER_WITHIN.saturating_add(synced.wait);
        self.ask(within, |reply| Command::Sync(Box::new(synced), reply))
            .await
    }

    pub(crate) async fn cancel(&self, run: RunId) -> Answer<RunSummary> {
        self.ask(ANSWER_WITHIN, |reply| Command::Cancel(run, reply))
            .await?
    }

    /// Goes on with a run that is over.
    pub(crate) async fn rerun(&self, run: RunId, what: Rerun) -> Answer<RunSummary> {
        self.ask(ANSWER_WITHIN, |reply| Command::Rerun(run, what, reply))
            .await?
    }

    pub(crate) async fn set_policy(
        &self,
        host: HostName,
        policy: Policy,
        reason: String,
    ) -> Answer<HostInfo> {
        self.ask(ANSWER_WITHIN, |reply| Command::Policy {
            host,
            policy,
            reason,
            reply,
        })
        .await?
    }

    /// Hides runs that are over, and leaves out those that are not.
    pub(crate) async fn prune(&self, runs: Vec<RunId>) -> Answer<u64> {
        self.ask(ANSWER_WITHIN, |reply| Command::Prune(runs, reply))
            .await?
    }

    /// Records what the search for where a run's regressions began came to, in the caller's words; refused where nobody wants
    /// to know any more.
    pub(crate) async fn bisected(&self, run: RunId, said: String, searching: bool) -> Answer<()> {
        let row = BisectionRow {
            run,
            searching,
            said,
        };
        self.ask(ANSWER_WITHIN, |reply| Command::Bisected(row, reply))
            .await?
    }

    /// What an open run waits for; none where it is over.
    pub(crate) async fn explain(&self, run: RunId) -> Answer<Option<Explanation>> {
        self.ask(ANSWER_WITHIN, |reply| Command::Explain(run, reply))
            .await
    }

    pub(crate) async fn hosts(&self) -> Answer<Vec<HostInfo>> {
        self.ask(ANSWER_WITHIN, Command::Hosts).await
    }
}

/// The scheduler's word for a recorded policy.
pub(super) fn scheduler_policy(policy: regatta_store::Policy) -> Policy {
    match policy {
        regatta_store::Policy::Active => Policy::Active,
        regatta_store::Policy::Cordoned => Policy::Cordoned,
        regatta_store::Policy::Draining => Policy::Draining,
        regatta_store::Policy::Quarantined => Policy::Quarantined,
    }
}

/// The store's word for a policy.
pub(super) fn store_policy(policy: Policy) -> regatta_store::Policy {
    match policy {
        Policy::Active => regatta_store::Policy::Active,
        Policy::Cordoned => regatta_store::Policy::Cordoned,
        Policy::Draining => regatta_store::Policy::Draining,
        Policy::Quarantined => regatta_store::Policy::Quarantined,
    }
}
