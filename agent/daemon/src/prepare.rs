//! Makes ready what attempts are made from: the image, the `files` and the set-up, each once for all that
//! share it. May not: run a test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use regatta_image::registry::{Client, Options};
use regatta_image::store::Hold;
use regatta_image::{Silent, Store, reference::Reference};
use regatta_model::plan::AttemptPlan;
use regatta_model::{Digest, RunId};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::ahead::Soon;
use crate::failure::{Failure, blocking};
use crate::host::Host;
use crate::layers::{Layer, Layers};
use crate::mould::Defaults;
use crate::{Layout, files, setup};

/// Most moulds that are remembered; those that nobody uses go first.
const MOULDS_MOST: usize = 256;

/// Most failing set-ups that are remembered.
const FAILURES_MOST: usize = 1024;

/// The server's repository of images.
const REPOSITORY: &str = "regatta/images";

/// What containers of one kind are made from.
pub(crate) struct Mould {
    pub(crate) defaults: Defaults,
    /// All layers, the lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// The digest of the set-up layer's contents.
    pub(crate) setup: Option<Digest>,
    /// Layers made here, held as long as they are used.
    pub(crate) made: Vec<Layer>,
    /// The image, held likewise.
    _image: Arc<Image>,
}

/// An image ready for use.
pub(crate) struct Image {
    layers: Vec<PathBuf>,
    defaults: Defaults,
    /// So that `image prune` leaves its layers where containers use them.
    _hold: Hold,
}

type Cell<T> = Arc<OnceCell<Arc<T>>>;

/// Work that is done once for all who ask while it is under way, and remembered.
struct Once<T>(Mutex<BTreeMap<Digest, Cell<T>>>);

impl<T> Once<T> {
    fn cell(&self, key: Digest) -> Cell<T> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MOULDS_MOST && !map.contains_key(&key) {
            map.retain(|_, cell| {
                let used = cell.get().is_some_and(|value| Arc::strong_count(value) > 1);
                used || Arc::strong_count(cell) > 1
            });
        }
        Arc::clone(map.entry(key).or_default())
    }
}

/// All that is ready or being made.
pub(crate) struct Moulds {
    images: Once<Image>,
    made: Once<Mould>,
    pub(crate) setups: Layers,
    pub(crate) files: Layers,
    failures: Mutex<BTreeMap<(RunId, Digest), Failure>>,
    pub(crate) soon: Soon,
}

/// What a mould is made from.
#[derive(Serialize)]
struct Key<'a> {
    image: Digest,
    files: &'a [regatta_model::plan::FilePlan],
    setup: Option<Digest>,
}

impl Moulds {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            images: Once(Mutex::default()),
            made: Once(Mutex::default()),
            setups: Layers::new(layout.setups()),
            files: Layers::new(layout.all_files()),
            failures: Mutex::default(),
            soon: Soon::default(),
        }
    }
}

impl Moulds {
    /// Holds layers by their directories, as an earlier agent's record names them.
    pub(crate) fn hold(&self, directories: &[PathBuf]) -> Vec<Layer> {
        let hold = |directory: &PathBuf| {
            self.setups
                .hold(directory)
                .or_else(|| self.files.hold(directory))
        };
        directories.iter().filter_map(hold).collect()
    }
}

/// The mould of a plan. The first who asks makes it; a failure that was the test's is remembered for its run.
pub(crate) async fn mould(
    host: &Host,
    run: &RunId,
    plan: &AttemptPlan,
) -> Result<Arc<Mould>, Failure> {
    let setup = plan.setup_key();
    let key = Key {
        image: plan.image,
        files: &plan.files,
        setup,
    };
    let key = Digest::of_canonical(&key);
    let known = (run.clone(), key);
    let failures = || {
        host.moulds
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    let cell = host.moulds.made.cell(key);
    let made = cell
        .get_or_try_init(|| async {
            if let Some(failure) = failures().get(&known) {
                return Err(failure.clone());
            }
            make(host, plan, setup).await.map(Arc::new)
        })
        .await;
    if let Err(failure) = &made
        && failure.blame == Some(regatta_model::Blame::Test)
    {
        let mut failures = failures();
        if failures.len() >= FAILURES_MOST {
            failures.pop_first();
        }
        failures.insert(known, failure.clone());
    }
    made.map(Arc::clone)
}

async fn make(host: &Host, plan: &AttemptPlan, setup: Option<Digest>) -> Result<Mould, Failure> {
    let image = {
        let _asked = host.moulds.soon.asked();
        image(host, plan.image).await?
    };
    host.moulds.soon.used(plan.image);
    let mut layers = image.layers.clone();
    let mut made = Vec::new();
    let mut parent = plan.image;
    for entry in &plan.files {
        let (cache, store, server) = (&host.moulds.files, &host.store, &host.server);
        let (layer, key) = files::ensure(cache, store, server, parent, &layers, entry).await?;
        layers.push(layer.root.clone());
        made.push(layer);
        parent = key;
    }
    let mut contents = None;
    if let (Some(step), Some(key)) = (&plan.setup, setup) {
        let layer = setup::ensure(host, key, &layers, &image.defaults, plan, step).await?;
        contents = Some(layer.digest);
        layers.push(layer.root.clone());
        made.push(layer);
    }
    Ok(Mould {
        defaults: image.defaults.clone(),
        layers,
        setup: contents,
        made,
        _image: image,
    })
}

/// The image, fetched and unpacked by the first who asks.
pub(crate) async fn image(host: &Host, digest: Digest) -> Result<Arc<Image>, Failure> {
    let cell = host.moulds.images.cell(digest);
    let fetch = || async { fetch_image(host, digest).await.map(Arc::new) };
    cell.get_or_try_init(fetch).await.map(Arc::clone)
}

async fn fetch_image(host: &Host, digest: Digest) -> Result<Image, Failure> {
    let what = format!("the image {digest}");
    if let (false, Some((registry, plain_http))) = (host.store.has(&digest), host.server.registry())
    {
        let name = format!("{registry}/{REPOSITORY}@{digest}");
        let store = host.store.clone();
        let pulled = blocking(move || pull(&store, &name, plain_http)).await?;
        pulled.map_err(|error| Failure::platform(&what, &error))?;
    }
    let store = host.store.clone();
    blocking(move || {
        let hold = store
            .hold(&digest)
            .map_err(|error| Failure::image(&what, &error))?;
        let layers = store
            .unpack(&digest)
            .map_err(|error| Failure::image(&what, &error))?;
        let defaults = Defaults::read(&store, &digest);
        Ok(Image {
            _hold: hold,
            layers,
            defaults: defaults.map_err(|error| Failure::image(&what, &error))?,
        })
    })
    .await?
}

/// Blocking, on a thread of its own: the client's futures stay where they were made.
fn pull(store: &Store, name: &str, plain_http: bool) -> Result<(), String> {
    let reference = Reference::parse(name).map_err(|error| error.to_string())?;
    let options = Options {
        plain_http,
        docker_config: None,
        ..Options::default()
    };
    let client = Client::new(options).map_err(|error| error.to_string())?;
    let pulled = Handle::current().block_on(client.pull(store, &reference, &Silent));
    pulled.map(drop).map_err(|error| error.to_string())
}
