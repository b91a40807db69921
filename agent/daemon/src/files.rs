//! The `files` of a matrix as layers: a blob of the server's store, fetched and unpacked at its place. May not:
//! replace a directory of the image by another one with the same name; those on the way keep
//! their owner and mode, and a symbolic link is followed as the container would.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use regatta_image::archive::is_one_file;
use regatta_image::reference::Repository;
use regatta_image::registry::{Client, Options};
use regatta_image::{Merged, Silent, Store};
use regatta_model::plan::FilePlan;
use regatta_model::{Digest, Outcome};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::failure::{Failure, blocking};
use crate::layers::{Found, Layer, Layers};
use crate::server::Server;

/// Largest archive that is fetched, in bytes.
const ARCHIVE_MOST: u64 = 8 << 30;

/// Most symbolic links on the way to one place.
const LINKS_MOST: usize = 40;

/// The repository of the server's that holds them.
const REPOSITORY: &str = "regatta/files";

/// Version of how such a layer is made.
const FORMAT: u32 = 2;

/// What a `files` layer is made from.
#[derive(Serialize)]
struct Key<'a> {
    format: u32,
    kind: &'static str,
    /// What lies below: the image, or the layer of the entry before. Directories on the way are its.
    parent: Digest,
    blob: Digest,
    to: &'a str,
}

/// The layer of one entry of `files` and its key; `below` are the layers that `parent` names.
pub(crate) async fn ensure(
    layers: &Layers,
    store: &Store,
    server: &Server,
    parent: Digest,
    below: &[PathBuf],
    plan: &FilePlan,
) -> Result<(Layer, Digest), Failure> {
    let key = Key {
        format: FORMAT,
        kind: "files",
        parent,
        blob: plan.blob,
        to: &plan.to,
    };
    let key = Digest::of_canonical(&key);
    let what = format!("the files for {}", plan.to);
    let found = layers.get(key).await;
    let making = match found.map_err(|error| Failure::host(&what, &error))? {
        Found::Ready(layer) => return Ok((layer, key)),
        Found::Absent(making) => making,
    };
    bring(store, server, plan.blob, &what).await?;
    let (store, plan, below) = (store.clone(), plan.clone(), below.to_owned());
    blocking(move || {
        let root = making.directory().join("fs");
        let unpacked = fs::create_dir(&root)
            .map_err(|error| Failure::host(&what, &error))
            .and_then(|()| unpack(&store, &plan, &below, &root, &what));
        match unpacked {
            Ok(()) => {
                let layer = making
                    .done()
                    .map_err(|error| Failure::host(&what, &error))?;
                Ok((layer, key))
            }
            Err(failure) => {
                drop(making.abandon());
                Err(failure)
            }
        }
    })
    .await?
}

fn unpack(
    store: &Store,
    plan: &FilePlan,
    below: &[PathBuf],
    root: &Path,
    what: &str,
) -> Result<(), Failure> {
    let open = || {
        store
            .open_blob(&plan.blob)
            .map_err(|e| Failure::image(what, &e))
    };
    let impossible = |error: &dyn std::fmt::Display| {
        Failure::test(Outcome::SetupFailed, format!("{what}: {error}"))
    };
    let to = Path::new(&plan.to);
    // As `cp` has it: a file goes to the place that is named, into it where that ends with a slash.
    let one = is_one_file(open()?).map_err(|e| Failure::image(what, &e))?;
    let (directory, name) = match (to.parent(), to.file_name()) {
        (Some(parent), Some(name)) if one && !plan.to.ends_with('/') => (parent, Some(name)),
        _ => (to, None),
    };
    let place = make_place(below, root, directory).map_err(|error| impossible(&error))?;
    let limits = store.limits();
    let Some(name) = name else {
        let unpacked = store.unpack_tar(open()?, &place, &limits);
        return unpacked.map(drop).map_err(|e| Failure::image(what, &e));
    };
    let scratch = tempfile::tempdir_in(root.parent().unwrap_or(root))
        .map_err(|error| Failure::host(what, &error))?;
    store
        .unpack_tar(open()?, scratch.path(), &limits)
        .map_err(|e| Failure::image(what, &e))?;
    let entry = fs::read_dir(scratch.path())
        .and_then(|mut entries| entries.next().transpose())
        .map_err(|error| Failure::host(what, &error))?
        .ok_or_else(|| impossible(&"the archive is empty"))?;
    fs::rename(entry.path(), place.join(name)).map_err(|error| Failure::host(what, &error))
}

