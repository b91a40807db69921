//! Names of images as people write them: `debian`, `registry.example:5000/team/app:1.2@sha256:...`.
//! Parsing and Docker's normalisation only. May not: read files, look at a store, or ask a registry.

use std::fmt;
use std::str::FromStr;

use regatta_model::Digest;

/// Longest repository path, in bytes, as the distribution specification has it for the whole name.
const REPOSITORY_MOST: usize = 255;
/// Longest tag, in bytes.
const TAG_MOST: usize = 128;
/// Longest registry host with its port, in bytes.
const REGISTRY_MOST: usize = 260;
/// The registry of names without one.
const DOCKER_HUB: &str = "docker.io";
/// The tag of names without a tag or a digest.
const DEFAULT_TAG: &str = "latest";

/// A text that is no image reference, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {why}")]
pub struct ReferenceError {
    text: String,
    why: String,
}

/// A repository of a registry: where blobs and manifests live.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

/// An image reference, normalised as Docker does: `debian` is `docker.io/library/debian:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Repository {
    /// Parses `[registry/]path` without tag or digest.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let reference = Reference::parse(text)?;
        if reference.digest.is_some() || text.rsplit('/').next().is_some_and(|s| s.contains(':')) {
            return Err(wrong(text, "a repository has no tag and no digest"));
        }
        Ok(reference.repository)
    }

    /// The registry's host, with its port where one was given; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host that requests go to, which differs from [`Self::registry`] for Docker Hub only.
    pub fn endpoint(&self) -> &str {
        if self.registry == DOCKER_HUB {
            "registry-1.docker.io"
        } else {
            &self.registry
        }
    }

    /// Whether the registry is this machine itself: `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.registry.split(':').next().unwrap_or_default(),
        };
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }
}

impl Reference {
    /// Parses `[registry/]path[:tag][@digest]`.
    ///
    /// Errors say what is wrong with the text, as a sentence.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(wrong(text, "it is empty"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|e| {
                    wrong(
                        text,
                        format!("{e} (digests of other kinds are not supported)"),
                    )
                })?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let last_slash = name.rfind('/').map_or(0, |at| at + 1);
        let last = name.get(last_slash..).unwrap_or_default();
        let (name, tag) = match last.find(':') {
            Some(colon) => {
                let (name, tag) = name.split_at(last_slash + colon);
                (name, Some(tag.trim_start_matches(':')))
            }
            None => (name, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(|why| wrong(text, why))?;
        }
        let repository = normalise(name).map_err(|why| wrong(text, why))?;
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self {
            repository,
            tag,
            digest,
        })
    }

    /// Where it lives.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Its tag: `latest` where neither a tag nor a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Its digest, which wins over the tag when it is asked for.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest, else the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        }
    }

    /// The same repository's image with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// As people write it: without `docker.io/` and `library/`, but with its tag.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

fn wrong(text: &str, why: impl Into<String>) -> ReferenceError {
    ReferenceError {
        text: text.chars().take(300).collect(),
        why: why.into(),
    }
}

/// Splits the registry off and adds what Docker leaves out.
fn normalise(name: &str) -> Result<Repository, String> {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_a_host(first) => (first, rest.to_owned()),
        _ => (DOCKER_HUB, name.to_owned()),
    };
    let registry = if registry == "index.docker.io" || registry == "registry-1.docker.io" {
        DOCKER_HUB
    } else {
        registry
    };
    check_registry(registry)?;
    let path = if registry == DOCKER_HUB && !path.contains('/') && !path.is_empty() {
        format!("library/{path}")
    } else {
        path
    };
    check_path(&path)?;
    Ok(Repository {
        registry: registry.to_owned(),
        path,
    })
}

