//! Hosts and what people decide about them. May not: guess a host's health; the server tells.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::args::{HostArgs, HostPolicy};
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::local::{self, Need};

/// A host as `GET /api/v1/hosts` tells it; further fields are passed through in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Host {
    name: String,
    health: String,
    policy: String,
    #[serde(default)]
    slots: u32,
    #[serde(default)]
    held: u32,
    #[serde(default)]
    reason: String,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

pub(crate) async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let work = async |client: &Client| client.get::<Vec<Host>>("api/v1/hosts").await;
    let hosts = local::with(context, Need::Records, work).await?;
    if context.global.json {
        crate::output::print_json(&hosts)?;
        return Ok(ExitCode::SUCCESS);
    }
    anstream::println!(
        "{:<32}{:<10}{:<13}{:>9}  {}",
        "HOST",
        "HEALTH",
        "POLICY",
        "PLACES",
        "REASON"
    );
    for host in hosts {
        let lacks = host.more.get("facts").and_then(|facts| {
            let lacks = facts.get("observed")?.get("lacks")?.as_array()?;
            let lacks: Vec<&str> = lacks.iter().filter_map(|lack| lack.as_str()).collect();
            Some(lacks.join("; "))
        });
        let evidence = host.more.get("evidence").and_then(|evidence| {
            let evidence = evidence.as_array()?.iter();
            let evidence: Vec<&str> = evidence.filter_map(|text| text.as_str()).collect();
            Some(evidence.join("; "))
        });
        let mut reasons = vec![
            host.reason.clone(),
            lacks.unwrap_or_default(),
            evidence.unwrap_or_default(),
        ];
        reasons.retain(|reason| !reason.is_empty());
        let places = format!("{}/{}", host.held, host.slots);
        anstream::println!(
            "{:<32}{:<10}{:<13}{places:>9}  {}",
            host.name,
            host.health,
            host.policy,
            reasons.join("; ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn policy(context: &Context, options: HostArgs) -> Result<ExitCode, Failure> {
    let name: regatta_model::HostName = options.name.parse().map_err(Failure::wrong)?;
    let policy = match options.what {
        HostPolicy::Drain => "draining",
        HostPolicy::Resume => "active",
        HostPolicy::Cordon => "cordoned",
        HostPolicy::Quarantine => "quarantined",
    };
    let body = serde_json::json!({ "policy": policy, "reason": options.reason });
    let path = format!("api/v1/hosts/{name}/policy");
    let work = async |client: &Client| client.put_json(&path, &body).await;
    let host: Host = local::with(context, Need::Records, work).await?;
    if context.global.json {
        crate::output::print_json(&host)?;
    }
    context.say(format!("{name} is {policy}"));
    Ok(ExitCode::SUCCESS)
}
