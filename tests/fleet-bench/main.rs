//! Hollow agents against a real server over real HTTP: they speak the agents' protocol and run nothing, so that what is
//! measured is the control plane. May not: share a process with the server.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use regatta_model::case::Results;
use regatta_model::run::RunSummary;
use regatta_model::wire::{EndedAttempt, HostFacts, LogPlace, PROTOCOL, SyncRequest, SyncResponse};
use regatta_model::{AttemptId, Incarnation, Outcome};
use reqwest::Client;

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
}

/// Longest wait for the run's end.
const WITHIN: Duration = Duration::from_secs(600);
/// How long a server may wait with an empty answer.
const POLL_MS: u64 = 2_000;

struct Fleet {
    http: Client,
    base: String,
    results: Results,
    slots: u32,
    /// Outcomes that the server acknowledged.
    acknowledged: AtomicU64,
    cells: u64,
}

impl Fleet {
    fn is_over(&self) -> bool {
        self.acknowledged.load(Ordering::Relaxed) >= self.cells
    }

    fn end(&self, attempt: AttemptId, generation: u64) -> EndedAttempt {
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
            identity: None,
            changed: Vec::new(),
            results: self.results.clone(),
            log: LogPlace::Empty,
            artifacts: Vec::new(),
        }
    }
}

/// One agent until the run is over: whatever it is given ends before its next sync. Gives how long its syncs took that told
/// an outcome, in microseconds.
async fn hollow(fleet: Arc<Fleet>, index: usize) -> Result<Vec<u64>, String> {
    let mut took = Vec::new();
    let mut holding: BTreeMap<AttemptId, u64> = BTreeMap::new();
    let host = format!("hollow-{index}")
        .parse()
        .map_err(|error| format!("{error}"))?;
    let labels = BTreeMap::from([("arch".to_owned(), "x86_64".to_owned())]);
    let facts = HostFacts {
        labels,
        ..HostFacts::default()
    };
    for sequence in 1.. {
        if fleet.is_over() {
            break;
        }
        let ended: Vec<EndedAttempt> = std::mem::take(&mut holding)
            .into_iter()
            .map(|(attempt, generation)| fleet.end(attempt, generation))
            .collect();
        let told = !ended.is_empty();
        let request = SyncRequest {
            protocol: PROTOCOL,
            host: regatta_model::HostName::clone(&host),
            incarnation: Incarnation(1),
            sequence,
            facts: facts.clone(),
            slots: fleet.slots,
            free: fleet.slots,
            holding: Vec::new(),
            ended,
            wait_ms: if told { 0 } else { POLL_MS },
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
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&text)));
        }
        let answer: SyncResponse =
            serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if told {
            took.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        let count = u64::try_from(answer.acknowledged.len()).unwrap_or(0);
        fleet.acknowledged.fetch_add(count, Ordering::Relaxed);
        holding.extend(
            answer
                .start
                .into_iter()
                .map(|start| (start.attempt, start.generation)),
        );
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
    let mut fleet = Fleet {
        http: Client::builder().no_proxy().build()?,
        base: args.server.trim_end_matches('/').to_owned(),
        results: Results {
            names: names.collect(),
            found: args.cases > 0,
            ..Results::default()
        },
        slots: args.slots,
        acknowledged: AtomicU64::new(0),
        cells: args.cells,
    };
    let run = submit(&fleet).await?;
    fleet.cells = run.progress.cells;
    let (fleet, began) = (Arc::new(fleet), Instant::now());
    let agents: Vec<_> = (0..args.hosts)
        .map(|index| tokio::spawn(hollow(Arc::clone(&fleet), index)))
        .collect();
    let mut took = Vec::new();
    let all = async {
        for agent in agents {
            took.extend(agent.await??);
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    tokio::time::timeout(WITHIN, all)
        .await
        .map_err(|_| "the run did not end in time")??;
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    writeln!(
        io::stdout(),
        "{}",
        serde_json::json!({
            "hosts": args.hosts, "cells": fleet.cells, "cases": args.cases, "seconds": seconds,
            "outcomes_a_second": (fleet.cells as f64 / seconds).round(),
            "sync_p50_ms": percentile(&took, 50), "sync_p99_ms": percentile(&took, 99),
        })
    )?;
    Ok(())
}
