//! A data directory with a store, a build context, and the real executor when a step needs one. May not:
//! stand in for the product.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use regatta_daemon::Layout;
use regatta_daemon::builder::ExecutorRunner;
use regatta_daemon::executor::{self, Life};
use regatta_image::archive::Import;
use regatta_image::build::{self, BuildOptions, Step, StepRunner};
use regatta_image::{Progress, Silent, Store, Task};
use regatta_model::Digest;
use regatta_model::container::Ending;
use regatta_tests::busybox;
use regatta_tests::command::{Data, regatta};

pub struct Place {
    pub data: Data,
    pub store: Store,
    /// Lines of progress of the last build.
    pub said: Mutex<Vec<String>>,
    runner: OnceLock<ExecutorRunner>,
}

impl Place {
    pub fn new() -> Self {
        regatta_tests::need_root();
        let data = Data::new();
        let layout = Layout::new(data.path());
        layout.prepare().unwrap();
        fs::create_dir_all(layout.execs()).unwrap();
        let store = Store::open(&layout.images()).unwrap();
        fs::create_dir(data.path().join("context")).unwrap();
        Self {
            data,
            store,
            said: Mutex::default(),
            runner: OnceLock::new(),
        }
    }

    /// With the image `busybox`.
    pub fn with_busybox() -> Self {
        let place = Self::new();
        let tar = fs::File::open(busybox::root_tar(&place.data)).unwrap();
        place
            .store
            .import(tar, "busybox", &Import::default(), &Silent)
            .unwrap();
        place
    }

    pub fn context(&self) -> PathBuf {
        self.data.path().join("context")
    }

    /// Writes a file of the context.
    pub fn file(&self, name: &str, content: &str) {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn options(&self, text: &str) -> BuildOptions<'static> {
        let file = self.data.path().join("Containerfile");
        fs::write(&file, text).unwrap();
        let mut options =
            BuildOptions::new(&file, &self.context(), &self.data.path().join("cache"));
        options.epoch = None;
        options
    }

    pub fn build(&self, text: &str) -> Result<Digest, String> {
        self.build_with(&self.options(text))
    }

    pub fn build_with(&self, options: &BuildOptions<'_>) -> Result<Digest, String> {
        self.said.lock().unwrap().clear();
        build::build(&self.store, options, self, self).map_err(|e| e.to_string())
    }

    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// How many steps of the last build were carried out, and how many were found.
    pub fn steps(&self) -> (usize, usize) {
        let said = self.said();
        let steps = said
            .iter()
            .filter(|line| line.starts_with('[') && !line.contains("] FROM "));
        let (cached, done): (Vec<_>, Vec<_>) = steps.partition(|line| line.ends_with("cached"));
        (done.len(), cached.len())
    }

    /// What an image holds at each path, merged, and each thing's mode and owner.
    pub fn tree(&self, image: &Digest) -> BTreeMap<String, String> {
        let layers = self.store.unpack(image).unwrap();
        let merged = regatta_image::Merged::open(&layers).unwrap();
        let mut found = BTreeMap::new();
        walk(&merged, "", &mut found);
        found
    }

    pub fn config(&self, image: &Digest) -> serde_json::Value {
        let manifest = self.store.manifest(image).unwrap();
        serde_json::from_slice(&self.store.read_blob(&manifest.config.digest).unwrap()).unwrap()
    }
}

fn walk(merged: &regatta_image::Merged, path: &str, found: &mut BTreeMap<String, String>) {
    use std::io::Read as _;
    let dir = merged.find(Path::new(path), false).unwrap().unwrap();
    for name in dir.names().unwrap() {
        let path = format!("{path}/{}", String::from_utf8(name).unwrap());
        let Some(it) = merged.find(Path::new(&path), false).unwrap() else {
            continue;
        };
        let what = match it.stat.st_mode & 0o170_000 {
            0o040_000 => {
                walk(merged, &path, found);
                "dir".to_owned()
            }
            0o120_000 => format!(
                "-> {}",
                String::from_utf8(it.link_target().unwrap()).unwrap()
            ),
            _ => {
                let mut text = Vec::new();
                it.open_file()
                    .unwrap()
                    .take(1000)
                    .read_to_end(&mut text)
                    .unwrap();
                String::from_utf8_lossy(&text).into_owned()
            }
        };
        let (uid, gid) = (it.stat.st_uid, it.stat.st_gid);
        found.insert(path, format!("{what} {:o} {uid}:{gid}", it.mode()));
    }
}

/// The executor is started by the first step that needs it.
impl StepRunner for Place {
    fn run(&self, step: Step<'_>) -> Result<Ending, Box<dyn std::error::Error + Send + Sync>> {
        let runner = self.runner.get_or_init(|| {
            let layout = Layout::new(self.data.path());
            let options = executor::Options {
                program: Some(regatta()),
                life: Life::Bound,
            };
            let link = executor::ensure(&layout, &options).unwrap();
            ExecutorRunner::new(layout, Arc::new(link))
        });
        runner.run(step)
    }
}

impl Progress for Place {
    fn begin(&self, _: &str, _: Option<u64>) -> Box<dyn Task> {
        Box::new(Silent)
    }

    fn note(&self, line: &str) {
        self.said.lock().unwrap().push(line.to_owned());
    }
}

/// Permission bits of a file.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// How many links a file has.
pub fn links(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().nlink()
}
