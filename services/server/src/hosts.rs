//! Hosts and what is decided about them. May not: change a host's health; that is observed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use regatta_model::HostName;
use regatta_model::wire::HostFacts;
use regatta_scheduler::{Health, Policy};
use regatta_verdict::trust::Standing;
use serde::{Deserialize, Serialize};

use crate::actor::HostInfo;
use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::body;
use crate::limits::{CLOCK_OFFSET_MOST_MS, DOCUMENT_BYTES_MOST};

/// Longest reason, in bytes.
const REASON_MOST: usize = 1024;

/// A host, as the API tells it.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Host {
    name: String,
    incarnation: u64,
    #[schemars(with = "String")]
    health: Health,
    #[schemars(with = "String")]
    policy: Policy,
    reason: String,
    /// Places: attempts that it can run at once.
    slots: u32,
    /// Places that are free.
    free: u32,
    /// Places that are taken; attempts that were fetched ahead and wait there are not counted.
    held: u32,
    /// Seconds since it spoke; none where it did not since the server started.
    silent_seconds: Option<f64>,
    #[schemars(with = "serde_json::Value")]
    facts: HostFacts,
    /// What results say of it: `trusted`, `suspect` or `quarantined`.
    standing: &'static str,
    /// Failures there that other hosts did not confirm, since it was trusted last.
    unconfirmed: u32,
    /// Canaries of it that passed and failed, so far as this server heard.
    canaries: Canaries,
    /// Seconds by which its wall clock is ahead of this server's; none where it did not tell.
    clock_offset_seconds: Option<f64>,
    /// What speaks against it, a sentence each, whether or not that stops it.
    evidence: Vec<String>,
}

/// Canaries of a host.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Canaries {
    passed: u64,
    failed: u64,
}

/// What speaks against a host.
fn evidence(info: &HostInfo) -> Vec<String> {
    let mut evidence = Vec::new();
    let trust = &info.trust;
    if trust.charged > 0 {
        let charged = trust.charged;
        evidence.push(format!(
            "{charged} of its failures were not confirmed elsewhere"
        ));
    }
    if trust.canaries_failed > 0 {
        evidence.push(format!("{} of its canaries failed", trust.canaries_failed));
    }
    if trust.probation > 0 {
        let doubled = match trust.doubled {
            0 => String::new(),
            doubled => format!(", {doubled} of which will be run again elsewhere"),
        };
        evidence.push(format!(
            "on probation for {} more attempts{doubled}",
            trust.probation
        ));
    }
    if let Some(kernel) = &info.facts.observed.kernel {
        for (count, what) in [
            (kernel.hung_tasks, "tasks stood still"),
            (kernel.machine_checks, "machine checks"),
            (kernel.io_errors, "reads or writes failed"),
            (
                kernel.out_of_memory,
                "processes were ended for want of memory",
            ),
        ] {
            if count > 0 {
                evidence.push(format!("its kernel says: {count} {what}"));
            }
        }
    }
    if let Some(ms) = info.clock_offset_ms
        && ms.unsigned_abs() > CLOCK_OFFSET_MOST_MS
    {
        let seconds = ms.unsigned_abs() / 1000;
        let side = if ms > 0 { "ahead of" } else { "behind" };
        evidence.push(format!("its clock is {seconds} s {side} the server's"));
    }
    evidence
}

const fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Trusted => "trusted",
        Standing::Suspect => "suspect",
        Standing::Quarantined => "quarantined",
    }
}

impl From<HostInfo> for Host {
    fn from(info: HostInfo) -> Self {
        let evidence = evidence(&info);
        let (passed, failed) = info.canaries;
        Self {
            canaries: Canaries { passed, failed },
            clock_offset_seconds: info.clock_offset_ms.map(seconds),
            evidence,
            name: info.name.to_string(),
            incarnation: info.incarnation.0,
            health: info.health,
            policy: info.policy,
            reason: info.reason,
            slots: info.slots,
            free: info.free,
            held: info.held,
            silent_seconds: info.silent_seconds,
            facts: info.facts,
            standing: standing_name(info.trust.standing()),
            unconfirmed: info.trust.charged,
        }
    }
}

/// Milliseconds as seconds; what is beyond 24 days is cut to that.
pub(crate) fn seconds(ms: i64) -> f64 {
    let most = i64::from(i32::MAX);
    f64::from(i32::try_from(ms.clamp(-most, most)).unwrap_or(0)) / 1000.0
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<Response> {
    let hosts: Vec<Host> = app
        .leader()
        .await?
        .hosts()
        .await?
        .into_iter()
        .map(Host::from)
        .collect();
    Ok(json(StatusCode::OK, &hosts))
}

/// What is decided about a host.
#[derive(Deserialize, schemars::JsonSchema)]
pub(crate) struct SetPolicy {
    #[schemars(with = "String")]
    policy: Policy,
    /// Why, for whoever wonders later.
    #[serde(default)]
    reason: Option<String>,
}

pub(crate) async fn set_policy(
    State(app): State<Arc<App>>,
    Path(host): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let host: HostName = host
        .parse()
        .map_err(|error: regatta_model::ids::BadName| Refusal::not_found(error.to_string()))?;
    let wanted: SetPolicy =
        body::json(&headers, body, DOCUMENT_BYTES_MOST, "DOCUMENT_BYTES_MOST").await?;
    let reason = wanted.reason.unwrap_or_default();
    if reason.len() > REASON_MOST {
        return Err(Refusal::bad(format!(
            "the reason is longer than {REASON_MOST} bytes (limit REASON_MOST)"
        )));
    }
    let info = app
        .leader()
        .await?
        .set_policy(host, wanted.policy, reason)
        .await?;
    Ok(json(StatusCode::OK, &Host::from(info)))
}
