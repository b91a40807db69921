//! Turns what a matrix names (a Containerfile, a tag, a directory of files) into digests, before a run depends on
//! them. May not: change the matrix.

use std::path::{Path, PathBuf};

use regatta_image::reference::Reference;
use regatta_model::Digest;
use regatta_model::matrix::Matrix;
use regatta_model::run::Pins;

use crate::context::{Context, Failure};
use crate::image::{self, Building};
use crate::progress::Bars;

/// Most different images, and most different sources of files, in one run.
pub(crate) const PINS_MOST: usize = 256;

/// A matrix and where it came from.
pub(crate) struct Source {
    pub(crate) text: String,
    /// As messages name it.
    pub(crate) file: String,
    /// What relative paths in it are relative to.
    pub(crate) directory: PathBuf,
    pub(crate) matrix: Matrix,
}

/// Longest matrix, in bytes.
const MATRIX_MOST: u64 = 1 << 20;

/// Reads and checks a matrix; `-` is standard input.
pub(crate) fn read(context: &Context, path: &Path) -> Result<Source, Failure> {
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
    let matrix =
        Matrix::parse(&text, &file).map_err(|errors| Failure::wrong(errors.render(color)))?;
    Ok(Source {
        text,
        file,
        directory,
        matrix,
    })
}

/// Finds, builds or fetches every image, and packs every `files` source, into this machine's store. What only the
/// server can know (a tag in its own store) is left to it.
pub(crate) async fn pin(context: &Context, source: &Source, local: bool) -> Result<Pins, Failure> {
    let mut pins = Pins::default();
    let wrong = |error: regatta_model::matrix::Diagnostics| Failure::wrong(error.render(false));
    for name in source.matrix.images(PINS_MOST).map_err(wrong)? {
        if let Some(digest) = image(context, source, &name, local).await? {
            pins.images.insert(name, digest);
        }
    }
    for from in source.matrix.file_sources(PINS_MOST).map_err(wrong)? {
        let digest = files(context, source, &from).await?;
        pins.files.insert(from, digest);
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

/// Packs a file or directory into a tar in the store.
async fn files(context: &Context, source: &Source, from: &str) -> Result<Digest, Failure> {
    let path = source.directory.join(from);
    let store = context.images()?;
    let shown = format!("{}: files: {from}", source.file);
    let packed = tokio::task::spawn_blocking(move || -> Result<Digest, String> {
        let mut tar = tempfile::tempfile().map_err(|error| error.to_string())?;
        regatta_image::archive::pack(&path, &mut tar).map_err(|error| error.to_string())?;
        std::io::Seek::rewind(&mut tar).map_err(|error| error.to_string())?;
        store
            .ingest(tar, None)
            .map(|(digest, _)| digest)
            .map_err(|error| error.to_string())
    });
    packed
        .await
        .map_err(Failure::platform)?
        .map_err(|error| Failure::wrong(format!("{shown}: {error}")))
}
