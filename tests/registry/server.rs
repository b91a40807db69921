//! Debian's docker-registry as a process of the test, with a configuration and a port of its own. May not:
//! touch the machine's own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use regatta_tests::wait_until;

pub struct Registry {
    child: Child,
    pub port: u16,
    pub storage: PathBuf,
}

impl Registry {
    /// Without authorisation.
    pub fn start(dir: &Path) -> Self {
        Self::with(dir, "127.0.0.1", "")
    }

    /// With this `auth:` section.
    pub fn with(dir: &Path, address: &str, auth: &str) -> Self {
        let storage = dir.join("registry");
        fs::create_dir_all(&storage).unwrap();
        // The port is free for a moment only; somebody else may take it.
        for _ in 0..20 {
            let port = TcpListener::bind((address, 0))
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let config = dir.join("registry.yml");
            let text = format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
                 delete: {{enabled: true}}\nhttp:\n  addr: {address}:{port}\n  secret: none\n{auth}",
                storage.display()
            );
            fs::write(&config, text).unwrap();
            let log = fs::File::create(dir.join("registry.log")).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .expect("docker-registry is missing: apt-get install docker-registry");
            let mut listens = false;
            wait_until(
                "the registry listens or ends",
                Duration::from_secs(60),
                || {
                    listens = TcpStream::connect((address, port)).is_ok();
                    listens || child.try_wait().unwrap().is_some()
                },
            );
            if listens && child.try_wait().unwrap().is_none() {
                return Self {
                    child,
                    port,
                    storage,
                };
            }
        }
        panic!(
            "docker-registry does not start: {}",
            fs::read_to_string(dir.join("registry.log")).unwrap()
        );
    }

    /// `127.0.0.1:PORT/NAME`
    pub fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// The file that holds a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.storage.join(format!(
            "docker/registry/v2/blobs/sha256/{}/{hex}/data",
            &hex[..2]
        ))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
