//! Agents' syncs: what a host holds and what ended goes in, what it should hold comes out. May not: check what an
//! agent sent; that was done before.

use regatta_model::wire::{Held, HeldState, READY_MOST, Stop, SyncResponse};
use regatta_model::{AttemptId, Digest, HostName, Incarnation};
use regatta_scheduler::{Event, HostState};
use tokio::time::{Duration, Instant};

use super::handle::{Reply, Synced, SyncedAnswer, SyncedEnd};
use super::{Actor, KnownHost, Outgoing, Todo, Waiting};
use crate::limits::{CLOCK_OFFSET_MOST_MS, HOSTS_MOST};

/// A sync with a lower number than one that came so recently was overtaken by it. Later, the agent was started again and
/// counts anew.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(1);

/// An image is named to a host that will need it soon at most once in this time.
const SOON_AGAIN: Duration = Duration::from_mins(5);

/// What the former life of a host hears.
const FORMER_LIFE: &str = "a later life of this host's executor has spoken. If two agents have this name, give each its \
     own with --name; to use this host again, start its executor anew";

impl Actor {
    /// The latest moment for a host's next sync, and the longest that one waits, in milliseconds.
    pub(super) fn next_sync_ms(&self) -> u64 {
        self.shared.lease_ms / 5
    }

    pub(super) fn response(&mut self, host: &HostName, outgoing: Outgoing) -> SyncResponse {
        SyncResponse {
            acknowledged: outgoing.acknowledged,
            start: outgoing.start.into_values().map(|given| *given).collect(),
            stop: outgoing.stop.into_values().collect(),
            lease_ms: self.shared.lease_ms,
            next_sync_ms: self.next_sync_ms(),
            canaries: self.canaries_wanted(host),
            soon: self.soon(host),
            ..SyncResponse::default()
        }
    }

    /// Images that a host will need soon, each once in [`SOON_AGAIN`].
    fn soon(&mut self, host: &HostName) -> Vec<Digest> {
        let Some(known) = self.hosts.get_mut(host) else {
            return Vec::new();
        };
        let mut soon = self.scheduler.soon(host);
        if !soon.is_empty() {
            let announced = &mut known.announced;
            announced.retain(|_, when| when.elapsed() < SOON_AGAIN);
            soon.retain(|image| !announced.contains_key(image));
            let now = Instant::now();
            announced.extend(soon.iter().map(|image| (*image, now)));
        }
        soon
    }

    pub(super) async fn synced(&mut self, synced: Synced, reply: Reply<SyncedAnswer>) {
        let Synced {
            host,
            incarnation,
            sequence,
            ..
        } = &synced;
        self.release(host);
        let known = self.hosts.get(host);
        if known.is_none() && self.hosts.len() >= HOSTS_MOST {
            tracing::warn!(
                "host {host} is not taken: {HOSTS_MOST} hosts are known (limit HOSTS_MOST)"
            );
            return answer(
                reply,
                refuse(
                    &synced,
                    "the server knows as many hosts as it can (limit HOSTS_MOST)",
                ),
            );
        }
        if let Some(known) = known {
            if *incarnation < known.incarnation {
                tracing::warn!("host {host} is refused: a later life of its executor has spoken");
                return answer(reply, refuse(&synced, FORMER_LIFE));
            }
            let recent = known
                .heard
                .is_some_and(|heard| heard.elapsed() < OVERTAKEN_WITHIN);
            if *incarnation == known.incarnation && *sequence < known.sequence && recent {
                let response = self.response(host, Outgoing::default());
                return answer(reply, response);
            }
        }
        self.take_sync(synced, reply).await;
    }

    async fn take_sync(&mut self, synced: Synced, reply: Reply<SyncedAnswer>) {
        let Synced {
            host,
            incarnation,
            sequence,
            mut facts,
            slots,
            free,
            holding,
            ended,
            withheld,
            wait,
            clock_offset_ms,
        } = synced;
        // It is the scheduler's, and not worth a row.
        let mut ready = std::mem::take(&mut facts.ready);
        ready.truncate(2 * READY_MOST);
        // Each process of an agent counts from the start, its syncs as its canaries.
        let before = self.hosts.get(&host).map_or(0, |known| known.sequence);
        let anew = sequence <= before;
        let reborn = self.know(&host, incarnation, sequence, facts.clone());
        self.see_clock(&host, clock_offset_ms);
        self.take_canaries(&host, anew).await;
        // What ended on a host that cannot work leaves a place that must not be filled.
        let lacks = !facts.observed.lacks.is_empty();
        let acknowledged: Vec<AttemptId> =
            ended.iter().map(|end| end.row.attempt.clone()).collect();
        // What is known to be held here is judged first, so that what the host gets next takes it into account. Not so
        // with the first words of a new life: what that leads to would be given to the former one, and be lost with it.
        let (held, unknown): (Vec<_>, Vec<_>) = ended
            .into_iter()
            .partition(|end| !reborn && !lacks && self.counts(&host, end));
        self.take_ended(&host, held).await;
        let told = |end: &SyncedEnd| Held {
            attempt: end.row.attempt.clone(),
            generation: end.generation,
            state: HeldState::Running,
        };
        let watch = self.hosts.get(&host).map(|known| known.watch);
        let (slots, free) = watch.unwrap_or_default().places(slots, free, holding.len());
        let state = HostState {
            slots,
            free,
            lacks,
            holding,
            ended: unknown.iter().map(told).chain(withheld).collect(),
            capacity: facts.resources(),
            ready,
            labels: facts.labels,
            cpu: facts.cpu,
        };
        let event = Event::Synced {
            host: host.clone(),
            incarnation,
            state: Box::new(state),
        };
        self.apply(event).await;
        // After a restart of the server, the sync is what makes its host the holder again.
        self.take_ended(&host, unknown).await;
        let now = Instant::now();
        let wait = wait.min(Duration::from_millis(self.next_sync_ms()));
        let deadline = now + wait;
        self.turn
            .outgoing
            .entry(host.clone())
            .or_default()
            .acknowledged
            .extend(acknowledged);
        self.deadlines.insert((deadline, host.clone()));
        self.waiting.insert(
            host,
            Waiting {
                since: now,
                deadline,
                reply,
            },
        );
    }

