//! What peers of versions that are out say, against a server and types of today: `tests/fixtures/wire` has the messages.
//! In both directions nothing is refused, nothing recorded is lost in reading, and a newer peer's further fields are
//! ignored.

use regatta_model::report::Report;
use regatta_model::run::{RunEvent, RunSummary, Submission};
use regatta_model::wire::{SyncRequest, SyncResponse};
use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kit::{Api, fresh};

/// The versions that are still spoken with.
const VERSIONS: [&str; 1] = ["0.1"];

/// Objects whose names are the writer's own, not fields.
const MAPS: [&str; 6] = ["axes", "env", "files", "images", "labels", "baseline"];

fn recorded(version: &str, name: &str) -> String {
    let directory = regatta_tests::command::root().join("tests/fixtures/wire");
    let path = directory.join(version).join(name).with_extension("json");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Gives every object further fields, as a newer peer may.
fn newer(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in &mut *fields {
                if !(MAPS.contains(&name.as_str()) && field.is_object()) {
                    newer(field);
                }
            }
            // A value of a closed set that carries something is an object with one name, and no place for another.
            if !["inline", "uploaded"]
                .iter()
                .any(|name| fields.contains_key(*name))
            {
                fields.insert("later".to_owned(), json!({"more": [1, "two", null]}));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(newer),
        _ => {}
    }
}

/// Checks that all that was said is in what was understood.
fn covers(understood: &Value, said: &Value, place: &str) {
    match (understood, said) {
        (Value::Object(understood), Value::Object(said)) => {
            for (name, said) in said {
                let place = format!("{place}.{name}");
                let understood = understood.get(name);
                covers(
                    understood.unwrap_or_else(|| panic!("{place} is lost")),
                    said,
                    &place,
                );
            }
        }
        (Value::Array(understood), Value::Array(said)) => {
            assert_eq!(understood.len(), said.len(), "{place}");
            for (number, (understood, said)) in understood.iter().zip(said).enumerate() {
                covers(understood, said, &format!("{place}[{number}]"));
            }
        }
        _ => assert_eq!(understood, said, "{place}"),
    }
}

/// Checks that a peer finds every field that it was told in the past, of the same kind.
fn still_says(now: &Value, then: &Value, place: &str) {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            for (name, then) in then {
                let place = format!("{place}.{name}");
                let now = now.get(name);
                still_says(
                    now.unwrap_or_else(|| panic!("{place} is not said")),
                    then,
                    &place,
                );
            }
        }
        (Value::Array(now), Value::Array(then)) => {
            if let (Some(now), Some(then)) = (now.first(), then.first()) {
                still_says(now, then, &format!("{place}[0]"));
            }
        }
        // What need not be there may be on one side only.
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(
            std::mem::discriminant(now),
            std::mem::discriminant(then),
            "{place}: {now} for {then}"
        ),
    }
}

fn reads<T: DeserializeOwned + Serialize>(version: &str, name: &str) {
    let said = value(&recorded(version, name));
    let read = |value: &Value| -> T {
        serde_json::from_value(value.clone())
            .unwrap_or_else(|error| panic!("{version}/{name}: {error}"))
    };
    let understood = serde_json::to_value(read(&said)).unwrap();
    covers(&understood, &said, name);
    let mut more = said;
    newer(&mut more);
    let understood_of_more = serde_json::to_value(read(&more)).unwrap();
    assert_eq!(understood_of_more, understood, "{version}/{name}");
}

#[test]
fn messages_of_former_and_newer_versions_are_read_whole() {
    for version in VERSIONS {
        reads::<Submission>(version, "submission");
        reads::<RunSummary>(version, "run-summary");
        reads::<Vec<RunEvent>>(version, "run-events");
        reads::<Report>(version, "report");
        reads::<SyncRequest>(version, "sync-request-idle");
        reads::<SyncRequest>(version, "sync-request");
        reads::<SyncResponse>(version, "sync-response");
    }
}

