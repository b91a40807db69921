//! Logs and artifacts, through `object_store`. May not: keep a blob in memory as a whole.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, WriteMultipart};
use regatta_model::AttemptId;

use crate::Error;

/// Bytes of one part of an upload: what is held in memory at once.
const PART: usize = 5 << 20;

/// Which blob.
#[derive(Clone, Debug)]
pub enum BlobKey {
    /// An attempt's log as stored: the format of `model::log`, compressed by zstd.
    Log(AttemptId),
    /// A file that an attempt left. The path is relative, with `/`, and has no empty, `.` or `..` part.
    Artifact(AttemptId, String),
}

impl BlobKey {
    fn path(&self) -> Path {
        let (attempt, rest) = match self {
            Self::Log(attempt) => (attempt, None),
            Self::Artifact(attempt, path) => (attempt, Some(path)),
        };
        // Each part is escaped, so that no name of a file can leave its attempt's directory.
        let base = [
            "runs".to_owned(),
            attempt.run.to_string(),
            attempt.cell.to_string(),
            attempt.ordinal.to_string(),
        ];
        let directory = Path::from_iter(base);
        match rest {
            None => directory.join("log"),
            Some(path) => path
                .split('/')
                .fold(directory.join("artifacts"), Path::join),
        }
    }
}

impl std::fmt::Display for BlobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(attempt) => write!(f, "the log of attempt {attempt}"),
            Self::Artifact(attempt, path) => write!(f, "the artifact {path} of attempt {attempt}"),
        }
    }
}

/// A blob's bytes as they are read.
pub type BlobStream = BoxStream<'static, Result<Bytes, Error>>;

/// Where blobs are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// Opens the blobs at `url` (`file://DIR`); makes the directory where there is none.
    pub fn open(url: &str) -> Result<Self, Error> {
        let directory = url.strip_prefix("file://").filter(|path| path.starts_with('/')).ok_or_else(|| {
            Error::NotSupported(format!("{url:?} names no place for blobs that Regatta knows yet; expected file:///DIRECTORY"))
        })?;
        let directory = PathBuf::from(directory);
        std::fs::create_dir_all(&directory).map_err(|source| Error::File {
            path: directory.clone(),
            source,
        })?;
        let store = LocalFileSystem::new_with_prefix(&directory)
            .map_err(|source| Error::Blob {
                key: directory.display().to_string(),
                doing: "opened",
                source,
            })?
            .with_automatic_cleanup(true)
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
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
        let upload = self
            .store
            .put_multipart(&key.path())
            .await
            .map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
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
                    if let Err(source) = upload.wait_for_capacity(1).await {
                        break Err(failed(source));
                    }
                    upload.put(chunk);
                }
            }
        };
        match ended {
            Ok(()) => upload.finish().await.map(|_| bytes).map_err(failed),
            Err(error) => {
                drop(upload.abort().await);
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
}
