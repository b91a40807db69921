//! One request to a registry: authorisation, retries with backoff, and errors as sentences. May not: know
//! what manifests or layers are.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Body, Method, Response, StatusCode};
use tokio::sync::Mutex;
use url::Url;

use super::Options;
use super::answer::{chain, error};
use super::challenge::{self, Challenge};
use super::credentials::{self, Credentials};
use super::token::{self, Token};
use crate::error::{Error, Result};
use crate::reference::Repository;

/// Tries of one request, the first included.
pub(super) const TRIES_MOST: u32 = 5;
/// Wait before the second try; it doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// Longest wait that a registry may ask for by `Retry-After`.
const RETRY_AFTER_MOST: Duration = Duration::from_mins(1);
/// Time to connect.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// Longest silence while an answer is awaited or read.
pub(super) const SILENCE_MOST: Duration = Duration::from_mins(1);
/// Most redirects of one request.
const REDIRECTS_MOST: usize = 5;
/// Most cached tokens.
const TOKENS_MOST: usize = 1_000;

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) repository: &'a Repository,
    /// Whether it writes.
    pub(super) push: bool,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Makes the body anew for each try.
    pub(super) body: Option<&'a (dyn Fn() -> Result<Body> + Send + Sync)>,
    /// For messages: "manifest \"12\"".
    pub(super) what: &'a str,
}

type Key = (String, String, bool);

/// How a repository's requests are authorised.
#[derive(Clone)]
enum Proof {
    Token(Token),
    Basic(HeaderValue),
}

/// The connections to registries, with what they gave us.
pub(super) struct Transport {
    /// Through the proxies that the environment names.
    http: reqwest::Client,
    /// Without a proxy: for this machine.
    direct: reqwest::Client,
    options: Options,
    proofs: Mutex<BTreeMap<Key, Proof>>,
    credentials: Mutex<BTreeMap<String, Option<Credentials>>>,
    schemes: Mutex<BTreeMap<String, &'static str>>,
}

