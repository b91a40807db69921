//! While nothing can be recorded: hosts keep what they hold, and everybody else hears that they should come again.
//! May not: decide anything, or acknowledge.

use std::time::Duration;

use regatta_model::HostName;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::handle::{Command, Reply, Synced, SyncedAnswer};
use super::{Actor, Outgoing};
use crate::answer::Refusal;
use crate::limits::UNHEARD_AT_ONCE;

fn refusal() -> Refusal {
    Refusal::busy(
        "nothing can be recorded at the moment, for the database is away or full; try again",
    )
}

impl Actor {
    /// Answers with refusals for so long.
    pub(super) async fn refuse_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while let Ok(Some(command)) = timeout_at(end, self.commands.recv()).await {
            self.refuse(command);
        }
        self.answer_overdue();
    }

    fn refuse(&mut self, command: Command) {
        match command {
            Command::Sync(synced, reply) => self.keep(*synced, reply),
            Command::Submit(_, reply) | Command::Cancel(_, reply) | Command::Rerun(_, _, reply) => {
                drop(reply.send(Err(refusal())));
            }
            Command::Prune(_, reply) => drop(reply.send(Err(refusal()))),
            Command::Bisected(_, reply) => drop(reply.send(Err(refusal()))),
            Command::Policy { reply, .. } => drop(reply.send(Err(refusal()))),
            Command::Explain(run, reply) => drop(reply.send(self.scheduler.explain(&run))),
            Command::Hosts(reply) => drop(reply.send(self.host_infos())),
        }
    }

    /// A host that is known, and not lost, goes on with what it holds: its lease begins anew. What it said is heard once
    /// something can be recorded again; until then the scheduler's clock stands still, so that it is not lost meanwhile.
    fn keep(&mut self, synced: Synced, reply: Reply<SyncedAnswer>) {
        let known = self.hosts.get(&synced.host);
        let goes_on = known.is_some_and(|known| {
            !known.lost && known.incarnation == synced.incarnation && !self.term.lease.is_over()
        });
        if !goes_on {
            // Whoever waits for this reply is told to come again.
            return;
        }
        self.release(&synced.host);
        let mut response = self.response(&synced.host, Outgoing::default());
        response.next_sync_ms = response.next_sync_ms.min(1_000);
        drop(reply.send(SyncedAnswer {
            response,
            waited: Duration::ZERO,
        }));
        self.unheard.insert(synced.host.clone(), synced);
    }

    /// Takes in what hosts said while nothing could be recorded. They were answered. Not all at once where they are many: that
    /// would take so long to record that nothing could be recorded for the next ones, and so on for as long as they speak.
    pub(super) async fn hear_again(&mut self) {
        let unheard = std::mem::take(&mut self.unheard);
        if unheard.is_empty() {
            return;
        }
        for (count, (_, synced)) in unheard.into_iter().enumerate() {
            if count > 0 && count % UNHEARD_AT_ONCE == 0 {
                self.end_turn().await;
                if self.term.end.is_cancelled() {
                    return;
                }
            }
            let host: HostName = synced.host.clone();
            let (reply, _) = oneshot::channel();
            self.synced(synced, reply).await;
            self.release(&host);
        }
        self.end_turn().await;
    }
}
