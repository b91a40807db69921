//! A token server, as registries name in their challenge: it checks user and password and signs what the
//! registry verifies. May not: be used outside these tests.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::place::run;
use crate::wire::{Asked, Fixed, answer};

/// The server, and the `auth:` section of a registry that trusts it.
pub struct Tokens {
    pub server: Fixed,
    pub section: String,
}

/// Starts one that knows the user `me` with the password `secret`; others may only pull what is `public`.
pub fn start(dir: &Path) -> Tokens {
    let (key, certificate) = (dir.join("key.pem"), dir.join("certificate.pem"));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=tokens",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            certificate.to_str().unwrap(),
        ],
    );
    let pem = fs::read_to_string(&certificate).unwrap();
    let der: String = pem
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    let server = Fixed::start("127.0.0.1", move |asked, _| give(asked, &key, &der));
    let section = format!(
        "auth:\n  token:\n    realm: http://127.0.0.1:{}/token\n    service: test\n    issuer: tokens\n    \
         rootcertbundle: {}\n",
        server.port,
        certificate.display()
    );
    Tokens { server, section }
}

fn give(asked: &Asked, key: &Path, certificate: &str) -> Vec<u8> {
    let me = format!("Basic {}", STANDARD.encode("me:secret"));
    let is_me = asked.header("authorization") == Some(me.as_str());
    if asked.header("authorization").is_some() && !is_me {
        return answer("401 Unauthorized", &[], b"{}");
    }
    let url = url::Url::parse(&format!(
        "http://x{}",
        asked.line.trim_start_matches("GET ")
    ))
    .unwrap();
    let scope = url
        .query_pairs()
        .find(|(name, _)| name == "scope")
        .unwrap()
        .1
        .into_owned();
    let mut parts = scope.splitn(3, ':');
    let (kind, name, actions) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    let allowed: Vec<_> = actions
        .split(',')
        .filter(|action| is_me || (*action == "pull" && name.contains("public")))
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({
        "iss": "tokens", "sub": "me", "aud": "test", "exp": now + 300, "nbf": now - 10, "iat": now - 10,
        "jti": "1", "access": [{"type": kind, "name": name, "actions": allowed}],
    });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let text = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let token = format!("{text}.{}", encode(&sign(&text, key)));
    let body = json!({"token": token, "expires_in": 300}).to_string();
    answer(
        "200 OK",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    )
}

fn sign(text: &str, key: &Path) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().stdout
}
