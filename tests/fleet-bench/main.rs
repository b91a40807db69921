//! Hollow agents against a real server over real HTTP: they speak the agents' protocol and run nothing, so that what is
//! measured is the control plane. May not: share a process with the server.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use regatta_model::case::{NamedSet, Results, ToldResults};
use regatta_model::run::RunSummary;
use regatta_model::wire::{
    EndedAttempt, HeldState, HostFacts, LogPlace, PROTOCOL, Sets, SyncRequest, SyncResponse,
    Telling,
};
use regatta_model::{AttemptId, Digest, Incarnation, Outcome};
use reqwest::{Client, StatusCode};

/// Measures a server with hollow agents: outcomes a second, and how long a sync takes.
#[derive(Parser)]
struct Args {
    /// The server; it has the image `hollow:1`
    #[arg(long)]
    server: String,
    /// How many agents
    #[arg(long, default_value_t = 1000)]
    hosts: usize,
    /// Places of each
    #[arg(long, default_value_t = 4)]
    slots: u32,
    /// Cells of the run
    #[arg(long, default_value_t = 100_000)]
    cells: u64,
    /// Test cases of each attempt
    #[arg(long, default_value_t = 0)]
    cases: usize,
    /// Tell the names of all test cases with each attempt, as former agents do
    #[arg(long)]
    names: bool,
    /// How long each attempt takes, in milliseconds
    #[arg(long, default_value_t = 0)]
    hold: u64,
    /// Only say for so many seconds that nothing happens
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
}

/// Longest wait for the run's end.
const WITHIN: Duration = Duration::from_secs(600);
/// How long a server may wait with an empty answer.
const POLL_MS: u64 = 2_000;
/// How long an agent waits after the server refused it for the moment.
const REFUSED_FOR: Duration = Duration::from_secs(1);

struct Fleet {
    http: Client,
    base: String,
    results: Results,
    set: NamedSet,
    names: bool,
    slots: u32,
    hold: Duration,
    /// Outcomes that the server acknowledged.
    acknowledged: AtomicU64,
    cells: u64,
    /// Until when to go on although there is no run.
    idle_until: Option<Instant>,
}

impl Fleet {
    fn is_over(&self) -> bool {
        match self.idle_until {
            Some(until) => Instant::now() >= until,
            None => self.acknowledged.load(Ordering::Relaxed) >= self.cells,
        }
    }

    fn end(
        &self,
        attempt: AttemptId,
        generation: u64,
        telling: &mut Telling<'_>,
    ) -> EndedAttempt<ToldResults> {
        let attempt_text = attempt.to_string();
        let with_names = self.results.names.is_empty() || telling.needs_names(&self.set.set);
        EndedAttempt {
            attempt,
            generation,
            incarnation: Incarnation(1),
            outcome: Outcome::Exited { exit_code: 0 },
            blame: None,
            detail: String::new(),
            wall_ms: 1,
            queue_ms: 1,
            start_us: 900,
            cpu_us: 800,
            peak_memory_bytes: 1 << 20,
            metrics: std::collections::BTreeMap::new(),
            identity: Some(Digest::of(attempt_text.as_bytes())),
            changed: Vec::new(),
            results: if with_names {
                ToldResults::from(&self.results)
            } else {
                self.results.by_digest(self.set)
            },
            log: LogPlace::Empty,
            artifacts: Vec::new(),
            files: None,
        }
    }
}

