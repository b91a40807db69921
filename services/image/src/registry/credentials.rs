//! Who to be at a registry, from Docker's `config.json` and credential helpers, as `docker login` leaves
//! them. May not: print a secret, or keep one longer than its client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::error::{Error, Result};

/// Largest `config.json`, in bytes.
const CONFIG_MOST: u64 = 1 << 20;
/// Most bytes that a credential helper may print.
const HELPER_OUTPUT_MOST: u64 = 64 << 10;
/// How long a credential helper may take.
const HELPER_TIME: Duration = Duration::from_secs(30);
/// The name that Docker Hub has in `config.json`.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Who to be.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token, which is exchanged for others.
    Identity {
        /// The token.
        token: String,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user}, ...)"),
            Self::Identity { .. } => write!(f, "Identity(...)"),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default, rename = "auth")]
    encoded: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(...)")
    }
}

/// Where `config.json` is looked for: `$DOCKER_CONFIG`, else `~/.docker`.
pub(super) fn config_path() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let directory =
        set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// Who to be at `registry` (a host, with its port if it has one); none where nothing is known.
pub(super) async fn find(config: Option<&Path>, registry: &str) -> Result<Option<Credentials>> {
    let Some(path) = config else { return Ok(None) };
    let Some(config) = read(path)? else {
        return Ok(None);
    };
    let wrong = |why: String| Error::malformed(path.display().to_string(), why);
    let helper = config.helpers.iter().find(|(key, _)| is_for(key, registry));
    if let Some((key, helper)) = helper {
        return ask(helper, key, registry).await;
    }
    if let Some(helper) = &config.store {
        let key = if registry == "docker.io" {
            DOCKER_HUB_KEY
        } else {
            registry
        };
        if let Some(found) = ask(helper, key, registry).await? {
            return Ok(Some(found));
        }
    }
    let Some((key, auth)) = config.auths.iter().find(|(key, _)| is_for(key, registry)) else {
        return Ok(None);
    };
    if let Some(token) = auth
        .identity_token
        .as_ref()
        .filter(|token| !token.is_empty())
    {
        return Ok(Some(Credentials::Identity {
            token: token.clone(),
        }));
    }
    if let Some(encoded) = auth.encoded.as_ref().filter(|encoded| !encoded.is_empty()) {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(encoded.trim())
            .map_err(|_| wrong(format!("the \"auth\" of {key:?} is not base64")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| wrong(format!("the \"auth\" of {key:?} is not text")))?;
        let (user, password) = text
            .split_once(':')
            .ok_or_else(|| wrong(format!("the \"auth\" of {key:?} is not user:password")))?;
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Credentials::Basic {
            user: user.to_owned(),
            password,
        }));
    }
    Ok(match (&auth.username, &auth.password) {
        (Some(user), Some(password)) => Some(Credentials::Basic {
            user: user.clone(),
            password: password.clone(),
        }),
        _ => None,
    })
}

fn read(path: &Path) -> Result<Option<Config>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(Error::at("read", path, e)),
    };
    let mut bytes = Vec::new();
    file.take(CONFIG_MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::at("read", path, e))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > CONFIG_MOST {
        return Err(Error::limit(
            path.display().to_string(),
            "registry.config_bytes",
            CONFIG_MOST,
        ));
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::malformed(path.display().to_string(), e.to_string()))
}

/// Whether an entry of `config.json` is for this registry: with or without `https://` and a path.
fn is_for(key: &str, registry: &str) -> bool {
    let host = |key: &str| {
        let key = key
            .strip_prefix("https://")
            .or(key.strip_prefix("http://"))
            .unwrap_or(key);
        key.split('/')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let host = host(key);
    if registry == "docker.io" {
        return matches!(
            host.as_str(),
            "docker.io" | "index.docker.io" | "registry-1.docker.io"
        );
    }
    host == registry.to_ascii_lowercase()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Runs `docker-credential-NAME get`.
async fn ask(helper: &str, key: &str, registry: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    let fail = |why: String| Error::Registry {
        registry: registry.to_owned(),
        why: format!("the credential helper {program} {why}; see Docker's config.json"),
    };
    if helper.is_empty()
        || !helper
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        return Err(fail("has a name that no program has".to_owned()));
    }
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| fail(format!("cannot be started: {e}")))?;
    let talk = async {
        if let Some(mut input) = child.stdin.take() {
            // A helper that does not read its input still may answer.
            let _ = input.write_all(format!("{key}\n").as_bytes()).await;
        }
        let mut output = Vec::new();
        if let Some(from) = child.stdout.take() {
            from.take(HELPER_OUTPUT_MOST)
                .read_to_end(&mut output)
                .await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, output))
    };
    let (status, output) = tokio::time::timeout(HELPER_TIME, talk)
        .await
        .map_err(|_| fail(format!("did not answer within {} s", HELPER_TIME.as_secs())))?
        .map_err(|e| fail(format!("cannot be read: {e}")))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&output);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said: String = said
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        return Err(fail(format!("ended with {status}: {said}")));
    }
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| fail("did not answer with Username and Secret".to_owned()))?;
    Ok(Some(if answer.user == "<token>" {
        Credentials::Identity {
            token: answer.secret,
        }
    } else {
        Credentials::Basic {
            user: answer.user,
            password: answer.secret,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_however_they_are_written() {
        for (key, registry, expected) in [
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "docker.io", true),
            ("quay.io", "quay.io", true),
            ("https://quay.io/v2/", "quay.io", true),
            ("http://localhost:5000", "localhost:5000", true),
            ("localhost", "localhost:5000", false),
            ("evil.quay.io", "quay.io", false),
            ("quay.io.evil", "quay.io", false),
        ] {
            assert_eq!(is_for(key, registry), expected, "{key} {registry}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Credentials::Basic {
            user: "me".into(),
            password: "hunter2".into(),
        };
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
