//! A store in a directory of its own, with a canary beside it that nothing may touch. May not: leave
//! anything behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use regatta_image::archive::Import;
use regatta_image::{Silent, Store, UnpackLimits};
use regatta_model::Digest;

pub struct Place {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl Place {
    pub fn new() -> Self {
        Self::with(UnpackLimits::default())
    }

    pub fn with(limits: UnpackLimits) -> Self {
        regatta_tests::need_root();
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "alive").unwrap();
        fs::set_permissions(outside.join("canary"), fs::Permissions::from_mode(0o640)).unwrap();
        let store = Store::open_with(&dir.path().join("store"), limits).unwrap();
        Self { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn outside(&self) -> PathBuf {
        self.path("outside")
    }

    pub fn import(&self, tar: &[u8], name: &str) -> Result<Digest, String> {
        self.store
            .import(tar, name, &Import::default(), &Silent)
            .map_err(|e| e.to_string())
    }

    /// Everything that the store holds, locks and work under way left out.
    pub fn content(&self) -> BTreeMap<String, String> {
        let mut content = BTreeMap::new();
        for part in ["oci-layout", "index.json", "blobs", "layers", "holds"] {
            content.extend(tree(&self.path("store"), part));
        }
        let work: Vec<_> = tree(&self.path("store"), "tmp").into_keys().collect();
        assert!(work.len() <= 3, "work is left: {work:?}");
        let locks: Vec<_> = tree(&self.path("store"), "locks").into_keys().collect();
        assert!(
            !locks.iter().any(|name| name.contains("layer-")),
            "locks are left: {locks:?}"
        );
        content
    }

    /// The canary and all beside it, with times.
    pub fn canary(&self) -> BTreeMap<String, String> {
        let mut content = tree(self.dir.path(), "outside");
        let meta = fs::metadata(self.outside().join("canary")).unwrap();
        let dir = fs::metadata(self.outside()).unwrap();
        content.insert(
            "times".into(),
            format!("{:?} {:?}", meta.modified(), dir.modified()),
        );
        content.insert("links".into(), meta.nlink().to_string());
        content
    }
}

/// Paths below `part`, each with what it is: type, mode, owner, and content or target.
pub fn tree(root: &Path, part: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(&root.join(part), part, &mut found);
    found
}

fn walk(path: &Path, name: &str, found: &mut BTreeMap<String, String>) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        let opaque = |key: &str| xattr::get(path, key).unwrap().is_some();
        let opaque = (
            opaque("trusted.overlay.opaque"),
            opaque("user.overlay.opaque"),
        );
        assert_eq!(
            opaque.0, opaque.1,
            "{name}: both kinds of overlay must see it as opaque"
        );
        if opaque.0 {
            "dir opaque".to_owned()
        } else {
            "dir".to_owned()
        }
    } else if kind.is_symlink() {
        format!("link {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        let bytes = if meta.len() > 1 << 20 {
            format!("{} bytes", meta.len())
        } else {
            String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
        };
        format!("file {bytes}")
    } else {
        format!("other {:o} {}", meta.mode() & 0o170_000, meta.rdev())
    };
    let what = format!(
        "{what} {:o} {}:{}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid()
    );
    found.insert(name.to_owned(), what);
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            walk(
                &entry.path(),
                &format!("{name}/{}", entry.file_name().to_string_lossy()),
                found,
            );
        }
    }
}

/// Runs a program that must succeed; gives its output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program} is missing ({e}): apt-get install {program}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
