//! Bearer tokens: asking the realm that a registry names. May not: keep them; that is the transport's.

use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::answer::{chain, error};
use super::credentials::Credentials;
use super::transport::SILENCE_MOST;
use crate::error::Result;
use crate::reference::Repository;

/// Largest answer of a realm, in bytes.
const ANSWER_MOST: usize = 256 << 10;
/// How long a token lasts where the realm does not say.
const LIFE_DEFAULT: u64 = 60;
/// A token is asked anew so long before its end.
const MARGIN: Duration = Duration::from_secs(10);
/// Longest life that is believed.
const LIFE_MOST: u64 = 24 * 3600;

/// A token and how long it lasts.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    until: Instant,
}

impl Token {
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

/// Which token.
pub(super) struct Wanted<'a> {
    pub(super) repository: &'a Repository,
    pub(super) realm: &'a str,
    pub(super) service: Option<&'a str>,
    pub(super) scope: &'a str,
    /// Whether the realm may be spoken to without TLS, wherever it is.
    pub(super) http_allowed: bool,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The `Authorization` of a user and password.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret(&format!("Basic {encoded}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Asks the realm.
pub(super) async fn fetch(
    http: &reqwest::Client,
    direct: &reqwest::Client,
    wanted: &Wanted<'_>,
    known: Option<&Credentials>,
) -> Result<Token> {
    let registry = wanted.repository.registry();
    let fail = |why: String| {
        let why = format!("its token server {} {why}", wanted.realm);
        error(wanted.repository, why)
    };
    let realm = Url::parse(wanted.realm).map_err(|e| fail(format!("is not a URL: {e}")))?;
    let loopback = match realm.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if realm.scheme() != "https" && !(realm.scheme() == "http" && (loopback || wanted.http_allowed))
    {
        return Err(fail(
            "does not speak https; allow that by --plain-http".to_owned(),
        ));
    }
    let client = if loopback { direct } else { http };
    let request = if let Some(Credentials::Identity { token }) = known {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", token)
            .append_pair("client_id", "regatta")
            .append_pair("service", wanted.service.unwrap_or_default())
            .append_pair("scope", wanted.scope);
        client
            .post(realm)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.finish())
    } else {
        let mut url = realm;
        if let Some(service) = wanted.service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut()
            .append_pair("scope", wanted.scope)
            .append_pair("client_id", "regatta");
        let mut request = client.get(url);
        if let Some(Credentials::Basic { user, password }) = known {
            let header = basic(user, password)
                .ok_or_else(|| fail("cannot be given the password as it is".to_owned()))?;
            request = request.header(AUTHORIZATION, header);
        }
        request
    };
    let mut response = request
        .timeout(SILENCE_MOST)
        .send()
        .await
        .map_err(|e| fail(format!("cannot be reached: {}", chain(&e))))?;
    let status = response.status();
    if !status.is_success() {
        let way_out = if matches!(status.as_u16(), 400 | 401 | 403) {
            format!("check the name, and log in by `docker login {registry}`")
        } else {
            "try again later".to_owned()
        };
        return Err(fail(format!(
            "answered {status} when it was asked for {} of {}; {way_out}",
            wanted.scope, wanted.repository
        )));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| fail(format!("broke off: {}", chain(&e))))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_MOST {
            return Err(fail(format!("answered with more than {ANSWER_MOST} bytes")));
        }
    }
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| fail("answered with no token".to_owned()))?;
    let token = answer
        .token
        .or(answer.access_token)
        .and_then(|token| secret(&format!("Bearer {token}")))
        .ok_or_else(|| fail("answered with no token".to_owned()))?;
    let life = Duration::from_secs(answer.expires_in.unwrap_or(LIFE_DEFAULT).min(LIFE_MOST));
    // A token shorter-lived than the margin still serves the request that asked for it.
    let until = Instant::now() + life.saturating_sub(MARGIN).max(Duration::from_secs(1));
    Ok(Token {
        header: token,
        until,
    })
}