    /// Remembers how far a host's clock is off, and says so once where that is far.
    fn see_clock(&mut self, host: &HostName, offset_ms: Option<i64>) {
        let Some(known) = self.hosts.get_mut(host) else {
            return;
        };
        let is_far =
            |offset: Option<i64>| offset.is_some_and(|ms| ms.unsigned_abs() > CLOCK_OFFSET_MOST_MS);
        if is_far(offset_ms) && !is_far(known.clock_offset_ms) {
            let seconds = offset_ms.unwrap_or(0) / 1000;
            tracing::warn!(
                "the clock of host {host} is {seconds} s ahead of this server's (leases do not need it)"
            );
        }
        known.clock_offset_ms = offset_ms;
    }

    /// Takes in those outcomes that count.
    async fn take_ended(&mut self, host: &HostName, ended: Vec<SyncedEnd>) {
        for end in ended {
            if self.counts(host, &end) {
                self.todo.push_back(Todo::Ended(Box::new(end.row)));
                self.carry_out().await;
            } else {
                tracing::debug!(
                    "the outcome of {} that {host} tells does not count",
                    end.row.attempt
                );
            }
        }
    }

    /// Whether an outcome counts: this host holds the attempt, by this assignment, and was not lost since.
    fn counts(&self, host: &HostName, end: &SyncedEnd) -> bool {
        self.scheduler
            .holder(&end.row.attempt)
            .is_some_and(|(holder, incarnation, generation)| {
                holder == *host && end.incarnation >= incarnation && end.generation == generation
            })
    }

    /// Remembers what a host said of itself. Says whether it is the first word of this life.
    fn know(
        &mut self,
        host: &HostName,
        incarnation: Incarnation,
        sequence: u64,
        facts: regatta_model::wire::HostFacts,
    ) -> bool {
        let new = !self.hosts.contains_key(host);
        let known = self.hosts.entry(host.clone()).or_insert_with(|| KnownHost {
            lost: true,
            ..KnownHost::default()
        });
        let reborn = known.incarnation != incarnation;
        // Free disk changes all the time and is not worth a row.
        let changed = known.facts.labels != facts.labels || known.facts.version != facts.version;
        known.incarnation = incarnation;
        known.sequence = sequence;
        known.facts = facts;
        known.heard = Some(Instant::now());
        if new || reborn || changed {
            self.turn.hosts.insert(host.clone());
        }
        reborn
    }

    /// Answers an older sync of this host with nothing: a newer one takes its place.
    pub(super) fn release(&mut self, host: &HostName) {
        let Some(waiting) = self.waiting.remove(host) else {
            return;
        };
        self.deadlines.remove(&(waiting.deadline, host.clone()));
        let response = self.response(host, Outgoing::default());
        finish(waiting, response);
    }

    /// Answers everybody with nothing: the server ends.
    pub(super) fn release_all(&mut self) {
        let hosts: Vec<HostName> = self.waiting.keys().cloned().collect();
        for host in hosts {
            self.release(&host);
        }
    }

    /// Answers the syncs that have something to hear.
    pub(super) fn answer_syncs(&mut self) {
        for (host, outgoing) in std::mem::take(&mut self.turn.outgoing) {
            if outgoing.acknowledged.is_empty()
                && outgoing.start.is_empty()
                && outgoing.stop.is_empty()
            {
                continue;
            }
            // What nobody hears now is said again at the host's next sync.
            if let Some(waiting) = self.waiting.remove(&host) {
                let response = self.response(&host, outgoing);
                self.deadlines.remove(&(waiting.deadline, host));
                finish(waiting, response);
            }
        }
        self.answer_overdue();
    }

    /// Answers the syncs that waited long enough.
    pub(super) fn answer_overdue(&mut self) {
        let now = Instant::now();
        while let Some((deadline, host)) = self.deadlines.first().cloned()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, host.clone()));
            if let Some(waiting) = self.waiting.remove(&host) {
                let response = self.response(&host, Outgoing::default());
                finish(waiting, response);
            }
        }
    }
}

/// A host that gets nothing and must end what it holds.
fn refuse(synced: &Synced, reason: &str) -> SyncResponse {
    let stop = |held: &Held| Stop {
        attempt: held.attempt.clone(),
        reason: reason.to_owned(),
    };
    SyncResponse {
        stop: synced.holding.iter().map(stop).collect(),
        next_sync_ms: 5_000,
        refused: reason.to_owned(),
        ..SyncResponse::default()
    }
}

fn answer(reply: Reply<SyncedAnswer>, response: SyncResponse) {
    // An agent that went away asks again.
    drop(reply.send(SyncedAnswer {
        response,
        waited: Duration::ZERO,
    }));
}

fn finish(waiting: Waiting, response: SyncResponse) {
    let waited = waiting.since.elapsed();
    drop(waiting.reply.send(SyncedAnswer { response, waited }));
}