impl Transport {
    pub(super) fn new(options: Options) -> Result<Self> {
        // Whoever was first decides; another provider serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let build = |proxies: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("regatta/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIME)
                .redirect(reqwest::redirect::Policy::custom(redirect));
            if !proxies {
                builder = builder.no_proxy();
            }
            builder
                .build()
                .map_err(|e| Error::Refused(format!("cannot set up HTTPS: {}", chain(&e))))
        };
        Ok(Self {
            http: build(true)?,
            direct: build(false)?,
            options,
            proofs: Mutex::default(),
            credentials: Mutex::default(),
            schemes: Mutex::default(),
        })
    }

    fn client(&self, repository: &Repository) -> &reqwest::Client {
        if repository.is_loopback() {
            &self.direct
        } else {
            &self.http
        }
    }

    /// `https://HOST/v2/REPOSITORY/` and `rest`.
    pub(super) async fn url(&self, repository: &Repository, rest: &str) -> Result<Url> {
        let scheme = self.scheme(repository).await;
        let text = format!(
            "{scheme}://{}/v2/{}/{rest}",
            repository.endpoint(),
            repository.path()
        );
        Url::parse(&text).map_err(|e| error(repository, format!("{text} is not a URL: {e}")))
    }

    /// https, but http on request, and for this machine where nothing speaks TLS there.
    async fn scheme(&self, repository: &Repository) -> &'static str {
        if self.options.plain_http {
            return "http";
        }
        if !repository.is_loopback() {
            return "https";
        }
        let mut schemes = self.schemes.lock().await;
        if let Some(scheme) = schemes.get(repository.registry()) {
            return scheme;
        }
        let probe = self
            .direct
            .get(format!("https://{}/v2/", repository.endpoint()))
            .timeout(CONNECT_TIME)
            .send()
            .await;
        let scheme = match probe {
            Err(e) if e.is_connect() => "http",
            _ => "https",
        };
        schemes.insert(repository.registry().to_owned(), scheme);
        scheme
    }

    /// Sends, authorised, until there is an answer that another try would not better. The caller judges
    /// its status.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Response> {
        let mut challenged = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.once(ask).await?;
            let wait = match answer {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !challenged => {
                    challenged = true;
                    tries -= 1;
                    if self.authenticate(ask, &response).await? {
                        continue;
                    }
                    return Ok(response);
                }
                Ok(response) if is_passing(response.status()) && tries < TRIES_MOST => {
                    retry_after(response.headers()).unwrap_or_else(|| backoff(tries))
                }
                Ok(response) => return Ok(response),
                Err(e) if tries < TRIES_MOST && !e.is_redirect() && !e.is_builder() => {
                    tracing::debug!(what = ask.what, error = %chain(&e), "asking the registry again");
                    backoff(tries)
                }
                Err(e) => {
                    let why = format!(
                        "asked for {}, it cannot be reached: {}",
                        ask.what,
                        chain(&e)
                    );
                    return Err(error(
                        ask.repository,
                        format!("{why}{}", self.way_to_reach(ask)),
                    ));
                }
            };
            if wait > RETRY_AFTER_MOST {
                let why = format!(
                    "asked for {}, it wants us to come back in {} s; try again then",
                    ask.what,
                    wait.as_secs()
                );
                return Err(error(ask.repository, why));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends once, authorised. The inner error is one that another try may better.
    pub(super) async fn send_once(&self, ask: &Ask<'_>) -> Result<Result<Response, String>> {
        match self.once(ask).await? {
            Ok(response)
                if response.status() == StatusCode::UNAUTHORIZED
                    && self.authenticate(ask, &response).await? =>
            {
                Ok(Err("its token had run out".to_owned()))
            }
            Ok(response) => Ok(Ok(response)),
            Err(e) => Ok(Err(chain(&e))),
        }
    }

    fn way_to_reach(&self, ask: &Ask<'_>) -> &'static str {
        if ask.url.scheme() == "https" && !self.options.plain_http {
            "; check its name and the proxy, and if it speaks only plain HTTP, allow that by --plain-http"
        } else {
            "; check its name and that it runs"
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Result<Response, reqwest::Error>> {
        let mut request = self
            .client(ask.repository)
            .request(ask.method.clone(), ask.url.clone());
        let mut headers = ask.headers.clone();
        if self.is_own(ask)
            && let Some(proof) = self.proof(ask).await
        {
            headers.insert(AUTHORIZATION, proof);
        }
        request = request.headers(headers);
        if let Some(body) = ask.body {
            // How long an upload may take is its size's matter; who makes the body watches over it.
            return Ok(request.body(body()?).send().await);
        }
        // The limit is for the answer's head; the body has its own.
        match tokio::time::timeout(SILENCE_MOST, request.send()).await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(error(
                ask.repository,
                format!(
                    "asked for {}, it did not answer within {} s; try again later",
                    ask.what,
                    SILENCE_MOST.as_secs()
                ),
            )),
        }
    }

    /// Whether the request goes to the registry itself; elsewhere our proof is nobody's business.
    fn is_own(&self, ask: &Ask<'_>) -> bool {
        let Ok(own) = Url::parse(&format!(
            "{}://{}/",
            ask.url.scheme(),
            ask.repository.endpoint()
        )) else {
            return false;
        };
        let secure =
            ask.url.scheme() == "https" || self.options.plain_http || ask.repository.is_loopback();
        secure && own.origin() == ask.url.origin()
    }

    async fn proof(&self, ask: &Ask<'_>) -> Option<HeaderValue> {
        let key = key(ask);
        let mut proofs = self.proofs.lock().await;
        match proofs.get(&key)? {
            Proof::Basic(value) => Some(value.clone()),
            Proof::Token(token) if token.is_fresh() => Some(token.header.clone()),
            Proof::Token(_) => {
                proofs.remove(&key);
                None
            }
        }
    }

    /// Answers a 401; false where the registry offers nothing that we can.
    async fn authenticate(&self, ask: &Ask<'_>, response: &Response) -> Result<bool> {
        let values = response.headers().get_all(WWW_AUTHENTICATE);
        let offered = challenge::parse(values.iter().filter_map(|value| value.to_str().ok()));
        let known = self.credentials(ask.repository).await?;
        let bearer = offered.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let proof = if let Some((realm, service, scope)) = bearer {
            let actions = if ask.push { "pull,push" } else { "pull" };
            let own = format!("repository:{}:{actions}", ask.repository.path());
            let wanted = token::Wanted {
                repository: ask.repository,
                realm,
                service: service.as_deref(),
                scope: scope.as_deref().filter(|_| !ask.push).unwrap_or(&own),
                http_allowed: self.options.plain_http,
            };
            Proof::Token(token::fetch(&self.http, &self.direct, &wanted, known.as_ref()).await?)
        } else if offered.contains(&Challenge::Basic)
            && let Some(Credentials::Basic { user, password }) = &known
        {
            Proof::Basic(token::basic(user, password).ok_or_else(|| {
                error(
                    ask.repository,
                    "the password in Docker's config.json cannot be sent".to_owned(),
                )
            })?)
        } else {
            return Ok(false);
        };
        let mut proofs = self.proofs.lock().await;
        if proofs.len() >= TOKENS_MOST {
            proofs.clear();
        }
        proofs.insert(key(ask), proof);
        Ok(true)
    }

    async fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>> {
        let mut cache = self.credentials.lock().await;
        if let Some(known) = cache.get(repository.registry()) {
            return Ok(known.clone());
        }
        let known =
            credentials::find(self.options.docker_config.as_deref(), repository.registry()).await?;
        cache.insert(repository.registry().to_owned(), known.clone());
        Ok(known)
    }
}

fn key(ask: &Ask<'_>) -> Key {
    (
        ask.repository.registry().to_owned(),
        ask.repository.path().to_owned(),
        ask.push,
    )
}

/// Follows within bounds, and never from https to http.
fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS_MOST {
        return attempt.error(format!("more than {REDIRECTS_MOST} redirects"));
    }
    let secure = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if secure && attempt.url().scheme() != "https" {
        return attempt.error("redirected from https to http, which is refused");
    }
    attempt.follow()
}

/// Whether another try may do better.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The wait before the next try, with some chance in it so that many clients do not come back at once.
pub(super) fn backoff(tries: u32) -> Duration {
    use std::hash::{BuildHasher as _, Hasher as _};
    let chance = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        % 100;
    let wait = BACKOFF_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(6));
    wait + wait.mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 200.0)
}

/// `Retry-After` in seconds. The form with a date is left to our own backoff.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

/// The header that says which forms are taken.
pub(super) fn accept(types: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&types.join(", ")) {
        headers.insert(ACCEPT, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!(backoff(1) >= BACKOFF_FIRST && backoff(1) <= BACKOFF_FIRST * 2);
        assert!(backoff(40) <= BACKOFF_FIRST * 100);
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"),
        );
        assert_eq!(retry_after(&headers), None);
    }
}