fn looks_like_a_host(part: &str) -> bool {
    part == "localhost"
        || part.contains('.')
        || part.contains(':')
        || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), String> {
    if registry.len() > REGISTRY_MOST {
        return Err(format!("its registry is longer than {REGISTRY_MOST} bytes"));
    }
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let (address, port) = rest
            .split_once(']')
            .ok_or("its IPv6 address lacks the \"]\"")?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("{address:?} is not an IPv6 address"));
        }
        (
            "v6",
            port.strip_prefix(':')
                .or((!port.is_empty()).then_some(port)),
        )
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        }
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !host.split('.').all(label) {
        return Err(format!("{host:?} is not a host name"));
    }
    match port {
        Some(port) if port.len() > 5 || port.parse::<u16>().is_err() => {
            Err(format!("{port:?} is not a port"))
        }
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("the name of the repository is missing".to_owned());
    }
    if path.len() > REPOSITORY_MOST {
        return Err(format!(
            "its repository is longer than {REPOSITORY_MOST} bytes"
        ));
    }
    for part in path.split('/') {
        if part.is_empty() {
            return Err("it has an empty part between two \"/\"".to_owned());
        }
        if let Some(upper) = part.chars().find(char::is_ascii_uppercase) {
            return Err(format!(
                "a repository is written in lower case, and it has {upper:?}"
            ));
        }
        if let Some(bad) = part
            .chars()
            .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(*c)))
        {
            return Err(format!("a repository cannot have the character {bad:?}"));
        }
        let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        if !alphanumeric(part.bytes().next()) || !alphanumeric(part.bytes().last()) {
            return Err(format!(
                "{part:?} must begin and end with a letter or a digit"
            ));
        }
        let separators = part.split(|c: char| c.is_ascii_alphanumeric());
        for separator in separators.filter(|s| !s.is_empty()) {
            let dashes = separator.bytes().all(|b| b == b'-');
            if !dashes && !matches!(separator, "." | "_" | "__") {
                return Err(format!(
                    "{part:?} cannot have {separator:?} between its words"
                ));
            }
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    if tag.is_empty() {
        return Err("its tag is empty".to_owned());
    }
    if tag.len() > TAG_MOST {
        return Err(format!("its tag is longer than {TAG_MOST} bytes"));
    }
    if tag.starts_with(['.', '-']) {
        return Err(format!(
            "its tag {tag:?} must not begin with \".\" or \"-\""
        ));
    }
    match tag
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c)))
    {
        Some(bad) => Err(format!("its tag cannot have the character {bad:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        Reference::parse(text).unwrap().to_string()
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        let digest = Digest::of(b"x");
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:12", "docker.io/library/debian:12".to_owned()),
            ("team/app", "docker.io/team/app:latest".to_owned()),
            (
                "docker.io/debian",
                "docker.io/library/debian:latest".to_owned(),
            ),
            (
                "index.docker.io/library/debian",
                "docker.io/library/debian:latest".to_owned(),
            ),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app:1", "localhost:5000/app:1".to_owned()),
            (
                "quay.io/a/b/c:v1.2_3-x",
                "quay.io/a/b/c:v1.2_3-x".to_owned(),
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            ("Team.Example/app", "Team.Example/app:latest".to_owned()),
            (
                &format!("debian@{digest}"),
                format!("docker.io/library/debian@{digest}"),
            ),
            (
                &format!("debian:12@{digest}"),
                format!("docker.io/library/debian:12@{digest}"),
            ),
        ] {
            assert_eq!(full(text), expected, "{text}");
            assert_eq!(
                full(&full(text)),
                expected,
                "normalising twice changes nothing"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "empty"),
            ("Debian", "lower case"),
            ("a//b", "empty part"),
            ("debian:", "tag is empty"),
            ("debian:-x", "must not begin"),
            ("debian:a b", "' '"),
            ("a b", "' '"),
            ("-a", "begin and end"),
            ("a..b", "between its words"),
            ("localhost:99999/a", "not a port"),
            ("localhost:5000/", "missing"),
            ("a@sha256:12", "not a digest"),
            ("a@sha512:12", "not a digest"),
            ("[::1/a", "lacks"),
            ("exa_mple.org/a", "not a host name"),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(Reference::parse(&"a".repeat(256)).is_err());
        assert!(Reference::parse(&format!("a:{}", "b".repeat(129))).is_err());
    }

    #[test]
    fn loopback_is_told_from_other_hosts() {
        for (text, expected) in [
            ("localhost/a", true),
            ("localhost:5000/a", true),
            ("127.0.0.1:1/a", true),
            ("127.9.9.9/a", true),
            ("[::1]:5000/a", true),
            ("127.example.org/a", false),
            ("10.0.0.1:5000/a", false),
            ("localhost.example.org/a", false),
            ("a", false),
        ] {
            assert_eq!(
                Reference::parse(text).unwrap().repository().is_loopback(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_repository_takes_no_tag() {
        assert_eq!(Repository::parse("localhost:5000/a").unwrap().path(), "a");
        assert!(Repository::parse("localhost:5000/a:b").is_err());
        assert!(Repository::parse(&format!("a@{}", Digest::of(b""))).is_err());
    }

    #[test]
    fn people_see_the_short_name() {
        assert_eq!(
            Reference::parse("debian").unwrap().familiar(),
            "debian:latest"
        );
        assert_eq!(Reference::parse("a/b:1").unwrap().familiar(), "a/b:1");
        assert_eq!(
            Reference::parse("quay.io/b:1").unwrap().familiar(),
            "quay.io/b:1"
        );
    }
}
