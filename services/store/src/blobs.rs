//! Logs and artifacts, through `object_store`. May not: keep a blob in memory as a whole.

mod s3;
mod sign;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _};
use regatta_model::{AttemptId, Digest, RunId};

use crate::Error;
use sign::Signer;
use upload::Upload;

pub use sign::{SIGNED_FOR, Signed};

/// Bytes of one name of an artifact's path as it is stored; file systems take 255, some of which uploads need.
const NAME_BYTES_MOST: usize = 200;
/// Bytes of an artifact's path as it is stored; S3 takes keys of 1024, with what stands before it.
const PATH_BYTES_MOST: usize = 512;

/// Which blob. Each is of one assignment of its attempt, by that one's generation, so that no host can replace what
/// another one wrote of the same attempt; none: agents of former versions do not tell theirs.
#[derive(Clone, Debug)]
pub enum BlobKey {
    /// An attempt's log as stored: the format of `model::log`, compressed by zstd.
    Log(AttemptId, Option<u64>),
    /// A file that an attempt left. The path is relative, with `/`, and has no empty, `.` or `..` part.
    Artifact(AttemptId, Option<u64>, String),
}

impl BlobKey {
    fn path(&self) -> Path {
        let directory = |attempt: &AttemptId, generation: &Option<u64>| {
            let attempt = run_directory(&attempt.run)
                .join(attempt.cell.to_string())
                .join(attempt.ordinal.to_string());
            match generation {
                Some(generation) => attempt.join("by").join(generation.to_string()),
                None => attempt,
            }
        };
        match self {
            Self::Log(attempt, generation) => directory(attempt, generation).join("log"),
            Self::Artifact(attempt, generation, path) => {
                // Each part is escaped, so that no name of a file can leave its attempt's directory.
                let escaped = path.split('/').fold(Path::default(), Path::join);
                let fits = escaped.as_ref().len() <= PATH_BYTES_MOST
                    && escaped
                        .parts()
                        .all(|part| part.as_ref().len() <= NAME_BYTES_MOST);
                if fits {
                    let artifacts = directory(attempt, generation).join("artifacts");
                    escaped.parts().fold(artifacts, Path::join)
                } else {
                    // Escaping makes names of another script three times as long.
                    let digest = Digest::of(path.as_bytes());
                    directory(attempt, generation)
                        .join("long")
                        .join(digest.hex())
                }
            }
        }
    }
}

fn run_directory(run: &RunId) -> Path {
    Path::from_iter(["runs".to_owned(), run.to_string()])
}

impl std::fmt::Display for BlobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(attempt, _) => write!(f, "the log of attempt {attempt}"),
            Self::Artifact(attempt, _, path) => {
                write!(f, "the artifact {path} of attempt {attempt}")
            }
        }
    }
}

/// A blob's bytes as they are read.
pub type BlobStream = BoxStream<'static, Result<Bytes, Error>>;

/// Where blobs are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// None: only this process writes here.
    signer: Option<Arc<Signer>>,
}