/// Brings a blob of the server's into the store, unless it is there.
pub(crate) async fn bring(
    store: &Store,
    server: &Server,
    blob: Digest,
    what: &str,
) -> Result<(), Failure> {
    if store.has(&blob) {
        return Ok(());
    }
    fetch(store, server, blob, what).await
}

async fn fetch(store: &Store, server: &Server, blob: Digest, what: &str) -> Result<(), Failure> {
    let platform = |error: &dyn std::fmt::Display| Failure::platform(what, error);
    if let Some((registry, plain_http)) = server.registry() {
        let repository = Repository::parse(&format!("{registry}/{REPOSITORY}"));
        let repository = repository.map_err(|error| platform(&error))?;
        let options = Options {
            plain_http,
            docker_config: None,
            ..Options::default()
        };
        let client = Client::new(options).map_err(|error| platform(&error))?;
        let store = store.clone();
        // On a thread of its own: the client's futures stay where they were made.
        let fetched = blocking(move || {
            Handle::current().block_on(client.fetch_blob(&repository, &blob, &store, &Silent))
        });
        return fetched.await?.map(drop).map_err(|error| platform(&error));
    }
    let response = server
        .blob(REPOSITORY, &blob)
        .await
        .map_err(|error| platform(&error))?;
    let mut file = tempfile::tempfile().map_err(|error| Failure::host(what, &error))?;
    let mut chunks = response.bytes_stream();
    let mut length = 0_u64;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| platform(&error))?;
        length += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if length > ARCHIVE_MOST {
            return Err(platform(&format!(
                "the archive is longer than {ARCHIVE_MOST} bytes"
            )));
        }
        file.write_all(&chunk)
            .map_err(|error| Failure::host(what, &error))?;
    }
    let (store, what) = (store.clone(), what.to_owned());
    blocking(move || {
        file.rewind()
            .map_err(|error| Failure::host(&what, &error))?;
        let taken = store.ingest(file, Some(blob));
        taken
            .map(drop)
            .map_err(|error| Failure::image(&what, &error))
    })
    .await?
}

/// Makes the directories down to `to` below `root` as the container would find them in the layers `below`, and
/// gives the last one's path on this host.
fn make_place(below: &[PathBuf], root: &Path, to: &Path) -> io::Result<PathBuf> {
    let image = Merged::open(below).map_err(io::Error::other)?;
    let mut todo = parts(to.as_os_str().as_bytes());
    let mut inside = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == b".." {
            inside.pop();
            continue;
        }
        let next = inside.join(std::ffi::OsStr::from_bytes(&part));
        let found = image.find(&next, false).map_err(io::Error::other)?;
        let target = found.as_ref().and_then(|found| found.link_target().ok());
        if let Some(target) = target {
            links += 1;
            if links > LINKS_MOST {
                return Err(io::Error::other(format!(
                    "{}: too many symbolic links",
                    to.display()
                )));
            }
            if target.starts_with(b"/") {
                inside = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                todo.push_front(part);
            }
            continue;
        }
        let here = root.join(next.strip_prefix("/").unwrap_or(&next));
        if !here.is_dir() {
            fs::create_dir(&here)?;
            let (mode, uid, gid) = match &found {
                Some(found) if found.kind().is_dir() => {
                    (found.mode(), found.stat.st_uid, found.stat.st_gid)
                }
                Some(_) => {
                    let text =
                        format!("{} is a file in the image, not a directory", next.display());
                    return Err(io::Error::other(text));
                }
                None => (0o755, 0, 0),
            };
            std::os::unix::fs::lchown(&here, Some(uid), Some(gid))?;
            fs::set_permissions(&here, fs::Permissions::from_mode(mode))?;
        }
        inside = next;
    }
    let top = image.find(Path::new("/"), true).map_err(io::Error::other)?;
    if let Some(top) = top {
        fs::set_permissions(root, fs::Permissions::from_mode(top.mode()))?;
        std::os::unix::fs::lchown(root, Some(top.stat.st_uid), Some(top.stat.st_gid))?;
    }
    Ok(root.join(inside.strip_prefix("/").unwrap_or(&inside)))
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}