async fn post(api: &Api, path: &str, kind: &str, body: &Value) -> Value {
    let request = api.http.post(api.url(path)).header("content-type", kind);
    let response = request.body(body.to_string()).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(
        [StatusCode::OK, StatusCode::CREATED].contains(&status),
        "{path}: {status}: {text}"
    );
    value(&text)
}

/// A whole conversation as it was recorded, but for what a server chooses: the run's id and the generations.
async fn replay(version: &str, change: impl Fn(&mut Value)) {
    let (_data, server) = fresh(5000).await;
    let api = &server.api;
    let text = |name: &str| recorded(version, name);
    let changed = |text: &str| {
        let mut value = value(text);
        change(&mut value);
        value
    };

    let image = value(&text("submission"))["pins"]["images"]["mini:1"].clone();
    let pushed = api.push_image().await.to_string();
    let submission = text("submission").replace(image.as_str().unwrap(), &pushed);
    let kind = "application/vnd.regatta.submission+json";
    let run = post(api, "api/v1/runs", kind, &changed(&submission)).await;
    still_says(&run, &value(&text("run-summary")), "run-summary");
    let id = run["run"].as_str().unwrap();

    let sync =
        async |request: &Value| post(api, "api/v1/agents/sync", "application/json", request).await;
    let started = sync(&changed(&text("sync-request-idle"))).await;
    let assignments = started["start"].as_array().unwrap();
    assert_eq!(assignments.len(), 10, "{started}");
    let told = value(&text("sync-request"));
    let former = told["ended"][0]["attempt"]["run"].as_str().unwrap();
    let mut told = changed(&text("sync-request").replace(former, id));
    for list in ["ended", "holding"] {
        for one in told[list].as_array_mut().unwrap() {
            let assigned = assignments.iter().find(|a| {
                let same = |name: &str| a["attempt"][name] == one["attempt"][name];
                same("cell") && same("ordinal")
            });
            if let Some(assigned) = assigned {
                one["generation"] = assigned["generation"].clone();
            }
        }
    }
    let ended = told["ended"].as_array().unwrap();
    let answered = sync(&told).await;
    let acknowledged = answered["acknowledged"].as_array().unwrap();
    assert_eq!(acknowledged.len(), ended.len(), "{answered}");

    // What an agent of that version hears has all that it was told then, except an objection.
    let mut heard = value(&text("sync-response"));
    heard.as_object_mut().unwrap().remove("refused");
    let mut said = answered.clone();
    said["start"] = started["start"].clone();
    assert_eq!(said["stop"].as_array().unwrap().len(), 1, "{said}");
    still_says(&said, &heard, "sync-response");

    let report: Value = api.json(&format!("api/v1/runs/{id}/report")).await;
    let mut then = value(&text("report"));
    // The run is not over, and nothing is found yet.
    then.as_object_mut().unwrap().remove("findings");
    still_says(&report, &then, "report");
    for end in ended {
        let cells = report["cells"].as_array().unwrap();
        let cell = cells.iter().find(|c| c["cell"] == end["attempt"]["cell"]);
        let attempt = &cell.unwrap_or_else(|| panic!("no {end}"))["attempts"][0];
        for name in ["outcome", "blame", "identity", "peak_memory_bytes"] {
            let told = if end[name].is_null() && name == "identity" {
                &json!("")
            } else {
                &end[name]
            };
            assert_eq!(&attempt[name], told, "{name} of {end}: {attempt}");
        }
    }
    let log = format!("api/v1/runs/{id}/cells/0/attempts/1/log");
    assert_eq!(api.get(&log).await.status(), StatusCode::OK);
    let artifacts: Value = api
        .json(&format!("api/v1/runs/{id}/cells/1/attempts/1/artifacts"))
        .await;
    assert_eq!(artifacts[0]["path"], "core/a.log", "{artifacts}");
}

#[tokio::test]
async fn a_conversation_with_a_former_version_goes_as_it_did_then() {
    for version in VERSIONS {
        replay(version, |_| {}).await;
    }
}

#[tokio::test]
async fn a_newer_peer_may_say_more() {
    for version in VERSIONS {
        replay(version, newer).await;
    }
}
