//! Where a server is.

use std::path::{Path, PathBuf};

use crate::context::Failure;

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At http or https URLs, each of a server of the same database.
    Urls(Vec<url::Url>),
    /// Behind a Unix socket: a server that runs in this machine's data directory.
    Socket(PathBuf),
}

impl Place {
    pub(crate) fn parse(urls: &str) -> Result<Self, Failure> {
        urls.split(',')
            .map(Self::parse_one)
            .collect::<Result<_, _>>()
            .map(Self::Urls)
    }

    fn parse_one(url: &str) -> Result<url::Url, Failure> {
        let wrong = |why: &str| {
            Failure::wrong(format!(
                "--server {url}: {why}; expected a URL like http://127.0.0.1:7470"
            ))
        };
        let mut parsed = url::Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("neither http nor https"));
        }
        // So that joining keeps the whole path.
        if !parsed.path().ends_with('/') {
            let path = format!("{}/", parsed.path());
            parsed.set_path(&path);
        }
        Ok(parsed)
    }
}

/// Where this machine's own server listens while it runs.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("server").join("socket")
}
