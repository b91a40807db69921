//! The client of registries: pulling and pushing images and single blobs by the OCI distribution API.
//! May not: unpack layers, or believe anything that does not have the digest it was asked for.

mod answer;
mod challenge;
mod credentials;
mod download;
mod manifest;
mod pull;
mod push;
mod token;
mod transport;
mod upload;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::platform::Platform;
use crate::progress::{Progress, Task};

pub use credentials::Credentials;
pub use download::BLOB_MOST;

/// Layers that are fetched or sent at once.
pub const CONCURRENT_BLOBS: usize = 4;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether every registry is spoken to by plain HTTP. Without it, only registries on this machine's
    /// loopback are, and only where they do not speak TLS.
    pub plain_http: bool,
    /// Docker's `config.json`, for logins; none: nobody is logged in.
    pub docker_config: Option<PathBuf>,
    /// Which image of an index is wanted.
    pub platform: Platform,
}

impl Default for Options {
    /// This machine's platform, and the logins of `$DOCKER_CONFIG` or `~/.docker`.
    fn default() -> Self {
        Self {
            plain_http: false,
            docker_config: credentials::config_path(),
            platform: Platform::host(),
        }
    }
}

/// A client of registries. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    transport: Arc<transport::Transport>,
    platform: Platform,
}

impl Client {
    /// A client. It trusts the certificates that this machine trusts (`SSL_CERT_FILE` is honoured) and
    /// uses the proxies that the environment names, except to this machine itself.
    pub fn new(options: Options) -> Result<Self> {
        let platform = options.platform.clone();
        Ok(Self {
            transport: Arc::new(transport::Transport::new(options)?),
            platform,
        })
    }
}

/// A task's progress, shared by what runs at once.
struct Meter(Mutex<Box<dyn Task>>);

impl Meter {
    fn begin(progress: &dyn Progress, name: &str, total: Option<u64>) -> Self {
        Self(Mutex::new(progress.begin(name, total)))
    }

    fn advance(&self, bytes: u64) {
        if let Ok(task) = self.0.lock() {
            task.advance(bytes);
        }
    }

    fn finish(&self) {
        if let Ok(task) = self.0.lock() {
            task.finish();
        }
    }
}