impl Blobs {
    /// Opens the blobs at `url`: `file://DIRECTORY`, which is made where there is none, or `s3://BUCKET[/PREFIX]`, which
    /// the environment's `AWS_...` variables lead to and which must answer.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::open_with(url, variables).await
    }

    /// As [`Self::open`], with these variables in place of the environment's.
    pub async fn open_with(
        url: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        if let Some(place) = url.strip_prefix("s3://") {
            let (store, signer) = s3::open(place, variables).await?;
            return Ok(Self {
                store: Arc::new(store),
                signer: signer.map(Arc::new),
            });
        }
        Ok(Self {
            store: Arc::new(directory(url)?),
            signer: None,
        })
    }

    /// The same, signing for hosts that reach the bucket at another endpoint than this process does. `name` is the option
    /// that says so, for the error where it does not fit.
    pub fn reached_at(self, name: &str, endpoint: &str) -> Result<Self, Error> {
        let signer = self.signer.as_ref().ok_or_else(|| {
            let why = "there is no bucket into which hosts could upload (--blobs s3://BUCKET, without encryption by variables)";
            Error::NotSupported(format!("{name} {endpoint}: {why}"))
        })?;
        let signer = Some(Arc::new(signer.at(name, endpoint)?));
        Ok(Self { signer, ..self })
    }

    /// Whether [`Self::place`] gives any.
    pub fn signs(&self) -> bool {
        self.signer.is_some()
    }

    /// Where others may write a blob that is not there yet, for [`SIGNED_FOR`]; none where only this process may.
    pub async fn place(&self, key: &BlobKey) -> Result<Option<Signed>, Error> {
        let Some(signer) = &self.signer else {
            return Ok(None);
        };
        let signed = signer.put(&key.path()).await;
        signed.map(Some).map_err(|source| Error::Blob {
            key: key.to_string(),
            doing: "given a place",
            source,
        })
    }

    /// Writes a blob, or replaces it; it appears as a whole once it is written, or not at all. Tells its bytes.
    ///
    /// `limit` is the name of `most` for the error that says that the body is longer.
    pub async fn put<E: std::fmt::Display>(
        &self,
        key: &BlobKey,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin + Send,
        most: u64,
        limit: &'static str,
    ) -> Result<u64, Error> {
        let failed = |source| Error::Blob {
            key: key.to_string(),
            doing: "written",
            source,
        };
        let mut upload = Upload::new(Arc::clone(&self.store), key.path());
        let mut bytes = 0_u64;
        let ended = loop {
            match body.next().await {
                None => break Ok(()),
                Some(Err(error)) => {
                    break Err(Error::Cut {
                        key: key.to_string(),
                        why: error.to_string(),
                    });
                }
                Some(Ok(chunk)) => {
                    bytes = bytes.saturating_add(chunk.len().try_into().unwrap_or(u64::MAX));
                    if bytes > most {
                        break Err(Error::TooLong {
                            key: key.to_string(),
                            most,
                            limit,
                        });
                    }
                    if let Err(source) = upload.write(&chunk).await {
                        break Err(failed(source));
                    }
                }
            }
        };
        match ended {
            Ok(()) => upload.finish().await.map(|()| bytes).map_err(failed),
            Err(error) => {
                upload.discard().await;
                Err(error)
            }
        }
    }

    /// A blob's length in bytes and its content; none where there is no such blob.
    pub async fn get(&self, key: &BlobKey) -> Result<Option<(u64, BlobStream)>, Error> {
        let found = match self
            .store
            .get_opts(&key.path(), GetOptions::default())
            .await
        {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => {
                return Err(Error::Blob {
                    key: key.to_string(),
                    doing: "read",
                    source,
                });
            }
        };
        let name = key.to_string();
        let bytes = found.meta.size;
        let stream = found.into_stream().map(move |chunk| {
            chunk.map_err(|source| Error::Blob {
                key: name.clone(),
                doing: "read",
                source,
            })
        });
        Ok(Some((bytes, stream.boxed())))
    }

    /// Drops a blob; nothing where there is none.
    pub async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        match self.store.delete(&key.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::Blob {
                key: key.to_string(),
                doing: "dropped",
                source,
            }),
        }
    }

    /// Drops all blobs of a run, as they are found: what is written meanwhile may stay. Tells how many there were.
    pub async fn delete_run(&self, run: &RunId) -> Result<u64, Error> {
        let found = self.store.list(Some(&run_directory(run)));
        let found = found.map_ok(|blob| blob.location).boxed();
        let mut dropped = self.store.delete_stream(found);
        let mut count = 0;
        while let Some(one) = dropped.next().await {
            match one {
                Ok(_) => count += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => {
                    return Err(Error::Blob {
                        key: format!("all of run {run}"),
                        doing: "dropped",
                        source,
                    });
                }
            }
        }
        Ok(count)
    }
}

fn directory(url: &str) -> Result<LocalFileSystem, Error> {
    let directory = url
        .strip_prefix("file://")
        .filter(|path| path.starts_with('/'))
        .ok_or_else(|| {
            Error::NotSupported(format!(
                "{url:?} names no place for blobs that Regatta knows; expected file:///DIRECTORY or s3://BUCKET"
            ))
        })?;
    let directory = PathBuf::from(directory);
    std::fs::create_dir_all(&directory).map_err(|source| Error::File {
        path: directory.clone(),
        source,
    })?;
    let store = LocalFileSystem::new_with_prefix(&directory).map_err(|source| Error::Blob {
        key: directory.display().to_string(),
        doing: "opened",
        source,
    })?;
    Ok(store.with_automatic_cleanup(true).with_fsync(true))
}
