//! Errors about registries as sentences: what was asked, what was answered, and the way out. May not: ask.

use reqwest::Response;

use super::transport::{Ask, SILENCE_MOST};
use crate::error::Error;
use crate::reference::Repository;

/// Largest part of an error's body that is read, in bytes.
const ERROR_MOST: usize = 64 << 10;

/// An error about a registry.
pub(super) fn error(repository: &Repository, why: String) -> Error {
    Error::Registry {
        registry: repository.registry().to_owned(),
        why,
    }
}

/// The error for an answer that is not what was hoped for, with what the registry says of it and the way
/// out.
pub(super) async fn refused(ask: &Ask<'_>, response: Response) -> Error {
    let status = response.status();
    let said = read_some(response).await;
    let said = explain(&said).map_or_else(String::new, |said| format!(" ({said})"));
    let registry = ask.repository.registry();
    let way_out = match status.as_u16() {
        401 | 403 => format!(
            "check the name, and that `docker login {registry}` was done with rights to {} it",
            if ask.push { "push to" } else { "pull from" }
        ),
        404 => "check the name and the tag; a private repository needs `docker login`".to_owned(),
        413 => "its limit on the size of uploads must be raised there".to_owned(),
        429 => "it limits how often one may ask; wait, or log in by `docker login`".to_owned(),
        500.. => "the fault is there; try again later".to_owned(),
        _ => "check that it is a registry with the OCI distribution API".to_owned(),
    };
    let path = ask.repository.path();
    let reason = status.canonical_reason().unwrap_or("");
    let why = format!(
        "asked {path} for {}, it answered {} {reason}{said}; {way_out}",
        ask.what,
        status.as_u16()
    );
    error(ask.repository, why)
}

async fn read_some(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = ERROR_MOST.saturating_sub(bytes.len());
            bytes.extend_from_slice(chunk.get(..chunk.len().min(room)).unwrap_or_default());
            if bytes.len() >= ERROR_MOST {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(SILENCE_MOST, read).await;
    bytes
}

/// The codes and messages of a registry's error body, printable and short.
fn explain(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let errors = value.get("errors")?.as_array()?;
    let text = |error: &serde_json::Value, key: &str| {
        error
            .get(key)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let said: Vec<_> = errors
        .iter()
        .take(3)
        .map(|error| {
            let said = format!("{}: {}", text(error, "code"), text(error, "message"));
            said.chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect::<String>()
        })
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// An error with its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_kept_printable_and_short() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m"}]}"#;
        assert_eq!(explain(body).unwrap(), "DENIED: no[31m");
        assert_eq!(explain(b"<html>"), None);
    }
}
