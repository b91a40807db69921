//! Turns what a matrix names (a Containerfile, a tag, a directory of files, a commit) into digests, before a run depends on
//! them. May not: change the matrix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regatta_image::reference::Reference;
use regatta_model::Digest;
use regatta_model::matrix::{CommitRange, Matrix};
use regatta_model::run::Pins;

use crate::context::{Context, Failure};
use crate::git::{Elsewhere, Repository, Which};
use crate::image::{self, Building};
use crate::progress::Bars;

/// Most different images, and most different sources of files, in one run.
pub(crate) const PINS_MOST: usize = 256;

/// A matrix and where it came from.
pub(crate) struct Source {
    /// As it is submitted: as it was written, but with commits in the place of those that it asks for.
    pub(crate) text: String,
    /// As messages name it.
    pub(crate) file: String,
    /// What relative paths in it are relative to.
    pub(crate) directory: PathBuf,
    pub(crate) matrix: Matrix,
    /// Sources of files that are commits.
    pub(crate) checkouts: BTreeMap<String, Checkout>,
}

/// A commit of which files are made.
#[derive(Clone)]
pub(crate) struct Checkout {
    repository: Repository,
    /// The whole of it.
    hash: String,
}

/// Longest matrix, in bytes.
const MATRIX_MOST: u64 = 1 << 20;

/// Reads and checks a matrix, with the commits that are wanted of it; `-` is standard input.
pub(crate) fn read(context: &Context, path: &Path, which: Which) -> Result<Source, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let (file, directory) = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MATRIX_MOST + 1)
            .read_to_end(&mut bytes)?;
        ("<stdin>".to_owned(), std::env::current_dir()?)
    } else {
        let wrong = |error: std::io::Error| Failure::wrong(format!("{}: {error}", path.display()));
        let file = std::fs::File::open(path).map_err(wrong)?;
        file.take(MATRIX_MOST + 1)
            .read_to_end(&mut bytes)
            .map_err(wrong)?;
        let directory = crate::context::absolute(path)?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default();
        (path.display().to_string(), directory)
    };
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MATRIX_MOST {
        return Err(Failure::wrong(format!(
            "{file}: longer than {MATRIX_MOST} bytes, which no matrix needs to be"
        )));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| Failure::wrong(format!("{file}: not UTF-8: {error}")))?;
    let color = crate::color::Paint::for_stderr(context.global.color).is_on();
    let mut checkouts = BTreeMap::new();
    let mut look = |asked: &CommitRange| {
        let repository = Repository::open(&directory, &asked.repository)?;
        let listed = repository.range(asked, which)?;
        let commits = listed.into_iter().map(|listed| {
            let checkout = Checkout {
                repository: repository.clone(),
                hash: listed.hash,
            };
            checkouts.insert(asked.source(&listed.commit.value), checkout);
            listed.commit
        });
        Ok(commits.collect())
    };
    let matrix = Matrix::parse_with(&text, &file, &mut look)
        .map_err(|errors| Failure::wrong(errors.render(color)))?;
    Ok(Source {
        text: if checkouts.is_empty() {
            text
        } else {
            matrix.to_json().to_string()
        },
        file,
        directory,
        matrix,
        checkouts,
    })
}

/// Finds, builds or fetches every image, and packs every `files` source, into this machine's store, those aside that are
/// `known`. What only the server can know (a tag in its own store) is left to it.
pub(crate) async fn pin(
    context: &Context,
    source: &Source,
    local: bool,
    known: &Pins,
) -> Result<Pins, Failure> {
    let mut pins = Pins::default();
    let wrong = |error: regatta_model::matrix::Diagnostics| Failure::wrong(error.render(false));
    let mut images = source.matrix.images(PINS_MOST).map_err(wrong)?;
    images.retain(|name| !known.images.contains_key(name));
    for name in images {
        if let Some(digest) = image(context, source, &name, local).await? {
            pins.images.insert(name, digest);
        }
    }
    let mut sources = source.matrix.file_sources(PINS_MOST).map_err(wrong)?;
    sources.retain(|from| !known.files.contains_key(from));
    let mut elsewhere = Elsewhere::default();
    for from in sources {
        let (digest, lacks) = files(context, source, &from).await?;
        elsewhere.submodules = elsewhere.submodules.max(lacks.submodules);
        elsewhere.pointers = elsewhere.pointers.max(lacks.pointers);
        pins.files.insert(from, digest);
    }
    if elsewhere.submodules > 0 {
        context.say(format_args!(
            "commits have up to {} submodules, which are empty directories in their files",
            elsewhere.submodules
        ));
    }
    if elsewhere.pointers > 0 {
        context.say(format_args!(
            "commits have up to {} files that Git LFS keeps, of which they have the pointers only",
            elsewhere.pointers
        ));
    }
    Ok(pins)
}

/// Whether an `image` names a path rather than an image: as in shells, it begins with `.` or `/`.
fn is_path(name: &str) -> bool {
    name.starts_with("./")
        || name.starts_with("../")
        || name.starts_with('/')
        || name == "."
        || name == ".."
}

async fn image(
    context: &Context,
    source: &Source,
    name: &str,
    local: bool,
) -> Result<Option<Digest>, Failure> {
    if is_path(name) {
        let path = source.directory.join(name);
        let building = if path.is_dir() {
            Building::in_directory(&path)
        } else {
            let directory = path.parent().map(Path::to_owned).unwrap_or_default();
            Building {
                file: Some(path),
                ..Building::in_directory(&directory)
            }
        };
        return image::build(context, building).await.map(Some);
    }
    let store = context.images()?;
    if let Some(digest) = store.resolve(name) {
        return Ok(Some(digest));
    }
    if !local {
        return Ok(None);
    }
    let reference = Reference::parse(name)
        .map_err(|error| Failure::wrong(format!("{}: image: {error}", source.file)))?;
    context.say(format!("{name} is not on this machine: pulling it"));
    image::pull(context, &reference, false, &Bars::new(context))
        .await
        .map(Some)
}

/// Packs a file, a directory or a commit into a tar in the store.
async fn files(
    context: &Context,
    source: &Source,
    from: &str,
) -> Result<(Digest, Elsewhere), Failure> {
    let path = source.directory.join(from);
    let checkout = source.checkouts.get(from).cloned();
    let store = context.images()?;
    let shown = format!("{}: files: {from}", source.file);
    let packed = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let mut tar = tempfile::tempfile().map_err(|error| error.to_string())?;
        let elsewhere = if let Some(Checkout { repository, hash }) = checkout {
            repository.pack(&hash, &mut tar)?
        } else {
            regatta_image::archive::pack(&path, &mut tar).map_err(|error| error.to_string())?;
            Elsewhere::default()
        };
        std::io::Seek::rewind(&mut tar).map_err(|error| error.to_string())?;
        let (digest, _) = store.ingest(tar, None).map_err(|error| error.to_string())?;
        Ok((digest, elsewhere))
    });
    packed
        .await
        .map_err(Failure::platform)?
        .map_err(|error| Failure::wrong(format!("{shown}: {error}")))
}
