//! Building an image from a Containerfile: parsed by our own parser, its steps carried out by whoever is
//! given as the runner, its layers made in a fixed form and found again by content. May not: start a process,
//! or look at a file outside the context and the store.

mod cache;
mod context;
mod copy;
mod diagnostic;
mod expand;
mod flags;
mod forms;
mod gather;
mod ignore;
mod image;
pub(crate) mod layer;
mod lines;
mod parse;
mod place;
mod run;
mod settings;
mod stage;
mod stages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regatta_model::Digest;
use regatta_model::container::{Ending, Mount, Network};

use crate::error::Error;
use crate::passwd::User;
use crate::progress::Progress;
use crate::store::Store;

pub use cache::sweep as sweep_cache;
pub use diagnostic::Diagnostic;
pub(crate) use image::Draft;
pub use layer::Layer;

/// One command of a build, to be run in a container with the host's executor.
pub struct Step<'a> {
    /// Unpacked layers, the lowest first; never empty.
    pub layers: Vec<PathBuf>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The environment, exactly, `PATH` and `HOME` included.
    pub env: Vec<(String, String)>,
    /// The working directory, absolute.
    pub workdir: String,
    /// Who runs it.
    pub user: User,
    /// Directories of the host: caches.
    pub mounts: Vec<Mount>,
    /// An empty directory on disk that is filled with what the command changes, as
    /// [`regatta_model::container::Writable::Keep`] has it.
    pub keep: PathBuf,
    /// Which network it sees.
    pub network: Network,
    /// Gets its output as it comes, both streams in order.
    pub output: &'a (dyn Fn(&[u8]) + Sync),
}

/// Runs the commands of a build.
pub trait StepRunner {
    /// Runs one command to its end; blocks. An error is the runner's own, not the command's.
    fn run(&self, step: Step<'_>) -> Result<Ending, Box<dyn std::error::Error + Send + Sync>>;
}

/// Fetches an image that a FROM or `COPY --from` names and the store does not have; gives its manifest.
pub type Pull<'a> = dyn Fn(&str) -> Result<Digest, Error> + 'a;

/// What to build and how.
pub struct BuildOptions<'a> {
    /// The Containerfile.
    pub file: PathBuf,
    /// The directory that COPY copies from.
    pub context: PathBuf,
    /// Values for ARGs.
    pub args: BTreeMap<String, String>,
    /// The stage to build; the last one by default.
    pub target: Option<String>,
    /// Names for the image.
    pub tags: Vec<String>,
    /// Whether every step is carried out anew.
    pub no_cache: bool,
    /// Where the directories of `--mount=type=cache` are kept.
    pub cache_mounts: PathBuf,
    /// Later times are written as this one: `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: Option<u64>,
    /// Fetches images that are not in the store; none: they are an error.
    pub pull: Option<Box<Pull<'a>>>,
}

impl BuildOptions<'_> {
    /// The usual: all ARGs at their defaults, the cache used, nothing pulled, `SOURCE_DATE_EPOCH` as the
    /// environment has it.
    pub fn new(file: &Path, context: &Path, cache_mounts: &Path) -> Self {
        Self {
            file: file.to_owned(),
            context: context.to_owned(),
            args: BTreeMap::new(),
            target: None,
            tags: Vec::new(),
            no_cache: false,
            cache_mounts: cache_mounts.to_owned(),
            epoch: std::env::var("SOURCE_DATE_EPOCH")
                .ok()
                .and_then(|text| text.parse().ok()),
            pull: None,
        }
    }
}

/// Why a build ended without an image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Containerfile is wrong at a place, or its command there failed.
    #[error(transparent)]
    At(Box<Diagnostic>),
    /// Something else.
    #[error(transparent)]
    Image(#[from] Error),
}

impl From<Box<Diagnostic>> for BuildError {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self::At(diagnostic)
    }
}

/// Builds an image, names it by the options' tags, and gives its manifest's digest. Blocks.
///
/// Without tags, [`Store::hold`] it before the store is pruned.
pub fn build(
    store: &Store,
    options: &BuildOptions<'_>,
    runner: &dyn StepRunner,
    progress: &dyn Progress,
) -> Result<Digest, BuildError> {
    let text = read(&options.file)?;
    let name = options.file.display().to_string();
    let file = parse::parse(&text, &name)?;
    let plan = stages::plan(&file, options)?;
    let _work = store.work()?;
    let mut builder = stage::Builder::new(store, options, runner, progress, &file, &plan);
    let draft = builder.all()?;
    let digest = draft.write(store, options.epoch)?;
    for tag in &options.tags {
        store.tag(tag, &digest)?;
    }
    Ok(digest)
}

/// Checks a Containerfile's form without building it.
pub fn check(text: &str, file: &str) -> Result<(), Box<Diagnostic>> {
    parse::parse(text, file).map(drop)
}

fn read(path: &Path) -> Result<String, Error> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|e| Error::at("open", path, e))?;
    let most = u64::try_from(lines::FILE_MOST).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::at("read", path, e))?;
    String::from_utf8(bytes)
        .map_err(|_| Error::malformed(path.display().to_string(), "it is not UTF-8 text"))
}
