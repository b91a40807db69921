//! A place for blobs, and all that lies there. May not: know what a test is about.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use regatta_model::{AttemptId, RunId};
use regatta_store::{BlobKey, Blobs, Error};

use crate::s3::S3;

pub enum Place {
    Directory(tempfile::TempDir),
    Bucket(S3),
}

impl Place {
    pub fn directory() -> Self {
        Self::Directory(tempfile::tempdir().unwrap())
    }

    pub async fn bucket() -> Self {
        Self::Bucket(S3::start().await)
    }

    pub async fn open(&self) -> Blobs {
        match self {
            Self::Directory(directory) => {
                let url = format!("file://{}", directory.path().join("below").display());
                Blobs::open(&url).await.unwrap()
            }
            Self::Bucket(s3) => s3.open("s3://boats").await.unwrap(),
        }
    }

    /// Every file there, visible or not.
    pub fn left(&self) -> Vec<String> {
        match self {
            Self::Directory(directory) => files(directory.path()),
            Self::Bucket(s3) => s3.left(),
        }
    }
}

/// Files below a directory, in order. May be told of while they come and go.
pub fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(next) = ahead.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ahead.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(directory).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

pub fn run(name: &str) -> RunId {
    name.parse().unwrap()
}

pub fn attempt(name: &str, cell: u64) -> AttemptId {
    AttemptId {
        run: run(name),
        cell,
        ordinal: 1,
    }
}

/// Bytes that differ wherever one looks.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

/// A body in chunks of 60,000 bytes, which fill no part evenly.
pub fn body(
    bytes: &[u8],
) -> impl futures_util::Stream<Item = Result<Bytes, &'static str>> + Unpin + Send + use<> {
    let chunks: Vec<Bytes> = bytes.chunks(60_000).map(Bytes::copy_from_slice).collect();
    futures_util::stream::iter(chunks.into_iter().map(Ok))
}

/// The limit that stories give.
pub const MOST: u64 = 64 << 20;

pub async fn put(blobs: &Blobs, key: &BlobKey, bytes: &[u8]) -> Result<u64, Error> {
    blobs.put(key, body(bytes), MOST, "MOST").await
}

/// A blob as a whole; its length is as was told.
pub async fn get(blobs: &Blobs, key: &BlobKey) -> Option<Vec<u8>> {
    let (length, mut stream) = blobs.get(key).await.unwrap()?;
    let mut whole = Vec::new();
    while let Some(chunk) = stream.next().await {
        whole.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(length, whole.len() as u64, "{key}");
    Some(whole)
}
