//! Blobs in a bucket of an S3-compatible store. May not: wait for it without end, or say anything of a secret.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey as Key};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use reqwest::Url;

use super::sign::Signer;
use crate::Error;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long the store may be silent: before its answer, which comes once it has all of a part, and within it.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// How often a request is sent again.
const RETRIES_MOST: usize = 5;
/// How long after a request's first try it may be sent again.
const RETRY_WITHIN: Duration = Duration::from_mins(1);
/// Longest pause between two tries.
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// How long a bucket may take to show that it can be used.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How often a request that shows it is sent again.
const OPEN_RETRIES_MOST: usize = 2;

/// The region where none is given.
const REGION: &str = "us-east-1";
/// Characters of what a store says that an error repeats.
const WHY_MOST: usize = 160;
/// Bytes of a prefix; a key has 1024, and room is needed for the rest of it.
const PREFIX_BYTES_MOST: usize = 256;

/// Opens `BUCKET[/PREFIX]`, and asks the store whether it can be used. With what signs for it, where that may be.
///
/// `variables` are those of the environment; what begins with `AWS_` is looked at.
pub(super) async fn open(
    place: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(PrefixStore<AmazonS3>, Option<Signer>), Error> {
    let (bucket, prefix) = parse(place)?;
    let place = Place::configure(bucket, variables)?;
    // reqwest has no default; a second call has no effect.
    drop(rustls::crypto::ring::default_provider().install_default());
    place.probe(&prefix).await?;
    let store = PrefixStore::new(place.build(RETRIES_MOST)?, prefix.clone());
    // Who encrypts says by headers how, some of them secret: only the server does.
    let signer = (!place.encrypts).then(|| Signer::new(place, prefix));
    Ok((store, signer.transpose()?))
}

fn parse(place: &str) -> Result<(&str, Path), Error> {
    let wrong = |why: &str| {
        Error::NotSupported(format!(
            "s3://{place}: {why}; expected s3://BUCKET or s3://BUCKET/PREFIX"
        ))
    };
    let simple = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if !(3..=63).contains(&bucket.len()) || !simple(bucket) || bucket.starts_with('.') {
        let why = "a bucket's name has 3 to 63 letters, digits, '-', '_' and '.'";
        return Err(wrong(why));
    }
    let prefix = prefix.trim_end_matches('/');
    if prefix.len() > PREFIX_BYTES_MOST {
        let most = format!("a prefix has {PREFIX_BYTES_MOST} bytes at most (PREFIX_BYTES_MOST)");
        return Err(wrong(&most));
    }
    let known = prefix.is_empty() || prefix.split('/').all(simple);
    match Path::parse(prefix) {
        Ok(path) if known => Ok((bucket, path)),
        _ => {
            let why =
                "a prefix has parts of letters, digits, '-', '_' and '.', with '/' between them";
            Err(wrong(why))
        }
    }
}

/// A bucket, where it is, and how it is spoken to.
pub(super) struct Place {
    builder: AmazonS3Builder,
    bucket: String,
    endpoint: String,
    /// Whether `http://` is let pass.
    insecure: bool,
    /// Whether it is told how the store encrypts blobs.
    encrypts: bool,
}

impl Place {
    fn configure(
        bucket: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let client = ClientOptions::new()
            // Of all of an answer, which may be long and is read at its reader's pace.
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_WITHIN)
            .with_read_timeout(ANSWER_WITHIN);
        let mut place = Self {
            builder: AmazonS3Builder::new().with_client_options(client),
            bucket: bucket.to_owned(),
            endpoint: String::new(),
            insecure: false,
            encrypts: false,
        };
        let mut wrong = None;
        for (name, value) in variables {
            let key = name
                .strip_prefix("AWS_")
                .and(name.to_ascii_lowercase().parse::<Key>().ok());
            let Some(key) = key.filter(|_| !value.is_empty()) else {
                continue;
            };
            if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                // It would not fit into a header. Often a line's end came along from a file.
                let why = format!("{name} has a character that no request may have");
                let mend = format!("set {name} to printable ASCII without the end of a line");
                wrong = Some((why, mend));
            }
            place.insecure |= name == "AWS_ALLOW_HTTP" && is_yes(&value);
            place.encrypts |= matches!(key, Key::Encryption(_));
            place.builder = place.builder.with_config(key, value);
        }
        place.builder = place.builder.with_bucket_name(bucket);
        place.locate()?;
        let given = |key| place.builder.get_config_value(&key).is_some();
        if given(Key::AccessKeyId) != given(Key::SecretAccessKey) {
            let why = "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, only one is set";
            wrong = Some((why.to_owned(), "set both".to_owned()));
        }
        match wrong {
            Some((why, mend)) => Err(place.unusable(why, mend)),
            None => Ok(place),
        }
    }

    /// Finds out where the bucket is, and that a request there can be made at all.
    fn locate(&mut self) -> Result<(), Error> {
        let set = |key| self.builder.get_config_value(&key);
        let (name, given) = match (set(Key::S3Endpoint), set(Key::Endpoint)) {
            (Some(url), _) => ("AWS_ENDPOINT_URL_S3", url),
            (None, Some(url)) => ("AWS_ENDPOINT_URL", url),
            (None, None) => {
                let region = set(Key::Region).unwrap_or_else(|| REGION.to_owned());
                ("AWS_REGION", format!("https://s3.{region}.amazonaws.com"))
            }
        };
        let expected = match name {
            "AWS_REGION" => "set AWS_REGION to the bucket's region".to_owned(),
            _ => format!("set {name} to https://HOST[:PORT]"),
        };
        let url = self.check(name, &given, expected)?;
        if name != "AWS_REGION" {
            self.lead_to(&url);
        }
        Ok(())
    }

    /// The same place where others reach it; `name` is the option that says so.
    pub(super) fn at(&self, name: &str, endpoint: &str) -> Result<Self, Error> {
        let mut place = Self {
            builder: self.builder.clone(),
            bucket: self.bucket.clone(),
            endpoint: String::new(),
            ..*self
        };
        let url = place.check(name, endpoint, format!("set {name} to https://HOST[:PORT]"))?;
        place.lead_to(&url);
        Ok(place)
    }

    /// Takes an endpoint by its name, if a request there can be made at all.
    fn check(&mut self, name: &str, given: &str, expected: String) -> Result<Url, Error> {
        // A name and a password before it are nobody's business.
        let place = given.rsplit_once('@').map_or(given, |(_, place)| place);
        place.clone_into(&mut self.endpoint);
        let url = match Url::parse(given) {
            Ok(url) if is_plain(&url) => url,
            Ok(_) => return Err(self.unusable("that is no place of a store", expected)),
            Err(error) => return Err(self.unusable(error.to_string(), expected)),
        };
        if url.scheme() == "http" && !self.insecure {
            let why = "on the way, anybody could read and change what is sent";
            let mend = format!("set {name} to https://..., or AWS_ALLOW_HTTP=true");
            return Err(self.unusable(why, mend));
        }
        Ok(url)
    }

    fn lead_to(&mut self, url: &Url) {
        let url = url.as_str().trim_end_matches('/');
        self.builder = std::mem::take(&mut self.builder).with_config(Key::S3Endpoint, url);
    }

    /// For signatures alone.
    pub(super) fn build_to_sign(&self) -> Result<AmazonS3, Error> {
        self.build(OPEN_RETRIES_MOST)
    }

    fn build(&self, retries: usize) -> Result<AmazonS3, Error> {
        let retry = RetryConfig {
            backoff: BackoffConfig {
                max_backoff: PAUSE_MOST,
                ..BackoffConfig::default()
            },
            max_retries: retries,
            retry_timeout: RETRY_WITHIN,
        };
        let built = self.builder.clone().with_retry(retry).build();
        built.map_err(|error| {
            self.unusable(root(&error), "correct the variable AWS_... with that value")
        })
    }

    /// Whether the bucket answers, and knows these credentials.
    async fn probe(&self, prefix: &Path) -> Result<(), Error> {
        let store = self.build(OPEN_RETRIES_MOST)?;
        let prefix = (!prefix.as_ref().is_empty()).then(|| format!("{prefix}/"));
        let one = PaginatedListOptions {
            max_keys: Some(1),
            ..PaginatedListOptions::default()
        };
        let asked = store.list_paginated(prefix.as_deref(), one);
        match tokio::time::timeout(OPEN_WITHIN, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(_) => {
                let seconds = OPEN_WITHIN.as_secs();
                let why = format!("it did not answer within {seconds} s (OPEN_WITHIN)");
                Err(self.unusable(why, self.way_out(None)))
            }
        }
    }

    /// Says what the store said, and what to do.
    fn refused(&self, error: &object_store::Error) -> Error {
        let root = root(error);
        let Some(code) = element(&root, "Code") else {
            return self.unusable(root.as_str(), self.way_out(None));
        };
        let why = match element(&root, "Message") {
            Some(message) => format!("{code}: {}", message.trim_end_matches('.')),
            None => code.to_owned(),
        };
        self.unusable(why, self.way_out(Some(code)))
    }

    fn way_out(&self, code: Option<&str>) -> String {
        let credentials = [
            Key::AccessKeyId,
            Key::WebIdentityTokenFile,
            Key::ContainerCredentialsRelativeUri,
            Key::ContainerCredentialsFullUri,
        ];
        let given = credentials
            .iter()
            .any(|key| self.builder.get_config_value(key).is_some());
        match code {
            Some("NoSuchBucket") => {
                "make the bucket, or name another one with --blobs; AWS_ENDPOINT_URL and AWS_REGION say where it is"
            }
            Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException") => {
                "set AWS_REGION to the bucket's region"
            }
            Some("RequestTimeTooSkewed") => "set this machine's clock",
            _ if !given => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
            }
            Some("AccessDenied" | "AllAccessDisabled") => {
                "let the credentials in AWS_ACCESS_KEY_ID list, read, write and delete there"
            }
            Some("ExpiredToken" | "InvalidToken") => {
                "set AWS_SESSION_TOKEN, with its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, anew"
            }
            Some(_) => "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
            None => "check AWS_ENDPOINT_URL and AWS_REGION, and that this machine reaches it",
        }
        .to_owned()
    }

    fn unusable(&self, why: impl Into<String>, mend: impl Into<String>) -> Error {
        Error::Bucket {
            bucket: self.bucket.clone(),
            endpoint: self.endpoint.clone(),
            why: one_line(&why.into()),
            mend: mend.into(),
        }
    }
}

/// What fits into a sentence of what a server said, which may be a page.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(WHY_MOST).collect()
}

/// Whether it is a place of HTTP and nothing besides, with a path that needs no escaping.
fn is_plain(url: &Url) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.path().bytes().all(plain)
}

/// What `object_store` takes for a yes.
fn is_yes(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].contains(&value.to_ascii_lowercase().as_str())
}

/// The last of an error's causes, which says it without who passed it on.
fn root(error: &object_store::Error) -> String {
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// The text of an element in an S3 answer.
fn element<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = answer.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}