/// Times in microseconds.
#[derive(Default)]
struct Took {
    /// Syncs that told an outcome.
    syncs: Vec<u64>,
    /// From the end of an attempt to the next one for its place.
    places: Vec<u64>,
    /// Syncs of any kind.
    count: u64,
    /// Those that the server refused for the moment.
    refused: u64,
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// An attempt that a hollow agent holds.
struct Held {
    generation: u64,
    ends: Instant,
}

/// One agent until the run is over.
async fn hollow(fleet: Arc<Fleet>, index: usize) -> Result<Took, String> {
    let mut took = Took::default();
    let mut holding: BTreeMap<AttemptId, Held> = BTreeMap::new();
    // Ended, and not yet acknowledged: the generations.
    let mut outbox: BTreeMap<AttemptId, u64> = BTreeMap::new();
    let mut sets = Sets::default();
    let mut freed: VecDeque<Instant> = VecDeque::new();
    let host = format!("hollow-{index}")
        .parse()
        .map_err(|error| format!("{error}"))?;
    let labels = BTreeMap::from([("arch".to_owned(), "x86_64".to_owned())]);
    let facts = HostFacts {
        labels,
        ..HostFacts::default()
    };
    while !fleet.is_over() {
        let now = Instant::now();
        let (over, held): (BTreeMap<_, _>, BTreeMap<_, _>) =
            holding.into_iter().partition(|(_, held)| held.ends <= now);
        holding = held;
        freed.extend(over.values().map(|held| held.ends));
        outbox.extend(
            over.into_iter()
                .map(|(attempt, held)| (attempt, held.generation)),
        );
        let mut telling = sets.telling();
        let ended: Vec<EndedAttempt<ToldResults>> = outbox
            .iter()
            .map(|(attempt, generation)| fleet.end(attempt.clone(), *generation, &mut telling))
            .collect();
        let told = !ended.is_empty();
        let next_end = holding.values().map(|held| held.ends).min();
        let quiet = next_end.map_or(Duration::from_millis(POLL_MS), |end| end - now);
        let busy = u32::try_from(holding.len()).unwrap_or(u32::MAX);
        let full = busy >= fleet.slots;
        if full && !told {
            // There is nothing to ask for before the next end.
            tokio::time::sleep(quiet).await;
            continue;
        }
        took.count += 1;
        let list = |(attempt, held): (&AttemptId, &Held)| regatta_model::wire::Held {
            attempt: attempt.clone(),
            generation: held.generation,
            state: HeldState::Running,
        };
        let wait = u64::try_from(quiet.as_millis()).unwrap_or(POLL_MS);
        let request = SyncRequest {
            protocol: PROTOCOL,
            host: regatta_model::HostName::clone(&host),
            incarnation: Incarnation(1),
            sequence: took.count,
            facts: facts.clone(),
            slots: fleet.slots,
            free: fleet.slots.saturating_sub(busy),
            holding: holding.iter().map(list).collect(),
            ended,
            wait_ms: if told { 0 } else { wait.min(POLL_MS) },
            clock_ms: 0,
        };
        let began = Instant::now();
        let sent = fleet
            .http
            .post(format!("{}/api/v1/agents/sync", fleet.base))
            .json(&request)
            .send();
        let answer = sent.await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(|error| error.to_string())?;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // As agents do: what is not acknowledged is told again.
            took.refused += 1;
            tokio::time::sleep(REFUSED_FOR).await;
            continue;
        }
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&text)));
        }
        let answer: SyncResponse =
            serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if told {
            took.syncs.push(micros(began));
        }
        if !fleet.names {
            sets.heard(&answer);
        }
        for attempt in &answer.acknowledged {
            outbox.remove(attempt);
        }
        let count = u64::try_from(answer.acknowledged.len()).unwrap_or(0);
        fleet.acknowledged.fetch_add(count, Ordering::Relaxed);
        for start in answer.start {
            took.places.extend(freed.pop_front().map(micros));
            let held = Held {
                generation: start.generation,
                ends: Instant::now() + fleet.hold,
            };
            holding.insert(start.attempt, held);
        }
    }
    Ok(took)
}

async fn submit(fleet: &Fleet) -> Result<RunSummary, String> {
    let side = (1..).find(|side| side * side >= fleet.cells).unwrap_or(1);
    let other = fleet.cells.div_ceil(side);
    let list = |count: u64| {
        (0..count)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let matrix = format!(
        "name: hollow\nimage: hollow:1\naxes:\n  a: [{}]\n  b: [{}]\ntest: {{run: 'true'}}\n",
        list(side),
        list(other)
    );
    let request = fleet.http.post(format!("{}/api/v1/runs", fleet.base));
    let request = request
        .header("content-type", "application/yaml")
        .body(matrix);
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let text = answer.text().await.map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|_| text)
}

fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |micros| *micros as f64 / 1000.0)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    drop(rustls::crypto::ring::default_provider().install_default());
    let names = (0..args.cases).map(|n| format!("tests.test_hollow::test_{n:05}"));
    let results = Results {
        names: names.collect(),
        found: args.cases > 0,
        ..Results::default()
    };
    let mut fleet = Fleet {
        http: Client::builder().no_proxy().build()?,
        base: args.server.trim_end_matches('/').to_owned(),
        set: results.named_set(),
        results,
        names: args.names,
        slots: args.slots,
        hold: Duration::from_millis(args.hold),
        acknowledged: AtomicU64::new(0),
        cells: args.cells,
        idle_until: None,
    };
    if let Some(seconds) = args.idle {
        fleet.idle_until = Some(Instant::now() + Duration::from_secs(seconds));
    } else {
        fleet.cells = submit(&fleet).await?.progress.cells;
    }
    let (fleet, began) = (Arc::new(fleet), Instant::now());
    let agents: Vec<_> = (0..args.hosts)
        .map(|index| tokio::spawn(hollow(Arc::clone(&fleet), index)))
        .collect();
    let mut took = Took::default();
    let all = async {
        for agent in agents {
            let one = agent.await??;
            took.syncs.extend(one.syncs);
            took.places.extend(one.places);
            took.count += one.count;
            took.refused += one.refused;
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    tokio::time::timeout(WITHIN, all)
        .await
        .map_err(|_| "the run did not end in time")??;
    let seconds = began.elapsed().as_secs_f64();
    took.syncs.sort_unstable();
    took.places.sort_unstable();
    writeln!(
        io::stdout(),
        "{}",
        serde_json::json!({
            "hosts": args.hosts, "cells": fleet.cells, "cases": args.cases, "seconds": seconds,
            "outcomes_a_second": (fleet.cells as f64 / seconds).round(),
            "sync_p50_ms": percentile(&took.syncs, 50), "sync_p99_ms": percentile(&took.syncs, 99),
            "place_p50_ms": percentile(&took.places, 50), "place_p99_ms": percentile(&took.places, 99),
            "syncs": took.count, "refused": took.refused, "hold_ms": args.hold,
        })
    )?;
    Ok(())
}
