//! A store, a registry, and small images. May not: leave a process behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use regatta_image::archive::Import;
use regatta_image::reference::Reference;
use regatta_image::registry::{Client, Options};
use regatta_image::{Platform, Silent, Store};
use regatta_model::Digest;
use tempfile::TempDir;

pub struct Place {
    pub dir: TempDir,
    pub store: Store,
    pub runtime: tokio::runtime::Runtime,
}

impl Place {
    pub fn new() -> Self {
        regatta_tests::need_root();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            dir,
            store,
            runtime,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another store beside the first.
    pub fn other_store(&self, name: &str) -> Store {
        Store::open(&self.path(name)).unwrap()
    }

    /// Imports an image with one file of so many bytes that do not compress.
    pub fn image(&self, name: &str, bytes: usize) -> Digest {
        let root = self.path("root");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("noise"), noise(name, bytes)).unwrap();
        let tar = self.path("root.tar");
        let tar_text = tar.to_str().unwrap();
        run(
            "tar",
            &[
                "--create",
                "--mtime=@0",
                "--sort=name",
                "--file",
                tar_text,
                "--directory",
                root.to_str().unwrap(),
                ".",
            ],
        );
        let file = std::fs::File::open(&tar).unwrap();
        self.store
            .import(file, name, &Import::default(), &Silent)
            .unwrap()
    }

    pub fn push(&self, client: &Client, digest: &Digest, to: &str) -> Result<(), String> {
        let to = Reference::parse(to).unwrap();
        self.runtime
            .block_on(client.push(&self.store, digest, &to, &Silent))
            .map_err(|e| e.to_string())
    }

    pub fn pull(&self, client: &Client, store: &Store, from: &str) -> Result<Digest, String> {
        let from = Reference::parse(from).unwrap();
        self.runtime
            .block_on(client.pull(store, &from, &Silent))
            .map_err(|e| e.to_string())
    }
}

/// A client that nobody is logged in with.
pub fn client() -> Client {
    with_config(None)
}

/// A client with the logins of this `config.json`.
pub fn with_config(config: Option<&Path>) -> Client {
    Client::new(Options {
        plain_http: false,
        docker_config: config.map(Path::to_owned),
        platform: Platform::host(),
    })
    .unwrap()
}

/// Bytes that depend on a name and do not compress.
pub fn noise(name: &str, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 32);
    let mut block = Digest::of(name.as_bytes());
    while out.len() < bytes {
        block = Digest::of(block.as_bytes());
        out.extend_from_slice(block.as_bytes());
    }
    out.truncate(bytes);
    out
}

/// What a store holds in blobs, and whether it has names or work left.
pub fn blobs(store: &Store) -> usize {
    std::fs::read_dir(store.directory().join("blobs/sha256"))
        .unwrap()
        .count()
}

/// Runs a program that must succeed; gives its output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program} is missing ({e}); ops/test installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
